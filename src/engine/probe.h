/* probe - one question to the kernel each; see feature_probe in check.h.  What leaves traces is asked in a child. */
#pragma once
#include <sys/types.h>

#include "engine/check.h"

/* Runs `ask` in a process of its own; its result is the child's.  arg goes along. */
int probe_in_child(int (*ask)(void *arg), void *arg, struct err *e);
/* The same for what has to be asked of another process: `ask` gets a child that has run `prepare` (NULL: nothing) and
 * stands still in pause(). */
int probe_of_child(int (*ask)(pid_t child), int (*prepare)(void), struct err *e);

#define PROBE(name) int probe_##name(struct err *e)
/* probe_task.c */
PROBE(clone3_set_tid);
PROBE(get_rseq_conf);
PROBE(seccomp_suspend);
PROBE(seccomp_filters);
PROBE(can_map_vdso);
PROBE(compat_cr);
PROBE(loginuid);
PROBE(timer_cr_ids);
PROBE(membarrier);
PROBE(rseq);
PROBE(breakpoints);
PROBE(pidfd_store);
PROBE(vm_readv);
PROBE(mm_map);
/* probe_mem.c */
PROBE(mem_dirty_track);
PROBE(pagemap_scan);
PROBE(uffd);
PROBE(uffd_noncoop);
PROBE(uffd_move);
PROBE(uffd_wp_async);
PROBE(aio_remap);
PROBE(map_files);
/* probe_file.c */
PROBE(mnt_id);
PROBE(fdinfo_lock);
PROBE(timerfd);
PROBE(tun);
PROBE(autofs);
PROBE(kcmp_epoll);
PROBE(openat2);
PROBE(move_mount_set_group);
PROBE(apparmor_stacking);
PROBE(ns_pid);
PROBE(userns);
PROBE(cgroupns);
PROBE(timens);
PROBE(cgroup2);
PROBE(file_handles);
/* probe_net.c */
PROBE(tcp_repair);
PROBE(tcp_half_closed);
PROBE(sk_ns);
PROBE(sk_unix_file);
PROBE(sock_diag);
PROBE(net_diag_raw);
PROBE(nsid);
PROBE(link_nsid);
PROBE(newifindex);
PROBE(nftables);
PROBE(ipt_legacy);
PROBE(ipv6_freebind);
PROBE(external_net_ns);

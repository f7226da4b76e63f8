#include "engine/check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "engine/probe.h"

/* ---- CRIU's names ---- */

const struct feature features[] = {
	{ "aio_remap", probe_aio_remap, "" },
	{ "apparmor_stacking", probe_apparmor_stacking, "" },
	{ "autofs", probe_autofs, "CAP_SYS_ADMIN" },
	{ "breakpoints", probe_breakpoints, "" },
	{ "can_map_vdso", probe_can_map_vdso, "" },
	{ "cgroupns", probe_cgroupns, "" },
	{ "clone3_set_tid", probe_clone3_set_tid, "" },
	{ "compat_cr", probe_compat_cr, "" },
	{ "external_net_ns", probe_external_net_ns, "" },
	{ "fdinfo_lock", probe_fdinfo_lock, "" },
	{ "get_rseq_conf", probe_get_rseq_conf, "" },
	{ "has_ipt_legacy", probe_ipt_legacy, "CAP_NET_RAW" },
	{ "ipv6_freebind", probe_ipv6_freebind, "" },
	{ "kcmp_epoll", probe_kcmp_epoll, "" },
	{ "link_nsid", probe_link_nsid, "CAP_SYS_ADMIN" },
	{ "loginuid", probe_loginuid, "" },
	{ "mem_dirty_track", probe_mem_dirty_track, "" },
	{ "membarrier_get_registrations", probe_membarrier, "" },
	{ "mnt_id", probe_mnt_id, "" },
	{ "move_mount_set_group", probe_move_mount_set_group, "CAP_SYS_ADMIN" },
	{ "net_diag_raw", probe_net_diag_raw, "" },
	{ "network_lock_nftables", probe_nftables, "CAP_SYS_ADMIN" },
	{ "newifindex", probe_newifindex, "CAP_SYS_ADMIN" },
	{ "nftables", probe_nftables, "CAP_SYS_ADMIN" },
	{ "ns_pid", probe_ns_pid, "" },
	{ "nsid", probe_nsid, "" },
	{ "openat2", probe_openat2, "" },
	{ "pagemap_scan", probe_pagemap_scan, "" },
	{ "pidfd_store", probe_pidfd_store, "" },
	{ "rseq", probe_rseq, "" },
	{ "seccomp_filters", probe_seccomp_filters, "CAP_SYS_ADMIN" },
	{ "seccomp_suspend", probe_seccomp_suspend, "CAP_SYS_ADMIN" },
	{ "sk_ns", probe_sk_ns, "CAP_NET_ADMIN" },
	{ "sk_unix_file", probe_sk_unix_file, "CAP_NET_ADMIN" },
	{ "tcp_half_closed", probe_tcp_half_closed, "CAP_NET_ADMIN" },
	{ "timens", probe_timens, "" },
	{ "timer_cr_ids", probe_timer_cr_ids, "" },
	{ "timerfd", probe_timerfd, "" },
	{ "tun", probe_tun, "" },
	{ "uffd", probe_uffd, "" },
	{ "uffd-noncoop", probe_uffd_noncoop, "CAP_SYS_PTRACE" },
	{ "userns", probe_userns, "" },
};
const size_t features_n = array_len(features);

const struct feature *feature_find(const char *name)
{
	for (size_t i = 0; i < features_n; i++)
		if (strcmp(features[i].name, name) == 0)
			return &features[i];
	return NULL;
}

/* ---- what the engine stands on ---- */

static const struct need {
	enum check_level level;
	const char *name;
	feature_probe probe;
	const char *cost; /* what does not work without it */
} needs[] = {
	{ CHECK_NEEDED, "clone3 with a chosen pid", probe_clone3_set_tid, "nothing can be restored" },
	{ CHECK_NEEDED, "pidfd_getfd", probe_pidfd_store, "no open file can be looked at" },
	{ CHECK_NEEDED, "process_vm_readv", probe_vm_readv, "no memory can be read" },
	{ CHECK_NEEDED, "scans of pagemaps (6.7)", probe_pagemap_scan, "memory cannot be told from holes" },
	{ CHECK_NEEDED, "PR_SET_MM_MAP", probe_mm_map, "processes lose their command line and heap" },
	{ CHECK_NEEDED, "kcmp of epolls", probe_kcmp_epoll, "processes with an epoll are refused" },
	{ CHECK_NEEDED, "openat2", probe_openat2, "images cannot be opened safely" },
	{ CHECK_NEEDED, "mount ids in fdinfo", probe_mnt_id, "open files cannot be told apart" },
	{ CHECK_NEEDED, "locks in fdinfo", probe_fdinfo_lock, "file locks cannot be seen" },
	{ CHECK_NEEDED, "sock_diag of unix, TCP, UDP", probe_sock_diag, "processes with sockets are refused" },
	{ CHECK_NEEDED, "NSpid in status", probe_ns_pid, "trees with pid namespaces are refused" },
	{ CHECK_NEEDED, "mapping of the vdso", probe_can_map_vdso, "nothing can be restored" },
	{ CHECK_NEEDED, "map_files", probe_map_files, "mapped files cannot be told from deleted ones" },
	{ CHECK_NEEDED, "rseq of a traced thread", probe_get_rseq_conf, "programs of a current libc are refused" },
	{ CHECK_EXTRA, "suspension of seccomp", probe_seccomp_suspend, "processes with seccomp filters are refused" },
	{ CHECK_EXTRA, "filters of seccomp", probe_seccomp_filters, "processes with seccomp filters are refused" },
	{ CHECK_EXTRA, "TCP repair", probe_tcp_repair, "--tcp-established cannot be served" },
	{ CHECK_EXTRA, "TCP repair of half closed ones", probe_tcp_half_closed, "half closed connections are refused" },
	{ CHECK_EXTRA, "network namespace of a socket", probe_sk_ns, "sockets of several namespaces are mixed up" },
	{ CHECK_EXTRA, "files of unix sockets", probe_sk_unix_file, "bound sockets are found by name only" },
	{ CHECK_EXTRA, "file handles", probe_file_handles, "inotify watches cannot be kept" },
	{ CHECK_EXTRA, "ticks of a timerfd", probe_timerfd, "expired timerfds lose their count" },
	{ CHECK_EXTRA, "user namespaces", probe_userns, "unprivileged containers are refused" },
	{ CHECK_EXTRA, "time namespaces", probe_timens, "the monotonic clock jumps after a restore elsewhere" },
	{ CHECK_EXTRA, "cgroup namespaces", probe_cgroupns, "containers see the host's cgroups" },
	{ CHECK_EXTRA, "unified cgroups", probe_cgroup2, "trees are frozen one process after the other" },
	{ CHECK_EXTRA, "ids of POSIX timers", probe_timer_cr_ids, "POSIX timers get their number by trying" },
	{ CHECK_EXTRA, "nf_tables", probe_nftables, "the network cannot be locked" },
	{ CHECK_EXTRA, "indexes of links", probe_newifindex, "links may get other numbers" },
	{ CHECK_EXPERIMENTAL, "moves by userfaultfd", probe_uffd_move, "huge pages come back small" },
	{ CHECK_EXPERIMENTAL, "userfaultfd, asynchronous", probe_uffd_wp_async, "memory in rounds has no tracker" },
};

static const struct {
	int cap;
	bool needed;
	const char *name, *cost;
} caps[] = {
	{ 40, true, "CAP_CHECKPOINT_RESTORE", "pids cannot be chosen (CAP_SYS_ADMIN serves as well)" },
	{ 19, true, "CAP_SYS_PTRACE", "only processes of the same user can be dumped" },
	{ 21, false, "CAP_SYS_ADMIN", "no namespaces, mounts or seccomp filters" },
	{ 12, false, "CAP_NET_ADMIN", "no TCP connections, no links and addresses" },
	{ 13, false, "CAP_NET_RAW", "no raw and packet sockets, no bytes of closed connections" },
	{ 6, false, "CAP_SETGID", "only processes with the engine's own groups can be restored" },
	{ 7, false, "CAP_SETUID", "only processes with the engine's own ids can be restored" },
	{ 8, false, "CAP_SETPCAP", "capabilities of processes cannot be limited again" },
	{ 0, false, "CAP_CHOWN", "deleted files and fifos come back with another owner" },
	{ 1, false, "CAP_DAC_OVERRIDE", "files that only others may open are refused" },
	{ 2, false, "CAP_DAC_READ_SEARCH", "no inotify watches" },
	{ 5, false, "CAP_KILL", "processes of others cannot be ended after a dump" },
	{ 18, false, "CAP_SYS_CHROOT", "changed root folders are refused" },
	{ 23, false, "CAP_SYS_NICE", "priorities and real-time scheduling cannot be set" },
	{ 39, false, "CAP_BPF", "interrupted calls and POSIX timers may end late (CAP_SYS_ADMIN serves as well)" },
	{ 38, false, "CAP_PERFMON", "the same" },
	{ 24, false, "CAP_SYS_RESOURCE", "limits above ours cannot be set (they are kept as far as possible)" },
	{ 25, false, "CAP_SYS_TIME", "clocks of a time namespace cannot be set" },
	{ 27, false, "CAP_MKNOD", "device nodes of a tmpfs cannot be made" },
	{ 14, false, "CAP_IPC_LOCK", "locked memory is limited" },
};

static int caps_read(uint64_t *ret, struct err *e)
{
	auto_free char *text = NULL;
	const char *line;
	int r = fd_read_file_at(AT_FDCWD, "/proc/self/status", 1u << 16, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading our capabilities");
	line = strstr(text, "\nCapEff:");
	*ret = line ? strtoull(line + 8, NULL, 16) : 0;
	return 0;
}

/* ---- the table ---- */

struct tally {
	struct buf *table;
	enum check_level worst; /* of what is missing */
	unsigned missing;
	char first[160];
};

static int row_add(struct tally *t, enum check_level level, const char *name, bool there, const char *why,
		   const char *cost)
{
	if (!there && (t->missing == 0 || level < t->worst)) {
		t->worst = level;
		snprintf(t->first, sizeof(t->first), "%s (%s)", name, cost);
	}
	t->missing += !there;
	if (!t->table)
		return 0;
	return there ? buf_addf(t->table, "yes  %s\n", name) :
		       buf_addf(t->table, "no   %-32s %s%s%s%s\n", name, cost, why ? " [" : "", why ? why : "",
				why ? "]" : "");
}

static int needs_check(struct tally *t, enum check_level level)
{
	int r = 0;

	for (size_t i = 0; i < array_len(needs) && r >= 0; i++) {
		struct err why = { 0 };
		int there;

		if (needs[i].level > level)
			continue;
		there = needs[i].probe(&why);
		r = row_add(t, needs[i].level, needs[i].name, there > 0, there < 0 ? err_text(&why) : NULL, needs[i].cost);
	}
	return r;
}

static int caps_check(struct tally *t, enum check_level level, struct err *e)
{
	uint64_t have = 0;
	int r = caps_read(&have, e);

	for (size_t i = 0; i < array_len(caps) && r >= 0; i++) {
		bool there = have >> caps[i].cap & 1;

		/* CAP_SYS_ADMIN stands in for what was once a part of it. */
		if (caps[i].cap >= 38)
			there = there || have >> 21 & 1;
		if (caps[i].needed || level >= CHECK_EXTRA)
			r = row_add(t, caps[i].needed ? CHECK_NEEDED : CHECK_EXTRA, caps[i].name, there, NULL, caps[i].cost);
	}
	return r < 0 ? err_sys(e, r, "looking at our capabilities") : 0;
}

int check_kernel(enum check_level level, struct buf *table, struct err *e)
{
	struct tally t = { .table = table };
	struct utsname u;
	int r = 0;

	uname(&u);
	if (table)
		r = buf_addf(table, "kernel %s\n", u.release);
	if (r >= 0)
		r = needs_check(&t, level);
	if (r < 0)
		return err_sys(e, r, "looking at the kernel");
	r = caps_check(&t, level, e);
	if (r < 0)
		return r;
	if (t.missing == 0)
		return 0;
	return err_set(e, -EOPNOTSUPP, "%s %u thing%s missing, %s", t.worst == CHECK_NEEDED ? "Does not look good:" :
		       "Looks good but", t.missing, t.missing == 1 ? " is" : "s are", t.first);
}

/* opts - what a caller asks of a checkpoint or a restore on its own, be it by command line, by RPC or
 * by another program of ours.  Filled by engine/, read by cr/; strings and descriptors stay the
 * caller's.  The names are CRIU's options (shared/criu-conventions.md, `man criu`). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* What becomes of the tree after a dump that succeeded.  After one that failed it always runs on. */
enum cr_after {
	CR_AFTER_KILL, /* and reaped, as far as it is ours to reap */
	CR_AFTER_RUN,  /* --leave-running */
	CR_AFTER_STOP, /* --leave-stopped: every process has a SIGSTOP */
};

enum cr_cgroup_mode { /* --manage-cgroups */
	CR_CGROUP_SOFT, /* the default: settings of cgroups that the restore made itself */
	CR_CGROUP_IGNORE,
	CR_CGROUP_NONE, /* membership only, where the cgroup is there */
	CR_CGROUP_PROPS,
	CR_CGROUP_FULL,
	CR_CGROUP_STRICT,
};

enum cr_network_lock { /* --network-lock */
	CR_LOCK_NFTABLES, /* the default; also what "iptables" becomes: hosts may have nftables only */
	CR_LOCK_SKIP,
};

/* The moments at which action scripts and RPC notifications are called, in their order.  cr_act_name
 * gives CRTOOLS_SCRIPT_ACTION. */
enum cr_act {
	CR_ACT_PRE_DUMP, /* before anything is touched */
	CR_ACT_NETWORK_LOCK,
	CR_ACT_POST_DUMP, /* images are complete, the tree is still stopped; a failure lets it run on */
	CR_ACT_PRE_RESTORE,
	CR_ACT_SETUP_NAMESPACES, /* the init exists in its namespaces; nothing else does */
	CR_ACT_POST_SETUP_NAMESPACES,
	CR_ACT_POST_RESTORE, /* all is there, nothing runs; a failure takes everything away again */
	CR_ACT_NETWORK_UNLOCK,
	CR_ACT_PRE_RESUME,
	CR_ACT_POST_RESUME,
	CR_ACT_ORPHAN_PTS_MASTER, /* with a descriptor: the master of a terminal whose master is outside */
	CR_ACT_STATUS_READY,
	CR_ACT_N
};
const char *cr_act_name(enum cr_act act);

/* KEY=VALUE options, in the order they were given.
 *   external      "mnt[KEY]" "PATH", "net[INO]" "NAME", "tty[RDEV:DEV]" "", "file[MNT:INO]" "", "veth[IN]" "OUT@BRIDGE" …
 *   ext_mount_map KEY VALUE (dump: mountpoint in the container, name; restore: name, path outside); auto is a flag
 *   inherit_fd    NAME, with fd
 *   join_ns       "net" FILE …
 *   cgroup_root   controller ("" all that are not named, "unified" or one of its controllers: v2) path */
struct cr_pair {
	const char *key, *value; /* value "" where there was none */
	int fd;                  /* inherit_fd only, else -1 */
};
struct cr_pairs {
	struct cr_pair *v;
	size_t n;
};

struct cr_opts {
	int images_fd; /* the folder; O_RDONLY | O_DIRECTORY */

	/* dump */
	pid_t pid;
	enum cr_after after;
	bool tcp_close, ext_unix_sk, link_remap, skip_in_flight, evasive_devices, force_irmap;
	bool ext_mount_auto, external_sharing, external_masters;
	uint64_t ghost_limit; /* bytes; 0: the default, 1 MiB */
	const char *freeze_cgroup; /* NULL: by ptrace alone.  A v1 freezer is not used (its tasks cannot be seized) */
	struct cr_pairs enable_fs, skip_mnt; /* keys only */
	int page_sock; /* > 0: memory goes to the page server connected there, and not into the folder */

	/* both */
	bool shell_job, tcp_established, file_locks;
	enum cr_cgroup_mode cgroups;
	struct cr_pairs cgroup_roots, externals, ext_mount_map;
	enum cr_network_lock network_lock;
	unsigned empty_ns; /* CLONE_NEW* whose content is neither taken nor made */
	unsigned timeout_s; /* of waiting for the tree to stand; 0: the default, 10 */

	/* restore */
	const char *root;      /* --root; NULL: none */
	struct cr_pairs inherit_fds, join_ns;
	bool sibling;          /* --restore-sibling: the init is our parent's child */
	const char *lsm_profile;

	/* Called at each moment; a negative result ends the dump or restore as a failure where that
	 * still can be undone.  fd: -1 but for ORPHAN_PTS_MASTER.  pid: the init's, 0 before it is
	 * known.  May be NULL. */
	int (*act)(void *arg, enum cr_act act, pid_t pid, int fd, struct err *e);
	void *arg;
};

/* Of stats-dump and stats-restore; microseconds and pages. */
struct cr_stats {
	uint64_t freezing_us, frozen_us, memdump_us, memwrite_us, irmap_us;
	uint64_t pages_scanned, pages_skipped_parent, pages_written, pages_lazy;
	uint64_t shpages_scanned, shpages_skipped_parent, shpages_written;
	uint64_t page_pipes, page_pipe_bufs;
	/* restore */
	uint64_t forking_us, restore_us, pages_compared, pages_skipped_cow, pages_restored;
};

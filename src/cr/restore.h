/* restore - putting a container's state into a container that stands with gw-init as its init. */
#pragma once
#include "cr/cr.h"
#include "cr/mem/mem.h"

struct restore_times {
	uint64_t build_us, pages_us, finish_us;
};

struct restore_opts {
	pid_t init;         /* gw-init; live migration only */
	const char *cgroup; /* the container's own v2 cgroup; NULL: none */
	int data_fd;        /* live migration only */
	const struct cr_opts *opts; /* of a restore from a folder; NULL: a live migration */
	/* Each may be NULL; a negative result ends the restore. */
	int (*on_plan)(void *arg, size_t tasks, uint64_t pages, struct err *e);
	int (*wait_disk)(void *arg, struct err *e); /* returns when the disk is complete */
	mem_progress progress;
	void *arg;
};

/* Success: the tree stands, frozen in its cgroup, nothing of us in it; after a failure the container
 * is of no use and the caller kills it.  From a folder: the tree runs, *ret_pid (else NULL) is its first
 * process; after a failure nothing of it is left. */
int restore_run(const struct restore_opts *o, struct restore_times *ret, pid_t *ret_pid, struct err *e);

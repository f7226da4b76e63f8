/* restore - putting a container's state into a container that stands with gw-init as its init. */
#pragma once
#include "cr/cr.h"
#include "cr/mem/mem.h"

struct restore_times {
	uint64_t build_us, pages_us, finish_us;
};

struct restore_opts {
	pid_t init;         /* gw-init */
	const char *cgroup; /* the container's own v2 cgroup */
	int data_fd;
	/* Each may be NULL; a negative result ends the restore. */
	int (*on_plan)(void *arg, size_t tasks, uint64_t pages, struct err *e);
	int (*wait_disk)(void *arg, struct err *e); /* returns when the disk is complete */
	mem_progress progress;
	void *arg;
};

/* Success: the tree stands, frozen in its cgroup, nothing of us in it.  After a failure the container
 * is of no use and the caller kills it. */
int restore_run(const struct restore_opts *o, struct restore_times *ret, struct err *e);

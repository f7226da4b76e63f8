/* dump - taking the state of a container; the stages of it.
 *
 * Whatever happens, the tree goes on as if nothing had been: success leaves it frozen in its cgroup
 * with nothing of us in it (a checkpoint: as its options say), failure leaves it running. */
#pragma once
#include "cr/cr.h"
#include "cr/mem/mem.h"

struct dump_times {
	uint64_t freeze_us, capture_us, pages_us;
	uint64_t frozen_us; /* of a checkpoint: how long the tree stood */
	struct mem_counts mem;
};

struct dump_subject {
	pid_t pid;
	const char *cgroup; /* path of the container's own v2 cgroup; NULL: none, it is stopped by ptrace */
	const struct cr_opts *opts; /* of a checkpoint into a folder; NULL: a live migration */
	struct guard **guard; /* dump_run's and dump_check's own */
};

struct dump_opts {
	struct dump_subject subject;
	int data_fd; /* of a live migration */
	/* Each may be NULL; a negative result ends the dump as a failure. */
	int (*on_frozen)(void *arg, struct err *e);   /* every task stands */
	int (*wait_go)(void *arg, struct err *e);     /* returns when the link is silenced */
	int (*on_captured)(void *arg, uint64_t pages, struct err *e);
	mem_progress progress;
	void *arg;
};

/* -EOPNOTSUPP with refusals in *ret_refusals (the caller's, refusals_done): untouched. */
int dump_run(const struct dump_opts *o, struct refusals *ret_refusals, uint64_t *ret_bytes,
	     struct dump_times *ret_times, struct err *e);

/* Only the checks; the tree is frozen for a moment if it is not content as it runs.  0 also where there
 * are refusals. */
int dump_check(const struct dump_subject *s, struct refusals *ret_refusals, struct err *e);

/* After an engine was killed: switches off what it may have left in the tree, thaws the cgroup, and
 * unmaps what its agents left (recover.c). */
int dump_recover(pid_t pid, const char *cgroup, struct err *e);

/* ---- the dump as an object; for recover.c ---- */

#define FREEZE_TIMEOUT_MS 10000

int dump_open(struct dump *d, const struct dump_subject *s, bool check_only, struct err *e);
/* What parts left outside of our memory is undone, before anything runs on. */
void dump_parts_done(struct dump *d);
void dump_close(struct dump *d);

/* waits - what is known of sleeping threads from before the freeze; restart.c's own. */
#pragma once
#include "cr/task/restart.h"
#include "sys/ktask.h"

#define NR_NONE (-1)

struct wait_info {
	pid_t tid;
	long nr;        /* of the call itself, never restart_syscall */
	bool restarted; /* the start below is that of a later part of it */
	uint64_t args[6];
	uint64_t switches; /* voluntary ones */
	int64_t start_ns;  /* CLOCK_MONOTONIC of ours */
};

/* A call that has a restart block where it is interrupted. */
bool wait_is_timed(long nr);

/* NULL: the kernel cannot be asked; then there are notes. */
const struct ktask *waits_ktask(struct waits *w);
const struct wait_info *waits_find(const struct waits *w, pid_t tid); /* NULL: none */
/* A stopped thread (its registers are read): is it still in the sleep that was noted? */
bool wait_goes_on(const struct wait_info *w, const struct task *t, const struct thread *th);

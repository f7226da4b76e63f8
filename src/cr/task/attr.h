/* attr - the attributes of tasks and threads.  Their order in parts.c matters, for the hooks of a
 * restore:
 *
 *   rlimits, sched, rseq, signals, timers   what the engine does from outside
 *   seccomp   needs CAP_SYS_ADMIN of the user namespace; from here on filters are installed but
 *             suspended (the thread is seized with PTRACE_O_SUSPEND_SECCOMP)
 *   attrs     all that is set by the threads themselves; within it: rights are given up by creds, and
 *             behind that what a change of credentials resets (parent-death signal, dumpable)
 *   arm       the LAST part of all: pending signals and running timers, so that nothing expires while
 *             the tree is still being built. */
#pragma once
#include "cr/cr.h"

/* A round trip to an agent costs two switches of process, so what the parts ask of a thread, and what
 * they set in it, goes in one program each: part `attrs` (attrs.c) runs them. */
struct attr_slots { /* where in the program its answers are */
	struct aarg v[8];
	size_t op[8];
};

struct attr_part {
	const char *name;
	/* Dump, each thread (the leader's also for the process): appends, and looks at the answers. */
	void (*ask)(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s);
	int (*take)(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		    struct err *e);
	/* Restore: appends for a thread (in phase thread_end), and for the process (in task_end). */
	int (*give)(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e);
	int (*give_task)(struct restore *r, struct rtask *t, struct aprog *p, struct err *e);
};
extern const struct attr_part attr_mem, attr_rlimits, attr_sched, attr_rseq, attr_signals, attr_timers,
	attr_creds, attr_misc;

extern const struct cr_part cr_part_rlimits, cr_part_sched, cr_part_rseq, cr_part_signals,
	cr_part_timers, cr_part_seccomp, cr_part_creds, cr_part_misc, cr_part_attrs, cr_part_arm;

/* Position of a part in parts.c: its place in part_data. */
size_t attr_part_index(const struct cr_part *part);

/* The sub-records of a core, made when absent; NULL: no memory. */
TaskCoreEntry *attr_task_core(struct thread *leader);
ThreadCoreEntry *attr_thread_core(struct thread *th);

/* Records are freed by protobuf-c, so they are made with malloc. */
#define ATTR_NEW(T, lower)                       \
	({                                       \
		T *rec_ = malloc(sizeof(*rec_)); \
		if (rec_)                        \
			lower##__init(rec_);     \
		rec_;                            \
	})

/* A file of a thread ("comm") of the process; *ret malloc'd. */
int attr_thread_file(const struct task *t, const struct thread *th, const char *name, size_t max,
		     char **ret, size_t *ret_len, struct err *e);

/* A stretch of memory of a process being restored where a system call's nested structures can stand,
 * at a known address; mapped by the leader's agent, to be given back. */
struct scratch {
	struct agent *leader;
	uint64_t addr;
	size_t len;
};
int scratch_map(struct rtask *t, size_t len, struct scratch *ret, struct err *e);
int scratch_unmap(struct scratch *s, struct err *e);

/* What part `arm` calls. */
int signals_queue_private(struct rtask *t, struct rthread *th, struct err *e);
int signals_queue_shared(struct rtask *t, struct err *e);
int timers_arm(struct restore *r, struct rtask *t, struct err *e);

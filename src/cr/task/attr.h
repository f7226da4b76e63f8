/* attr - the attributes of tasks and threads, a part each.  Their order in parts.c matters, for the
 * hooks of a restore and for no other reason:
 *
 *   rlimits, sched, rseq, signals, timers   need the rights that the agent has from gw-init
 *   seccomp   needs CAP_SYS_ADMIN of the user namespace; from here on filters are installed but
 *             suspended (the thread is seized with PTRACE_O_SUSPEND_SECCOMP)
 *   creds     gives the rights up
 *   misc      what a change of credentials resets: parent-death signal, dumpable; and names
 *
 * and behind them, in the LAST part of all, `arm`: pending signals and running timers, so that
 * nothing expires while the tree is still being built. */
#pragma once
#include "cr/cr.h"

extern const struct cr_part cr_part_rlimits, cr_part_sched, cr_part_rseq, cr_part_signals,
	cr_part_timers, cr_part_seccomp, cr_part_creds, cr_part_misc, cr_part_arm;

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

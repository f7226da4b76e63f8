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

/* The sub-records of a core, made when absent; NULL: no memory. */
TaskCoreEntry *attr_task_core(struct thread *leader);
ThreadCoreEntry *attr_thread_core(struct thread *th);

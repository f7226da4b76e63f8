/* seize - stopping threads by ptrace, and their registers.
 *
 * PTRACE_SEIZE + PTRACE_INTERRUPT: no signal is sent, and a thread whose tracer dies runs on.  A
 * thread frozen by the v2 freezer can be seized and its registers read, but runs nothing before the
 * thaw (shared/kernel.md 4). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/err.h"

/* General registers, extended state and signal mask of one thread. */
struct thread_regs {
	struct user_regs_struct gp;
	void *xstate; /* NT_X86_XSTATE, malloc'd, owned */
	size_t xstate_len;
	uint64_t sigmask;
	/* agent_finish only, where gp.rax is -516 (the kernel keeps the rest of the call in a
	 * restart block, which cannot be set from outside): when the sleep, poll or futex ends, by our
	 * CLOCK_MONOTONIC; 0: after restart_left_ns of its own clock, which is -1 for no limit of time
	 * or an absolute one.  seize_get_regs sets 0 and -1. */
	int64_t restart_end_ns, restart_left_ns;
};

void thread_regs_done(struct thread_regs *r);

/* Seizes (options: PTRACE_O_SUSPEND_SECCOMP where the kernel lets us, exit kill never) and asks it
 * to stop; does not wait.  -ESRCH: gone.  -EPERM: traced by someone else (the sentence names the
 * tracer). */
int seize_start(pid_t tid, struct err *e);
/* A stopped thread of a process that a restore makes: from now on it is killed when we end without having let it
 * go.  Never for one that is dumped. */
int seize_bind(pid_t tid, struct err *e);
/* Waits for the stop.  *ret_group_stop (may be NULL) tells that the thread is in a job-control stop
 * (SIGSTOP and friends) of its own.  -ESRCH: it ended instead. */
int seize_wait(pid_t tid, bool *ret_group_stop, struct err *e);
/* The same, but -ETIMEDOUT when it has not stopped by then (it waits for a device, or a file server). */
int seize_wait_ms(pid_t tid, int timeout_ms, bool *ret_group_stop, struct err *e);
/* Lets it go; state is untouched. */
int seize_detach(pid_t tid, struct err *e);

/* A thread stopped in a restartable sequence (rseq) is given with its abort address as rip. */
int seize_get_regs(pid_t tid, struct thread_regs *ret, struct err *e);
int seize_set_regs(pid_t tid, const struct thread_regs *r, struct err *e);

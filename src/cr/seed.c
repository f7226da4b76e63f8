#include "cr/seed.h"

#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "cr/ns/ns.h"

#define RSEQ_UNREGISTER 1

/* The C library's registration would outlive the library: the kernel writes to it at each switch. */
static void rseq_leave(void)
{
	if (__rseq_size)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset,
			__rseq_size < 32 ? 32 : __rseq_size, RSEQ_UNREGISTER, RSEQ_SIG);
}

/* In the child, which has a copy of all of ours and must keep none of it. */
static _Noreturn void seed_wait(void)
{
	rseq_leave();
	syscall(SYS_set_robust_list, NULL, sizeof(void *) * 3);
	syscall(SYS_close_range, 0, ~0u, 0);
	for (;;)
		syscall(SYS_pause);
}

int seed_make(struct restore *r, pid_t *ret_pid, struct err *e)
{
	pid_t number = r->tasks[0]->nspid;
	struct clone_args ca = {
		.flags = r->opts->sibling ? CLONE_PARENT : 0,
		.exit_signal = r->opts->sibling ? 0 : SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&number,
		.set_tid_size = 1,
	};
	sigset_t all, old;
	long pid;

	/* Nothing may reach handlers of ours in a process that is not us. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = syscall(SYS_clone3, &ca, sizeof(ca));
	if (pid == 0)
		seed_wait();
	pid = pid < 0 ? -errno : pid;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid == -EEXIST)
		return err_set(e, -EEXIST, "the process number %d is taken", (int)number);
	if (pid == -EPERM)
		return err_set(e, -EPERM, "process %d cannot be made with its number: that needs "
			       "CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) in its PID namespace", (int)number);
	if (pid < 0)
		return err_sys(e, (int)pid, "making process %d", (int)number);
	*ret_pid = (pid_t)pid;
	return 0;
}

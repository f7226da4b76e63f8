#include "inject/seize.h"

#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"
#include "inject/internal.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

#define XSTATE_MAX (64u << 10) /* the largest of today, with AMX tiles, is 11 KiB */

void thread_regs_done(struct thread_regs *r)
{
	if (!r)
		return;
	free(r->xstate);
	r->xstate = NULL;
	r->xstate_len = 0;
}

static int seize_refused(pid_t tid, int code, struct err *e)
{
	char path[64], *text = NULL, *at;
	long tracer = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (fd_read_file_at(-1, path, 65536, &text, NULL) == 0) {
		at = strstr(text, "\nTracerPid:");
		if (at)
			tracer = strtol(at + 11, NULL, 10);
	}
	free(text);
	if (tracer > 0)
		return err_set(e, code, "thread %d is traced by process %ld (a debugger?)", tid,
			       tracer);
	return err_sys(e, code, "cannot seize thread %d", tid);
}

int seize_start(pid_t tid, struct err *e)
{
	long o = PTRACE_O_TRACESYSGOOD;

	/* SUSPEND_SECCOMP wants CAP_SYS_ADMIN in the first user namespace and that we have no
	 * filter of our own; where it is refused, filters of the task judge injected calls. */
	if (ptrace(PTRACE_SEIZE, tid, 0, o | PTRACE_O_SUSPEND_SECCOMP) < 0) {
		if (errno == ESRCH)
			return err_set(e, -ESRCH, "thread %d is gone", tid);
		if (ptrace(PTRACE_SEIZE, tid, 0, o) < 0)
			return seize_refused(tid, -errno, e);
	}
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
		return err_sys(e, -errno, "cannot interrupt thread %d", tid);
	return 0;
}

/* What is being made and not yet let go is nobody's: it ends with its maker. */
int seize_attach(pid_t tid, struct err *e)
{
	long o = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

	if (ptrace(PTRACE_SEIZE, tid, 0, o | PTRACE_O_SUSPEND_SECCOMP) < 0 &&
	    ptrace(PTRACE_SEIZE, tid, 0, o) < 0)
		return seize_refused(tid, -errno, e);
	return 0;
}

int seize_bind(pid_t tid, struct err *e)
{
	long o = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

	if (ptrace(PTRACE_SETOPTIONS, tid, 0, o | PTRACE_O_SUSPEND_SECCOMP) < 0 &&
	    ptrace(PTRACE_SETOPTIONS, tid, 0, o) < 0)
		return err_sys(e, -errno, "process %d cannot be bound to us", tid);
	return 0;
}

int seize_wait_status(pid_t tid, int *ret_status, struct err *e)
{
	int st;

	while (waitpid(tid, &st, __WALL) < 0) {
		if (errno != EINTR)
			return err_sys(e, -errno, "waiting for thread %d", tid);
	}
	if (!WIFSTOPPED(st))
		return err_set(e, -ESRCH, "thread %d ended", tid);
	*ret_status = st;
	return 0;
}

/* A stop sends SIGCHLD, which is blocked meanwhile and so wakes us at once; where the caller's parent had it ignored
 * none comes, and we look again after a step. */
static int wait_status_ms(pid_t tid, int timeout_ms, int *ret_status, struct err *e)
{
	struct timespec start, now, step = { 0, 2000000 };
	sigset_t chld, old;
	int st, r;

	if (timeout_ms < 0)
		return seize_wait_status(tid, ret_status, e);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &start);
	sigprocmask(SIG_BLOCK, &chld, &old);
	while ((r = waitpid(tid, &st, __WALL | WNOHANG)) == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >= timeout_ms)
			break;
		sigtimedwait(&chld, NULL, &step);
	}
	r = r < 0 ? -errno : r;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		return err_sys(e, r, "waiting for thread %d", tid);
	if (r == 0)
		return err_set(e, -ETIMEDOUT, "thread %d does not stop (it may wait for a device or a file server)", tid);
	if (!WIFSTOPPED(st))
		return err_set(e, -ESRCH, "thread %d ended", tid);
	*ret_status = st;
	return 0;
}

int seize_wait(pid_t tid, bool *ret_group_stop, struct err *e)
{
	return seize_wait_ms(tid, -1, ret_group_stop, e);
}

int seize_wait_ms(pid_t tid, int timeout_ms, bool *ret_group_stop, struct err *e)
{
	int st, r;

	for (;;) {
		long sig = 0;

		r = wait_status_ms(tid, timeout_ms, &st, e);
		if (r < 0)
			return r;
		if (st >> 16 == PTRACE_EVENT_STOP)
			break;
		/* A signal that was on its way before our interrupt is delivered, as it would have
		 * been; the stop we asked for follows. */
		if (st >> 16 == 0 && WSTOPSIG(st) != (SIGTRAP | 0x80))
			sig = WSTOPSIG(st);
		if (ptrace(PTRACE_CONT, tid, 0, sig) < 0 && errno != ESRCH)
			return err_sys(e, -errno, "cannot continue thread %d", tid);
	}
	if (ret_group_stop)
		*ret_group_stop = WSTOPSIG(st) != SIGTRAP;
	return 0;
}

int seize_detach(pid_t tid, struct err *e)
{
	/* A job-control stop of the process comes back by itself: the kernel renews it for the
	 * thread. */
	if (ptrace(PTRACE_DETACH, tid, 0, 0) < 0)
		return err_sys(e, -errno, "cannot detach from thread %d", tid);
	return 0;
}

/* A thread stopped inside a restartable sequence has been preempted, so it belongs to the abort
 * handler.  The kernel would see to it on the way back to user space; but an injected call goes
 * that way first, with another rip, and makes the kernel forget the sequence (it clears rseq_cs).
 * So what the kernel would do is done to the registers that we keep. */
static void rseq_abort(pid_t tid, struct user_regs_struct *gp)
{
	struct {
		uint64_t pointer;
		uint32_t size, signature, flags, pad;
	} conf = { 0 };
	struct {
		uint32_t version, flags;
		uint64_t start, length, abort;
	} cs;
	uint64_t cs_at = 0;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(conf), &conf) < 0 || !conf.pointer)
		return;
	if (mem_read_pid(tid, conf.pointer + 8, &cs_at, 8) < 0 || !cs_at)
		return;
	if (mem_read_pid(tid, cs_at, &cs, sizeof(cs)) < 0)
		return;
	if (gp->rip - cs.start < cs.length)
		gp->rip = cs.abort;
}

int seize_get_gp(pid_t tid, struct user_regs_struct *ret, struct err *e)
{
	if (ptrace(PTRACE_GETREGS, tid, 0, ret) < 0)
		return err_sys(e, -errno, "cannot read the registers of thread %d", tid);
	return 0;
}

int seize_set_gp(pid_t tid, const struct user_regs_struct *gp, struct err *e)
{
	if (ptrace(PTRACE_SETREGS, tid, 0, gp) < 0)
		return err_sys(e, -errno, "cannot set the registers of thread %d", tid);
	return 0;
}

int seize_get_mask(pid_t tid, uint64_t *ret, struct err *e)
{
	if (ptrace(PTRACE_GETSIGMASK, tid, sizeof(*ret), ret) < 0)
		return err_sys(e, -errno, "cannot read the signal mask of thread %d", tid);
	return 0;
}

int seize_set_mask(pid_t tid, uint64_t mask, struct err *e)
{
	if (ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0)
		return err_sys(e, -errno, "cannot set the signal mask of thread %d", tid);
	return 0;
}

int seize_get_basic(pid_t tid, struct user_regs_struct *gp, uint64_t *mask, struct err *e)
{
	int r = seize_get_gp(tid, gp, e);

	if (r < 0)
		return r;
	rseq_abort(tid, gp);
	return seize_get_mask(tid, mask, e);
}

int seize_get_regs(pid_t tid, struct thread_regs *ret, struct err *e)
{
	struct thread_regs got = { 0 };
	auto_free char *xs = malloc(XSTATE_MAX);
	struct iovec iov = { xs, XSTATE_MAX };
	int r;

	if (!xs)
		return err_sys(e, -ENOMEM, "registers of thread %d", tid);
	r = seize_get_basic(tid, &got.gp, &got.sigmask, e);
	if (r < 0)
		return r;
	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov) < 0)
		return err_sys(e, -errno, "cannot read the extended state of thread %d", tid);
	got.xstate_len = iov.iov_len;
	got.xstate = realloc(xs, iov.iov_len ? iov.iov_len : 1);
	if (!got.xstate)
		return err_sys(e, -ENOMEM, "registers of thread %d", tid);
	xs = NULL;
	got.restart_left_ns = -1;
	*ret = got;
	return 0;
}

int seize_set_regs(pid_t tid, const struct thread_regs *t, struct err *e)
{
	struct iovec iov = { t->xstate, t->xstate_len };
	int r;

	if (t->xstate && ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &iov) < 0)
		return err_sys(e, -errno,
			       "cannot set the extended state of thread %d (%zu bytes: another "
			       "processor?)",
			       tid, t->xstate_len);
	r = seize_set_mask(tid, t->sigmask, e);
	if (r < 0)
		return r;
	return seize_set_gp(tid, &t->gp, e);
}

int seize_interrupt(pid_t tid, struct err *e)
{
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
		return err_sys(e, -errno, "cannot interrupt thread %d", tid);
	return seize_wait(tid, NULL, e);
}

int seize_cont(pid_t tid, struct err *e)
{
	if (ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		return err_sys(e, -errno, "cannot continue thread %d", tid);
	return 0;
}

int seize_settle(pid_t tid, struct err *e)
{
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		return err_sys(e, -errno, "cannot interrupt thread %d", tid);
	return seize_wait(tid, NULL, e);
}

int seize_step_syscall(pid_t tid, struct err *e)
{
	long sig = 0;
	int st, r;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, tid, 0, sig) < 0)
			return err_sys(e, -errno, "cannot continue thread %d", tid);
		r = seize_wait_status(tid, &st, e);
		if (r < 0)
			return r;
		if (st >> 16 == 0 && WSTOPSIG(st) == (SIGTRAP | 0x80))
			return 0;
		/* All that can be blocked is; a stop signal takes its way. */
		sig = st >> 16 == 0 ? WSTOPSIG(st) : 0;
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGSYS)
			return err_set(e, -EFAULT, "injected code in thread %d got signal %ld", tid,
				       sig);
	}
}

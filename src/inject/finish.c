/* finish - the ends of restored tasks: as a zombie, or with the registers of what they become. */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "inject/prog.h"

#define EXIT_WAIT_MS 5000
#define PARK_TRIES 100000

static void exit_program(struct aprog *p, int wait_status)
{
	struct rlimit none = { 0, 0 };
	struct {
		uint64_t handler, flags, restorer, mask;
	} dfl = { 0 };
	uint64_t mask = 0;
	struct aarg pid;

	if (WIFEXITED(wait_status)) {
		APROG_CALL(p, 0, SYS_exit_group, aarg_imm((uint64_t)WEXITSTATUS(wait_status)));
		return;
	}
	/* No core file: its bit of the wait status is lost with it. */
	APROG_CALL(p, AOP_MAY_FAIL, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_CORE),
		   aprog_in(p, &none, sizeof(none)), aarg_imm(0));
	APROG_CALL(p, AOP_MAY_FAIL, SYS_rt_sigaction, aarg_imm((uint64_t)WTERMSIG(wait_status)),
		   aprog_in(p, &dfl, sizeof(dfl)), aarg_imm(0), aarg_imm(8));
	pid = aarg_result(APROG_CALL(p, 0, SYS_getpid, aarg_imm(0)));
	APROG_CALL(p, 0, SYS_kill, pid, aarg_imm((uint64_t)WTERMSIG(wait_status)));
	APROG_CALL(p, 0, SYS_rt_sigprocmask, aarg_imm(SIG_SETMASK), aprog_in(p, &mask, 8),
		   aarg_imm(0), aarg_imm(8));
}

int agent_exit(struct agent *a, int wait_status, struct err *e)
{
	struct aprog *p = aprog_new();
	pid_t tid = a->tid;
	struct pollfd dead = { .fd = a->p->pidfd, .events = POLLIN };
	int r;

	if (!p) {
		agent_drop(a);
		return err_sys(e, -ENOMEM, "ending process %d", tid);
	}
	exit_program(p, wait_status);
	r = agent_run(a, p, NULL);
	aprog_free(p);
	if (r == -EPIPE) {
		/* The channel closes before the process is a zombie that can be waited for. */
		if (a->traced)
			waitpid(tid, NULL, __WALL);
		else if (poll(&dead, 1, EXIT_WAIT_MS) != 1)
			r = -ETIMEDOUT;
	}
	agent_drop(a);
	if (r != -EPIPE)
		return err_set(e, r < 0 ? r : -EIO, "process %d did not end with status %#x", tid,
			       wait_status);
	return 0;
}

int agent_seize(struct agent *a, struct err *e)
{
	int r;

	if (a->traced)
		return 0;
	r = seize_attach(a->tid, e);
	if (r >= 0)
		a->traced = true;
	return r;
}

/* A call of the stopped thread by the blob's own instruction; it stands at its exit afterwards. */
static int finish_call(struct agent *a, long nr, uint64_t x, uint64_t y, struct err *e)
{
	struct user_regs_struct gp;
	uint64_t args[6] = { x, y };
	int r = seize_get_gp(a->tid, &gp, e);

	if (r < 0)
		return r;
	arch_regs_call(&gp, a->p->base + AGENT_ENTRY_SYSCALL, nr, args);
	r = seize_set_gp(a->tid, &gp, e);
	for (int half = 0; half < 2 && r >= 0; half++)
		r = seize_step_syscall(a->tid, e);
	if (r >= 0)
		r = seize_get_gp(a->tid, &gp, e);
	if (r >= 0 && (int64_t)gp.rax < 0)
		r = err_sys(e, (int)gp.rax, "system call %ld in thread %d", nr, a->tid);
	return r;
}

static bool wants_restart(const struct thread_regs *t)
{
	return (int64_t)t->gp.rax == -516 && (int64_t)t->gp.orig_rax >= 0;
}

static int64_t time_left(const struct thread_regs *t)
{
	struct timespec now;
	int64_t left;

	if (!t->restart_end_ns)
		return t->restart_left_ns;
	clock_gettime(CLOCK_MONOTONIC, &now);
	left = t->restart_end_ns - now.tv_sec * 1000000000 - now.tv_nsec;
	return left > 0 ? left : 0;
}

/* The call that is made again, with the time that is left. */
static void restart_program(struct aprog *p, const struct thread_regs *t)
{
	const struct user_regs_struct *gp = &t->gp;
	struct aarg args[6] = { aarg_imm(gp->rdi), aarg_imm(gp->rsi), aarg_imm(gp->rdx),
				aarg_imm(gp->r10), aarg_imm(gp->r8),  aarg_imm(gp->r9) };
	int64_t left = time_left(t), ts[2] = { left / 1000000000, left % 1000000000 };

	if (left >= 0) {
		switch (gp->orig_rax) {
		case SYS_nanosleep:
			args[0] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_clock_nanosleep:
			args[2] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_futex:
			args[3] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_poll:
			args[2] = aarg_imm((uint64_t)((left + 999999) / 1000000));
			break;
		}
	}
	aprog_park(p, (long)gp->orig_rax, args);
}

/* The kernel keeps what is left of a sleep, poll or futex wait in a restart block that only it can
 * write.  So the thread makes the call again and is interrupted in it: then it has its block, and
 * the registers that follow say "restart".  Any other thread just stands still. */
static int park(struct agent *a, const struct thread_regs *t, struct err *e)
{
	static const struct aarg none[6];
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "finishing thread %d", a->tid);
	if (wants_restart(t))
		restart_program(p, t);
	else
		aprog_park(p, -1, none);
	r = agent_send(a, p, e);
	aprog_free(p);
	return r;
}

/* Stopped: 1: in its call, or behind it with *t changed to the result; 0: not yet there. */
static int parked(struct agent *a, struct thread_regs *t, struct err *e)
{
	struct user_regs_struct gp;
	struct agent_slot slot;
	int r = seize_get_gp(a->tid, &gp, e);

	if (r < 0)
		return r;
	if (!wants_restart(t))
		return gp.orig_rax == SYS_pause;
	if (gp.orig_rax == t->gp.orig_rax && arch_in_restart(&gp)) {
		t->gp.rax = gp.rax;
		return 1;
	}
	if (gp.orig_rax != SYS_pause)
		return 0;
	/* It ended at once: poll had something to report, the futex has another value. */
	r = proc_read(a->p, a->slot, &slot, sizeof(slot), e);
	t->gp.orig_rax = (uint64_t)-1;
	t->gp.rax = (uint64_t)slot.result;
	return r < 0 ? r : 1;
}

static int finish_stop(struct agent *a, struct thread_regs *t, struct err *e)
{
	int r = agent_seize(a, e);

	for (int i = 0; i < PARK_TRIES && r >= 0; i++) {
		r = seize_interrupt(a->tid, e);
		if (r >= 0)
			r = parked(a, t, e);
		if (r)
			return r;
		/* Between the end of its channel and its call. */
		r = seize_cont(a->tid, e);
		sched_yield();
	}
	return r < 0 ? r : err_set(e, -ETIMEDOUT, "thread %d does not come to rest", a->tid);
}

/* The leader unmaps everything of ours, what it stands on last. */
static int finish_unmap(struct agent *l, struct err *e)
{
	struct agent_proc *p = l->p;
	int r = 0;

	for (size_t i = 0; i < p->n_chunks && r >= 0; i++)
		r = finish_call(l, SYS_munmap, p->chunks[i].addr, AGENT_CHUNK_LEN, e);
	if (r >= 0)
		r = finish_call(l, SYS_munmap, p->base, AGENT_SPAN, e);
	return r < 0 ? r : seize_settle(l->tid, e);
}

static int finish_run(struct agent **agents, struct thread_regs *regs, size_t n, struct err *e)
{
	struct agent_proc *p = agents[0]->p;
	int r = 0;

	if (p->returns || !agents[0]->leader || n != p->n_agents)
		return err_set(e, -EINVAL,
			       "process %d: all its %zu agents finish at once, leader first",
			       p->pid, p->n_agents);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = park(agents[i], &regs[i], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = agent_wait_end(agents[i], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = finish_stop(agents[i], &regs[i], e);
	if (r >= 0)
		r = finish_unmap(agents[0], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = seize_set_regs(agents[i]->tid, &regs[i], e);
	return r;
}

int agent_finish(struct agent **agents, const struct thread_regs *regs, size_t n, struct err *e)
{
	struct thread_regs *mine;
	int r;

	if (n == 0)
		return err_set(e, -EINVAL, "no agent to finish");
	mine = malloc(n * sizeof(*mine)); /* views: where a call ended at once, its result is set */
	if (mine)
		memcpy(mine, regs, n * sizeof(*mine));
	r = mine ? finish_run(agents, mine, n, e) : err_sys(e, -ENOMEM, "registers");
	free(mine);
	if (r < 0)
		r = err_context(e, r, "finishing process %d", agents[0]->p->pid);
	for (size_t i = 0; i < n; i++)
		agent_drop(agents[i]);
	return r;
}

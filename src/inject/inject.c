/* inject - going into a stopped thread of a living process, and leaving it as it was.
 *
 * Our own death by SIGKILL at any instruction must not hurt the task, so before each step that
 * changes it stands a way back that needs nobody:
 *   1. a return stub (arch/) is written to memory that nobody uses, the padding of the vdso's last
 * page;
 *   2. one PTRACE_SETREGS sends the thread to the stub's mmap.  Killed here: the stub undoes it;
 *   3. the blob is written, one PTRACE_SETREGS sends the thread to it.  Killed from here on: the
 * channel closes, the agent closes its own end and jumps to the stub, which unmaps the blob. What a
 * kill leaves behind until the next visit: the code in the padding of the vdso; of a process with
 * several threads the mapping of their slots (leftover.c).  A call that was interrupted starts anew
 * then (a sleep: with its full time).  Under a seccomp filter of the task that forbids close,
 * munmap or rt_sigprocmask the way back fails, since the filter is only suspended while we live.
 *
 * The normal end lets the agent take the same way, watched, and stops it behind the stub's last
 * system call in the event stop of PTRACE_INTERRUPT; there the original registers are set with
 * orig_rax, so that the kernel restarts what it interrupted, restart block included (no injected
 * call of ours touches it). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "inject/internal.h"

#define USER_CS_64 0x33
#define STEPS_MAX 64

static int stub_write(struct agent *a, bool first, uint64_t *ret_leave, struct err *e)
{
	uint8_t code[ARCH_STUB_MAX];
	struct arch_stub s = {
		.gp = a->gp,
		.sigmask = a->sigmask,
		.base = a->p->base,
		.span = AGENT_SPAN,
		.users = a->p->base + AGENT_TEXT,
		.at = a->stub,
		.first = first,
	};
	size_t n, leave;

	n = arch_stub_build(&s, code, &leave);
	*ret_leave = a->stub + leave;
	return proc_write(a->p, a->stub, code, n, e);
}

/* Follows the thread through its stub to the exit of rt_sigprocmask and gives it its registers. */
static int home_bring(struct agent *a, struct err *e)
{
	struct user_regs_struct gp;
	int r;

	for (int i = 0; i < STEPS_MAX; i++) {
		r = seize_step_syscall(a->tid, e);
		if (r < 0)
			return r;
		r = seize_get_gp(a->tid, &gp, e);
		if (r < 0)
			return r;
		if (gp.orig_rax != SYS_rt_sigprocmask || gp.rip < a->stub ||
		    gp.rip >= a->stub + ARCH_STUB_MAX || (int64_t)gp.rax == -ENOSYS)
			continue; /* at the entry rax is -ENOSYS */
		r = seize_settle(a->tid, e);
		if (r < 0)
			return r;
		return seize_set_gp(a->tid, &a->gp, e);
	}
	return err_set(e, -EIO, "thread %d did not come back from injected code", a->tid);
}

/* Runs to the exit of system call nr and gives its result. */
static int call_watch(pid_t tid, long nr, long *ret, struct err *e)
{
	struct user_regs_struct gp;
	int r;

	for (int half = 0; half < 2; half++) {
		r = seize_step_syscall(tid, e);
		if (r < 0)
			return r;
	}
	r = seize_get_gp(tid, &gp, e);
	if (r < 0)
		return r;
	if (gp.orig_rax != (uint64_t)nr)
		return err_set(e, -EIO, "thread %d made system call %ld instead of %ld", tid,
			       (long)gp.orig_rax, nr);
	*ret = (long)gp.rax;
	return 0;
}

static int thread_check(struct agent *a, struct err *e)
{
	int r = seize_get_basic(a->tid, &a->gp, &a->sigmask, e);

	if (r < 0)
		return r;
	if (a->gp.cs != USER_CS_64)
		return err_set(e, -ENOTSUP, "thread %d runs 32-bit code", a->tid);
	return 0;
}

/* In two steps with the registers first: killed in between, the stub's own sigprocmask finds
 * nothing to do. */
static int thread_send(pid_t tid, const struct user_regs_struct *gp, struct err *e)
{
	int r = seize_set_gp(tid, gp, e);

	fault_kill_at("inject", "sent", NULL);
	r = r < 0 ? r : seize_set_mask(tid, ~0ull, e);
	fault_kill_at("inject", "masked", NULL);
	return r;
}

/* The thread is at the exit of its mmap; the site's stub is behind it. */
static int blob_start(struct agent *a, struct err *e)
{
	struct agent_proc *p = a->p;
	struct user_regs_struct gp = a->gp;
	uint64_t leave, first[6] = { p->base + AGENT_TEXT, AGENT_SPAN - AGENT_TEXT,
				     PROT_READ | PROT_WRITE };
	uint64_t run[6] = { a->slot };
	long got;
	int r;

	p->users = 1;
	r = stub_write(a, true, &leave, e);
	if (r >= 0)
		r = fault_at("inject", "mapped", NULL, e);
	if (r >= 0)
		r = proc_blob_write(p, e);
	if (r >= 0)
		r = proc_slot_write(p, a->slot, true, leave, -1, e);
	if (r >= 0)
		r = fault_at("inject", "written", NULL, e);
	if (r < 0)
		return r;
	if (p->writable)
		arch_regs_call(&gp, p->base + AGENT_ENTRY_RUN, 0, run);
	else
		arch_regs_call(&gp, p->base + AGENT_ENTRY_FIRST, 0, first);
	gp.rbx = a->slot;
	gp.rsp = a->slot + a->slot_len;
	gp.r15 = leave;
	gp.eflags &= ~0x400ull; /* the direction flag */
	r = seize_set_gp(a->tid, &gp, e);
	if (r < 0 || p->writable)
		return r;
	r = call_watch(a->tid, SYS_mprotect, &got, e);
	if (r >= 0 && got < 0)
		r = err_sys(e, (int)got, "process %d may not have writable memory", p->pid);
	return r;
}

/* The agent makes its channel; at the exit of socketpair our end is fetched. */
int agent_channel_watch(struct agent *a, struct err *e)
{
	struct agent_slot s;
	long got;
	int r;

	fault_kill_at("inject", "running", NULL);
	r = call_watch(a->tid, SYS_socketpair, &got, e);
	if (r >= 0)
		r = fault_at("inject", "channel", NULL, e);
	if (r < 0)
		return r;
	if (got < 0)
		return err_sys(e, (int)got, "process %d cannot make a socket pair", a->p->pid);
	r = proc_read(a->p, a->slot, &s, sizeof(s), e);
	if (r < 0)
		return r;
	r = agent_get_fd(a, s.pair[1], &a->sock, e);
	if (r < 0)
		return r;
	a->channel = s.pair[0];
	r = fault_at("inject", "fetched", NULL, e);
	return r < 0 ? r : seize_cont(a->tid, e);
}

static void site_restore(struct agent_proc *p)
{
	if (p->site)
		proc_write(p, p->site, p->site_saved, sizeof(p->site_saved), NULL);
	p->site = 0;
}

/* Has the thread make the mapping through the stub's first system call. */
static int blob_mmap(struct agent *a, uint64_t addr, bool first, long *ret, struct err *e)
{
	struct agent_proc *p = a->p;
	uint64_t args[6] = { addr,
			     AGENT_SPAN,
			     PROT_READ | PROT_EXEC | (p->writable ? PROT_WRITE : 0),
			     MAP_PRIVATE | MAP_ANONYMOUS | (addr ? MAP_FIXED_NOREPLACE : 0),
			     (uint64_t)-1,
			     0 };
	struct user_regs_struct gp = a->gp;
	int r;

	arch_regs_call(&gp, a->stub, SYS_mmap, args);
	r = first ? thread_send(a->tid, &gp, e) : seize_set_gp(a->tid, &gp, e);
	return r < 0 ? r : call_watch(a->tid, SYS_mmap, ret, e);
}

static int blob_map(struct agent *a, uint64_t addr, struct err *e)
{
	struct agent_proc *p = a->p;
	uint64_t leave;
	long got;
	int r;

	a->stub = p->site;
	r = stub_write(a, true, &leave, e);
	if (r < 0)
		return r;
	fault_kill_at("inject", "stub", NULL);
	/* Writable and executable at once saves the mprotect; policies forbid it (PR_SET_MDWE). */
	p->writable = true;
	r = blob_mmap(a, addr, true, &got, e);
	if (r >= 0 && (got == -EACCES || got == -EPERM)) {
		p->writable = false;
		r = blob_mmap(a, addr, false, &got, e);
	}
	if (r < 0)
		return r;
	if (got < 0 && got > -4096)
		return err_sys(e, (int)got, "process %d cannot map memory", p->pid);
	p->base = (uint64_t)got;
	a->slot = p->base + AGENT_SLOT0;
	a->slot_len = AGENT_SLOT0_LEN;
	a->data_len = AGENT_SLOT0_DATA_LEN;
	if (addr && p->base != addr)
		return err_set(e, -EEXIST, "the agent's place in process %d is taken", p->pid);
	return 0;
}

int agent_enter(struct agent *a, uint64_t addr, struct err *e)
{
	struct agent_proc *p = a->p;
	struct err why;
	bool moved = false;
	int r;

	r = thread_check(a, e);
	if (r >= 0)
		r = proc_site_find(p, &p->site, e);
	if (r < 0) {
		p->site = 0;
		return r;
	}
	a->leader = true;
	a->traced = true;
	r = blob_map(a, addr, e);
	moved = r >= 0 || a->stub;
	if (r >= 0)
		r = blob_start(a, e);
	if (r >= 0)
		r = agent_channel_watch(a, e);
	if (r >= 0)
		return 0;
	/* A failure on the way in: wherever it stands, the thread's own way leads to the stub's
	 * end. */
	fd_close(&a->sock);
	if (moved && home_bring(a, &why) < 0)
		return err_set(e, r, "%s; and %s", e ? err_text(e) : "injection failed",
			       err_text(&why));
	site_restore(p);
	return r;
}

int agent_inject(pid_t host_pid, pid_t tid, struct agent **ret, struct err *e)
{
	struct agent_proc *p = NULL;
	struct agent *a = NULL;
	int r;

	r = proc_new(host_pid, -1, -1, &p, e);
	if (r < 0)
		return r;
	p->returns = true;
	r = agent_new(p, tid, &a, e);
	proc_unref(p); /* the agent holds it */
	if (r < 0)
		return r;
	r = agent_enter(a, 0, e);
	if (r >= 0) {
		r = leftovers_remove(a, e);
		if (r >= 0) {
			*ret = a;
			return 0;
		}
		agent_cure(a, NULL);
		return err_context(e, r, "clearing process %d of a killed checkpoint", host_pid);
	}
	agent_drop(a);
	return err_context(e, r, "injecting into process %d", host_pid);
}

static int users_set(struct agent_proc *p, int64_t n, struct err *e)
{
	int r = proc_write(p, p->base + AGENT_TEXT, &n, sizeof(n), e);

	if (r >= 0)
		p->users = n;
	return r;
}

static int thread_enter(struct agent *a, struct err *e)
{
	struct agent_proc *p = a->p;
	struct user_regs_struct gp;
	uint64_t leave, none[6] = { 0 };
	int r;

	r = thread_check(a, e);
	if (r >= 0)
		r = proc_slot_new(p, &a->slot, &a->stub, e);
	if (r < 0)
		return r;
	a->slot_len = AGENT_SLOT_LEN;
	a->data_len = AGENT_SLOT_DATA_LEN;
	a->traced = true;
	r = stub_write(a, false, &leave, e);
	if (r >= 0)
		r = proc_slot_write(p, a->slot, false, leave, -1, e);
	if (r >= 0)
		r = users_set(p, p->users + 1, e);
	if (r < 0)
		return r;
	fault_kill_at("inject", "thread", NULL);
	gp = a->gp;
	arch_regs_call(&gp, p->base + AGENT_ENTRY_RUN, 0, none);
	gp.rdi = a->slot;
	gp.rsp = a->slot + a->slot_len;
	gp.eflags &= ~0x400ull;
	r = thread_send(a->tid, &gp, e);
	if (r >= 0)
		r = agent_channel_watch(a, e);
	if (r < 0) {
		struct err why;

		fd_close(&a->sock);
		if (home_bring(a, &why) < 0)
			return err_set(e, r, "%s; and %s", e ? err_text(e) : "injection failed",
				       err_text(&why));
		p->users--;
	}
	return r;
}

int agent_inject_thread(struct agent *leader, pid_t tid, struct agent **ret, struct err *e)
{
	struct agent *a = NULL;
	int r;

	if (!leader->leader || !leader->p->returns)
		return err_set(e, -EINVAL, "thread %d: only beside an injected leader", tid);
	r = agent_new(leader->p, tid, &a, e);
	if (r < 0)
		return r;
	r = thread_enter(a, e);
	if (r < 0) {
		agent_drop(a);
		return err_context(e, r, "injecting into thread %d", tid);
	}
	*ret = a;
	return 0;
}

/* ---- cure ---- */

/* Stops the thread in recvmsg and sends it on the agent's own way out, up to the end of its close.
 */
static int leave_start(struct agent *a, struct err *e)
{
	struct user_regs_struct gp = a->gp;
	uint64_t args[6] = { a->slot };
	long got;
	int r = agent_settle(a, e);

	if (r >= 0)
		r = seize_interrupt(a->tid, e);
	if (r < 0)
		return r;
	fault_kill_at("cure", "interrupted", NULL);
	arch_regs_call(&gp, a->p->base + AGENT_ENTRY_LEAVE, 0, args);
	gp.rsp = a->slot + a->slot_len;
	r = seize_set_gp(a->tid, &gp, e);
	fault_kill_at("cure", "leaving", NULL);
	if (r >= 0)
		r = call_watch(a->tid, SYS_close, &got, e);
	fault_kill_at("cure", "closed", NULL);
	if (r >= 0)
		fd_close(&a->sock);
	return r;
}

/* A thread that is not the last needs no more than that.  The mask first: killed in between, the
 * agent still leaves by itself; killed before the count of users is right, the mapping stays. */
static int cure_thread(struct agent *a, struct err *e)
{
	int r = leave_start(a, e);

	if (r >= 0)
		r = seize_settle(a->tid, e);
	if (r >= 0)
		r = seize_set_mask(a->tid, a->sigmask, e);
	fault_kill_at("cure", "thread-mask", NULL);
	if (r >= 0)
		r = seize_set_gp(a->tid, &a->gp, e);
	fault_kill_at("cure", "thread-home", NULL);
	if (r >= 0)
		r = users_set(a->p, a->p->users - 1, e);
	return r;
}

/* Behind the stub's munmap the thread has its own stack and flags; what is left of the stub is the
 * mask and the registers, which it would set by itself if we were killed here. */
static int leader_home(struct agent *a, struct err *e)
{
	long got;
	int r = call_watch(a->tid, SYS_munmap, &got, e);

	if (r >= 0 && got < 0)
		r = err_sys(e, (int)got, "unmapping the agent");
	fault_kill_at("cure", "unmapped", NULL);
	if (r >= 0)
		r = seize_settle(a->tid, e);
	if (r >= 0)
		r = seize_set_mask(a->tid, a->sigmask, e);
	fault_kill_at("cure", "mask", NULL);
	return r < 0 ? r : seize_set_gp(a->tid, &a->gp, e);
}

static int cure_leader(struct agent *a, struct err *e)
{
	struct agent_proc *p = a->p;
	int r;

	if (p->n_agents > 1)
		return err_set(e, -EBUSY, "process %d: the leader's agent leaves last", p->pid);
	for (size_t i = 0; i < p->n_chunks; i++) {
		r = AGENT_CALL(a, NULL, e, SYS_munmap, p->chunks[i].addr, AGENT_CHUNK_LEN);
		if (r < 0)
			return r;
	}
	p->n_chunks = 0;
	r = leave_start(a, e);
	if (r >= 0)
		r = p->users == 1 ? leader_home(a, e) : home_bring(a, e);
	if (r < 0)
		return r;
	fault_kill_at("cure", "home", NULL);
	site_restore(p);
	p->base = 0;
	return 0;
}

int agent_cure(struct agent *a, struct err *e)
{
	int r;

	if (!a->p->returns) {
		agent_drop(a);
		return err_set(e, -EINVAL, "a restored thread cannot be cured");
	}
	r = a->leader ? cure_leader(a, e) : cure_thread(a, e);
	if (r < 0)
		r = err_context(e, r, "leaving thread %d of process %d", a->tid, a->p->pid);
	agent_drop(a);
	return r;
}

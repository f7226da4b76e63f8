/* When a system call ends that the freeze interrupted with -ERESTART_RESTARTBLOCK (-516): nanosleep,
 * clock_nanosleep (relative), poll, futex.  The kernel keeps it in the thread's restart block, which
 * nobody but the kernel can write and no file shows.
 *
 * Read: the block itself, by a BPF iterator (sys/ktask.h): exact, as often as a container moves.
 * Where that cannot be, in this order, and never too early:
 * - what the kernel wrote to the caller's "remaining time" when it was interrupted, counted from the moment
 *   when everything stood (late by the time that the freeze took);
 * - the requested time from the moment the thread went to sleep, which /proc/PID/task/TID/sched
 *   (se.exec_start) told before the freeze, provided that it has slept on since: at most two voluntary
 *   switches, of the freeze and of our stop (late by what the hypervisor took from that processor since);
 * - the whole requested time, from the freeze.
 * A call that the kernel has already restarted once has lost its number (orig_rax is that of
 * restart_syscall): the block's function says which it was, else the instruction before the `syscall`,
 * else /proc/.../wchan.
 * Kept as an instant of the container's CLOCK_MONOTONIC, sleeps by CPU time as what is left.
 * Put back: agent_finish has the thread make the call again with the time that is left.
 * select and ppoll have no restart block: their rest is in the caller's memory, and made less there by what
 * passes in the move.  futex calls with absolute times are made again as they are.
 * Not covered: epoll_wait and others that end with EINTR whenever something interrupts them, and so here. */
#include "cr/task/restart.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "cr/task/waits.h"
#include "sys/procfs.h"
#include "sys/ktask.h"

#define RESTART_BLOCK (-516)
#define RESTART_NOHAND (-514) /* again with the same arguments, unless a handler runs */
#define NS 1000000000ll
#define TIME_MAX (INT64_MAX / 4) /* as good as never; sums of two do not overflow */
#define CPU_CLOCK_OF(pid) ((clockid_t)(~(unsigned)(pid) << 3 | 2)) /* the kernel's numbers, for a process */

static int peek(pid_t pid, uint64_t addr, void *data, size_t len)
{
	struct iovec here = { data, len }, there = { (void *)addr, len };

	return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)len ? 0 : -EFAULT;
}

/* "mov $imm32,%eax" directly before the `syscall` that the instruction pointer has passed. */
static long call_of_code(pid_t pid, uint64_t ip)
{
	uint8_t code[7];
	uint32_t imm;

	if (ip < sizeof(code) || peek(pid, ip - sizeof(code), code, sizeof(code)) < 0)
		return NR_NONE;
	if (code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05)
		return NR_NONE;
	memcpy(&imm, code + 1, sizeof(imm));
	return wait_is_timed((long)imm) ? (long)imm : NR_NONE;
}

/* Of the first time namespace, from ours. */
static int64_t kernel_time(int64_t ours)
{
	return ours - proc_clock_offset(AT_FDCWD, "/proc/self/timens_offsets", CLOCK_MONOTONIC);
}

static void end_set(const struct dump *d, struct thread *th, int64_t kernel_ns)
{
	th->extra->has_restart_end_ns = true;
	th->extra->restart_end_ns =
		kernel_ns + proc_clock_offset(d->tasks[0]->proc_fd, "timens_offsets", CLOCK_MONOTONIC);
}

/* What was asked for, in ns; -1: for ever.  -errno below that. */
static int64_t requested(pid_t pid, long nr, const struct user_regs_struct *gp)
{
	uint64_t at = nr == SYS_nanosleep ? gp->rdi : nr == SYS_clock_nanosleep ? gp->rdx : gp->r10;
	int64_t ts[2];

	if (nr == SYS_poll)
		return (int)gp->rdx < 0 ? -1 : (int64_t)(int)gp->rdx * 1000000;
	if (at == 0)
		return -1;
	if (peek(pid, at, ts, sizeof(ts)) < 0)
		return -EFAULT;
	if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NS)
		return -EINVAL;
	return ts[0] > INT64_MAX / NS - 1 ? INT64_MAX : ts[0] * NS + ts[1];
}

/* The kernel's own account of a sleep that was interrupted. */
static bool remaining(pid_t pid, long nr, const struct user_regs_struct *gp, int64_t *ret)
{
	uint64_t at = nr == SYS_nanosleep ? gp->rsi : nr == SYS_clock_nanosleep ? gp->r10 : 0;
	int64_t ts[2];

	if (at == 0 || peek(pid, at, ts, sizeof(ts)) < 0 || ts[0] < 0 || ts[1] < 0 || ts[1] >= NS ||
	    ts[0] > INT64_MAX / NS - 1)
		return false;
	*ret = ts[0] * NS + ts[1];
	return true;
}

static bool is_absolute(long nr, const struct user_regs_struct *gp)
{
	int op = (int)gp->rsi & FUTEX_CMD_MASK;

	return nr == SYS_futex && op != FUTEX_WAIT;
}

static bool by_cpu(const struct user_regs_struct *gp)
{
	return (long)gp->orig_rax == SYS_clock_nanosleep &&
	       ((int)gp->rdi < 0 || (int)gp->rdi == CLOCK_PROCESS_CPUTIME_ID);
}

/* Some calls end with EINTR whatever interrupted them, a stop of ours too.  Where they wait without a
 * limit they can be made again as if nothing had been; with one, their caller has to know EINTR. */
static void again_if_endless(struct user_regs_struct *gp)
{
	bool endless;

	switch ((long)gp->orig_rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		endless = (int)gp->r10 < 0;
		break;
	case SYS_epoll_pwait2:
		endless = gp->r10 == 0;
		break;
	case SYS_rt_sigtimedwait:
		endless = gp->rdx == 0;
		break;
	default:
		endless = false;
	}
	if (endless && (int64_t)gp->rax == -EINTR)
		gp->rax = (unsigned long long)RESTART_NOHAND;
}

/* select and ppoll: the kernel has written what was left to the caller's memory, and takes it from there
 * when it makes the call again.  At the latest when everything stood. */
static void rest_note(const struct dump *d, const struct task *t, struct thread *th)
{
	const struct user_regs_struct *gp = &th->regs.gp;
	long nr = (long)gp->orig_rax;
	uint64_t at = nr == SYS_select || nr == SYS_pselect6 ? gp->r8 : nr == SYS_ppoll ? gp->rdx : 0;
	int64_t v[2], unit = nr == SYS_select ? 1000 : 1;

	if ((int64_t)gp->rax != RESTART_NOHAND || !at || peek(t->pid, at, v, sizeof(v)) < 0 || v[0] < 0 ||
	    v[0] > TIME_MAX / NS || v[1] < 0 || v[1] * unit >= NS)
		return;
	th->extra->has_restart_rest_at = true;
	th->extra->restart_rest_at = at;
	end_set(d, th, kernel_time(d->frozen_ns) + v[0] * NS + v[1] * unit);
}

/* A sleep's clock is a small number, the pointer in its place is not. */
static long call_of_block(const struct restart_block *b, pid_t pid, const struct user_regs_struct *gp)
{
	long nr = call_of_code(pid, gp->rip);

	switch (b->kind) {
	case RESTART_POLL:
		return SYS_poll;
	case RESTART_FUTEX:
		return SYS_futex;
	case RESTART_SLEEP:
	case RESTART_CPU_SLEEP:
		return nr != NR_NONE ? nr : (int64_t)gp->rdi < 4096 ? SYS_clock_nanosleep : SYS_nanosleep;
	default:
		return nr;
	}
}

/* Which call it is that goes on. */
static int restart_name(struct task *t, struct thread *th, const struct restart_block *b,
			const struct wait_info *w, struct err *e)
{
	struct user_regs_struct *gp = &th->regs.gp;
	long nr;

	if (gp->orig_rax != SYS_restart_syscall)
		return 0;
	nr = call_of_block(b, t->pid, gp);
	if (nr == NR_NONE)
		nr = w ? w->nr : NR_NONE;
	if (nr == NR_NONE)
		return err_set(e, -EAGAIN, "thread %d of process %d sleeps in a restarted call that "
			       "cannot be told from others; it may work in a moment",
			       (int)th->nstid, (int)t->nspid);
	gp->orig_rax = (unsigned long long)nr;
	return 0;
}

/* Without the kernel's word. */
static int64_t end_estimated(const struct dump *d, const struct task *t, const struct thread *th,
			     const struct wait_info *w, int64_t asked)
{
	int64_t left;

	if (remaining(t->pid, (long)th->regs.gp.orig_rax, &th->regs.gp, &left))
		return d->frozen_ns + (left < TIME_MAX ? left : TIME_MAX);
	asked = asked < TIME_MAX ? asked : TIME_MAX;
	return w && wait_goes_on(w, t, th) ? w->start_ns + asked : d->frozen_ns + asked;
}

static bool is_told(const struct restart_block *b)
{
	return b->kind == RESTART_SLEEP || b->kind == RESTART_POLL || b->kind == RESTART_FUTEX;
}

/* A clock of the process' own CPU time (the kernel's number without a pid). */
static int64_t cpu_left(const struct task *t, const struct restart_block *b, int64_t asked)
{
	struct timespec now;

	if (b->kind != RESTART_CPU_SLEEP || b->clock != CPU_CLOCK_OF(0) ||
	    clock_gettime(CPU_CLOCK_OF(t->pid), &now) < 0)
		return asked;
	return b->end_ns > now.tv_sec * NS + now.tv_nsec ? b->end_ns - now.tv_sec * NS - now.tv_nsec : 0;
}

static void end_note(struct dump *d, struct task *t, struct thread *th, const struct restart_block *b,
		     const struct wait_info *w, int64_t asked)
{
	int64_t end;

	if (asked == -1 || by_cpu(&th->regs.gp)) {
		if (asked != -1 && !remaining(t->pid, SYS_clock_nanosleep, &th->regs.gp, &asked))
			asked = cpu_left(t, b, asked);
		th->extra->has_restart_left_ns = true;
		th->extra->restart_left_ns = asked;
		return;
	}
	if (is_told(b))
		end = b->end_ns < TIME_MAX ? b->end_ns : TIME_MAX;
	else
		end = kernel_time(end_estimated(d, t, th, w, asked));
	end_set(d, th, end);
}

int restart_note(struct dump *d, struct task *t, struct thread *th, struct err *e)
{
	struct user_regs_struct *gp = &th->regs.gp;
	const struct wait_info *w = waits_find(d->waits, th->tid);
	struct restart_block b = { .kind = RESTART_OTHER };
	int64_t asked = 0;
	long nr;
	int r;

	again_if_endless(gp);
	rest_note(d, t, th);
	if ((int64_t)gp->rax != RESTART_BLOCK)
		return 0;
	if (waits_ktask(d->waits)) {
		r = ktask_restart(waits_ktask(d->waits), th->tid, &b);
		if (r < 0)
			return err_sys(e, r, "the interrupted call of thread %d of process %d", (int)th->nstid,
				       (int)t->nspid);
	}
	r = restart_name(t, th, &b, w, e);
	if (r < 0)
		return r;
	nr = (long)gp->orig_rax;
	/* What the caller passed may have another content by now; only a wait without an end is told by it. */
	if (!is_told(&b) || nr == SYS_poll)
		asked = wait_is_timed(nr) ? requested(t->pid, nr, gp) : -EINVAL;
	if (asked < -1 || is_absolute(nr, gp))
		gp->rax = (unsigned long long)RESTART_NOHAND;
	else
		end_note(d, t, th, &b, w, asked);
	return 0;
}

/* The time left of a system call that ended with -ERESTART_RESTARTBLOCK (-516): nanosleep,
 * clock_nanosleep (relative), poll, futex.  The kernel keeps it in the thread's restart block, which
 * nothing shows and nobody but the kernel can write.
 *
 * Read, in this order: what the kernel wrote to the caller's "remaining time" argument when it was
 * interrupted (exact); else the requested time minus the time since the thread last went to sleep,
 * which /proc/PID/task/TID/sched (se.exec_start) told before the freeze (good to some ms; it is in
 * units of the scheduler's clock of a processor, whose distance to CLOCK_MONOTONIC is measured).  A thread that
 * began to sleep after that look is taken to have begun at it, which is a few ms early.
 * A call that the kernel has already restarted once has lost its number (orig_rax is that of
 * restart_syscall): it is found by the instruction before the `syscall`, else by /proc/.../wchan.
 * Put back: agent_finish has the thread make the call again with the time that is left.
 * Not covered: the start of a poll or futex wait that was restarted before; it gets its full time
 * again.  futex calls with absolute times are made again as they are. */
#include "cr/task/restart.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "sys/procfs.h"

#define RESTART_BLOCK (-516)
#define RESTART_NOHAND (-514) /* again with the same arguments, unless a handler runs */
#define NS 1000000000ll
#define NR_NONE (-1)

struct wait_info {
	pid_t tid;
	long nr;        /* of the call itself, never restart_syscall */
	bool restarted; /* the start below is that of a later part of it */
	uint64_t args[6];
	int64_t start_ns; /* CLOCK_MONOTONIC of ours */
};

struct waits {
	struct wait_cpu {
		int cpu;
		int64_t distance;
	} *cpus;
	size_t n_cpus, cap_cpus;
	struct wait_info *list; /* ascending tids within a process; searched by tid */
	size_t n, cap;
	int64_t taken_ns;
};

struct waits *waits_free(struct waits *w)
{
	if (w) {
		free(w->list);
		free(w->cpus);
		free(w);
	}
	return NULL;
}
AUTO_OF_DEFINE(waits)

static int64_t monotonic_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS + ts.tv_nsec;
}

static bool is_timed(long nr)
{
	return nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_poll || nr == SYS_futex;
}

/* "se.exec_start   :   3681459.951697" in ms. */
static int exec_start(int dir, int64_t *ret)
{
	auto_free char *text = NULL;
	const char *p;
	uint64_t ms, us;

	if (fd_read_file_at(dir, "sched", 65536, &text, NULL) < 0)
		return -ENOENT;
	p = strstr(text, "se.exec_start");
	p = p ? strchr(p, ':') : NULL;
	if (!p)
		return -ENOENT;
	for (p++; *p == ' '; p++)
		;
	if (parse_u64_at(&p, 10, &ms) < 0 || *p != '.')
		return -EPROTO;
	p++;
	if (parse_u64_at(&p, 10, &us) < 0)
		return -EPROTO;
	*ret = (int64_t)(ms * 1000000 + us);
	return 0;
}

/* "230 0x0 0x0 0x7ff… sp pc", or "running", or "-1 sp pc". */
static long call_now(int dir, uint64_t args[6])
{
	auto_free char *text = NULL;
	const char *p;
	uint64_t nr;

	if (fd_read_file_at(dir, "syscall", 4096, &text, NULL) < 0)
		return NR_NONE;
	p = text;
	if (parse_u64_at(&p, 10, &nr) < 0)
		return NR_NONE;
	for (int i = 0; i < 6; i++) {
		if (strncmp(p, " 0x", 3) != 0)
			return NR_NONE;
		p += 3;
		if (parse_u64_at(&p, 16, &args[i]) < 0)
			return NR_NONE;
	}
	return (long)nr;
}

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
	return is_timed((long)imm) ? (long)imm : NR_NONE;
}

static long call_of_wchan(int dir, const uint64_t args[6])
{
	auto_free char *text = NULL;

	if (fd_read_file_at(dir, "wchan", 4096, &text, NULL) < 0)
		return NR_NONE;
	if (strstr(text, "poll"))
		return SYS_poll;
	if (strstr(text, "futex"))
		return SYS_futex;
	/* A restarted sleep sleeps in its caller's name (a tail call).  A clock is a small number, a
	 * pointer is not. */
	if (strstr(text, "nanosleep") || strstr(text, "do_syscall"))
		return (int64_t)args[0] < 4096 ? SYS_clock_nanosleep : SYS_nanosleep;
	return NR_NONE;
}

/* CLOCK_MONOTONIC minus the scheduler's clock.  What we read of ourselves lies in the past, so that each
 * attempt is too large by something; a sleep must not end early, so too large is the right side. */
static int clock_distance(int64_t *ret)
{
	auto_fd int self = open("/proc/thread-self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t best = INT64_MAX, mine;

	for (int i = 0; i < 8 && self >= 0; i++) {
		/* Puts us on the processor anew. */
		nanosleep(&(struct timespec){ 0, 1 }, NULL);
		if (exec_start(self, &mine) < 0)
			return -ENOENT;
		mine = monotonic_now() - mine;
		best = mine < best ? mine : best;
	}
	*ret = best;
	return self < 0 ? -ENOENT : 0;
}

/* The scheduler's clocks of different processors are not the same: each leaves out what its host has
 * taken from it.  So the distance is that of the processor where the thread went to sleep. */
static int distance_of(struct waits *w, int dir, int64_t *ret, struct err *e)
{
	struct proc_stat st;
	cpu_set_t one;
	size_t at;
	int r;

	if (proc_stat_read(dir, &st, NULL) < 0 || st.processor < 0 || st.processor >= CPU_SETSIZE)
		return -ENOENT;
	for (at = 0; at < w->n_cpus; at++) {
		if (w->cpus[at].cpu == st.processor) {
			*ret = w->cpus[at].distance;
			return 0;
		}
	}
	CPU_ZERO(&one);
	CPU_SET(st.processor, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		return -errno;
	r = clock_distance(ret);
	if (r < 0)
		return r;
	if (array_grow(w->cpus, w->n_cpus, w->cap_cpus) < 0)
		return err_sys(e, -ENOMEM, "looking at sleepers");
	w->cpus[w->n_cpus++] = (struct wait_cpu){ st.processor, *ret };
	return 0;
}

static int wait_take(struct waits *w, const struct task *t, const struct thread *th, struct err *e)
{
	struct wait_info x = { .tid = th->tid };
	auto_fd int dir = proc_open_thread(t->proc_fd, th->tid);
	int64_t start, distance;
	int r;

	if (dir < 0)
		return 0;
	x.nr = call_now(dir, x.args);
	x.restarted = x.nr == SYS_restart_syscall;
	if (x.restarted)
		x.nr = call_of_wchan(dir, x.args);
	if (!is_timed(x.nr) || exec_start(dir, &start) < 0)
		return 0;
	r = distance_of(w, dir, &distance, e);
	if (r == -ENOMEM)
		return r;
	x.start_ns = r < 0 ? w->taken_ns : start + distance;
	if (array_grow(w->list, w->n, w->cap) < 0)
		return err_sys(e, -ENOMEM, "looking at sleepers");
	w->list[w->n++] = x;
	return 0;
}

static int wait_cmp(const void *a, const void *b)
{
	return ((const struct wait_info *)a)->tid - ((const struct wait_info *)b)->tid;
}

int waits_take(const struct dump *d, struct waits **ret, struct err *e)
{
	auto_of(waits) *w = calloc(1, sizeof(*w));
	cpu_set_t before;
	int r = 0;

	if (!w)
		return err_sys(e, -ENOMEM, "looking at sleepers");
	w->taken_ns = monotonic_now();
	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		CPU_ZERO(&before);
	for (size_t i = 0; i < d->n_tasks && r >= 0; i++)
		for (size_t k = 0; k < d->tasks[i]->n_threads && !d->tasks[i]->zombie && r >= 0; k++)
			r = wait_take(w, d->tasks[i], &d->tasks[i]->threads[k], e);
	if (w->n_cpus && CPU_COUNT(&before))
		sched_setaffinity(0, sizeof(before), &before);
	if (r < 0)
		return r;
	if (w->n)
		qsort(w->list, w->n, sizeof(*w->list), wait_cmp);
	*ret = ptr_take(w);
	return 0;
}

/* ---- phase `stopped` ---- */

static const struct wait_info *wait_of(const struct waits *w, pid_t tid)
{
	struct wait_info key = { .tid = tid };

	return w && w->n ? bsearch(&key, w->list, w->n, sizeof(*w->list), wait_cmp) : NULL;
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

static bool same_call(const struct wait_info *w, long nr, const struct user_regs_struct *gp)
{
	const uint64_t now[6] = { gp->rdi, gp->rsi, gp->rdx, gp->r10, gp->r8, gp->r9 };

	return w && w->nr == nr && memcmp(now, w->args, 4 * sizeof(*now)) == 0;
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

int restart_note(struct dump *d, struct task *t, struct thread *th, struct err *e)
{
	struct user_regs_struct *gp = &th->regs.gp;
	const struct wait_info *w = wait_of(d->waits, th->tid);
	long nr = (long)gp->orig_rax;
	int64_t left, asked;

	again_if_endless(gp);
	if ((int64_t)gp->rax != RESTART_BLOCK)
		return 0;
	if (nr == SYS_restart_syscall) {
		nr = call_of_code(t->pid, gp->rip);
		if (nr == NR_NONE)
			nr = w ? w->nr : NR_NONE;
		if (nr == NR_NONE)
			return err_set(e, -EAGAIN, "thread %d of process %d sleeps in a restarted call that "
				       "cannot be told from others; it may work in a moment",
				       (int)th->nstid, (int)t->nspid);
		gp->orig_rax = (unsigned long long)nr;
	}
	asked = is_timed(nr) ? requested(t->pid, nr, gp) : -EINVAL;
	if (asked < -1 || is_absolute(nr, gp)) {
		gp->rax = (unsigned long long)RESTART_NOHAND;
		return 0;
	}
	th->extra->has_restart_left_ns = true;
	th->extra->restart_left_ns = asked;
	if (asked == -1)
		return 0;
	if (!remaining(t->pid, nr, gp, &left)) {
		if (w && w->restarted && same_call(w, nr, gp))
			return 0;
		left = asked - (monotonic_now() - (same_call(w, nr, gp) ? w->start_ns :
						   d->waits		 ? d->waits->taken_ns :
									   monotonic_now()));
	}
	th->extra->restart_left_ns = left < 0 ? 0 : left;
	return 0;
}

/* What is known of sleepers from before the freeze; see restart.c. */
#include "cr/task/waits.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/task/restart.h"
#include "sys/procfs.h"

#define NS 1000000000ll
#define SWITCHES_OF_OURS 2

struct waits {
	struct ktask *ktask; /* else what follows is of use */
	bool asked;          /* for it; only where something waits, since it takes a while */
	struct wait_cpu {
		int cpu;
		int64_t distance;
	} *cpus;
	size_t n_cpus, cap_cpus;
	struct wait_info *list; /* ascending tids within a process; searched by tid */
	size_t n, cap;
};

struct waits *waits_free(struct waits *w)
{
	if (w) {
		ktask_free(w->ktask);
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

bool wait_is_timed(long nr)
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
static long call_now(int dir, const char *name, uint64_t args[6])
{
	auto_free char *text = NULL;
	const char *p;
	uint64_t nr;

	if (fd_read_piece_at(dir, name, 4096, &text, NULL) < 0)
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
	struct proc_status st;
	int64_t start, distance = 0;
	int r;

	/* The count comes first: who wakes meanwhile has another one afterwards. */
	if (dir < 0 || proc_status_read(dir, &st, NULL) < 0)
		return 0;
	x.switches = st.ctxt_voluntary;
	x.nr = call_now(dir, "syscall", x.args);
	x.restarted = x.nr == SYS_restart_syscall;
	if (x.restarted)
		x.nr = call_of_wchan(dir, x.args);
	if (!wait_is_timed(x.nr) || exec_start(dir, &start) < 0)
		return 0;
	r = distance_of(w, dir, &distance, e);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return 0;
	x.start_ns = start + distance;
	if (array_grow(w->list, w->n, w->cap) < 0)
		return err_sys(e, -ENOMEM, "looking at sleepers");
	w->list[w->n++] = x;
	return 0;
}

static int wait_cmp(const void *a, const void *b)
{
	return ((const struct wait_info *)a)->tid - ((const struct wait_info *)b)->tid;
}

static int sleepers_take(struct waits *w, const struct dump *d, struct err *e)
{
	cpu_set_t before;
	int r = 0;

	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		CPU_ZERO(&before);
	for (size_t i = 0; i < d->n_tasks && r >= 0; i++)
		for (size_t k = 0; k < d->tasks[i]->n_threads && !d->tasks[i]->zombie && r >= 0; k++)
			r = wait_take(w, d->tasks[i], &d->tasks[i]->threads[k], e);
	if (w->n_cpus && CPU_COUNT(&before))
		sched_setaffinity(0, sizeof(before), &before);
	if (r >= 0 && w->n)
		qsort(w->list, w->n, sizeof(*w->list), wait_cmp);
	return r;
}

/* Is there a reason to ask the kernel?  Who comes to one later makes the tree stand a little longer. */
static bool anyone_waits(const struct dump *d)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct task *t = d->tasks[i];
		auto_free char *timers = NULL;

		if (t->zombie)
			continue;
		if (fd_read_file_at(t->proc_fd, "timers", 65536, &timers, NULL) < 0 || *timers)
			return true;
		for (size_t k = 0; k < t->n_threads; k++) {
			char name[40];
			uint64_t args[6];
			long nr;

			snprintf(name, sizeof(name), "task/%d/syscall", (int)t->threads[k].tid);
			nr = call_now(t->proc_fd, name, args);

			if (wait_is_timed(nr) || nr == SYS_restart_syscall)
				return true;
		}
	}
	return false;
}

int waits_take(const struct dump *d, struct waits **ret, struct err *e)
{
	auto_of(waits) *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w)
		return err_sys(e, -ENOMEM, "looking at sleepers");
	if (anyone_waits(d) && !waits_ktask(w))
		r = sleepers_take(w, d, e);
	if (r < 0)
		return r;
	*ret = ptr_take(w);
	return 0;
}

const struct wait_info *waits_find(const struct waits *w, pid_t tid)
{
	struct wait_info key = { .tid = tid };

	return w && w->n ? bsearch(&key, w->list, w->n, sizeof(*w->list), wait_cmp) : NULL;
}

const struct ktask *waits_ktask(struct waits *w)
{
	struct err why = { 0 };

	if (w && !w->asked) {
		w->asked = true;
		if (ktask_open(&w->ktask, &why) < 0)
			log_info("interrupted calls go on with an estimate of their time: %s", err_text(&why));
	}
	return w ? w->ktask : NULL;
}

static bool same_call(const struct wait_info *w, long nr, const struct user_regs_struct *gp)
{
	const uint64_t now[6] = { gp->rdi, gp->rsi, gp->rdx, gp->r10, gp->r8, gp->r9 };

	return w->nr == nr && memcmp(now, w->args, 4 * sizeof(*now)) == 0;
}

bool wait_goes_on(const struct wait_info *w, const struct task *t, const struct thread *th)
{
	auto_fd int dir = proc_open_thread(t->proc_fd, th->tid);
	struct proc_status st;

	return !w->restarted && same_call(w, (long)th->regs.gp.orig_rax, &th->regs.gp) && dir >= 0 &&
	       proc_status_read(dir, &st, NULL) >= 0 && st.ctxt_voluntary - w->switches <= SWITCHES_OF_OURS;
}

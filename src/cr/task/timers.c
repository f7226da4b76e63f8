/* Timers of a process.
 *
 * Kernel state: three interval timers (getitimer), POSIX timers (/proc/PID/timers for what they are,
 * timer_gettime and timer_getoverrun inside for where they stand).  Put back by setitimer, timer_create
 * with the same id (PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15; before: create and delete until the number
 * comes) and timer_settime, as the last thing before the agent leaves.
 * Times are kept as what is left; a POSIX timer's also as the instant at which it ends by the clock that it
 * runs by, which the kernel is asked for (sys/ktask.h), and to which it is set again.  So an instant of
 * CLOCK_REALTIME stays one, whatever the target's clock shows; a span of CLOCK_REALTIME runs by
 * CLOCK_MONOTONIC.  Where the kernel cannot be asked, what is left gets less by what passed on their clock of
 * the container (a few ms late), and spans are taken for instants.
 * A one-shot timer that expires between the reading and the freeze is pending as a signal then, and not armed
 * again.
 * Not covered: timers on another process' CPU clock (refused); the file kind timerfd is a file. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/ns.h"
#include "cr/task/attr.h"
#include "cr/task/timers_parse.h"
#include "cr/task/waits.h"
#include "sys/procfs.h"

#define PR_TIMER_CREATE_RESTORE_IDS_ 77
#define ID_WITHOUT_PRCTL_MAX 20000 /* how far create and delete may count */
#define NSEC 1000000000ull

/* CPU clocks of the caller itself; the kernel shows them as -8 to -1, whichever way they were named. */
static bool clock_is_cpu(int clock)
{
	return clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID ||
	       (clock >= -8 && clock < 0);
}

static bool clock_is_thread_cpu(int clock)
{
	return clock == CLOCK_THREAD_CPUTIME_ID || (clock >= -8 && clock < 0 && clock & 4);
}

/* CLOCK_REALTIME .. CLOCK_TAI without those that nobody can make timers of. */
static bool clock_known(int clock)
{
	if (clock_is_cpu(clock))
		return true;
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM || clock == CLOCK_TAI;
}

static int read_list(const struct task *t, struct timer_list *ret, struct err *e)
{
	auto_free char *text = NULL;
	int r = fd_read_file_at(t->proc_fd, "timers", 64u << 20, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading the timers of process %d", (int)t->nspid);
	r = timers_parse(text, ret);
	return r < 0 ? err_set(e, r, "the timers of process %d cannot be read", (int)t->nspid) : 0;
}

static int check(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		struct timer_list l = { 0 };
		int r;

		if (t->zombie)
			continue;
		r = read_list(t, &l, NULL);
		for (size_t k = 0; k < l.n && r >= 0; k++) {
			char where[32];

			if (clock_known(l.v[k].clock))
				continue;
			snprintf(where, sizeof(where), "timer %d", l.v[k].id);
			r = refusals_add(&d->refusals, t->nspid, where, "timer on a foreign clock",
					 "a POSIX timer on clock %d (CPU time of another process, or a "
					 "device) cannot be carried", l.v[k].clock);
		}
		free(l.v);
		if (r < 0 && r != -ESRCH && r != -ENOENT)
			return err_sys(e, r, "checking the timers of process %d", (int)t->nspid);
	}
	return 0;
}

static int add_timer(struct task *t, TaskTimersEntry *tt, const struct timer_info *ti,
		     const struct itimerspec *left, long overrun, struct err *e)
{
	PosixTimerEntry *pt = ATTR_NEW(PosixTimerEntry, posix_timer_entry);

	if (!pt)
		return err_set(e, -ENOMEM, "no memory");
	tt->posix[tt->n_posix++] = pt;
	pt->it_id = (uint32_t)ti->id;
	pt->clock_id = (uint32_t)ti->clock;
	pt->si_signo = (uint32_t)ti->signo;
	pt->it_sigev_notify = (uint32_t)ti->notify;
	pt->sival_ptr = ti->value;
	pt->overrun = (uint32_t)(overrun > 0 ? overrun : 0);
	pt->isec = (uint64_t)left->it_interval.tv_sec;
	pt->insec = (uint64_t)left->it_interval.tv_nsec;
	pt->vsec = (uint64_t)left->it_value.tv_sec;
	pt->vnsec = (uint64_t)left->it_value.tv_nsec;
	if (!(ti->notify & SIGEV_THREAD_ID))
		return 0;
	for (size_t i = 0; i < t->n_threads; i++) {
		if (t->threads[i].tid == ti->tid) {
			pt->has_notify_thread_id = true;
			pt->notify_thread_id = t->threads[i].nstid;
			return 0;
		}
	}
	return err_set(e, -EOPNOTSUPP, "timer %d notifies a thread that is gone", ti->id);
}

#define TIMERS_AT_ONCE 64

static int read_posix(struct task *t, TaskTimersEntry *tt, const struct timer_list *l, struct err *e)
{
	tt->posix = calloc(l->n + 1, sizeof(*tt->posix));
	if (!tt->posix)
		return err_set(e, -ENOMEM, "no memory");
	for (size_t at = 0; at < l->n; at += TIMERS_AT_ONCE) {
		size_t n = l->n - at < TIMERS_AT_ONCE ? l->n - at : TIMERS_AT_ONCE;
		struct aarg out[TIMERS_AT_ONCE];
		size_t over[TIMERS_AT_ONCE];
		struct aprog *p = aprog_new();
		int r;

		if (!p)
			return err_set(e, -ENOMEM, "no memory");
		for (size_t i = 0; i < n; i++) {
			out[i] = aprog_out(p, sizeof(struct itimerspec));
			APROG_CALL(p, 0, SYS_timer_gettime, aarg_imm((uint64_t)l->v[at + i].id), out[i]);
			over[i] = APROG_CALL(p, 0, SYS_timer_getoverrun,
					     aarg_imm((uint64_t)l->v[at + i].id));
		}
		r = agent_run(t->threads[0].agent, p, e);
		for (size_t i = 0; i < n && r >= 0; i++)
			r = add_timer(t, tt, &l->v[at + i], aprog_out_data(p, out[i]),
				      aprog_result(p, over[i]), e);
		aprog_free(p);
		if (r < 0)
			return r;
	}
	return 0;
}

static ItimerEntry *itimer_of(const struct itimerval *v)
{
	ItimerEntry *it = ATTR_NEW(ItimerEntry, itimer_entry);

	if (it) {
		it->isec = (uint64_t)v->it_interval.tv_sec;
		it->iusec = (uint64_t)v->it_interval.tv_usec;
		it->vsec = (uint64_t)v->it_value.tv_sec;
		it->vusec = (uint64_t)v->it_value.tv_usec;
		/* A periodic one that has just gone off shows nothing left: it is set anew when its signal is
		 * taken, which the restored one could not be, having no value. */
		if (!it->vsec && !it->vusec) {
			it->vsec = it->isec;
			it->vusec = it->iusec;
		}
	}
	return it;
}

/* The record, made by who comes first. */
static TaskTimersEntry *timers_of(struct task *t)
{
	TaskCoreEntry *tc = attr_task_core(&t->threads[0]);

	if (tc && !tc->timers)
		tc->timers = ATTR_NEW(TaskTimersEntry, task_timers_entry);
	return tc ? tc->timers : NULL;
}

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	for (size_t i = 0; i < 3 && th == &t->threads[0]; i++) {
		s->v[i] = aprog_out(p, sizeof(struct itimerval));
		APROG_CALL(p, 0, SYS_getitimer, aarg_imm(i), s->v[i]);
	}
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

/* The record's value is that of the moment when `inside` has read the POSIX timers, which comes first. */
static void real_refer(const struct task *t, ItimerEntry *it)
{
	uint64_t us = it->vsec * 1000000 + it->vusec;

	if (!us || !t->extra->has_timer_create_next)
		return;
	us += (uint32_t)(now_ns() / 1000) - t->extra->timer_create_next;
	it->vsec = us / 1000000;
	it->vusec = us % 1000000;
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	TaskTimersEntry *tt = timers_of(t);

	if (!tt)
		return err_set(e, -ENOMEM, "no memory");
	if (th != &t->threads[0])
		return 0;
	tt->real = itimer_of(aprog_out_data(p, s->v[ITIMER_REAL]));
	tt->virt = itimer_of(aprog_out_data(p, s->v[ITIMER_VIRTUAL]));
	tt->prof = itimer_of(aprog_out_data(p, s->v[ITIMER_PROF]));
	if (!tt->real || !tt->virt || !tt->prof)
		return err_set(e, -ENOMEM, "no memory");
	real_refer(t, tt->real);
	return 0;
}

const struct attr_part attr_timers = { .name = "timers", .ask = ask, .take = take };

static bool any_by_time(const TaskTimersEntry *tt)
{
	for (size_t i = 0; i < tt->n_posix; i++)
		if (!clock_is_cpu((int)tt->posix[i]->clock_id) && (tt->posix[i]->vsec || tt->posix[i]->vnsec))
			return true;
	return false;
}

/* An end by the clock that the timer runs by, as the container sees it. */
static int add_end(const struct dump *d, GwTask *x, const struct ktask_timer *kt)
{
	static const int clocks[] = { [KTASK_MONOTONIC] = CLOCK_MONOTONIC, [KTASK_REALTIME] = CLOCK_REALTIME,
				      [KTASK_BOOTTIME] = CLOCK_BOOTTIME, [KTASK_TAI] = CLOCK_TAI };
	GwPosixTimer *pt = ATTR_NEW(GwPosixTimer, gw_posix_timer);

	if (!pt)
		return -ENOMEM;
	x->timers[x->n_timers++] = pt;
	pt->has_id = pt->has_clock = pt->has_expiry_ns = true;
	pt->id = kt->id;
	pt->clock = clocks[KTASK_BASE(kt)];
	pt->expiry_ns = kt->expires_ns + proc_clock_offset(d->tasks[0]->proc_fd, "timens_offsets", pt->clock);
	return 0;
}

/* What the kernel tells of the timers that it runs by the time. */
static int read_ends(const struct dump *d, struct task *t, const TaskTimersEntry *tt, struct err *e)
{
	const struct ktask *k = any_by_time(tt) ? waits_ktask(d->waits) : NULL;
	auto_free struct ktask_timer *list = NULL;
	size_t n = 0;
	int r;

	if (!k)
		return 0;
	r = ktask_timers(k, t->pid, &list, &n);
	if (r >= 0)
		t->extra->timers = calloc(n + 1, sizeof(*t->extra->timers));
	if (r >= 0 && !t->extra->timers)
		r = -ENOMEM;
	for (size_t i = 0; i < n && r >= 0; i++)
		if (!clock_is_cpu(list[i].clock) && list[i].clock != CLOCK_REALTIME_ALARM &&
		    list[i].clock != CLOCK_BOOTTIME_ALARM)
			r = add_end(d, t->extra, &list[i]);
	return r < 0 ? err_sys(e, r, "when the timers of process %d end", (int)t->nspid) : 0;
}

static int inside(struct dump *d, struct task *t, struct err *e)
{
	TaskTimersEntry *tt = timers_of(t);
	struct timer_list l = { 0 };
	int r;

	if (!tt)
		return err_set(e, -ENOMEM, "no memory");
	r = read_list(t, &l, e);
	if (r >= 0)
		r = read_posix(t, tt, &l, e);
	if (r >= 0)
		r = read_ends(d, t, tt, e);
	free(l.v);
	/* When it was read; becomes the reading at the freeze in `frozen`, and no part of the record. */
	t->extra->has_timer_create_next = true;
	t->extra->timer_create_next = (uint32_t)(now_ns() / 1000);
	return r < 0 ? r : 0;
}

/* What was left `since` ns ago, at the header's clocks; what has expired by now, `passed` ns after the reading,
 * has become a pending signal. */
static uint64_t left_after(uint64_t left, uint64_t interval, uint64_t passed, uint64_t since)
{
	if (left > passed)
		return left - passed + since;
	return left && interval ? interval - (passed - left) % interval + since : 0;
}

/* NULL: the kernel could not be asked. */
static GwPosixTimer *end_of(const GwTask *x, const PosixTimerEntry *pt)
{
	for (size_t i = 0; x && i < x->n_timers; i++)
		if (x->timers[i]->has_id && x->timers[i]->id == (int32_t)pt->it_id)
			return x->timers[i];
	return NULL;
}

/* The next end; a one-shot timer that has expired has none. */
static void end_advance(const struct dump *d, GwPosixTimer *end, const PosixTimerEntry *pt)
{
	int64_t every = (int64_t)(pt->isec * NSEC + pt->insec), now;
	struct timespec ts;

	clock_gettime((clockid_t)end->clock, &ts);
	now = clock_theirs(d, end->clock, ts.tv_sec * (int64_t)NSEC + ts.tv_nsec);
	if (!pt->vsec && !pt->vnsec)
		end->has_expiry_ns = false;
	else if (every && end->expiry_ns <= now)
		end->expiry_ns += ((now - end->expiry_ns) / every + 1) * every;
}

static int frozen(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		TaskTimersEntry *tt = t->zombie || !t->threads[0].core->tc ?
					      NULL : t->threads[0].core->tc->timers;
		uint64_t now = now_ns(), since = now - (uint64_t)d->header_ns, passed, left;

		if (!tt)
			continue;
		if (!tt->real || !tt->virt || !tt->prof)
			return err_set(e, -EINVAL, "the timers of process %d were not read", (int)t->nspid);
		passed = (uint64_t)((uint32_t)(now / 1000) - t->extra->timer_create_next) * 1000;
		t->extra->has_timer_create_next = false;
		left = left_after((tt->real->vsec * 1000000 + tt->real->vusec) * 1000,
				  (tt->real->isec * 1000000 + tt->real->iusec) * 1000, passed, since);
		left += left ? 999 : 0; /* not early by what has no microsecond */
		tt->real->vsec = left / NSEC;
		tt->real->vusec = left % NSEC / 1000;
		for (size_t k = 0; k < tt->n_posix; k++) {
			PosixTimerEntry *pt = tt->posix[k];
			GwPosixTimer *end = end_of(t->extra, pt);

			if (clock_is_cpu((int)pt->clock_id))
				continue;
			left = left_after(pt->vsec * NSEC + pt->vnsec, pt->isec * NSEC + pt->insec, passed, since);
			pt->vsec = left / NSEC;
			pt->vnsec = left % NSEC;
			if (end)
				end_advance(d, end, pt);
		}
	}
	return 0;
}

/* ---- restore ---- */

static int load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];
		const TaskTimersEntry *tt = t->zombie || !t->core || !t->core->tc ? NULL : t->core->tc->timers;

		for (size_t k = 0; tt && k < tt->n_posix; k++) {
			const PosixTimerEntry *pt = tt->posix[k];

			if (!clock_known((int)pt->clock_id) || pt->it_id > INT32_MAX ||
			    pt->vnsec >= NSEC || pt->insec >= NSEC || pt->vsec > INT64_MAX / NSEC ||
			    pt->isec > INT64_MAX / NSEC)
				return err_set(e, -EPROTO, "process %d: timer %u is not one", (int)t->nspid,
					       pt->it_id);
		}
		for (size_t k = 0; !t->zombie && t->extra && k < t->extra->n_timers; k++)
			if (t->extra->timers[k]->has_expiry_ns && t->extra->timers[k]->expiry_ns <= 0)
				return err_set(e, -EPROTO, "process %d: a timer that has no end",
					       (int)t->nspid);
	}
	return 0;
}

/* How much each clock of the container has moved since the freeze, in ns. */
struct passed {
	uint64_t real, mono, boot;
};

static int read_passed(struct restore *r, struct rtask *t, struct passed *ret, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = rec ? (const GwHeader *)rec->msg : NULL;
	static const int clocks[3] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };
	uint64_t then[3] = { h ? h->realtime_ns : 0, h ? h->monotonic_ns : 0, h ? h->boottime_ns : 0 };
	uint64_t *to[3] = { &ret->real, &ret->mono, &ret->boot };
	struct aprog *p = aprog_new();
	struct aarg out[3];
	int x;

	memset(ret, 0, sizeof(*ret));
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	for (int i = 0; i < 3; i++) {
		out[i] = aprog_out(p, sizeof(struct timespec));
		APROG_CALL(p, 0, SYS_clock_gettime, aarg_imm((uint64_t)clocks[i]), out[i]);
	}
	x = agent_run(t->agent, p, e);
	for (int i = 0; i < 3 && x >= 0; i++) {
		const struct timespec *ts = aprog_out_data(p, out[i]);
		uint64_t now = (uint64_t)ts->tv_sec * NSEC + (uint64_t)ts->tv_nsec;

		/* A wall clock that is behind, or a clock that was set back: nothing has passed. */
		*to[i] = then[i] && now > then[i] ? now - then[i] : 0;
	}
	aprog_free(p);
	return x < 0 ? x : 0;
}

static uint64_t passed_on(const struct passed *p, uint32_t clock)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_TAI:
		return p->real;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return p->boot;
	case CLOCK_MONOTONIC:
		return p->mono;
	}
	return 0;
}

/* An armed timer stays armed: what is overdue expires at once. */
static uint64_t left_now(uint64_t left, uint64_t passed)
{
	if (!left)
		return 0;
	return left > passed ? left - passed : 1;
}

struct kernel_sigevent {
	uint64_t value;
	int32_t signo, notify, tid;
	int32_t pad[11];
};

/* A clock of one thread's CPU time is that of the thread that makes the timer; the kernel does not
 * say which one that was, but it is the one to be notified where there is one. */
static struct agent *maker_of(struct rtask *t, const PosixTimerEntry *pt)
{
	if (clock_is_thread_cpu((int)pt->clock_id) && pt->has_notify_thread_id)
		for (size_t i = 0; i < t->n_threads; i++)
			if (t->threads[i].nstid == pt->notify_thread_id)
				return t->threads[i].agent;
	return t->agent;
}

/* Makes a timer with this very id. */
static int create_timer(struct agent *a, const PosixTimerEntry *pt, bool by_prctl, struct err *e)
{
	struct kernel_sigevent se = { .value = pt->sival_ptr, .signo = (int32_t)pt->si_signo,
				      .notify = (int32_t)pt->it_sigev_notify,
				      .tid = pt->has_notify_thread_id ? pt->notify_thread_id : 0 };
	int32_t id = (int32_t)pt->it_id, got = -1;

	for (unsigned tries = 0; tries <= ID_WITHOUT_PRCTL_MAX && got != id; tries++) {
		struct aprog *p = aprog_new();
		struct aarg io;
		int r;

		if (!p)
			return err_set(e, -ENOMEM, "no memory");
		io = aprog_in(p, &id, sizeof(id));
		APROG_CALL(p, 0, SYS_timer_create, aarg_imm((uint64_t)(int)pt->clock_id), aprog_in(p, &se, sizeof(se)), io);
		r = agent_run(a, p, e);
		if (r >= 0)
			memcpy(&got, aprog_out_data(p, io), sizeof(got));
		aprog_free(p);
		if (r >= 0 && got != id)
			r = AGENT_CALL(a, NULL, e, SYS_timer_delete, (uint64_t)(uint32_t)got, 0, 0, 0, 0, 0);
		if (r < 0)
			return r;
		if (by_prctl)
			break;
	}
	return got == id ? 0 : err_set(e, -EOPNOTSUPP, "timer %d cannot get its number on this kernel", id);
}

/* What a timer is set to: an instant of its clock, or what is left of a span where it runs by another.  Never 0,
 * which would stop it. */
static uint64_t end_value(const struct restore *r, const GwPosixTimer *end, bool instant)
{
	struct timespec ts;
	int64_t v;

	clock_gettime((clockid_t)end->clock, &ts);
	v = instant ? end->expiry_ns + clock_shift(r, end->clock) :
		      clock_ours(r, end->clock, end->expiry_ns) - ts.tv_sec * (int64_t)NSEC - ts.tv_nsec;
	return v > 0 ? (uint64_t)v : 1;
}

static int arm_timer(struct restore *r, struct rtask *t, const PosixTimerEntry *pt,
		     const struct passed *passed, struct err *e)
{
	const GwPosixTimer *end = end_of(t->extra, pt);
	bool known = end && end->has_expiry_ns, instant = known && end->clock == (int)pt->clock_id;
	uint64_t left = known ? end_value(r, end, instant) :
				left_now(pt->vsec * NSEC + pt->vnsec, passed_on(passed, pt->clock_id));
	struct itimerspec its = { { (time_t)pt->isec, (long)pt->insec },
				  { (time_t)(left / NSEC), (long)(left % NSEC) } };
	struct aprog *p = aprog_new();
	int x;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	APROG_CALL(p, 0, SYS_timer_settime, aarg_imm(pt->it_id), aarg_imm(instant ? TIMER_ABSTIME : 0),
		   aprog_in(p, &its, sizeof(its)), aarg_imm(0));
	x = agent_run(t->agent, p, e);
	aprog_free(p);
	return x < 0 ? x : 0;
}

static int arm_posix(struct restore *r, struct rtask *t, const TaskTimersEntry *tt,
		     const struct passed *passed, struct err *e)
{
	bool by_prctl = AGENT_CALL(t->agent, NULL, NULL, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_, 1, 0, 0, 0,
				   0) >= 0;
	int x = 0;

	for (size_t i = 0; i < tt->n_posix && x >= 0; i++)
		x = create_timer(maker_of(t, tt->posix[i]), tt->posix[i], by_prctl, e);
	if (x >= 0 && by_prctl)
		x = AGENT_CALL(t->agent, NULL, e, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_, 0, 0, 0, 0, 0);
	for (size_t i = 0; i < tt->n_posix && x >= 0; i++)
		x = arm_timer(r, t, tt->posix[i], passed, e);
	return x;
}

static bool itimer_runs(const ItimerEntry *it)
{
	return it->vsec || it->vusec;
}

static void append_itimer(struct aprog *p, int which, const ItimerEntry *it, uint64_t passed)
{
	uint64_t left = left_now((it->vsec * 1000000 + it->vusec) * 1000, passed);
	struct itimerval v = { { (time_t)it->isec, (suseconds_t)it->iusec },
			       { (time_t)(left / NSEC), (suseconds_t)(left % NSEC / 1000) } };

	if (!itimer_runs(it))
		return;
	if (!v.it_value.tv_sec && !v.it_value.tv_usec)
		v.it_value.tv_usec = 1;
	APROG_CALL(p, 0, SYS_setitimer, aarg_imm((uint64_t)which), aprog_in(p, &v, sizeof(v)), aarg_imm(0));
}

int timers_arm(struct restore *r, struct rtask *t, struct err *e)
{
	const TaskTimersEntry *tt = t->core->tc ? t->core->tc->timers : NULL;
	struct passed passed;
	struct aprog *p;
	int x;

	if (!tt || (!tt->n_posix && !itimer_runs(tt->real) && !itimer_runs(tt->virt) &&
		    !itimer_runs(tt->prof)))
		return 0;
	x = read_passed(r, t, &passed, e);
	if (x >= 0 && tt->n_posix)
		x = arm_posix(r, t, tt, &passed, e);
	if (x < 0)
		return err_context(e, x, "timers");
	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	append_itimer(p, ITIMER_REAL, tt->real, passed.mono);
	append_itimer(p, ITIMER_VIRTUAL, tt->virt, 0);
	append_itimer(p, ITIMER_PROF, tt->prof, 0);
	x = agent_run(t->agent, p, e);
	aprog_free(p);
	return x < 0 ? err_context(e, x, "interval timers") : 0;
}

const struct cr_part cr_part_timers = {
	.name = "timers",
	.check = check,
	.inside = inside,
	.frozen = frozen,
	.load = load,
};

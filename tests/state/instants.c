/* Timers of all sorts end when they would have ended: a span by the container's monotonic clock, which goes on
 * in the move, an instant of the wall clock at that instant. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lib.h"

#define SEC 1000000000ll

/* Early by what is rounded; late by what it takes to set it again. */
enum { SPAN_S = 1000, EARLY_US = 3, EXACT_US = 100, LATE_US = 50000, ALARM_LATE_US = 500000 };
enum { TICK_MS = 20, TICKS_LESS = 1 };

static long long now_of(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec;
}

static long long ns_of(const struct itimerspec *its)
{
	return its->it_value.tv_sec * SEC + its->it_value.tv_nsec;
}

/* One timer, as a descriptor or not. */
struct timer {
	const char *name;
	clockid_t clock, by; /* what it is made with; what it runs by */
	bool fd, instant;
	int id;
	long long end;
};

static struct timer timers[] = {
	{ "timerfd, span, monotonic", CLOCK_MONOTONIC, CLOCK_MONOTONIC, true, false },
	{ "timerfd, span, boottime", CLOCK_BOOTTIME, CLOCK_BOOTTIME, true, false },
	{ "timerfd, span, wall", CLOCK_REALTIME, CLOCK_MONOTONIC, true, false },
	{ "timerfd, instant, monotonic", CLOCK_MONOTONIC, CLOCK_MONOTONIC, true, true },
	{ "timerfd, instant, wall", CLOCK_REALTIME, CLOCK_REALTIME, true, true },
	{ "POSIX, span, monotonic", CLOCK_MONOTONIC, CLOCK_MONOTONIC, false, false },
	{ "POSIX, span, wall", CLOCK_REALTIME, CLOCK_MONOTONIC, false, false },
	{ "POSIX, instant, wall", CLOCK_REALTIME, CLOCK_REALTIME, false, true },
	{ "POSIX, instant, TAI", CLOCK_TAI, CLOCK_TAI, false, true },
};
enum { TIMERS = sizeof(timers) / sizeof(timers[0]) };

static void arm(struct timer *t)
{
	struct sigevent se = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1 };
	struct itimerspec its = { .it_value = { SPAN_S, 0 } };

	t->end = now_of(t->by) + SPAN_S * SEC;
	if (t->instant)
		its.it_value = (struct timespec){ t->end / SEC, t->end % SEC };
	if (t->fd) {
		t->id = MUST(timerfd_create(t->clock, 0));
		MUST(timerfd_settime(t->id, t->instant ? TFD_TIMER_ABSTIME : 0, &its, NULL));
	} else {
		MUST(syscall(SYS_timer_create, t->clock, &se, &t->id));
		MUST(syscall(SYS_timer_settime, t->id, t->instant ? TIMER_ABSTIME : 0, &its, NULL));
	}
}

static void look(const struct timer *t)
{
	long long before = now_of(t->by), after, late;
	struct itimerspec its;

	if (t->fd)
		MUST(timerfd_gettime(t->id, &its));
	else
		MUST(syscall(SYS_timer_gettime, t->id, &its));
	after = now_of(t->by);
	late = (after + ns_of(&its) - t->end) / 1000;
	fprintf(stderr, "%s: %lld us late\n", t->name, late);
	CHECK(late >= -EARLY_US, "%s: early by %lld us", t->name, -late);
	late = (before + ns_of(&its) - t->end) / 1000;
	CHECK(late <= (t->instant ? EXACT_US : LATE_US), "%s: late by %lld us", t->name, late);
}

/* The kernel's own list, which only the real root may read, has the instants by the clocks they belong to. */
static void listed(const struct timer *t)
{
	char line[512], end[64], before[512] = "";
	FILE *f = fopen("/proc/timer_list", "r");
	bool found = false;

	if (!f)
		return;
	snprintf(end, sizeof(end), "expires at %lld-", t->end);
	while (fgets(line, sizeof(line), f)) {
		found |= strstr(line, end) && strstr(before, "posix_timer");
		memcpy(before, line, sizeof(before));
	}
	fclose(f);
	CHECK(found, "%s: not among the kernel's timers at %lld", t->name, t->end);
}

int main(void)
{
	struct itimerspec often = { { 0, TICK_MS * 1000000 }, { 0, TICK_MS * 1000000 } };
	struct itimerval alarm_in = { { 0, 0 }, { SPAN_S, 0 } };
	int ticker = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	long long start, alarm_end, late, least, most;
	uint64_t ticks;

	start = now_of(CLOCK_MONOTONIC);
	MUST(timerfd_settime(ticker, 0, &often, NULL));
	for (int i = 0; i < TIMERS; i++)
		arm(&timers[i]);
	alarm_end = now_of(CLOCK_MONOTONIC) + SPAN_S * SEC;
	MUST(setitimer(ITIMER_REAL, &alarm_in, NULL));
	state_wait();
	least = (now_of(CLOCK_MONOTONIC) - start) / (TICK_MS * 1000000) - TICKS_LESS;
	CHECK(read(ticker, &ticks, sizeof(ticks)) == sizeof(ticks), "reading a timer: %m");
	most = (now_of(CLOCK_MONOTONIC) - start) / (TICK_MS * 1000000);
	for (int i = 0; i < TIMERS; i++)
		look(&timers[i]);
	for (int i = 0; i < TIMERS; i++)
		if (timers[i].instant && !timers[i].fd)
			listed(&timers[i]);
	MUST(getitimer(ITIMER_REAL, &alarm_in));
	late = (now_of(CLOCK_MONOTONIC) - alarm_end) / 1000 + alarm_in.it_value.tv_sec * 1000000ll +
	       alarm_in.it_value.tv_usec;
	CHECK(late >= -EARLY_US && late <= ALARM_LATE_US, "the alarm is late by %lld us", late);
	CHECK((long long)ticks >= least && (long long)ticks <= most, "%llu ticks, not %lld to %lld",
	      (unsigned long long)ticks, least, most);
	state_pass();
}

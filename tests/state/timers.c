/* Interval timers and POSIX timers, with holes in their numbers. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "lib.h"

static int make(int clock, int notify, int sig, int value)
{
	struct sigevent se = { .sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = value };
	int id;

	if (notify & SIGEV_THREAD_ID)
		se._sigev_un._tid = (int)syscall(SYS_gettid);
	MUST(syscall(SYS_timer_create, clock, &se, &id));
	return id;
}

static void arm(int id, long first_ms, long every_ms)
{
	struct itimerspec its = { { every_ms / 1000, every_ms % 1000 * 1000000 },
				  { first_ms / 1000, first_ms % 1000 * 1000000 } };

	MUST(syscall(SYS_timer_settime, id, 0, &its, NULL));
}

static long left_ms(int id, long *every)
{
	struct itimerspec its;

	MUST(syscall(SYS_timer_gettime, id, &its));
	if (every)
		*every = its.it_interval.tv_sec * 1000 + its.it_interval.tv_nsec / 1000000;
	return its.it_value.tv_sec * 1000 + its.it_value.tv_nsec / 1000000;
}

static siginfo_t await(int sig)
{
	struct timespec max = { 5, 0 };
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(sigtimedwait(&set, &si, &max) == sig, "the signal %d of a timer does not come", sig);
	return si;
}

int main(void)
{
	struct itimerval it = { { 0, 0 }, { 500, 0 } }, prof = { { 7, 0 }, { 900, 0 } }, now;
	int far, soon, unarmed, cpu, thread_cpu, real;
	sigset_t block;
	siginfo_t si;
	long every, left;

	sigemptyset(&block);
	for (int i = 1; i < 8; i++)
		sigaddset(&block, SIGRTMIN + i);
	MUST(sigprocmask(SIG_BLOCK, &block, NULL));
	for (int i = 0; i < 5; i++)
		MUST(syscall(SYS_timer_delete, make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 0)));
	far = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 11);
	arm(far, 400000, 30000);
	MUST(syscall(SYS_timer_delete, make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 0)));
	soon = make(CLOCK_BOOTTIME, SIGEV_SIGNAL | SIGEV_THREAD_ID, SIGRTMIN + 2, 12);
	arm(soon, 300, 200);
	unarmed = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
	cpu = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 3, 13);
	arm(cpu, 100000, 0);
	thread_cpu = make(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL | SIGEV_THREAD_ID, SIGRTMIN + 4, 14);
	arm(thread_cpu, 30, 0);
	real = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 5, 15);
	arm(real, 200000, 0);
	signal(SIGALRM, SIG_IGN);
	MUST(setitimer(ITIMER_REAL, &it, NULL));
	MUST(setitimer(ITIMER_PROF, &prof, NULL));

	state_wait();

	left = left_ms(far, &every);
	CHECK(left > 380000 && left <= 400000 && every == 30000, "the far timer has %ld ms, every %ld", left,
	      every);
	CHECK(left_ms(unarmed, NULL) == 0, "an unarmed timer is armed");
	left = left_ms(cpu, NULL);
	CHECK(left > 90000 && left <= 100000, "the CPU timer has %ld ms", left);
	left = left_ms(real, NULL);
	CHECK(left > 170000 && left <= 200000, "the timer on the wall clock has %ld ms", left);
	CHECK(getitimer(ITIMER_REAL, &now) == 0 && now.it_value.tv_sec > 480 && now.it_value.tv_sec <= 500,
	      "alarm in %ld s", (long)now.it_value.tv_sec);
	CHECK(getitimer(ITIMER_PROF, &now) == 0 && now.it_value.tv_sec > 890 && now.it_interval.tv_sec == 7,
	      "profile timer in %ld s", (long)now.it_value.tv_sec);
	CHECK(getitimer(ITIMER_VIRTUAL, &now) == 0 && now.it_value.tv_sec == 0, "a timer that never was");
	for (int i = 0; i < 3; i++) {
		si = await(SIGRTMIN + 2);
		CHECK(si.si_code == SI_TIMER && si.si_value.sival_int == 12, "the timer's signal says %d, %d",
		      si.si_code, si.si_value.sival_int);
	}
	for (volatile long n = 0; n < 200000000; n++)
		;
	await(SIGRTMIN + 4);
	CHECK(syscall(SYS_timer_delete, soon) == 0, "the timer's number changed: %m");
	state_pass();
}

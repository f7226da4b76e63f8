/* System calls that the move interrupts: they go on with the time that was left, and do not return
 * early, late or with an error.
 * "estimate": the engine is not told by the kernel; then they end late by up to their whole time, never early.
 * "stopped": a job-control stop has interrupted them before, so that the kernel has restarted them once. */
#include "lib.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of what is late, the move's part is that of the sleep until an instant, which no move can change; the
 * others' is their own. */
enum { LONG_MS = 4000, LATER_MS = 150, FROZEN_MS = 1000, NAP_MS = 60 };
enum { CPU_MS = 300, CPU_EARLY_MS = 10, CPU_LATE_MS = 50 };

struct job {
	const char *name;
	long (*run)(void);
	bool frozen; /* a freeze makes it later: the kernel keeps what is left and not the end */
	long ret, err;
	long long took_us;
	atomic_bool over;
};

static long long clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000ll + ts.tv_nsec / 1000;
}

static long long now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static bool estimate;
static const struct timespec span = { LONG_MS / 1000, (LONG_MS % 1000) * 1000000l };
static int word, pair[2];

static long by_nanosleep(void)
{
	return syscall(SYS_nanosleep, &span, NULL);
}

static long by_nanosleep_rest(void)
{
	struct timespec rest;

	return syscall(SYS_nanosleep, &span, &rest);
}

static long by_sleep(void)
{
	return (long)sleep(LONG_MS / 1000);
}

static long by_clock_absolute(void)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LONG_MS / 1000;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static long by_poll(void)
{
	return poll(NULL, 0, LONG_MS);
}

static long by_select(void)
{
	struct timeval tv = { LONG_MS / 1000, 0 };

	return select(0, NULL, NULL, NULL, &tv);
}

static long by_futex(void)
{
	long r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &span, NULL, 0);

	return r == -1 && errno == ETIMEDOUT ? 0 : r;
}

static long by_futex_absolute(void)
{
	struct timespec until;
	long r;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LONG_MS / 1000;
	r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
	return r == -1 && errno == ETIMEDOUT ? 0 : r;
}

static long by_boottime(void)
{
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &span, NULL);
}

static struct job jobs[] = {
	{ .name = "clock_nanosleep absolute", .run = by_clock_absolute },
	{ .name = "nanosleep", .run = by_nanosleep },
	{ .name = "nanosleep with rest", .run = by_nanosleep_rest },
	{ .name = "sleep", .run = by_sleep },
	{ .name = "sleep by CLOCK_BOOTTIME", .run = by_boottime },
	{ .name = "poll", .run = by_poll },
	{ .name = "select", .run = by_select, .frozen = true },
	{ .name = "futex", .run = by_futex },
	{ .name = "futex absolute", .run = by_futex_absolute },
};
enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };

static void *job_run(void *arg)
{
	struct job *j = arg;
	long long start = now_us();

	errno = 0;
	j->ret = j->run();
	j->err = errno;
	j->took_us = now_us() - start;
	j->over = true;
	return NULL;
}

/* Endless waits, ended by hand. */
static void *reader(void *arg)
{
	char c = 0;
	ssize_t n = read(pair[0], &c, 1);

	return (void *)(long)(n == 1 ? c : -errno);
}

static void *sleeper(void *arg)
{
	return (void *)syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

/* The same short sleep over and over: an end of one must not be taken for that of another. */
static atomic_bool naps_over;
static atomic_int naps;
static long long shortest_us = INT64_MAX;

static void *napper(void *arg)
{
	const struct timespec nap = { 0, NAP_MS * 1000000l };

	for (; !naps_over; naps++) {
		long long start = now_us(), took;

		syscall(SYS_nanosleep, &nap, NULL);
		took = now_us() - start;
		shortest_us = took < shortest_us ? took : shortest_us;
	}
	return NULL;
}

/* By CPU time, which does not pass in a move and begins at zero behind it. */
static atomic_bool cpu_over;
static long long cpu_before_us;

static void *cpu_sleeper(void *arg)
{
	const struct timespec cpu = { 0, CPU_MS * 1000000l };
	int r = clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &cpu, NULL);

	cpu_over = true;
	return (void *)(long)r;
}

static void burn(long long us)
{
	long long start = clock_us(CLOCK_PROCESS_CPUTIME_ID);

	while (!cpu_over && clock_us(CLOCK_PROCESS_CPUTIME_ID) - start < us)
		;
}

static void cpu_check(pthread_t t)
{
	long long start = clock_us(CLOCK_PROCESS_CPUTIME_ID), used;
	void *got;

	burn(10 * CPU_MS * 1000);
	used = (cpu_before_us + clock_us(CLOCK_PROCESS_CPUTIME_ID) - start) / 1000;
	pthread_join(t, &got);
	CHECK(got == NULL, "a sleep by CPU time returned %ld", (long)got);
	CHECK(used >= CPU_MS - CPU_EARLY_MS && used <= CPU_MS + (estimate ? CPU_MS : CPU_LATE_MS),
	      "a sleep of %d ms of CPU time took %lld ms", CPU_MS, used);
}

static void job_check(const struct job *j)
{
	long long later_ms = estimate ? 3 * LONG_MS : j->frozen ? FROZEN_MS : LATER_MS;

	fprintf(stderr, "%s: %lld us\n", j->name, j->took_us);
	CHECK(j->ret == 0, "%s returned %ld (%s)", j->name, j->ret, strerror((int)j->err));
	CHECK(j->took_us >= LONG_MS * 1000, "%s ended after %lld us", j->name, j->took_us);
	CHECK(j->took_us <= jobs[0].took_us + later_ms * 1000, "%s took %lld us, a sleep until then %lld", j->name, j->took_us, jobs[0].took_us);
}

/* Stops us for a moment. */
static void stop_once(void)
{
	pid_t self = getpid(), pid = MUST(fork());

	if (pid == 0) {
		kill(self, SIGSTOP);
		usleep(50000);
		kill(self, SIGCONT);
		_exit(0);
	}
	MUST(waitpid(pid, NULL, 0));
}

int main(int argc, char **argv)
{
	pthread_t t[JOBS], r, s, n, c;
	void *got;

	estimate = argc > 1 && strcmp(argv[1], "estimate") == 0;
	MUST(pipe(pair));
	CHECK(pthread_create(&c, NULL, cpu_sleeper, NULL) == 0, "a thread");
	usleep(20000);
	cpu_before_us = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	burn(CPU_MS * 1000 / 3);
	cpu_before_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_before_us;
	for (int i = 0; i < JOBS; i++)
		CHECK(pthread_create(&t[i], NULL, job_run, &jobs[i]) == 0, "a thread");
	CHECK(pthread_create(&r, NULL, reader, NULL) == 0 && pthread_create(&s, NULL, sleeper, NULL) == 0 &&
		      pthread_create(&n, NULL, napper, NULL) == 0,
	      "a thread");
	usleep(300000);
	if (argc > 1 && strcmp(argv[1], "stopped") == 0)
		stop_once();
	state_wait();
	cpu_check(c);
	for (int i = 0; i < JOBS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < JOBS; i++)
		job_check(&jobs[i]);
	naps_over = true;
	pthread_join(n, NULL);
	fprintf(stderr, "%d naps, the shortest %lld us\n", (int)naps, shortest_us);
	CHECK(shortest_us >= NAP_MS * 1000, "a sleep of %d ms took %lld us", NAP_MS, shortest_us);
	MUST(write(pair[1], "x", 1));
	pthread_join(r, &got);
	CHECK(got == (void *)(long)'x', "read returned %ld", (long)got);
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0);
	pthread_join(s, &got);
	CHECK(got == NULL, "futex returned %ld", (long)got);
	state_pass();
}

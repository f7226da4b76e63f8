/* System calls that the move interrupts: they go on with the time that was left, and do not return
 * early, late or with an error. */
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
#include <time.h>
#include <unistd.h>

enum { LONG_MS = 4000, EARLY_MS = 30, LATE_MS = 1500 };

struct job {
	const char *name;
	long (*run)(void);
	long ret, err;
	long long took_ms;
	atomic_bool over;
};

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

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

static struct job jobs[] = {
	{ .name = "nanosleep", .run = by_nanosleep },
	{ .name = "nanosleep with rest", .run = by_nanosleep_rest },
	{ .name = "sleep", .run = by_sleep },
	{ .name = "clock_nanosleep absolute", .run = by_clock_absolute },
	{ .name = "poll", .run = by_poll },
	{ .name = "select", .run = by_select },
	{ .name = "futex", .run = by_futex },
	{ .name = "futex absolute", .run = by_futex_absolute },
};
enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };

static void *job_run(void *arg)
{
	struct job *j = arg;
	long long start = now_ms();

	errno = 0;
	j->ret = j->run();
	j->err = errno;
	j->took_ms = now_ms() - start;
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

int main(void)
{
	pthread_t t[JOBS], r, s;
	void *got;

	MUST(pipe(pair));
	for (int i = 0; i < JOBS; i++)
		CHECK(pthread_create(&t[i], NULL, job_run, &jobs[i]) == 0, "a thread");
	CHECK(pthread_create(&r, NULL, reader, NULL) == 0 && pthread_create(&s, NULL, sleeper, NULL) == 0,
	      "a thread");
	usleep(300000);
	state_wait();
	for (int i = 0; i < JOBS; i++) {
		struct job *j = &jobs[i];

		pthread_join(t[i], NULL);
		CHECK(j->ret == 0, "%s returned %ld (%s)", j->name, j->ret, strerror((int)j->err));
		CHECK(j->took_ms >= LONG_MS - EARLY_MS, "%s ended after %lld ms", j->name, j->took_ms);
		CHECK(j->took_ms <= LONG_MS + LATE_MS, "%s took %lld ms", j->name, j->took_ms);
		fprintf(stderr, "%s: %lld ms\n", j->name, j->took_ms);
	}
	usleep(50000);
	MUST(write(pair[1], "x", 1));
	pthread_join(r, &got);
	CHECK(got == (void *)(long)'x', "read returned %ld", (long)got);
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0);
	pthread_join(s, &got);
	CHECK(got == NULL, "futex returned %ld", (long)got);
	state_pass();
}

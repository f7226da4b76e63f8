/* ktask: when the interrupted calls of a stopped child end, and by which clock timers run; and the kernel's
 * description of its types, whole and damaged. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/btf.h"
#include "sys/procfs.h"
#include "sys/ktask.h"

#define NS 1000000000ll
#define SPAN_NS (30 * NS)

static int64_t kernel_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS + ts.tv_nsec -
	       proc_clock_offset(AT_FDCWD, "/proc/self/timens_offsets", CLOCK_MONOTONIC);
}

static uint32_t word;

static void call_make(int which)
{
	const struct timespec span = { SPAN_NS / NS, 0 };

	switch (which) {
	case 0: syscall(SYS_nanosleep, &span, NULL); break;
	case 1: syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &span, NULL); break;
	case 2: poll(NULL, 0, (int)(SPAN_NS / 1000000)); break;
	case 3: syscall(SYS_futex, &word, FUTEX_WAIT, 0, &span, NULL, 0); break;
	case 4: pause(); break;
	}
	_exit(0);
}

static void stop_and_look(const struct ktask *r, pid_t pid, struct restart_block *ret)
{
	int st;

	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	assert_int_equal(waitpid(pid, &st, __WALL), pid);
	assert_true(WIFSTOPPED(st));
	assert_int_equal(ktask_restart(r, pid, ret), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
}

/* The end lies between that of a call made before the child was there and one made after it slept, and is
 * the same after each interruption. */
static void look_at(const struct ktask *r, int which, enum restart_kind kind)
{
	int64_t before = kernel_now(), after;
	pid_t pid = fork();
	struct restart_block first, next;

	if (pid == 0)
		call_make(which);
	assert_true(pid > 0);
	usleep(100000);
	after = kernel_now();
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
	stop_and_look(r, pid, &first);
	usleep(50000);
	stop_and_look(r, pid, &next);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
	assert_int_equal(first.kind, kind);
	assert_int_equal(next.kind, kind);
	if (kind == RESTART_NONE)
		return;
	assert_true(first.end_ns >= before + SPAN_NS);
	assert_true(first.end_ns <= after + SPAN_NS);
	/* An end by another clock than CLOCK_MONOTONIC is told to within the time of two readings. */
	assert_true(llabs(next.end_ns - first.end_ns) <= (which == 1 ? 10000000 : 0));
}

static void stopped_calls(void **state)
{
	struct ktask *r = NULL;
	struct restart_block b;
	struct err e = { 0 };
	pid_t gone;

	if (ktask_open(&r, &e) < 0) {
		print_message("%s\n", err_text(&e));
		skip();
	}
	look_at(r, 0, RESTART_SLEEP);
	look_at(r, 1, RESTART_SLEEP);
	look_at(r, 2, RESTART_POLL);
	look_at(r, 3, RESTART_FUTEX);
	look_at(r, 4, RESTART_NONE);
	gone = fork();
	if (gone == 0)
		_exit(0);
	waitpid(gone, NULL, 0);
	assert_true(ktask_restart(r, gone, &b) < 0);
	ktask_free(r);
}

static int timer_of(int clock, int flags, int64_t at)
{
	struct sigevent none = { .sigev_notify = SIGEV_NONE };
	struct itimerspec its = { .it_value = { at / NS, at % NS } };
	int id = -1;

	assert_int_equal(syscall(SYS_timer_create, clock, &none, &id), 0);
	if (at)
		assert_int_equal(syscall(SYS_timer_settime, id, flags, &its, NULL), 0);
	return id;
}

static const struct ktask_timer *timer_find(const struct ktask_timer *v, size_t n, int id)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].id == id)
			return &v[i];
	return NULL;
}

/* An absolute time of the wall clock is kept to the nanosecond, a span runs by the monotonic clock; and so in
 * a crowd of timers. */
static void wall_timers(void **state)
{
	struct ktask_timer *v = NULL;
	struct ktask *k = NULL;
	struct timespec now;
	struct err e = { 0 };
	int span, instant, tai, mono, ids[100];
	int64_t wall;
	size_t n = 0;

	if (ktask_open(&k, &e) < 0) {
		print_message("%s\n", err_text(&e));
		skip();
	}
	assert_int_equal(ktask_timers(k, getpid(), &v, &n), 0);
	assert_int_equal(n, 0);
	free(v);
	clock_gettime(CLOCK_REALTIME, &now);
	wall = (now.tv_sec + 1000) * NS + 123456789;
	span = timer_of(CLOCK_REALTIME, 0, SPAN_NS);
	for (size_t i = 0; i < array_len(ids); i++)
		ids[i] = timer_of(CLOCK_MONOTONIC, 0, 0);
	instant = timer_of(CLOCK_REALTIME, TIMER_ABSTIME, wall);
	tai = timer_of(CLOCK_TAI, TIMER_ABSTIME, wall);
	mono = timer_of(CLOCK_MONOTONIC, 0, SPAN_NS);
	assert_int_equal(ktask_timers(k, getpid(), &v, &n), 0);
	assert_int_equal(n, array_len(ids) + 4);
	assert_int_equal(timer_find(v, n, span)->clock, CLOCK_REALTIME);
	assert_int_equal(KTASK_BASE(timer_find(v, n, span)), KTASK_MONOTONIC);
	assert_int_equal(KTASK_BASE(timer_find(v, n, instant)), KTASK_REALTIME);
	assert_int_equal(timer_find(v, n, instant)->expires_ns, wall);
	assert_int_equal(KTASK_BASE(timer_find(v, n, tai)), KTASK_TAI);
	assert_int_equal(timer_find(v, n, tai)->expires_ns, wall);
	assert_int_equal(KTASK_BASE(timer_find(v, n, mono)), KTASK_MONOTONIC);
	for (size_t i = 0; i < array_len(ids); i++)
		assert_non_null(timer_find(v, n, ids[i]));
	for (size_t i = 0; i < n; i++)
		syscall(SYS_timer_delete, v[i].id);
	free(v);
	ktask_free(k);
}

/* struct outer { int a; union { struct { int b; long c; } inner; }; } and a function, by hand. */
struct little {
	uint16_t magic;
	uint8_t version, flags;
	uint32_t hdr_len, type_off, type_len, str_off, str_len;
	uint32_t types[34];
	char names[32];
};

static void little_make(struct little *l)
{
	const uint32_t types[34] = {
		/* 1 int */ 1, 1u << 24, 4, 32,
		/* 2 struct inner's type */ 0, 4u << 24 | 2, 16, 5, 1, 0, 7, 1, 64,
		/* 3 union */ 0, 5u << 24 | 1, 16, 9, 2, 0,
		/* 4 struct outer */ 15, 4u << 24 | 2, 24, 21, 1, 0, 0, 3, 64,
		/* 5 func proto */ 0, 13u << 24, 0,
		/* 6 func */ 23, 12u << 24, 5,
	};

	*l = (struct little){ .magic = 0xeb9f, .version = 1, .hdr_len = 24, .type_len = sizeof(types),
			      .str_off = sizeof(types), .str_len = sizeof(l->names) };
	memcpy(l->types, types, sizeof(types));
	memcpy(l->names, "\0int\0b\0c\0inner\0outer\0a\0call\0", 29);
}

static int little_open(const struct little *l, size_t len, struct btf **ret)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, l, len);
	return btf_open(copy, len, ret);
}

static void fields(void **state)
{
	struct btf *b = NULL;
	struct little l;
	uint32_t v;

	little_make(&l);
	assert_int_equal(little_open(&l, sizeof(l), &b), 0);
	assert_int_equal(btf_field(b, "outer", "a", &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(btf_field(b, "outer", "inner", &v), 0);
	assert_int_equal(v, 8);
	assert_int_equal(btf_field(b, "outer", "inner.b", &v), 0);
	assert_int_equal(v, 8);
	assert_int_equal(btf_field(b, "outer", "inner.c", &v), 0);
	assert_int_equal(v, 16);
	assert_int_equal(btf_field(b, "outer", "inner.a", &v), -ENOENT);
	assert_int_equal(btf_field(b, "outer", "a.b", &v), -ENOENT);
	assert_int_equal(btf_field(b, "nobody", "a", &v), -ENOENT);
	assert_int_equal(btf_func(b, "call", &v), 0);
	assert_int_equal(v, 6);
	assert_int_equal(btf_func(b, "inner", &v), -ENOENT);
	btf_free(b);
}

/* Every length, and every word of it changed: never more read than is there (ASan watches). */
static void damaged(void **state)
{
	static const uint32_t odd[] = { 0, 1, 4, 7, 0x7fffffff, 0xffffffff, 4u << 24 | 0xffff, 31u << 24 };
	struct btf *b;
	struct little l;
	uint32_t v;

	little_make(&l);
	for (size_t len = 0; len < sizeof(l); len++)
		assert_true(little_open(&l, len, &b) < 0);
	for (size_t at = 0; at < offsetof(struct little, names) / 4; at++) {
		for (size_t i = 0; i < array_len(odd); i++) {
			little_make(&l);
			memcpy((char *)&l + at * 4, &odd[i], 4);
			if (little_open(&l, sizeof(l), &b) < 0)
				continue;
			btf_field(b, "outer", "inner.c", &v);
			btf_func(b, "call", &v);
			btf_free(b);
		}
	}
	/* A struct that contains itself. */
	little_make(&l);
	l.types[13 + 4] = 3;
	l.types[13 + 3] = 0;
	assert_int_equal(little_open(&l, sizeof(l), &b), 0);
	assert_int_equal(btf_field(b, "outer", "inner.c", &v), -ENOENT);
	btf_free(b);
}

static void clock_offsets(void **state)
{
	char path[] = "/tmp/test-offsets-XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "monotonic      100000         5\nboottime          -2 500000000\n";

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	assert_int_equal(proc_clock_offset(AT_FDCWD, path, CLOCK_MONOTONIC), 100000 * NS + 5);
	assert_int_equal(proc_clock_offset(AT_FDCWD, path, CLOCK_BOOTTIME), -NS - NS / 2);
	assert_int_equal(proc_clock_offset(AT_FDCWD, path, CLOCK_REALTIME), 0);
	unlink(path);
	assert_int_equal(proc_clock_offset(AT_FDCWD, path, CLOCK_MONOTONIC), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stopped_calls), cmocka_unit_test(wall_timers), cmocka_unit_test(fields), cmocka_unit_test(damaged),
		cmocka_unit_test(clock_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Parsers of the kernel's text about descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "cr/file/fdinfo.h"

static void numbers(void **state)
{
	static const char text[] =
		"pos:\t-5\nflags:\t02100002\nmnt_id:\t15\neventfd-count:               1f\n";
	uint64_t v;
	int64_t s;

	assert_int_equal(fdinfo_u64(text, "flags", 8, &v), 0);
	assert_int_equal(v, 02100002);
	assert_int_equal(fdinfo_u64(text, "eventfd-count", 16, &v), 0);
	assert_int_equal(v, 0x1f);
	assert_int_equal(fdinfo_i64(text, "pos", &s), 0);
	assert_int_equal(s, -5);
	assert_int_equal(fdinfo_u64(text, "pos", 10, &v), -EINVAL);
	assert_int_equal(fdinfo_u64(text, "lags", 10, &v), -ENOENT);
	assert_int_equal(fdinfo_u64(text, "flag", 10, &v), -ENOENT);
	assert_int_equal(fdinfo_u64("", "flags", 10, &v), -ENOENT);
	assert_int_equal(fdinfo_u64("flags:", "flags", 10, &v), -EINVAL);
	assert_int_equal(fdinfo_u64("flags:\t99999999999999999999999", "flags", 10, &v), -ERANGE);
}

static void lines(void **state)
{
	static const char text[] = "lock:\t1: a\nx: b\nlock:\t2: c\n";
	const char *p = fdinfo_line(text, "lock", NULL);

	assert_non_null(p);
	assert_memory_equal(p, "1: a", 4);
	p = fdinfo_line(text, "lock", p);
	assert_non_null(p);
	assert_memory_equal(p, "2: c", 4);
	assert_null(fdinfo_line(text, "lock", p));
}

/* Those of /proc/locks. */
static void lock_lines(void **state)
{
	struct fdinfo_lock held, l;
	bool waits;

	assert_int_equal(fdinfo_lock("7: POSIX  ADVISORY  WRITE 1234 08:1f:99 10 29\n7: -> x", &held, &waits), 0);
	assert_false(waits);
	assert_true(held.pid == 1234 && held.major == 8 && held.minor == 0x1f && held.ino == 99);
	assert_int_equal(fdinfo_lock("7: -> POSIX  ADVISORY  WRITE 55 08:1f:99 10 29\n", &l, &waits), 0);
	assert_true(waits && l.pid == 55);
	assert_true(fdinfo_lock_same(&held, &l));
	assert_int_equal(fdinfo_lock("7:  -> OFDLCK ADVISORY  READ  -1 08:1f:99 10 29\n", &l, &waits), 0);
	assert_true(waits && l.pid == -1 && !fdinfo_lock_same(&held, &l));
	assert_int_equal(fdinfo_lock("7: POSIX  ADVISORY  WRITE 1234 <none>:0 10 29", &l, &waits), -EINVAL);
	assert_int_equal(fdinfo_lock("7: POSIX  ADVISORY  WRITE 99999999999 08:1f:99 10 29", &l, &waits), -EINVAL);
	assert_int_equal(fdinfo_lock("7: POSIX  ADVISORY  WRITE 1234 08:1ffffffff:99 10 29", &l, &waits), -EINVAL);
	assert_int_equal(fdinfo_lock("7: ->", &l, &waits), 0); /* nothing that is known: a lease, for all we know */
	assert_int_equal(l.kind, LOCK_OTHER);
}

static void locks(void **state)
{
	struct fdinfo_lock l;

	assert_int_equal(fdinfo_lock("1: POSIX  ADVISORY  WRITE 1234 08:01:99 10 29\n", &l, NULL), 0);
	assert_true(l.kind == LOCK_POSIX && l.write && l.start == 10 && l.len == 20);
	assert_int_equal(fdinfo_lock("1: FLOCK  ADVISORY  READ  1234 00:1f:99 0 EOF\n", &l, NULL), 0);
	assert_true(l.kind == LOCK_FLOCK && !l.write && l.start == 0 && l.len == 0);
	assert_int_equal(fdinfo_lock("1: OFDLCK ADVISORY  WRITE -1 08:01:99 5 5", &l, NULL), 0);
	assert_true(l.kind == LOCK_OFD && l.start == 5 && l.len == 1);
	assert_int_equal(fdinfo_lock("1: LEASE  ACTIVE    READ  1234 08:01:99 0 EOF", &l, NULL), 0);
	assert_int_equal(l.kind, LOCK_OTHER);
	assert_int_equal(fdinfo_lock("1: POSIX  ADVISORY  WRITE 1234 08:01:99 29 10", &l, NULL), -EINVAL);
	assert_int_equal(fdinfo_lock("1: POSIX  ADVISORY  NONE 1234 08:01:99 0 EOF", &l, NULL), -EINVAL);
	assert_int_equal(fdinfo_lock("1: POSIX", &l, NULL),
			 0); /* cut off: no word behind it, so of another kind */
	assert_int_equal(l.kind, LOCK_OTHER);
	assert_int_equal(fdinfo_lock("1: POSIX  ADVISORY  WRITE 1234", &l, NULL), -EINVAL);
	assert_int_equal(
		fdinfo_lock("1: POSIX  ADVISORY  WRITE 1 1:1:1 0 18446744073709551615", &l, NULL),
		-EINVAL);
	assert_int_equal(fdinfo_lock("", &l, NULL), -EINVAL);
}

static void polls(void **state)
{
	struct fdinfo_epoll t;

	assert_int_equal(
		fdinfo_epoll(
			"       5 events:       19 data:         ffffffff  pos:0 ino:61 sdev:7\n" +
				7,
			&t),
		0);
	assert_true(t.fd == 5 && t.events == 0x19 && t.data == 0xffffffff && t.ino == 0x61 &&
		    t.sdev == 7);
	assert_int_equal(
		fdinfo_epoll("5 events: 80000001 data: ffffffffffffffff  pos:12 ino:1 sdev:1", &t),
		0);
	assert_true(t.data == UINT64_MAX && t.pos == 12);
	assert_int_equal(fdinfo_epoll("5 events: 1ffffffff data: 0  pos:0 ino:1 sdev:1", &t),
			 -EINVAL);
	assert_int_equal(fdinfo_epoll("99999999999 events: 1 data: 0  pos:0 ino:1 sdev:1", &t),
			 -EINVAL);
	assert_int_equal(fdinfo_epoll("5 events: 1 data: 0  pos:0 ino:1", &t), -EINVAL);
	assert_int_equal(fdinfo_epoll("5 events:", &t), -EINVAL);
}

static void watches(void **state)
{
	struct fdinfo_inotify w;

	assert_int_equal(
		fdinfo_inotify(
			"wd:2 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 "
			"fhandle-type:1 f_handle:7e9e0000640d1b6d\n",
			&w),
		0);
	assert_true(w.wd == 2 && w.ino == 0x9e7e && w.sdev == 0x800013 && w.mask == 0x800afce &&
		    w.bytes == 8 && w.type == 1 && w.handle[0] == 0x7e && w.handle[7] == 0x6d);
	assert_int_equal(fdinfo_inotify("wd:1 ino:1 sdev:1 mask:2 ignored_mask:0\n", &w), 0);
	assert_int_equal(w.bytes, 0);
	assert_int_equal(
		fdinfo_inotify(
			"wd:1 ino:1 sdev:1 mask:2 ignored_mask:0 fhandle-bytes:81 fhandle-type:1 "
			"f_handle:00",
			&w),
		-EINVAL); /* 0x81 is too long */
	assert_int_equal(
		fdinfo_inotify(
			"wd:1 ino:1 sdev:1 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 "
			"f_handle:0011",
			&w),
		-EINVAL);
	assert_int_equal(
		fdinfo_inotify(
			"wd:1 ino:1 sdev:1 mask:2 ignored_mask:0 fhandle-bytes:1 fhandle-type:1 "
			"f_handle:zz",
			&w),
		-EINVAL);
	assert_int_equal(fdinfo_inotify("", &w), -EINVAL);
}

static void idmaps(void **state)
{
	struct idmap m = { 0 };
	uint32_t in;
	uid_t out;

	assert_int_equal(idmap_parse("         0     100000      65536\n     65536 1000 1\n", m.u,
				     64, &m.n_u),
			 0);
	assert_int_equal(m.n_u, 2);
	assert_int_equal(idmap_uid_in(&m, 100005, &in), 0);
	assert_int_equal(in, 5);
	assert_int_equal(idmap_uid_out(&m, 65536, &out), 0);
	assert_int_equal(out, 1000);
	assert_int_equal(idmap_uid_in(&m, 5, &in), -ENOENT);
	assert_int_equal(in, 65534);
	assert_int_equal(idmap_parse("0 0 4294967295\n", m.u, 64, &m.n_u), 0);
	assert_int_equal(idmap_uid_in(&m, 4000000000u, &in), 0);
	assert_int_equal(in, 4000000000u);
	assert_int_equal(idmap_parse("0 4294967295 2\n", m.u, 64, &m.n_u), -ERANGE);
	assert_int_equal(idmap_parse("0 1\n", m.u, 64, &m.n_u), -EINVAL);
	assert_int_equal(idmap_parse("0 1 2 3\n", m.u, 64, &m.n_u), -EINVAL);
	assert_int_equal(idmap_parse("0 1 2\n1 2 3\n", m.u, 1, &m.n_u), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers), cmocka_unit_test(lines),   cmocka_unit_test(locks), cmocka_unit_test(lock_lines),
		cmocka_unit_test(polls),   cmocka_unit_test(watches), cmocka_unit_test(idmaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What of the runtime needs no container: remembered processes, clocks, profiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "runtime/cgroup.h"
#include "runtime/clocks.h"
#include "runtime/expand.h"
#include "runtime/internal.h"
#include "runtime/lock.h"
#include "runtime/runpid.h"
#include "storage/folder.h"

static char top[64];

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/godwit-runtime-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
	return folder_remove(top, NULL);
}

static void put(const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/p", top);
	assert_int_equal(fd_replace_file_at(-100, path, text, strlen(text), 0600), 0);
}

static void pid_files(void **state)
{
	static const char *const bad[] = { "", "12", "12 ", "x 1", "0 1", "12 1 2", "99999999999999999999 1",
					   "-1 5" };
	struct runpid p, q;
	pid_t got;
	int fd;

	assert_int_equal(runpid_of(getpid(), &p), 0);
	assert_int_equal(runpid_write(top, "p", &p), 0);
	assert_int_equal(runpid_read(top, "p", &q), 0);
	assert_int_equal(q.pid, getpid());
	assert_true(q.start == p.start && p.start != 0);
	fd = runpid_open_file(top, "p", &got);
	assert_true(fd >= 0);
	assert_int_equal(got, getpid());
	close(fd);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(bad[i]);
		assert_int_equal(runpid_read(top, "p", &q), -EINVAL);
	}
	assert_int_equal(runpid_read(top, "none", &q), -ENOENT);
}

/* Same pid, other start time: somebody else. */
static void pid_used_again(void **state)
{
	struct runpid p;

	assert_int_equal(runpid_of(getpid(), &p), 0);
	p.start++;
	assert_int_equal(runpid_open(&p), -ESRCH);
}

static void pid_that_ended(void **state)
{
	pid_t pid = fork();
	struct runpid p;

	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(runpid_of(pid, &p), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(runpid_open(&p), -ESRCH);
	assert_int_equal(runpid_of(pid, &p), -ESRCH);
}

static void clocks(void **state)
{
	struct clock_offsets fresh, later;
	int64_t own;
	struct timespec t;
	uint64_t now;
	struct err e;

	assert_int_equal(clock_of(getpid(), CLOCK_MONOTONIC, &now, &e), 0);
	clock_gettime(CLOCK_MONOTONIC, &t);
	assert_true((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec >= now);
	assert_int_equal(clock_offsets_for(0, 0, &fresh, &e), 0);
	assert_int_equal(clock_offsets_for(5000000000ull, 1, &later, &e), 0);
	/* Time passes between the two: the later offset is a little less than 5 s more. */
	assert_true(later.monotonic_ns - fresh.monotonic_ns <= 5000000000ll);
	assert_true(later.monotonic_ns - fresh.monotonic_ns > 4000000000ll);
	assert_true(later.boottime_ns <= fresh.boottime_ns + 10000000);
	/* Whole ticks apart from our own, so that start times can be told apart by their difference. */
	assert_int_equal(clock_boottime_offset(&own, &e), 0);
	assert_int_equal((later.boottime_ns - own) % 10000000, 0);
	assert_int_equal(clock_ticks_between(own + 50000000, own), 5);
	assert_int_equal(clock_ticks_between(own - 50000000, own), -5);
	assert_int_equal(clock_offsets_for(UINT64_MAX, 0, &later, &e), -ERANGE);
}

/* Only root may; a child in the new namespace sees just the clock that was asked for. */
static void clock_namespace(void **state)
{
	struct clock_offsets o;
	uint64_t now = 0;
	int p[2], r;
	struct err e;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		pid_t in;

		r = clock_offsets_for(1234500000000ull, 77700000000000ull, &o, NULL);
		if (r == 0)
			r = clock_namespace_make(&o, NULL);
		in = r == 0 ? fork() : -1;
		if (in == 0) {
			pause();
			_exit(0);
		}
		if (write(p[1], &in, sizeof(in)) != sizeof(in))
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(p[0], &pid, sizeof(pid)), sizeof(pid));
	if (pid < 0 && geteuid() != 0) {
		skip();
		return;
	}
	assert_true(pid > 0);
	r = clock_of(pid, CLOCK_MONOTONIC, &now, &e);
	assert_int_equal(r, 0);
	assert_true(now >= 1234500000000ull && now < 1239500000000ull);
	r = clock_of(pid, CLOCK_BOOTTIME, &now, &e);
	kill(pid, SIGKILL);
	assert_int_equal(r, 0);
	assert_true(now >= 77700000000000ull && now < 77705010000000ull);
}

static void profiles(void **state)
{
	json_t *row, *config, *devices;
	struct db *db;
	struct err e;

	assert_int_equal(db_open(top, &db, &e), 0);
	row = json_pack("{s:s, s:{s:s, s:s}, s:{s:{s:s}, s:{s:s}}}", "name", "p1", "config", "a", "1", "b", "1",
			"devices", "root", "type", "disk", "eth0", "type", "nic");
	assert_int_equal(db_profile_put(db, row, true, &e), 0);
	json_decref(row);
	row = json_pack("{s:[s], s:{s:s}, s:{s:{s:s}}}", "profiles", "p1", "config", "b", "2", "devices", "eth0",
			"type", "none");
	assert_int_equal(instance_expand(db, row, &config, &devices, &e), 0);
	assert_string_equal(json_string_value(json_object_get(config, "a")), "1");
	assert_string_equal(json_string_value(json_object_get(config, "b")), "2");
	assert_non_null(json_object_get(devices, "root"));
	assert_null(json_object_get(devices, "eth0"));
	json_decref(config);
	json_decref(devices);
	json_decref(row);
	row = json_pack("{s:[s]}", "profiles", "missing");
	assert_int_equal(instance_expand(db, row, &config, &devices, &e), -ENOENT);
	json_decref(row);
	db_free(db);
}

static const char *lock_file(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/locks/%s", top, name);
	return path;
}

static bool lock_file_there(const char *name)
{
	return faccessat(-100, lock_file(name), F_OK, 0) == 0;
}

static void row_make(struct db *db, const char *name)
{
	json_t *row = json_pack("{s:s}", "name", name);
	struct err e;

	assert_int_equal(db_instance_create(db, row, OWN_MINE, &e), 0);
	json_decref(row);
}

static void locks(void **state)
{
	struct err e;
	struct db *db;
	int a, b;

	assert_int_equal(db_open(top, &db, &e), 0);
	row_make(db, "c1");
	row_make(db, "c2");
	a = instance_lock(top, "c1", 0, &e);
	assert_true(a >= 0);
	assert_int_equal(instance_lock(top, "c1", 0, &e), -EBUSY);
	b = instance_lock(top, "c2", 0, &e);
	assert_true(b >= 0);
	instance_unlock(db, top, "c2", &b);
	assert_int_equal(b, -1);
	assert_true(lock_file_there("c2"));
	/* The file of a held lock is taken away: the next one does not stumble over it. */
	assert_int_equal(unlinkat(-100, lock_file("c1"), 0), 0);
	close(a);
	a = instance_lock(top, "c1", 0, &e);
	assert_true(a >= 0);

	/* An instance that goes while somebody has its lock: the file goes with the lock. */
	assert_int_equal(db_instance_delete(db, "c1", &e), 0);
	instance_lock_forget(db, top, "c1");
	assert_true(lock_file_there("c1"));
	instance_unlock(db, top, "c1", &a);
	assert_false(lock_file_there("c1"));

	/* What a job that died has left goes, what is in use or an instance's stays. */
	close(instance_lock(top, "c3", 0, &e));
	b = instance_lock(top, "c4", 0, &e);
	instance_locks_tidy(db, top);
	assert_false(lock_file_there("c3"));
	assert_true(lock_file_there("c4"));
	assert_true(lock_file_there("c2"));
	instance_unlock(db, top, "c4", &b);
	assert_false(lock_file_there("c4"));
	db_free(db);
}

/* A lock file is removed, and made and locked anew, while somebody waits for the old one: there is one owner. */
static void lock_removed_under_waiter(void **state)
{
	int a, b, status;
	char path[96];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/waited", top);
	a = fd_lock_file(path, 0);
	assert_true(a >= 0);
	assert_int_equal(fd_lock_file(path, 0), -EWOULDBLOCK);
	pid = fork();
	if (pid == 0) {
		close(a);
		_exit(fd_lock_file(path, 5000) < 0);
	}
	usleep(100000);
	assert_int_equal(unlink(path), 0);
	b = fd_lock_file(path, 0);
	assert_true(b >= 0);
	close(a);
	usleep(200000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	close(b);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(unlink(path), 0);
}

static void cgroups(void **state)
{
	struct cgroup_mounts ms = { 0 };
	struct err e;

	assert_int_equal(cgroup_mounts_read(&ms, &e), 0);
	for (size_t i = 0; i < ms.n; i++)
		assert_true(ms.m[i].base[0] == '/');
	assert_null(cgroup_mounts_with(&ms, "no-such-controller"));
	cgroup_mounts_done(&ms);
	assert_int_equal(cgroup_remove("/sys/fs/cgroup/nonexistent-godwit", true, 0), 0);
}

static void file_put(const char *path, const void *data, size_t len, mode_t mode)
{
	char p[256];

	snprintf(p, sizeof(p), "%s/root/%s", top, path);
	assert_int_equal(fd_replace_file_at(-100, p, data, len, mode), 0);
	assert_int_equal(chmod(p, mode), 0);
}

static void first_process(void **state)
{
	auto_free char *self = NULL;
	char root[96], path[160];
	size_t len;
	struct err e = { 0 };

	snprintf(root, sizeof(root), "%s/root", top);
	snprintf(path, sizeof(path), "%s/sbin", root);
	assert_int_equal(folder_make(path, 0755, NULL), 0);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "it has no /sbin/init"));
	file_put("sbin/init", "#!/bin/sh\n", 10, 0755);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "a script for /bin/sh"));
	snprintf(path, sizeof(path), "%s/bin", root);
	assert_int_equal(folder_make(path, 0755, NULL), 0);
	file_put("bin/sh", "x", 1, 0755);
	assert_int_equal(init_check(root, "/sbin/init", &e), 0);
	file_put("sbin/init", "#!/bin/sh\n", 10, 0644);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "its mode"));
	file_put("sbin/init", "init", 4, 0755);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	/* This test is a program with a loader, which the root lacks at first. */
	assert_int_equal(fd_read_file_at(-100, "/proc/self/exe", 64 << 20, &self, &len), 0);
	file_put("sbin/init", self, len, 0755);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "it needs the loader /lib"));
	self[18] = (char)0xf7; /* e_machine */
	file_put("sbin/init", self, len, 0755);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "another architecture"));
	/* A link leads where it leads inside. */
	snprintf(path, sizeof(path), "%s/sbin/init", root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/bin/sh", path), 0);
	assert_int_equal(init_check(root, "/sbin/init", &e), -ENOEXEC);
	assert_non_null(strstr(e.text, "neither a program nor a script"));
}

static void first_process_named(void **state)
{
	static const struct {
		const char *raw, *command, *rest;
	} cases[] = {
		{ NULL, "/sbin/init", "" },
		{ "lxc.x = 1", "/sbin/init", "lxc.x = 1\n" },
		{ "lxc.init.cmd = /bin/own -x\nlxc.y = 2\n", "/bin/own -x", "lxc.y = 2\n" },
		{ "lxc.a=1\n  lxc.init.cmd=/a\nlxc.init.cmd = /b", "/b", "lxc.a=1\n" },
		{ "lxc.init.cmd =", "/sbin/init", "" },
		{ "lxc.init.cmds = /a", "/sbin/init", "lxc.init.cmds = /a\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		auto_buf command = BUF_INIT, rest = BUF_INIT;

		assert_int_equal(init_command(cases[i].raw, &command, &rest), 0);
		assert_string_equal(command.data, cases[i].command);
		assert_string_equal(rest.data ? rest.data : "", cases[i].rest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_process),
		cmocka_unit_test(first_process_named),
		cmocka_unit_test(pid_files), cmocka_unit_test(pid_used_again), cmocka_unit_test(pid_that_ended),
		cmocka_unit_test(clocks),    cmocka_unit_test(clock_namespace), cmocka_unit_test(profiles),
		cmocka_unit_test(locks),     cmocka_unit_test(lock_removed_under_waiter),
		cmocka_unit_test(cgroups),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

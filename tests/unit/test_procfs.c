/* The kernel's text, with names in it that a container chooses. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/procfs.h"

static void test_status(void **state)
{
	struct proc_status st;

	assert_int_equal(proc_status_parse("Name:\tevil name\nState:\tS (sleeping)\nTgid:\t70\nPid:\t71\n"
					   "PPid:\t1\nNSpid:\t71\t8\t2\nNSpgid:\t70\t0\t0\nNSsid:\t9\t7\t1\n"
					   "Threads:\t3\nSigBlk:\tfffffffe7ffbfeff\nSeccomp:\t2\n"
					   "Uid:\t0\t1\t2\t3\n",
					   &st),
			 0);
	assert_int_equal(st.tgid, 70);
	assert_int_equal(st.levels, 3);
	assert_int_equal(st.ns_pid, 2);
	assert_int_equal(st.ns_pids[1], 8);
	assert_int_equal(st.ns_pgid, 0);
	assert_int_equal(st.ns_sid, 1);
	assert_int_equal(st.state, 'S');
	assert_int_equal(st.uid[3], 3);
	assert_true(st.sig_blocked == 0xfffffffe7ffbfeffull);
	assert_string_equal(st.comm, "evil name");
	assert_true(proc_status_parse("", &st) < 0);
	assert_true(proc_status_parse("Pid:\tx\n", &st) < 0);
	assert_true(proc_status_parse("Uid:\t0\t1\nPid:\t1\nState:\tS\n", &st) < 0);
}

static void test_stat(void **state)
{
	struct proc_stat st;
	char text[600] = "5 (a) R (b)) Z 4 3 2 -1 -1 64";

	for (int i = 10; i <= 52; i++)
		strcat(text, i == 22 ? " 777" : i == 52 ? " 256" : " 0");
	assert_int_equal(proc_stat_parse(text, &st), 0);
	assert_int_equal(st.state, 'Z');
	assert_int_equal(st.ppid, 4);
	assert_int_equal(st.tpgid, -1);
	assert_int_equal(st.starttime, 777);
	assert_int_equal(st.exit_code, 256);
	assert_true(proc_stat_parse("5 (x", &st) < 0);
	assert_true(proc_stat_parse("5 (x) S 1 2", &st) < 0);
	assert_true(proc_stat_parse("", &st) < 0);
}

static void test_real(void **state)
{
	pid_t kids[3], *list = NULL;
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int dir = proc_open(proc, getpid()), *fds = NULL;
	struct proc_status st;
	struct proc_stat ps;
	size_t n, seen = 0;

	assert_true(dir >= 0);
	assert_int_equal(proc_status_read(dir, &st, NULL), 0);
	assert_int_equal(st.pid, getpid());
	assert_int_equal(proc_stat_read(dir, &ps, NULL), 0);
	assert_int_equal(ps.ppid, getppid());
	for (int i = 0; i < 3; i++) {
		kids[i] = fork();
		if (kids[i] == 0) {
			pause();
			_exit(0);
		}
	}
	assert_int_equal(proc_children(dir, getpid(), &list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 3; k++)
			seen += list[i] == kids[k];
	assert_int_equal(seen, 3);
	free(list);
	for (int i = 0; i < 3; i++) {
		kill(kids[i], SIGKILL);
		waitpid(kids[i], NULL, 0);
	}
	assert_int_equal(proc_fds(dir, &fds, &n, NULL), 0);
	seen = 0;
	for (size_t i = 0; i < n; i++)
		seen += fds[i] == proc;
	assert_int_equal(seen, 1);
	free(fds);
	close(dir);
	close(proc);
}

static void test_fdinfo(void **state)
{
	uint64_t v;

	assert_int_equal(proc_fdinfo_u64("pos:\t12\nflags:\t0100002\nino:\t0xab\n", "flags", 8, &v), 0);
	assert_int_equal(v, 0100002);
	assert_int_equal(proc_fdinfo_u64("pos:\t12\nino:\t0xab\n", "ino", 16, &v), 0);
	assert_int_equal(v, 0xab);
	assert_int_equal(proc_fdinfo_u64("xpos:\t12\n", "pos", 10, &v), -ENOENT);
	assert_true(proc_fdinfo_u64("pos:\tx", "pos", 10, &v) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_fdinfo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Injection against processes of our own: they go on unharmed, whoever dies.  Needs root. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/agent.h"
#include "inject/seize.h"

#define THREADS_MAX 48
#define good(call)                                                                                 \
	do {                                                                                       \
		int good_ = (call);                                                                \
		if (good_ < 0)                                                                     \
			fail_msg("%s: %d, %s", #call, good_, err_text(&e));                        \
	} while (0)

static struct err e;

/* ---- the victim: threads that compute and block, and check themselves ---- */

struct shared {
	_Atomic unsigned long turns[THREADS_MAX];
	_Atomic int broken;
	_Atomic int stop;
	int pipe[2];
	int futex;
};
static struct shared *sh;

static void broken(int why)
{
	atomic_store(&sh->broken, why);
	_exit(99);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* xmm and general registers hold values over the system call; what comes back must be the same. */
static void registers_check(unsigned long v, long nr, const void *arg, long arg2)
{
	unsigned long x = v, r12, r15, ret;
	const double d[2] __attribute__((aligned(16))) = { (double)v, -(double)v };
	double back[2] __attribute__((aligned(16)));

	__asm__ volatile("movapd (%[d]), %%xmm7\n\t"
			 "movq %[x], %%r12\n\t"
			 "leaq 5(%[x]), %%r15\n\t"
			 "std\n\t"
			 "syscall\n\t"
			 "cld\n\t"
			 "movq %%r12, %[a]\n\t"
			 "movq %%r15, %[b]\n\t"
			 "movapd %%xmm7, (%[back])\n\t"
			 : [a] "=&r"(r12), [b] "=&r"(r15), "=a"(ret)
			 : "a"(nr), "D"(arg), "S"(arg2), [d] "r"(d), [back] "r"(back), [x] "r"(x)
			 : "rcx", "r11", "r12", "r15", "xmm7", "memory");
	if (r12 != v || r15 != v + 5)
		broken(1);
	if (memcmp(d, back, sizeof(d)) != 0)
		broken(2);
	if ((long)ret < 0 && (long)ret > -4096)
		broken(100 - (int)ret);
}

static void *victim_thread(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	sigset_t want, have;

	sigemptyset(&want);
	sigaddset(&want, id % 2 ? SIGUSR2 : SIGHUP);
	pthread_sigmask(SIG_SETMASK, &want, NULL);
	while (!atomic_load(&sh->stop)) {
		struct timespec ts = { 0, 2000000 };
		char c = 'x';

		switch (id % 4) {
		case 0:
			registers_check(id * 1000 + 3, SYS_nanosleep, &ts, 0);
			break;
		case 1:
			if (write(sh->pipe[1], &c, 1) != 1 || read(sh->pipe[0], &c, 1) != 1 ||
			    c != 'x')
				broken(3);
			break;
		case 2:
			if (syscall(SYS_futex, &sh->futex, FUTEX_WAIT, 0, &ts, NULL, 0) == 0 ||
			    errno != ETIMEDOUT)
				broken(4);
			break;
		case 3:
			for (volatile int i = 0; i < 20000; i++)
				;
			registers_check(id, SYS_getppid, NULL, 0);
			break;
		}
		pthread_sigmask(SIG_SETMASK, NULL, &have);
		if (sigismember(&have, SIGUSR2) != (int)(id % 2) || sigismember(&have, SIGTERM))
			broken(5);
		atomic_fetch_add(&sh->turns[id], 1);
	}
	return NULL;
}

static pid_t victim;

/* A victim that a failed test has left would disturb the next. */
static int victim_clear(void **state)
{
	if (victim > 0) {
		kill(victim, SIGKILL);
		waitpid(victim, NULL, 0);
	}
	victim = 0;
	return 0;
}

static void victim_lives(unsigned threads);

static pid_t victim_start(unsigned threads)
{
	pthread_t t[THREADS_MAX];
	pid_t pid;

	memset(sh, 0, sizeof(*sh));
	assert_return_code(pipe(sh->pipe), errno);
	pid = fork();
	if (pid) {
		victim = pid;
		victim_lives(threads);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 1; i < threads; i++)
		if (pthread_create(&t[i], NULL, victim_thread, (void *)(uintptr_t)i))
			broken(6);
	victim_thread((void *)0);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(t[i], NULL);
	_exit(33);
}

/* Every thread makes turns again. */
static void victim_lives(unsigned threads)
{
	unsigned long before[THREADS_MAX];
	long until = now_ms() + 20000;

	for (unsigned i = 0; i < threads; i++)
		before[i] = atomic_load(&sh->turns[i]);
	for (unsigned i = 0; i < threads; i++) {
		while (atomic_load(&sh->turns[i]) < before[i] + 2) {
			if (atomic_load(&sh->broken))
				fail_msg("victim broken: %d", atomic_load(&sh->broken));
			if (now_ms() > until)
				fail_msg("thread %u of the victim stands still", i);
			usleep(500);
		}
	}
}

static void victim_end(pid_t pid)
{
	int st;

	atomic_store(&sh->stop, 1);
	victim = 0;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (!WIFEXITED(st) || WEXITSTATUS(st) != 33)
		fail_msg("victim ended with %#x, broken %d", st, atomic_load(&sh->broken));
	close(sh->pipe[0]);
	close(sh->pipe[1]);
}

static unsigned lines_of(pid_t pid, const char *what)
{
	char cmd[128];
	unsigned n = 0;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "ls -1 /proc/%d/fd | wc -l", pid);
	if (strcmp(what, "maps") == 0)
		snprintf(cmd, sizeof(cmd), "wc -l < /proc/%d/maps", pid);
	f = popen(cmd, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

/* The leader first. */
static unsigned threads_of(pid_t pid, pid_t *tids)
{
	char path[64];
	struct dirent *de;
	unsigned n = 1;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	assert_non_null(d);
	tids[0] = pid;
	while ((de = readdir(d)) && n < THREADS_MAX)
		if (atoi(de->d_name) > 0 && atoi(de->d_name) != pid)
			tids[n++] = atoi(de->d_name);
	closedir(d);
	return n;
}

static void all_seize(const pid_t *tids, unsigned n, bool want_stopped)
{
	bool stopped;

	for (unsigned i = 0; i < n; i++)
		good(seize_start(tids[i], &e));
	for (unsigned i = 0; i < n; i++) {
		good(seize_wait(tids[i], &stopped, &e));
		assert_int_equal(stopped, want_stopped);
	}
}

static void visit(pid_t pid, const pid_t *tids, unsigned n)
{
	struct agent *a[THREADS_MAX];
	long r;

	good(agent_inject(pid, tids[0], &a[0], &e));
	for (unsigned i = 1; i < n; i++)
		good(agent_inject_thread(a[0], tids[i], &a[i], &e));
	for (unsigned i = 0; i < n; i++) {
		good(AGENT_CALL(a[i], &r, &e, SYS_gettid));
		assert_int_equal(r, tids[i]);
	}
	if (n > 1) {
		struct agent *leader = a[0];

		assert_int_equal(agent_host_pid(leader), pid);
	}
	for (unsigned i = n; i-- > 0;)
		good(agent_cure(a[i], &e));
	for (unsigned i = 0; i < n; i++)
		good(seize_detach(tids[i], &e));
}

static void visit_many(unsigned threads, unsigned times)
{
	pid_t pid = victim_start(threads), tids[THREADS_MAX];
	unsigned maps = 0, fds = 0, n;

	usleep(50000);
	for (unsigned i = 0; i < times; i++) {
		n = threads_of(pid, tids);
		assert_int_equal(n, threads);
		all_seize(tids, n, false);
		if (i == 0) {
			maps = lines_of(pid, "maps");
			fds = lines_of(pid, "fd");
		}
		visit(pid, tids, n);
		victim_lives(threads);
	}
	assert_int_equal(lines_of(pid, "maps"), maps);
	assert_int_equal(lines_of(pid, "fd"), fds);
	victim_end(pid);
}

static void test_visit_single(void **state)
{
	visit_many(1, 30);
}

static void test_visit_threads(void **state)
{
	visit_many(40, 8);
}

/* A sleep that was interrupted ends when it would have. */
static void test_sleep_restart(void **state)
{
	int p[2];
	long slept;
	pid_t pid;

	assert_return_code(pipe(p), errno);
	pid = fork();
	if (pid == 0) {
		struct timespec ts = { 3, 0 };
		long t0 = now_ms(), d;

		if (nanosleep(&ts, NULL) < 0)
			_exit(1);
		d = now_ms() - t0;
		_exit(write(p[1], &d, sizeof(d)) != sizeof(d));
	}
	usleep(2000000);
	all_seize(&pid, 1, false);
	visit(pid, &pid, 1);
	assert_int_equal(read(p[0], &slept, sizeof(slept)), sizeof(slept));
	assert_in_range(slept, 3000, 4500); /* anew it would be 5000 at least */
	waitpid(pid, NULL, 0);
	close(p[0]);
	close(p[1]);
}

static char state_of(pid_t pid)
{
	char path[64], c = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %*s %c", &c), 1);
	fclose(f);
	return c;
}

static void test_stopped(void **state)
{
	pid_t pid = victim_start(5), tids[THREADS_MAX];
	unsigned n;
	int st;

	usleep(30000);
	n = threads_of(pid, tids);
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &st, WUNTRACED), pid);
	for (int i = 0; i < 5; i++) {
		all_seize(tids, n, true);
		visit(pid, tids, n);
		for (unsigned k = 0; k < n; k++) {
			for (int t = 0; t < 1000 && state_of(tids[k]) != 'T'; t++)
				usleep(5000);
			assert_int_equal(state_of(tids[k]), 'T');
		}
	}
	kill(pid, SIGCONT);
	victim_lives(5);
	victim_end(pid);
}

/* A filter that kills at socketpair and recvmsg, which the agent lives on. */
static void test_seccomp(void **state)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmsg, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(1);
		for (;;)
			pause();
	}
	usleep(50000);
	all_seize(&pid, 1, false);
	visit(pid, &pid, 1);
	usleep(20000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void injector_fails(int code)
{
	fprintf(stderr, "injector: %s\n", err_text(&e));
	_exit(code);
}

/* The injector is killed at a random moment: the victim goes on, with nothing of ours in it. */
static void kill_many(unsigned threads, unsigned times)
{
	pid_t pid = victim_start(threads), tids[THREADS_MAX], injector;
	unsigned n, maps, fds;

	usleep(50000);
	n = threads_of(pid, tids);
	maps = lines_of(pid, "maps");
	fds = lines_of(pid, "fd");
	srand((unsigned)getpid());
	for (unsigned i = 0; i < times; i++) {
		int p[2], st;
		char c;

		assert_return_code(pipe(p), errno);
		injector = fork();
		if (injector == 0) {
			if (write(p[1], "", 1) != 1)
				_exit(1);
			for (;;) {
				struct agent *a[THREADS_MAX];
				unsigned k;
				int r;

				for (k = 0; k < n; k++)
					if (seize_start(tids[k], &e) < 0)
						injector_fails(5);
				for (k = 0; k < n; k++)
					if (seize_wait(tids[k], NULL, &e) < 0)
						injector_fails(6);
				r = agent_inject(pid, tids[0], &a[0], &e);
				if (r == -EAGAIN) { /* a former one is on its way out */
					for (k = 0; k < n; k++)
						seize_detach(tids[k], &e);
					usleep(100);
					continue;
				}
				if (r < 0)
					injector_fails(2);
				for (k = 1; k < n; k++)
					if (agent_inject_thread(a[0], tids[k], &a[k], &e) < 0)
						injector_fails(3);
				for (k = n; k-- > 0;)
					if (agent_cure(a[k], &e) < 0)
						injector_fails(4);
				for (k = 0; k < n; k++)
					seize_detach(tids[k], &e);
			}
		}
		assert_int_equal(read(p[0], &c, 1), 1);
		usleep((useconds_t)(rand() % (300 + 150 * (int)threads)));
		kill(injector, SIGKILL);
		waitpid(injector, &st, 0);
		if (!WIFSIGNALED(st))
			fail_msg("the injector failed at step %d", WEXITSTATUS(st));
		close(p[0]);
		close(p[1]);
		victim_lives(threads);
	}
	/* What is left of them goes with the next visit. */
	all_seize(tids, n, false);
	visit(pid, tids, n);
	assert_int_equal(lines_of(pid, "maps"), maps);
	assert_int_equal(lines_of(pid, "fd"), fds);
	victim_end(pid);
}

static void test_kill_single(void **state)
{
	kill_many(1, 200);
}

static void test_kill_threads(void **state)
{
	kill_many(6, 150);
}

/* ---- restore ---- */

static int init_main(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

#define PLACE 0x100000000000ull

static _Atomic int *result;
static char thread_stack[16384] __attribute__((aligned(16)));

static void finished_code(void)
{
	atomic_fetch_add(result, 1);
	for (;;)
		syscall(SYS_pause);
}

static void regs_make(struct thread_regs *t, struct agent *a, void (*fn)(void), char *stack_end)
{
	good(agent_seize(a, &e));
	memset(t, 0, sizeof(*t));
	t->gp.rip = (uintptr_t)fn;
	t->gp.rsp = (uintptr_t)stack_end - 8;
	t->gp.cs = 0x33;
	t->gp.ss = 0x2b;
	t->gp.eflags = 0x202;
	t->gp.orig_rax = (uint64_t)-1;
	t->restart_left_ns = -1;
}

static long status_number(pid_t pid, pid_t tid, const char *key)
{
	char path[64], line[256];
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			v = strtol(strrchr(line, '\t') + 1, NULL, 10);
	fclose(f);
	return v;
}

static pid_t init_start(void)
{
	pid_t pid =
		clone(init_main, thread_stack + sizeof(thread_stack), CLONE_NEWPID | SIGCHLD, NULL);

	assert_true(pid > 0);
	usleep(20000);
	return pid;
}

static void test_tree(void **state)
{
	struct agent *init, *a, *b, *t[4], *all[5];
	struct thread_regs regs[5];
	pid_t pid = init_start();
	int st, fd, number;
	long r;

	all_seize(&pid, 1, false);
	good(agent_take_over(pid, pid, PLACE, &init, &e));
	good(AGENT_CALL(init, &r, &e, SYS_getpid));
	assert_int_equal(r, 1);
	good(agent_fork(init, 77, 0, &a, &e));
	good(AGENT_CALL(a, &r, &e, SYS_getpid));
	assert_int_equal(r, 77);
	assert_int_equal(status_number(agent_host_pid(a), agent_host_pid(a), "NSpid:"), 77);
	assert_int_equal(agent_fork(init, 77, 0, &b, &e), -EEXIST);
	good(agent_fork(a, 50, 0, &b, &e));
	good(AGENT_CALL(b, &r, &e, SYS_getppid));
	assert_int_equal(r, 77);
	good(agent_relocate(b, PLACE + 0x10000000, &e));
	good(AGENT_CALL(b, &r, &e, SYS_getpid));
	assert_int_equal(r, 50);

	/* descriptors */
	unsigned had = lines_of(agent_host_pid(b), "fd");
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	good(agent_put_fd(b, fd, &number, &e));
	good(AGENT_CALL(b, &r, &e, SYS_fcntl, (uint64_t)number, F_GETFD));
	assert_int_equal(r, FD_CLOEXEC);
	close(fd);
	good(agent_get_fd(b, number, &fd, &e));
	close(fd);

	for (int i = 0; i < 4; i++) {
		good(agent_thread(b, 200 + i, &t[i], &e));
		good(AGENT_CALL(t[i], &r, &e, SYS_gettid));
		assert_int_equal(r, 200 + i);
		assert_int_equal(status_number(agent_host_pid(b), agent_host_tid(t[i]), "NSpid:"),
				 200 + i);
	}
	all[0] = b;
	for (int i = 0; i < 4; i++)
		all[i + 1] = t[i];
	for (int i = 0; i < 5; i++)
		regs_make(&regs[i], all[i], finished_code,
			  thread_stack + sizeof(thread_stack) - (size_t)i * 3072);
	pid_t child = agent_host_pid(b), tids[5];
	for (int i = 0; i < 5; i++)
		tids[i] = agent_host_tid(all[i]);
	atomic_store(result, 0);
	good(agent_finish(all, regs, 5, &e));
	for (int i = 0; i < 5; i++)
		good(seize_detach(tids[i], &e));
	for (int i = 0; i < 400 && atomic_load(result) < 5; i++)
		usleep(5000);
	assert_int_equal(atomic_load(result), 5);
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "grep -q '^10000' /proc/%d/maps", child);
	assert_int_not_equal(system(cmd), 0);
	/* The channels are gone, what was put is there. */
	assert_int_equal(lines_of(child, "fd"), had);

	good(agent_exit(a, 5 << 8, &e));
	good(AGENT_CALL(init, &r, &e, SYS_wait4, 77, 0, 1));
	assert_int_equal(r, 77);
	agent_free(init);
	waitpid(pid, &st, __WALL);
	assert_true(WIFEXITED(st));
}

/* Numbers that cross the temporaries, in several messages. */
static void test_place(void **state)
{
	enum { N = 600 };
	static struct fd_place places[N];
	struct agent *init;
	pid_t pid = init_start();
	struct rlimit rl = { 2048, 2048 };
	int st, fd;
	char want[32], path[64], got[64];

	setrlimit(RLIMIT_NOFILE, &rl);
	all_seize(&pid, 1, false);
	good(agent_take_over(pid, pid, PLACE, &init, &e));
	good(agent_move_channel(init, 1000, &e));
	good(AGENT_CALL(init, NULL, &e, SYS_close_range, 0, 999));
	for (int i = 0; i < N; i++) {
		fd = memfd_create("place", MFD_CLOEXEC);
		assert_return_code(fd, errno);
		snprintf(want, sizeof(want), "%d", i);
		assert_int_equal(write(fd, want, strlen(want)), strlen(want));
		/* a permutation of 0..N-1: 600 and 7 have no common divisor */
		places[i] = (struct fd_place){ fd, (i * 7 + 3) % N, i % 3 == 0 };
	}
	good(agent_place_fds(init, places, N, &e));
	for (int i = 0; i < N; i++) {
		ssize_t n;
		long flags;

		good(agent_get_fd(init, places[i].number, &fd, &e));
		n = pread(fd, got, sizeof(got) - 1, 0);
		assert_true(n > 0);
		got[n] = 0;
		assert_int_equal(atoi(got), i);
		close(fd);
		close(places[i].fd);
		if (i % 50 == 0) {
			good(AGENT_CALL(init, &flags, &e, SYS_fcntl, (uint64_t)places[i].number,
					F_GETFD));
			assert_int_equal(flags, i % 3 == 0);
		}
	}
	snprintf(path, sizeof(path), "fd");
	assert_int_equal(lines_of(pid, path), N + 1);
	assert_int_equal(agent_place_fds(init, &(struct fd_place){ 0, 1000, false }, 1, &e),
			 -EINVAL);
	agent_free(init);
	waitpid(pid, &st, __WALL);
}

/* A program: results used by later calls, data in and out, an error that ends it. */
static void test_program(void **state)
{
	struct agent *init;
	struct aprog *p;
	struct aarg out, pair;
	pid_t pid = init_start();
	size_t op, bad;
	int st, fds[2];

	all_seize(&pid, 1, false);
	good(agent_take_over(pid, pid, PLACE, &init, &e));
	p = aprog_new();
	pair = aprog_out(p, 8);
	out = aprog_out(p, 5);
	APROG_CALL(p, 0, SYS_pipe2, pair, aarg_imm(O_CLOEXEC));
	op = APROG_CALL(p, 0, SYS_openat, aarg_imm((uint64_t)AT_FDCWD),
			aprog_str(p, "/proc/self/comm"), aarg_imm(O_RDONLY));
	APROG_CALL(p, 0, SYS_read, aarg_result(op), out, aarg_imm(5));
	APROG_CALL(p, AOP_MAY_FAIL, SYS_close, aarg_imm(12345));
	bad = APROG_CALL(p, 0, SYS_chdir, aprog_str(p, "/no/such/folder"));
	APROG_CALL(p, 0, SYS_close, aarg_result(op));
	assert_int_equal(agent_run(init, p, &e), -ENOENT);
	assert_int_equal(aprog_result(p, bad), -ENOENT);
	assert_memory_equal(aprog_out_data(p, out), "test_", 5);
	memcpy(fds, aprog_out_data(p, pair), 8);
	assert_true(fds[0] >= 0 && fds[1] > fds[0]);
	assert_int_equal(aprog_result(p, bad - 1), -EBADF);
	aprog_free(p);

	/* a stream into place */
	long addr;
	char text[100000], back[100000];
	int w;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7);
	good(AGENT_CALL(init, &addr, &e, SYS_mmap, 0, 1 << 20, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0));
	good(agent_get_fd(init, fds[1], &w, &e));
	pid_t writer = fork();
	if (writer == 0)
		_exit(write(w, text, sizeof(text)) != sizeof(text));
	p = aprog_new();
	aprog_read_full(p, fds[0], (uint64_t)addr + 5, sizeof(text));
	good(agent_run(init, p, &e));
	aprog_free(p);
	waitpid(writer, &st, 0);
	int mem;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(mem, back, sizeof(back), addr + 5), sizeof(back));
	assert_memory_equal(text, back, sizeof(text));
	close(mem);
	close(w);

	/* too long is said */
	p = aprog_new();
	aprog_out(p, AGENT_DATA_MAX + 1);
	APROG_CALL(p, 0, SYS_getpid, aarg_imm(0));
	assert_int_equal(agent_run(init, p, &e), -EMSGSIZE);
	aprog_free(p);
	agent_free(init);
	waitpid(pid, &st, __WALL);
}

/* A sleep, a poll and a futex wait go on with the time that is left. */
static struct timespec sleep_ts = { 30, 0 };
static int sleep_futex;

static void sleeper(void)
{
	/* Entered behind a syscall instruction, as the registers say. */
	atomic_fetch_add(result, 1);
	for (;;)
		syscall(SYS_pause);
}

__asm__(".pushsection .text\n"
	"restart_here: syscall\n"
	"restart_behind: testq %rax, %rax\n"
	"jmp sleeper_c\n"
	".popsection\n");
extern const char restart_behind[];
__attribute__((used)) void sleeper_c(void);
void sleeper_c(void)
{
	long rax;

	__asm__ volatile("" : "=a"(rax));
	(void)rax;
	sleeper();
}

static void restart_try(long nr, const uint64_t args[6], bool at_once)
{
	struct agent *init, *a;
	struct thread_regs t;
	pid_t pid = init_start(), child;
	long t0;
	int st;

	all_seize(&pid, 1, false);
	good(agent_take_over(pid, pid, PLACE, &init, &e));
	good(agent_fork(init, 9, 0, &a, &e));
	regs_make(&t, a, sleeper, thread_stack + sizeof(thread_stack));
	t.gp.rip = (uintptr_t)restart_behind;
	t.gp.rax = (uint64_t)-516;
	t.gp.orig_rax = (uint64_t)nr;
	t.gp.rdi = args[0];
	t.gp.rsi = args[1];
	t.gp.rdx = args[2];
	t.gp.r10 = args[3];
	t.restart_left_ns = 300000000;
	atomic_store(result, 0);
	child = agent_host_pid(a);
	good(agent_finish(&a, &t, 1, &e));
	t0 = now_ms();
	good(seize_detach(child, &e));
	while (atomic_load(result) < 1 && now_ms() < t0 + 5000)
		usleep(2000);
	assert_int_equal(atomic_load(result), 1);
	if (!at_once)
		assert_in_range(now_ms() - t0, 250, 4900); /* anew it would be 30 s */
	agent_free(init);
	waitpid(pid, &st, __WALL);
}

static void test_restart(void **state)
{
	restart_try(SYS_nanosleep, (uint64_t[6]){ (uintptr_t)&sleep_ts }, false);
	restart_try(SYS_clock_nanosleep, (uint64_t[6]){ CLOCK_MONOTONIC, 0, (uintptr_t)&sleep_ts },
		    false);
	restart_try(SYS_poll, (uint64_t[6]){ 0, 0, 30000 }, false);
	restart_try(SYS_futex,
		    (uint64_t[6]){ (uintptr_t)&sleep_futex, FUTEX_WAIT, 0, (uintptr_t)&sleep_ts },
		    false);
	/* The value has changed meanwhile: it ends at once. */
	restart_try(SYS_futex,
		    (uint64_t[6]){ (uintptr_t)&sleep_futex, FUTEX_WAIT, 5, (uintptr_t)&sleep_ts },
		    true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, victim_clear)
	const struct CMUnitTest tests[] = {
		TEST(test_visit_single), TEST(test_visit_threads), TEST(test_sleep_restart),
		TEST(test_stopped),	 TEST(test_seccomp),	   TEST(test_kill_single),
		TEST(test_kill_threads), TEST(test_tree),	   TEST(test_place),
		TEST(test_program),	 TEST(test_restart),
	};

	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || result == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

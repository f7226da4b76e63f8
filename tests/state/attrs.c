/* Limits, scheduling, names, and the other small attributes of processes and threads. */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define NR_rseq 334

static pthread_barrier_t before, after;
static const char *complaint;

static void *thread_main(void *arg)
{
	char name[16];
	struct sched_param sp = { 0 };

	MUST(prctl(PR_SET_NAME, "a thread", 0, 0, 0));
	MUST(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &sp));
	MUST(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 7));
	MUST(prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0));
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	prctl(PR_GET_NAME, name, 0, 0, 0);
	if (strcmp(name, "a thread"))
		complaint = "the thread's name is gone";
	if (syscall(SYS_sched_getscheduler, 0) != SCHED_BATCH)
		complaint = "the thread's policy is gone";
	if (getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)) != 7)
		complaint = "the thread's nice value is gone";
	if (prctl(PR_GET_TIMERSLACK) != 123456)
		complaint = "the thread's timer slack is gone";
	return NULL;
}

/* A real-time thread, where one may have such. */
static void *rt_main(void *arg)
{
	struct sched_param sp = { .sched_priority = 11 }, now;
	int may = syscall(SYS_sched_setscheduler, 0, SCHED_FIFO | SCHED_RESET_ON_FORK, &sp) == 0;

	MUST(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 3));
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	MUST(syscall(SYS_sched_getparam, 0, &now));
	if (may && (syscall(SYS_sched_getscheduler, 0) != (SCHED_FIFO | SCHED_RESET_ON_FORK) ||
		    now.sched_priority != 11))
		complaint = "the real-time policy is gone";
	if (syscall(SYS_ioprio_get, 1, 0) != (2 << 13 | 3))
		complaint = "the I/O priority is gone";
	return NULL;
}

static int score(void)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "re");
	int v = -5000;

	if (f && fscanf(f, "%d", &v) != 1)
		v = -5000;
	if (f)
		fclose(f);
	return v;
}

int main(void)
{
	struct rlimit before_l[RLIM_NLIMITS], now;
	struct rlimit lock, files = { 100, 200 }, core = { 0, 0 }, stack;
	void *robust, *robust_now, *address, *address_now;
	size_t robust_len;
	cpu_set_t one, cpus;
	char name[16];
	pthread_t th, rt;
	int sig, sub, dumpable;
	unsigned filter = 0;
	void *locked;
	FILE *f;

	MUST(setrlimit(RLIMIT_NOFILE, &files));
	MUST(setrlimit(RLIMIT_CORE, &core));
	MUST(getrlimit(RLIMIT_STACK, &stack));
	stack.rlim_cur = 6 << 20;
	MUST(setrlimit(RLIMIT_STACK, &stack));
	for (int i = 0; i < RLIM_NLIMITS; i++)
		MUST(getrlimit((__rlimit_resource_t)i, &before_l[i]));
	MUST(prctl(PR_SET_NAME, "strange) name", 0, 0, 0));
	MUST(prctl(PR_SET_PDEATHSIG, SIGWINCH, 0, 0, 0));
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	MUST(personality(ADDR_NO_RANDOMIZE));
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	MUST(sched_setaffinity(0, sizeof(one), &one));
	f = fopen("/proc/self/oom_score_adj", "we");
	CHECK(f && fprintf(f, "321") == 3 && fclose(f) == 0, "oom_score_adj: %m");
	MUST(syscall(SYS_get_robust_list, 0, &robust, &robust_len));
	MUST(prctl(40 /* PR_GET_TID_ADDRESS */, &address, 0, 0, 0));
	locked = MUST(mmap(NULL, 300 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	MUST(mlock(locked, 300 << 10));
	MUST(getrlimit(RLIMIT_MEMLOCK, &lock));
	lock.rlim_cur = 4096; /* less than is locked */
	MUST(setrlimit(RLIMIT_MEMLOCK, &lock));
	before_l[RLIMIT_MEMLOCK] = lock;
	MUST(syscall(SYS_membarrier, 1 << 4 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0));
	f = fopen("/proc/self/coredump_filter", "we");
	CHECK(f && fprintf(f, "0x7f") == 4 && fclose(f) == 0, "coredump_filter: %m");
	MUST(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	pthread_barrier_init(&before, NULL, 3);
	pthread_barrier_init(&after, NULL, 3);
	pthread_create(&rt, NULL, rt_main, NULL);
	pthread_create(&th, NULL, thread_main, NULL);
	pthread_barrier_wait(&before);

	state_wait();

	for (int i = 0; i < RLIM_NLIMITS; i++) {
		MUST(getrlimit((__rlimit_resource_t)i, &now));
		CHECK(now.rlim_cur == before_l[i].rlim_cur && now.rlim_max == before_l[i].rlim_max,
		      "limit %d was %lu/%lu, is %lu/%lu", i, before_l[i].rlim_cur, before_l[i].rlim_max,
		      now.rlim_cur, now.rlim_max);
	}
	prctl(PR_GET_NAME, name, 0, 0, 0);
	CHECK(strcmp(name, "strange) name") == 0, "the name is %s", name);
	MUST(prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0));
	CHECK(sig == SIGWINCH, "parent-death signal is %d", sig);
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &sub, 0, 0, 0));
	CHECK(sub == 1, "no subreaper any more");
	dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
	CHECK(dumpable == 0, "dumpable is %d", dumpable);
	CHECK(personality(0xffffffff) == ADDR_NO_RANDOMIZE, "personality is %x", personality(0xffffffff));
	MUST(sched_getaffinity(0, sizeof(cpus), &cpus));
	CHECK(CPU_EQUAL(&cpus, &one), "the affinity differs");
	MUST(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	CHECK(score() == 321, "oom_score_adj is %d", score());
	CHECK(syscall(SYS_membarrier, 1 << 3 /* PRIVATE_EXPEDITED */, 0, 0) == 0,
	      "the registration for membarrier is gone: %m");
	f = fopen("/proc/self/coredump_filter", "re");
	CHECK(f && fscanf(f, "%x", &filter) == 1 && filter == 0x7f, "coredump_filter is %x", filter);
	fclose(f);
	MUST(syscall(SYS_get_robust_list, 0, &robust_now, &robust_len));
	CHECK(robust == robust_now, "the robust list was %p, is %p", robust, robust_now);
	MUST(prctl(40, &address_now, 0, 0, 0));
	CHECK(address == address_now, "the tid address was %p, is %p", address, address_now);
	pthread_barrier_wait(&after);
	pthread_join(th, NULL);
	pthread_join(rt, NULL);
	CHECK(!complaint, "%s", complaint);
	/* pthread_join above waited for the kernel to clear the thread's id. */
	state_pass();
}

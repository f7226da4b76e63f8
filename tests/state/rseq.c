/* The rseq area that the C library registered: the kernel goes on writing the CPU's number there. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib.h"

static pthread_barrier_t before, after;
static const char *complaint;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static const char *verify(void)
{
	unsigned wanted[2] = { 0, 1 };
	cpu_set_t set;

	if (syscall(SYS_rseq, area(), 32, 0, RSEQ_SIG) == 0 || errno != EBUSY)
		return "the area is not registered any more";
	/* Without a registration the number would stay what it was. */
	for (int i = 0; i < 4; i++) {
		CPU_ZERO(&set);
		CPU_SET(wanted[i % 2], &set);
		if (sched_setaffinity(0, sizeof(set), &set) < 0)
			continue;
		sched_yield();
		if (((volatile struct rseq *)area())->cpu_id != wanted[i % 2])
			return "the kernel does not write the CPU's number any more";
	}
	return NULL;
}

static void *thread_main(void *arg)
{
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	complaint = verify();
	return NULL;
}

int main(void)
{
	const char *mine;
	pthread_t th;

	if (!__rseq_size)
		state_skip("no rseq here");
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	pthread_create(&th, NULL, thread_main, NULL);
	pthread_barrier_wait(&before);
	state_wait();
	mine = verify();
	CHECK(!mine, "%s", mine);
	pthread_barrier_wait(&after);
	pthread_join(th, NULL);
	CHECK(!complaint, "thread: %s", complaint);
	state_pass();
}

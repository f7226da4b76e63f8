/* Twenty threads: ids, thread-local storage, stacks, blocked in futexes and sleeps. */
#include "lib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int go;
static atomic_int ready, bad, spins;
static __thread long own;

static void *run(void *arg)
{
	long n = (long)arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	volatile long on_stack = n * 3;

	own = n * 7;
	atomic_fetch_add(&ready, 1);
	if (n % 4 == 3) {
		/* One that never blocks for long. */
		while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE)) {
			atomic_fetch_add(&spins, 1);
			usleep(1000);
		}
	} else {
		pthread_mutex_lock(&lock);
		while (!go)
			pthread_cond_wait(&cond, &lock);
		pthread_mutex_unlock(&lock);
	}
	if (own != n * 7 || on_stack != n * 3 || tid != (pid_t)syscall(SYS_gettid))
		atomic_fetch_add(&bad, 1);
	return (void *)(n + 1);
}

int main(void)
{
	pthread_t t[THREADS];
	int before;

	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, run, (void *)i) == 0, "creating a thread");
	while (ready < THREADS)
		usleep(1000);
	state_wait();
	before = spins;
	usleep(50000);
	CHECK(spins > before, "the threads that run do not run");
	pthread_mutex_lock(&lock);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (long i = 0; i < THREADS; i++) {
		void *ret;

		CHECK(pthread_join(t[i], &ret) == 0 && ret == (void *)(i + 1), "thread %ld ended otherwise", i);
	}
	CHECK(bad == 0, "%d threads lost what was theirs", bad);
	/* New ones get new ids and can be made. */
	CHECK(pthread_create(&t[0], NULL, run, (void *)1L) == 0 && pthread_join(t[0], NULL) == 0,
	      "a new thread");
	state_pass();
}

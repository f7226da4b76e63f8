/* A tree that never stands still: workers that fork, vfork and execute, and exit, all the time. */
#include "family.h"

#include <errno.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>

extern char **environ;

enum { WORKERS = 4 };

static atomic_long *counts; /* of children that ended as they should, by worker; then failures */

static void work(int n)
{
	for (;;) {
		char *argv[] = { "/bin/sh", "-c", "exit 7", NULL };
		int status, r;
		pid_t pid;

		if (n % 2) {
			r = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
			if (r != 0) {
				fprintf(stderr, "posix_spawn: error %d\n", r);
				counts[WORKERS]++;
				_exit(1);
			}
		} else {
			pid = fork();
			if (pid == 0)
				_exit(7);
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
			fprintf(stderr, "worker %d: a child ended with %#x\n", n, status);
			counts[WORKERS]++;
		}
		counts[n]++;
	}
}

int main(void)
{
	pid_t kids[WORKERS];
	long before[WORKERS];
	int status;

	counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(counts != MAP_FAILED, "mmap");
	for (int i = 0; i < WORKERS; i++) {
		kids[i] = MUST(fork());
		if (kids[i] == 0)
			work(i);
	}
	for (int i = 0; i < WORKERS; i++)
		while (counts[i] < 3)
			usleep(1000);
	state_wait();
	for (int i = 0; i < WORKERS; i++)
		before[i] = counts[i];
	usleep(500000);
	for (int i = 0; i < WORKERS; i++)
		CHECK(counts[i] > before[i], "worker %d does not go on", i);
	CHECK(counts[WORKERS] == 0, "%ld children did not end as they should", counts[WORKERS]);
	for (int i = 0; i < WORKERS; i++) {
		MUST(kill(kids[i], SIGKILL));
		MUST(waitpid(kids[i], &status, 0));
	}
	state_pass();
}

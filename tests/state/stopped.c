/* Job control: stopped processes stay stopped, with one thread and with several, and go on by SIGCONT. */
#include "family.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long *counts;

static void *count(void *arg)
{
	for (;;) {
		atomic_fetch_add((atomic_long *)arg, 1);
		usleep(1000);
	}
	return NULL;
}

static char state_of(pid_t pid)
{
	char path[64], text[512];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = MUST(open(path, O_RDONLY));
	n = (int)MUST(read(fd, text, sizeof(text) - 1));
	close(fd);
	text[n] = '\0';
	return strrchr(text, ')')[2];
}

int main(void)
{
	pid_t kids[3];
	int status;

	counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(counts != MAP_FAILED, "mmap");
	for (int i = 0; i < 3; i++) {
		kids[i] = MUST(fork());
		if (kids[i] == 0) {
			pthread_t t;

			if (i == 1)
				pthread_create(&t, NULL, count, &counts[3]);
			count(&counts[i]);
		}
	}
	for (int i = 0; i < 3; i++)
		while (counts[i] == 0)
			usleep(1000);
	for (int i = 0; i < 2; i++) {
		MUST(kill(kids[i], SIGSTOP));
		MUST(waitpid(kids[i], &status, WUNTRACED));
		CHECK(WIFSTOPPED(status), "it did not stop: %#x", status);
	}
	state_wait();
	for (int i = 0; i < 2; i++) {
		long before;

		/* It has not run, but whether it has been scheduled to stop yet is another matter. */
		for (int t = 0; t < 200 && state_of(kids[i]) != 'T'; t++)
			usleep(5000);
		CHECK(state_of(kids[i]) == 'T', "process %d is in state %c", i, state_of(kids[i]));
		before = counts[i];
		usleep(50000);
		CHECK(counts[i] == before, "process %d runs", i);
		MUST(kill(kids[i], SIGCONT));
		usleep(100000);
		CHECK(counts[i] > before, "process %d does not go on", i);
	}
	CHECK(state_of(kids[2]) != 'T', "the process that ran is stopped");
	for (int i = 0; i < 3; i++) {
		MUST(kill(kids[i], SIGKILL));
		MUST(waitpid(kids[i], &status, 0));
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x", status);
	}
	state_pass();
}

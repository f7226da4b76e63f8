/* A main thread that has ended while others go on is refused, by name. */
#include "lib.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void *stay(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

int main(void)
{
	pid_t pid = MUST(fork());
	pthread_t t;

	if (pid == 0) {
		pthread_create(&t, NULL, stay, NULL);
		pthread_exit(NULL);
	}
	usleep(100000);
	state_wait();
	MUST(kill(pid, SIGKILL));
	MUST(waitpid(pid, NULL, 0));
	state_pass();
}

/* Processes that share memory or descriptors without being threads are refused, by name, and run on. */
#include "lib.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int child(void *arg)
{
	for (;;)
		pause();
	return 0;
}

int main(void)
{
	char *stack = malloc(65536);
	pid_t pid = MUST(clone(child, stack + 65536, CLONE_VM | CLONE_FILES | SIGCHLD, NULL));

	state_wait();
	MUST(kill(pid, SIGKILL));
	MUST(waitpid(pid, NULL, 0));
	state_pass();
}

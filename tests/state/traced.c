/* A process that a debugger inside of the container holds is refused, by name. */
#include "lib.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	pid_t pid = MUST(fork());

	if (pid == 0)
		for (;;)
			pause();
	MUST(ptrace(PTRACE_SEIZE, pid, 0, 0));
	state_wait();
	/* It is still there, and still ours. */
	MUST(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	MUST(waitpid(pid, NULL, __WALL));
	MUST(ptrace(PTRACE_DETACH, pid, 0, 0));
	MUST(kill(pid, SIGKILL));
	MUST(waitpid(pid, NULL, 0));
	state_pass();
}

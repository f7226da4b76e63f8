/* Zombies keep their exit status; by exit and by signal, in groups of their own, below several parents. */
#include "family.h"

#include <errno.h>

static pid_t made(int code, int sig, int own_group)
{
	pid_t pid = MUST(fork());
	siginfo_t si;

	if (pid == 0) {
		if (own_group)
			setpgid(0, 0);
		if (sig) {
			signal(sig, SIG_DFL);
			raise(sig);
		}
		_exit(code);
	}
	MUST(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT));
	return pid;
}

int main(void)
{
	pid_t a, b, c, child;
	int status;

	go_block();
	a = made(42, 0, 0);
	b = made(0, SIGTERM, 0);
	c = made(7, 0, 1);
	child = MUST(fork());
	if (child == 0) {
		pid_t own = made(9, 0, 0);

		state_mark("child");
		go_wait();
		MUST(waitpid(own, &status, WNOHANG));
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	state_await("child");
	state_wait();
	CHECK(waitpid(a, &status, WNOHANG) == a && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "zombie a: %#x", status);
	CHECK(waitpid(b, &status, WNOHANG) == b && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM,
	      "zombie b: %#x", status);
	CHECK(waitpid(c, &status, WNOHANG) == c && WIFEXITED(status) && WEXITSTATUS(status) == 7,
	      "zombie c: %#x", status);
	status = go_collect(child);
	CHECK(status == 9, "the child's zombie: %d", status);
	CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "there are children nobody made");
	state_pass();
}

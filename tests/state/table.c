/* Descriptor tables: many, high, close-on-exec, shared between processes, owners of signals. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define MANY 3000

int main(void)
{
	struct rlimit rl;
	struct f_owner_ex own = { 0 };
	int shared, high, status, pp[2], async, before;
	pid_t pid;
	char c;

	MUST(getrlimit(RLIMIT_NOFILE, &rl));
	rl.rlim_cur = rl.rlim_max < 10000 ? rl.rlim_max : 10000;
	MUST(setrlimit(RLIMIT_NOFILE, &rl));
	for (int i = 0; i < MANY; i++)
		MUST(eventfd((unsigned)i, EFD_NONBLOCK | (i % 2 ? EFD_CLOEXEC : 0)));
	high = MUST(open("/work/high", O_RDWR | O_CREAT, 0600));
	high = MUST(fcntl(high, F_DUPFD_CLOEXEC, (int)rl.rlim_cur - 1));
	shared = MUST(open("/work/shared", O_RDWR | O_CREAT, 0600));
	CHECK(write(shared, "0123456789", 10) == 10, "write");
	MUST(lseek(shared, 0, SEEK_SET));
	MUST(pipe(pp));
	async = pp[0];
	MUST(fcntl(async, F_SETOWN, getpid()));
	MUST(fcntl(async, F_SETSIG, SIGRTMIN + 1));
	signal(SIGRTMIN + 1, SIG_IGN);
	MUST(fcntl(async, F_SETFL, O_ASYNC | O_NONBLOCK));
	pid = MUST(fork());
	if (pid == 0) {
		MUST(fcntl(shared, F_SETFD, FD_CLOEXEC));
		state_mark("child");
		while (lseek(shared, 0, SEEK_CUR) != 3)
			usleep(10000);
		if (fcntl(shared, F_GETFD) != FD_CLOEXEC || read(shared, &c, 1) != 1 || c != '3')
			_exit(1);
		_exit(0);
	}
	state_await("child");
	before = MUST(dup(0));
	MUST(close(before));

	state_wait();

	CHECK(dup(0) == before, "another number is free than before");
	for (int fd = 3, i = 0; i < MANY; fd++) {
		uint64_t v;
		struct stat st;

		if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != 0)
			continue;
		CHECK((read(fd, &v, 8) == 8 && v == (uint64_t)i) || i == 0, "eventfd %d", i);
		CHECK(fcntl(fd, F_GETFD) == (i % 2 ? FD_CLOEXEC : 0), "FD_CLOEXEC of %d", fd);
		i++;
	}
	CHECK(fcntl(high, F_GETFD) == FD_CLOEXEC && write(high, "x", 1) == 1, "the highest number");
	CHECK(fcntl(shared, F_GETFD) == 0, "FD_CLOEXEC of the other process");
	CHECK(fcntl(async, F_GETSIG) == SIGRTMIN + 1, "signal");
	MUST(fcntl(async, F_GETOWN_EX, &own));
	CHECK(own.pid == getpid() && own.type == F_OWNER_PID, "owner %d", own.pid);
	CHECK(fcntl(async, F_GETFL) & O_ASYNC, "O_ASYNC");
	MUST(lseek(shared, 3, SEEK_SET));
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "status %#x", status);
	CHECK(lseek(shared, 0, SEEK_CUR) == 4, "position is not shared");
	state_pass();
}

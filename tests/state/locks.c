/* flock, POSIX and OFD locks, held by two processes. */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};
}

/* Who is in the way of a write lock here? -1: an OFD lock, 0: nobody */
static pid_t holder(int fd, off_t start, off_t len)
{
	struct flock lk = range(F_WRLCK, start, len);

	MUST(fcntl(fd, F_GETLK, &lk));
	return lk.l_type == F_UNLCK ? 0 : lk.l_pid;
}

int main(void)
{
	int fd = MUST(open("/work/locked", O_RDWR | O_CREAT, 0600)), ofd, fl, fl2, status, go[2];
	struct flock lk = range(F_WRLCK, 10, 20);
	pid_t pid;
	char c;

	MUST(fcntl(fd, F_SETLK, &lk));
	lk = range(F_RDLCK, 100, 0);
	MUST(fcntl(fd, F_SETLK, &lk));
	ofd = MUST(open("/work/ofd", O_RDWR | O_CREAT, 0600));
	lk = range(F_WRLCK, 5, 5);
	MUST(fcntl(ofd, F_OFD_SETLK, &lk));
	fl = MUST(open("/work/flock", O_RDWR | O_CREAT, 0600));
	MUST(flock(fl, LOCK_EX));
	fl2 = MUST(dup(fl));
	MUST(pipe(go));
	pid = MUST(fork());
	if (pid == 0) {
		int mine = MUST(open("/work/locked", O_RDWR)), other;
		pid_t parent = getppid();

		lk = range(F_WRLCK, 50, 10);
		MUST(fcntl(mine, F_SETLK, &lk));
		state_mark("locked-by-child");
		if (read(go[0], &c, 1) != 1)
			_exit(9);
		if (holder(mine, 10, 1) != parent || holder(mine, 29, 1) != parent ||
		    holder(mine, 30, 1) != 0 || holder(mine, 100000, 1) != parent)
			_exit(1);
		other = MUST(open("/work/ofd", O_RDWR));
		if (holder(other, 7, 1) != -1)
			_exit(2);
		other = MUST(open("/work/flock", O_RDWR));
		if (flock(other, LOCK_SH | LOCK_NB) == 0)
			_exit(3);
		MUST(flock(fl, LOCK_UN)); /* shared with the parent */
		if (flock(other, LOCK_EX | LOCK_NB) < 0)
			_exit(4);
		_exit(0);
	}
	state_await("locked-by-child");

	state_wait();

	CHECK(holder(fd, 50, 10) == pid, "the child's lock is held by %d", holder(fd, 50, 10));
	CHECK(holder(fd, 60, 10) == 0, "a range that nobody has locked");
	CHECK(write(go[1], "x", 1) == 1, "write");
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "child: status %#x", status);
	CHECK(holder(fd, 50, 10) == 0, "the dead child's lock is still there");
	CHECK(flock(fl2, LOCK_EX | LOCK_NB) == 0, "flock: %m");
	state_pass();
}

/* Pipes with content, sizes, packets, one end only, between processes; fifos. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static void read_is(int fd, const char *want)
{
	char buf[256] = "";
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	CHECK(n == (ssize_t)strlen(want) && strcmp(buf, want) == 0,
	      "fd %d: read \"%s\" (%zd) instead of \"%s\"", fd, buf, n, want);
}

int main(void)
{
	int plain[2], packets[2], big[2], eof[2], broken[2], child[2], back[2], fifo, lonely, again;
	static char fill[300000], got[300000];
	struct pollfd p;
	struct stat st;
	int bytes;
	pid_t pid;
	char c;

	MUST(pipe(plain));
	CHECK(write(plain[1], "first", 5) == 5 && write(plain[1], " second", 7) == 7, "write");
	again = MUST(open("/proc/self/fd/3", O_RDONLY | O_NONBLOCK));
	CHECK(plain[0] == 3, "numbers");
	MUST(pipe2(packets, O_DIRECT | O_NONBLOCK));
	CHECK(write(packets[1], "one", 3) == 3 && write(packets[1], "two!", 4) == 4, "write");
	MUST(pipe(big));
	MUST(fcntl(big[1], F_SETPIPE_SZ, 1 << 20));
	for (size_t i = 0; i < sizeof(fill); i++)
		fill[i] = (char)(i * 7);
	CHECK(write(big[1], fill, sizeof(fill)) == sizeof(fill), "write");
	MUST(pipe(eof));
	CHECK(write(eof[1], "rest", 4) == 4, "write");
	MUST(close(eof[1]));
	MUST(pipe(broken));
	MUST(close(broken[0]));
	signal(SIGPIPE, SIG_IGN);
	MUST(pipe(child));
	MUST(pipe(back));
	MUST(mkfifo("/work/fifo", 0600));
	fifo = MUST(open("/work/fifo", O_RDWR));
	CHECK(write(fifo, "in a fifo", 9) == 9, "write");
	MUST(mkfifo("/work/lonely", 0600));
	lonely = MUST(open("/work/lonely", O_RDONLY | O_NONBLOCK));
	pid = MUST(fork());
	if (pid == 0) {
		close(child[1]);
		close(back[0]);
		while (read(child[0], &c, 1) == 1) {
			c++;
			if (write(back[1], &c, 1) != 1)
				_exit(1);
		}
		_exit(7);
	}
	MUST(close(child[0]));
	MUST(close(back[1]));

	state_wait();

	CHECK(ioctl(plain[0], FIONREAD, &bytes) == 0 && bytes == 12, "%d bytes in the pipe", bytes);
	read_is(again, "first second");
	CHECK(read(again, &c, 1) < 0, "more than was written");
	CHECK(write(plain[1], "x", 1) == 1, "write");
	read_is(plain[0], "x");
	CHECK((fcntl(packets[1], F_GETFL) & (O_DIRECT | O_NONBLOCK)) == (O_DIRECT | O_NONBLOCK),
	      "packet flags");
	read_is(packets[0], "one");
	read_is(packets[0], "two!");
	CHECK(fcntl(big[0], F_GETPIPE_SZ) == 1 << 20, "size is %d", fcntl(big[0], F_GETPIPE_SZ));
	for (size_t n = 0; n < sizeof(got);)
		n += (size_t)MUST(read(big[0], got + n, sizeof(got) - n));
	CHECK(memcmp(fill, got, sizeof(got)) == 0, "content of a large pipe");
	read_is(eof[0], "rest");
	CHECK(read(eof[0], &c, 1) == 0, "no end of file");
	CHECK(write(broken[1], "x", 1) < 0, "no broken pipe");
	MUST(fstat(plain[0], &st));
	CHECK(st.st_uid == 0, "the pipe belongs to %u", st.st_uid);
	CHECK(write(child[1], "a", 1) == 1 && read(back[0], &c, 1) == 1 && c == 'b', "child");
	MUST(close(child[1]));
	CHECK(waitpid(pid, &bytes, 0) == pid && WIFEXITED(bytes) && WEXITSTATUS(bytes) == 7,
	      "status %#x", bytes);
	CHECK(read(back[0], &c, 1) == 0, "no end of file from the child");
	read_is(fifo, "in a fifo");
	MUST(fstat(fifo, &st));
	CHECK(S_ISFIFO(st.st_mode), "fifo");
	p = (struct pollfd){ lonely, POLLIN, 0 };
	CHECK(poll(&p, 1, 0) == 0, "a fifo without a writer says %#x", p.revents);
	again = MUST(open("/work/lonely", O_WRONLY | O_NONBLOCK));
	CHECK(write(again, "hi", 2) == 2, "write");
	read_is(lonely, "hi");
	state_pass();
}

/* godwit-pipe FD ARGS… - what rsync starts as its remote shell: says ARGS (behind the host's name) as one
 * line on the connection FD, then copies stdin to it and it to stdout until both have ended. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/parse.h"

/* 1: copied something, 0: the source ended, -errno. */
static int copy_some(int from, int to)
{
	static char block[256 * 1024];
	ssize_t n = read(from, block, sizeof(block));
	int r;

	if (n < 0)
		return errno == EINTR ? 1 : -errno;
	if (n == 0)
		return 0;
	r = fd_write_full(to, block, (size_t)n);
	return r < 0 ? r : 1;
}

int main(int argc, char **argv)
{
	auto_buf line = BUF_INIT;
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .events = POLLIN } };
	int fd, r = 0;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 4 || parse_int(argv[1], &fd) < 0) {
		fprintf(stderr, "godwit-pipe is started by rsync\n");
		return 2;
	}
	for (int i = 3; i < argc; i++)
		if (buf_addf(&line, "%s%s", i > 3 ? " " : "", argv[i]) < 0)
			return 1;
	if (buf_adds(&line, "\n") < 0 || fd_write_full(fd, line.data, line.len) < 0)
		return 1;
	p[1].fd = fd;
	while (p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (p[0].revents && p[0].fd >= 0) {
			r = copy_some(0, fd);
			if (r <= 0) {
				shutdown(fd, SHUT_WR);
				p[0].fd = -1;
			}
		}
		if (p[1].revents) {
			r = copy_some(fd, 1);
			if (r <= 0)
				p[1].fd = -1;
		}
	}
	return r < 0 ? 1 : 0;
}

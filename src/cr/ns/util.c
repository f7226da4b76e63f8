#include "cr/ns/util.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

static int child_wait(pid_t child)
{
	int st;

	while (waitpid(child, &st, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(st))
		return -EIO;
	return -WEXITSTATUS(st);
}

/* Exit codes are errnos. */
static void child_run(int pidfd, int flags, int out, int (*fn)(int out, void *arg), void *arg)
{
	pid_t inner;

	if (setns(pidfd, flags) < 0)
		_exit(errno);
	if (!(flags & CLONE_NEWPID))
		_exit(-fn(out, arg) & 0xff);
	/* Only children of who entered are in a PID namespace. */
	inner = fork();
	if (inner < 0)
		_exit(errno);
	if (inner == 0)
		_exit(-fn(out, arg) & 0xff);
	_exit(-child_wait(inner) & 0xff);
}

static int all_read(int fd, size_t max, struct buf *b)
{
	for (;;) {
		char *at = buf_reserve(b, 4096);
		ssize_t n;

		if (!at)
			return -ENOMEM;
		n = read(fd, at, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		b->len += (size_t)n;
		if (b->len > max)
			return -EFBIG;
	}
}

int ns_visit(pid_t pid, int flags, int (*fn)(int out, void *arg), void *arg, size_t max, char **ret,
	     struct err *e)
{
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	auto_fd int in = -1, out = -1;
	auto_buf b = BUF_INIT;
	int p[2], r, x;
	pid_t child;

	if (pidfd < 0 || pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "visiting the namespaces of process %d", (int)pid);
	in = p[0];
	out = p[1];
	child = fork();
	if (child < 0)
		return err_sys(e, -errno, "visiting the namespaces of process %d", (int)pid);
	if (child == 0)
		child_run(pidfd, flags, out, fn, arg);
	fd_close(&out);
	r = all_read(in, max, &b);
	fd_close(&in);
	x = child_wait(child);
	if (r >= 0)
		r = x;
	if (r < 0)
		return err_sys(e, r, "visiting the namespaces of process %d", (int)pid);
	*ret = buf_take(&b);
	return *ret ? 0 : err_sys(e, -ENOMEM, "visiting namespaces");
}

int ns_socket(pid_t pid, int domain, int type, int protocol, int *ret, struct err *e)
{
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int s, code;

	if (pidfd < 0 || home < 0)
		return err_sys(e, -errno, "entering the network of process %d", (int)pid);
	if (setns(pidfd, CLONE_NEWNET) < 0)
		return err_sys(e, -errno, "entering the network of process %d", (int)pid);
	s = socket(domain, type | SOCK_CLOEXEC, protocol);
	code = -errno;
	if (setns(home, CLONE_NEWNET) < 0)
		abort(); /* everything that follows would act in the wrong network */
	if (s < 0)
		return err_sys(e, code, "socket in the network of process %d", (int)pid);
	*ret = s;
	return 0;
}

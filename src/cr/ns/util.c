#include "cr/ns/util.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
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

/* A PID namespace is entered by children only. */
static int visit_by_child(pid_t pid, int flags, int (*fn)(int out, void *arg), void *arg,
			  size_t max, char **ret, struct err *e)
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

/* The others the engine, which has one thread, enters itself: a new process would have to wait for
 * a processor, in the pause, where the machine is busy. */
static const struct {
	int flag;
	const char *file;
} kinds[] = { { CLONE_NEWNET, "net" },
	      { CLONE_NEWIPC, "ipc" },
	      { CLONE_NEWUTS, "uts" },
	      { CLONE_NEWCGROUP, "cgroup" } };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int homes_open(int flags, int home[KINDS])
{
	char path[48];

	for (size_t i = 0; i < KINDS; i++) {
		home[i] = -1;
		if (!(flags & kinds[i].flag))
			continue;
		flags &= ~kinds[i].flag;
		snprintf(path, sizeof(path), "/proc/thread-self/ns/%s", kinds[i].file);
		home[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (home[i] < 0)
			return -errno;
	}
	return flags ? -EINVAL : 0;
}

static int visit_ourselves(pid_t pid, int flags, int (*fn)(int out, void *arg), void *arg,
			   size_t max, char **ret, struct err *e)
{
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	auto_fd int out = memfd_create("visit", MFD_CLOEXEC);
	auto_buf b = BUF_INIT;
	int home[KINDS], r;

	if (pidfd < 0 || out < 0)
		return err_sys(e, -errno, "visiting the namespaces of process %d", (int)pid);
	r = homes_open(flags, home);
	if (r >= 0 && setns(pidfd, flags) < 0)
		r = -errno;
	if (r >= 0) {
		r = fn(out, arg);
		for (size_t i = 0; i < KINDS; i++)
			if (home[i] >= 0 && setns(home[i], kinds[i].flag) < 0)
				abort(); /* everything that follows would act in the wrong place */
	}
	for (size_t i = 0; i < KINDS; i++)
		fd_close(&home[i]);
	if (r >= 0 && lseek(out, 0, SEEK_SET) < 0)
		r = -errno;
	if (r >= 0)
		r = all_read(out, max, &b);
	if (r < 0)
		return err_sys(e, r, "visiting the namespaces of process %d", (int)pid);
	*ret = buf_take(&b);
	return *ret ? 0 : err_sys(e, -ENOMEM, "visiting namespaces");
}

int ns_visit(pid_t pid, int flags, int (*fn)(int out, void *arg), void *arg, size_t max, char **ret,
	     struct err *e)
{
	return (flags & CLONE_NEWPID ? visit_by_child : visit_ourselves)(pid, flags, fn, arg, max,
									 ret, e);
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

#include "sys/freezer.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

static int events_frozen(int fd)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	const char *p;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	p = strstr(text, "frozen ");
	return p ? p[7] == '1' : -EPROTO;
}

int freezer_get(int dir)
{
	auto_fd int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : events_frozen(fd);
}

static int ms_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int)((now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000);
}

int freezer_set(int dir, bool frozen, int timeout_ms, struct err *e)
{
	auto_fd int events = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	const char *verb = frozen ? "freezing" : "thawing";
	struct timespec start;
	int r;

	if (events < 0)
		return err_sys(e, -errno, "opening cgroup.events of the container");
	clock_gettime(CLOCK_MONOTONIC, &start);
	r = fd_write_file_at(dir, "cgroup.freeze", frozen ? "1" : "0");
	if (r < 0)
		return err_sys(e, r, "%s the container's cgroup", verb);
	for (;;) {
		struct pollfd p = { .fd = events, .events = POLLPRI };
		int left = timeout_ms - ms_since(&start);

		r = events_frozen(events);
		if (r < 0)
			return err_sys(e, r, "%s the container's cgroup", verb);
		if (r == (int)frozen)
			return 0;
		if (left <= 0)
			return err_set(e, -ETIMEDOUT,
				       "%s the container's cgroup: not all of it obeyed within %d ms "
				       "(a process may wait for a device or a file server)",
				       verb, timeout_ms);
		/* The change may have come between the read and the poll: a short wait heals it. */
		poll(&p, 1, left < 100 ? left : 100);
	}
}

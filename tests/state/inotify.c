/* inotify: watches keep their numbers, masks and files. */
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

static struct inotify_event *next(int fd, char *buf, size_t len)
{
	ssize_t n = read(fd, buf, len);

	CHECK(n >= (ssize_t)sizeof(struct inotify_event), "no event: %m");
	return (struct inotify_event *)buf;
}

int main(void)
{
	static char buf[4096] __attribute__((aligned(8)));
	int fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), a, b, c, tmp, f;
	struct inotify_event *ev;

	MUST(mkdir("/work/d", 0700));
	MUST(mkdir("/tmp/t", 0700));
	f = MUST(open("/work/file", O_RDWR | O_CREAT, 0600));
	MUST(close(f));
	a = MUST(inotify_add_watch(fd, "/work/d", IN_CREATE | IN_DELETE));
	for (int i = 0; i < 5; i++) {
		tmp = MUST(inotify_add_watch(fd, "/tmp", IN_CREATE));
		MUST(inotify_rm_watch(fd, tmp));
	}
	b = MUST(inotify_add_watch(fd, "/work/file", IN_MODIFY | IN_ONESHOT));
	c = MUST(inotify_add_watch(fd, "/tmp/t", IN_CREATE | IN_MOVED_TO));
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	CHECK(a == 1 && b == 7 && c == 8, "numbers %d %d %d", a, b, c);

	state_wait();

	CHECK(read(fd, buf, sizeof(buf)) < 0, "an event that nobody caused");
	f = MUST(open("/work/d/new", O_RDWR | O_CREAT, 0600));
	MUST(close(f));
	ev = next(fd, buf, sizeof(buf));
	CHECK(ev->wd == a && ev->mask == IN_CREATE && strcmp(ev->name, "new") == 0, "event %d %#x",
	      ev->wd, ev->mask);
	f = MUST(open("/work/file", O_WRONLY));
	CHECK(write(f, "x", 1) == 1 && write(f, "x", 1) == 1, "write");
	ev = next(fd, buf, sizeof(buf));
	CHECK(ev->wd == b && ev->mask == IN_MODIFY, "event %d %#x", ev->wd, ev->mask);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	MUST(mkdir("/tmp/t/x", 0700));
	ev = next(fd, buf, sizeof(buf));
	CHECK(ev->wd == c && (ev->mask & IN_CREATE), "event %d %#x", ev->wd, ev->mask);
	state_pass();
}

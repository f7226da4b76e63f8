/* Memory: what can be watched, moved and named. */
#include "engine/probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define PAGE 4096

/* A page that was just written is dirty where the bit exists. */
int probe_mem_dirty_track(struct err *e)
{
	auto_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;
	ssize_t n;

	if (fd < 0 || p == MAP_FAILED)
		return err_sys(e, -errno, "reading our pagemap");
	p[0] = 1;
	n = pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)p / PAGE * sizeof(entry)));
	munmap((void *)p, PAGE);
	return n == sizeof(entry) && entry >> 55 & 1;
}

#ifndef PAGEMAP_SCAN
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, ret;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arg)
#endif

/* A scan of nothing. */
int probe_pagemap_scan(struct err *e)
{
	auto_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t arg[12] = { sizeof(arg) };

	if (fd < 0)
		return err_sys(e, -errno, "reading our pagemap");
	return ioctl(fd, PAGEMAP_SCAN, arg) >= 0 || errno != ENOTTY;
}

static int uffd_has(uint64_t wanted, struct err *e)
{
	auto_fd int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API };

	if (fd < 0)
		return errno == ENOSYS ? 0 : err_sys(e, -errno, "userfaultfd");
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return err_sys(e, -errno, "UFFDIO_API");
	return (api.features & wanted) == wanted;
}

int probe_uffd(struct err *e)
{
	return uffd_has(0, e);
}

int probe_uffd_noncoop(struct err *e)
{
	return uffd_has(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP |
			UFFD_FEATURE_EVENT_REMOVE, e);
}

int probe_uffd_move(struct err *e)
{
	return uffd_has(1u << 16, e); /* UFFD_FEATURE_MOVE */
}

int probe_uffd_wp_async(struct err *e)
{
	return uffd_has(1u << 15 | 1u << 13, e); /* WP_ASYNC, WP_UNPOPULATED */
}

/* The ring is where its user put it: the number of the context moves along. */
static int aio_ask(void *arg)
{
	aio_context_t ctx = 0;
	struct io_event ev;
	struct timespec none = { 0 };
	char *to;

	if (syscall(SYS_io_setup, 1, &ctx) < 0)
		return errno == ENOSYS ? 0 : -errno;
	to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED || mremap((void *)ctx, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return 0;
	return syscall(SYS_io_getevents, (aio_context_t)to, 0, 1, &ev, &none) == 0;
}

int probe_aio_remap(struct err *e)
{
	return probe_in_child(aio_ask, NULL, e);
}

int probe_map_files(struct err *e)
{
	DIR *d = opendir("/proc/self/map_files");
	int r = d ? 0 : -errno;

	for (struct dirent *x; d && r == 0 && (x = readdir(d));) {
		int fd;

		if (x->d_name[0] == '.')
			continue;
		fd = openat(dirfd(d), x->d_name, O_PATH | O_CLOEXEC);
		r = fd < 0 ? -errno : 1;
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	return r == -ENOENT ? 0 : r < 0 ? err_sys(e, r, "/proc/self/map_files") : r;
}

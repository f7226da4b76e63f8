/* vma_open - the file behind a mapping.
 *
 * /proc/PID/map_files leads to it whatever became of its name, but only with CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) in
 * the first user namespace. Without, the file is looked for by the name that the kernel shows, below the root of the
 * process, and then among the files that the process has open; it counts only if it is the same inode. What is mapped
 * and has neither a name nor a descriptor cannot be had then. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/mem/vma.h"
#include "sys/procfs.h"

#define DELETED " (deleted)"

/* Some file systems (btrfs, overlayfs) show another device in stat() than in the list of mappings: what the list says of a
 * mapping of our own is compared there. */
static bool mapped_same(int fd, const struct vma *v)
{
	auto_fd int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	void *p = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0);
	struct vma_list l = { 0 };
	bool same = false;

	if (p == MAP_FAILED)
		return false;
	if (self >= 0 && vma_read_plain(self, &l, NULL) >= 0) {
		for (size_t i = 0; i < l.n; i++)
			if (l.v[i].start == (uint64_t)(uintptr_t)p)
				same = l.v[i].ino == v->ino && l.v[i].major == v->major && l.v[i].minor == v->minor;
		vma_list_done(&l);
	}
	munmap(p, 1);
	return same;
}

static bool is_same(int fd, const struct vma *v)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_ino != v->ino)
		return false;
	return st.st_dev == makedev(v->major, v->minor) || mapped_same(fd, v);
}

/* The kernel shows names as seen from our root, or where they are not below it, from that of their mounts. */
static int by_name(int proc_fd, const char *root_name, const struct vma *v, int flags)
{
	auto_fd int root = -1, fd = -1;

	if (v->path[0] != '/' || str_ends(v->path, DELETED))
		return -ENOENT;
	root = openat(proc_fd, root_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	fd = fd_open_in_root(root, v->path, flags & O_PATH ? flags : flags | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	return is_same(fd, v) ? fd_take(&fd) : -ESTALE;
}

static int by_descriptor(int proc_fd, const struct vma *v, int flags)
{
	auto_free int *fds = NULL;
	size_t n = 0;

	if (proc_fds(proc_fd, &fds, &n, NULL) < 0)
		return -ENOENT;
	for (size_t i = 0; i < n; i++) {
		auto_fd int fd = -1;
		struct stat st;
		char name[32];

		snprintf(name, sizeof(name), "fd/%d", fds[i]);
		if (fstatat(proc_fd, name, &st, 0) < 0 || st.st_ino != v->ino || !S_ISREG(st.st_mode))
			continue;
		fd = openat(proc_fd, name, flags | O_CLOEXEC);
		if (fd >= 0 && is_same(fd, v))
			return fd_take(&fd);
	}
	return -ENOENT;
}

int vma_open(int proc_fd, const struct vma *v, int flags)
{
	char link[64];
	int fd, r;

	snprintf(link, sizeof(link), "map_files/%llx-%llx", (unsigned long long)v->start, (unsigned long long)v->end);
	fd = openat(proc_fd, link, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	r = -errno;
	if (r != -EPERM)
		return r;
	fd = by_name(proc_fd, "root", v, flags);
	if (fd < 0)
		fd = by_name(proc_fd, "/", v, flags);
	if (fd < 0)
		fd = by_descriptor(proc_fd, v, flags);
	return fd < 0 ? r : fd;
}

int vma_stat(int proc_fd, const struct vma *v, struct stat *ret)
{
	auto_fd int fd = -1;
	char link[64];

	snprintf(link, sizeof(link), "map_files/%llx-%llx", (unsigned long long)v->start, (unsigned long long)v->end);
	if (fstatat(proc_fd, link, ret, 0) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	fd = vma_open(proc_fd, v, O_PATH);
	return fd < 0 ? fd : fstat(fd, ret) < 0 ? -errno : 0;
}

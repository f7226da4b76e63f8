#include "storage/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

int folder_make(const char *path, mode_t mode, struct err *e)
{
	auto_free char *p = strdup(path);

	if (!p)
		return err_sys(e, -ENOMEM, "%s", path);
	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(p, 0711) < 0 && errno != EEXIST)
			return err_sys(e, -errno, "cannot make folder %s", p);
		*s = '/';
	}
	if (mkdir(p, mode) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make folder %s", p);
	if (chmod(p, mode) < 0)
		return err_sys(e, -errno, "cannot set the mode of %s", p);
	return 0;
}

/* Immutable and append-only files (chattr +i) can be made by a privileged container and would stay. */
static int entry_unlock(int dirfd, const char *name)
{
	auto_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	long flags;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return -EPERM;
	flags &= ~(long)(FS_IMMUTABLE_FL | FS_APPEND_FL);
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? -errno : 0;
}

static int entry_unlink(int dirfd, const char *name, int flags)
{
	if (unlinkat(dirfd, name, flags) == 0 || errno == ENOENT)
		return 0;
	if (errno == EPERM && entry_unlock(dirfd, name) == 0 && unlinkat(dirfd, name, flags) == 0)
		return 0;
	return -errno;
}

/* One level at a time with descriptors; how deep a container may nest folders is not ours to decide, so
 * a folder that is too deep is moved up beside its ancestor and removed from there. */
#define FOLDER_DEPTH_MAX 200

static int tree_empty(int top, int dfd, dev_t dev, unsigned depth);

static int tree_remove_child(int top, int dfd, const char *name, dev_t dev, unsigned depth)
{
	auto_fd int sub = openat(dfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (sub < 0)
		return errno == ENOTDIR || errno == ELOOP ? entry_unlink(dfd, name, 0) : -errno;
	if (fstat(sub, &st) < 0)
		return -errno;
	if (st.st_dev != dev)
		return -EBUSY;
	if (depth >= FOLDER_DEPTH_MAX) {
		char moved[48];
		static unsigned long counter;

		snprintf(moved, sizeof(moved), ".deep-%lu", counter++);
		return renameat(dfd, name, top, moved) < 0 ? -errno : 0;
	}
	r = tree_empty(top, sub, dev, depth + 1);
	if (r == -EPERM && entry_unlock(dfd, name) == 0)
		r = tree_empty(top, sub, dev, depth + 1);
	return r < 0 ? r : entry_unlink(dfd, name, AT_REMOVEDIR);
}

static int tree_empty(int top, int dfd, dev_t dev, unsigned depth)
{
	int copy = fcntl(dfd, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;

	if (!d) {
		r = -errno;
		fd_close(&copy);
		return r;
	}
	rewinddir(d);
	while (r == 0 && (de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		r = tree_remove_child(top, dfd, de->d_name, dev, depth);
	}
	closedir(d);
	return r;
}

int folder_remove(const char *path, struct err *e)
{
	auto_fd int top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (top < 0 && errno == ENOENT)
		return 0;
	if (top < 0 || fstat(top, &st) < 0)
		return err_sys(e, -errno, "cannot open %s", path);
	/* Folders that were moved up while the list was read are found by the next round. */
	for (int round = 0;; round++) {
		r = tree_empty(top, top, st.st_dev, 0);
		if (r < 0)
			return err_sys(e, r, "cannot empty %s", path);
		if (rmdir(path) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY || round > 10000)
			return err_sys(e, -errno, "cannot remove %s", path);
	}
}

/* Inodes with more than one link that were counted already: an open hash that doubles. */
struct inode_set {
	uint64_t *slots;
	size_t cap, n;
};

static int inode_set_add(struct inode_set *s, uint64_t ino)
{
	size_t i;

	if (s->n * 2 >= s->cap) {
		struct inode_set big = { .cap = s->cap ? s->cap * 2 : 1024 };

		big.slots = calloc(big.cap, sizeof(*big.slots));
		if (!big.slots)
			return -ENOMEM;
		for (size_t k = 0; k < s->cap; k++)
			if (s->slots[k])
				inode_set_add(&big, s->slots[k]);
		free(s->slots);
		*s = big;
	}
	for (i = (ino * 0x9E3779B97F4A7C15ull >> 20) & (s->cap - 1); s->slots[i]; i = (i + 1) & (s->cap - 1))
		if (s->slots[i] == ino)
			return 0;
	s->slots[i] = ino;
	s->n++;
	return 1;
}

int folder_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e)
{
	char *const roots[] = { (char *)path, NULL };
	FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	struct inode_set seen = { 0 };
	uint64_t bytes = 0, files = 0;
	int r = 0;
	FTSENT *t;

	if (!f)
		return err_sys(e, -errno, "cannot read %s", path);
	while (r >= 0 && (errno = 0, t = fts_read(f))) {
		if (t->fts_info == FTS_DP)
			continue;
		if (t->fts_info == FTS_ERR || t->fts_info == FTS_DNR || t->fts_info == FTS_NS) {
			/* A file that goes away while a running container is counted is nothing wrong. */
			if (t->fts_errno != ENOENT || t->fts_level == FTS_ROOTLEVEL)
				r = err_sys(e, -t->fts_errno, "cannot read %s", t->fts_path);
			continue;
		}
		files++;
		if (t->fts_info != FTS_D && t->fts_statp->st_nlink > 1) {
			r = inode_set_add(&seen, t->fts_statp->st_ino);
			if (r < 0)
				err_sys(e, r, "%s", path);
			if (r <= 0)
				continue;
		}
		bytes += (uint64_t)t->fts_statp->st_blocks * 512;
	}
	if (r >= 0 && !t && errno)
		r = err_sys(e, -errno, "cannot read %s", path);
	free(seen.slots);
	fts_close(f);
	if (r < 0)
		return r;
	*ret_bytes = bytes;
	*ret_files = files;
	return 0;
}

/* dir - a pool that is a folder, volumes that are folders in it.  No quota: limits on a volume's size are
 * refused where they are asked for (api), space is that of the file system below. */
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "storage/driver.h"
#include "storage/folder.h"

#ifndef FS_TOPDIR_FL
#define FS_TOPDIR_FL 0x00020000
#endif

/* Volumes have nothing to do with each other: ext4 spreads the subfolders of a folder with this flag over the
 * disk.  Else all of them lie in the same few block groups, and a container that comes back soon after it has
 * moved away finds those full of inodes that were just freed: without a journal, ext4 does not use such again
 * for a minute or five, and walks past each of them for each new file (measured: 2 s became 8 s and more). */
static void spread(const char *containers)
{
	auto_fd int fd = open(containers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags;

	if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_TOPDIR_FL)) {
		flags |= FS_TOPDIR_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

static int dir_open(struct pool *p, struct err *e)
{
	auto_free char *containers = NULL;
	int r;

	if (asprintf(&containers, "%s/containers", p->path) < 0)
		return err_sys(e, -ENOMEM, "pool %s", p->name);
	r = folder_make(containers, 0711, e);
	if (r == 0)
		spread(containers);
	return r;
}

static int dir_space(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e)
{
	struct statvfs st;

	if (statvfs(p->path, &st) < 0)
		return err_sys(e, -errno, "cannot ask %s for its free space", p->path);
	*ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	/* File systems without a fixed number of inodes (btrfs) say 0 of 0. */
	*ret_files = st.f_files ? st.f_favail : UINT64_MAX;
	return 0;
}

/* What a creation left that was killed between the two steps below. */
static void births_remove(const char *pattern)
{
	glob_t g = { 0 };

	if (glob(pattern, GLOB_PERIOD, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			rmdir(g.gl_pathv[i]);
	globfree(&g);
}

/* ext4 chooses the place by the name it is made with: the volume of a container that comes back is not to lie
 * where the one lay that went away. */
static int folder_bear(const char *path, struct err *e)
{
	const char *name = strrchr(path, '/') + 1;
	auto_free char *birth = NULL, *old = NULL;
	int n = (int)(name - path);

	if (asprintf(&old, "%.*s.new-%s-??????", n, path, name) < 0)
		return err_sys(e, -ENOMEM, "%s", path);
	births_remove(old);
	if (asprintf(&birth, "%.*s.new-%s-XXXXXX", n, path, name) < 0)
		return err_sys(e, -ENOMEM, "%s", path);
	if (!mkdtemp(birth))
		return err_sys(e, -errno, "cannot make the volume %s", path);
	if (renameat2(AT_FDCWD, birth, AT_FDCWD, path, RENAME_NOREPLACE) < 0) {
		int r = err_sys(e, -errno, "cannot make the volume %s", path);

		rmdir(birth);
		return r;
	}
	return 0;
}

static int dir_volume_create(struct pool *p, const char *path, uid_t owner, struct err *e)
{
	auto_free char *rootfs = NULL;
	int q;

	if (asprintf(&rootfs, "%s/rootfs", path) < 0)
		return err_sys(e, -ENOMEM, "%s", path);
	q = folder_bear(path, e);
	if (q < 0)
		return q;
	if (mkdir(rootfs, 0755) < 0 || chmod(rootfs, 0755) < 0 || lchown(rootfs, owner, owner) < 0 ||
	    lchown(path, owner, owner) < 0) {
		int r = err_sys(e, -errno, "cannot make the volume %s", path);

		folder_remove(path, NULL);
		return r;
	}
	return 0;
}

static int dir_volume_delete(struct pool *p, const char *path, struct err *e)
{
	return folder_remove(path, e);
}

static int dir_volume_usage(struct pool *p, const char *path, uint64_t *ret_bytes, uint64_t *ret_files,
			    struct err *e)
{
	return folder_usage(path, ret_bytes, ret_files, e);
}

/* Folders share their file system: there is nothing smaller that covers names and contents. */
static int dir_volume_sync(int fd)
{
	return syncfs(fd) < 0 ? -errno : 0;
}

const struct storage_driver storage_dir = {
	.name = "dir",
	.open = dir_open,
	.space = dir_space,
	.volume_create = dir_volume_create,
	.volume_delete = dir_volume_delete,
	.volume_usage = dir_volume_usage,
	.volume_sync = dir_volume_sync,
};

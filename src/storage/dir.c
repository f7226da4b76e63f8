/* dir - a pool that is a folder, volumes that are folders in it.  No quota: limits on a volume's size are
 * refused where they are asked for (api), space is that of the file system below. */
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/driver.h"
#include "storage/folder.h"

static int dir_open(struct pool *p, struct err *e)
{
	auto_free char *containers = NULL;

	if (asprintf(&containers, "%s/containers", p->path) < 0)
		return err_sys(e, -ENOMEM, "pool %s", p->name);
	return folder_make(containers, 0711, e);
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

static int dir_volume_create(struct pool *p, const char *path, uid_t owner, struct err *e)
{
	auto_free char *rootfs = NULL;

	if (asprintf(&rootfs, "%s/rootfs", path) < 0)
		return err_sys(e, -ENOMEM, "%s", path);
	if (mkdir(path, 0700) < 0)
		return err_sys(e, -errno, "cannot make the volume %s", path);
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

const struct storage_driver storage_dir = {
	.name = "dir",
	.open = dir_open,
	.space = dir_space,
	.volume_create = dir_volume_create,
	.volume_delete = dir_volume_delete,
	.volume_usage = dir_volume_usage,
};

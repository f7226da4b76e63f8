/* mounts - the mounts of the container, and the content of every tmpfs.
 *
 * Read: /proc/PID/mountinfo of the init (all tasks share its namespace: same.c); the content of
 * each tmpfs by tree_dump.  Put back: mounts_restore.c.  Refused by name: fuse, nfs, autofs,
 * overlay below the root, and what else can be neither adopted nor made.  Not covered: content of a
 * tmpfs that another mount hides completely (its files cannot be reached), peer groups beyond
 * "shared or not". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/mounts.h"
#include "cr/ns/ns.h"
#include "mnt.pb-c.h"

static int check(struct dump *d, struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mnts all = { 0 };
	int r;

	if (proc_fd < 0)
		return err_sys(e, -errno, "opening /proc");
	r = mnts_read(proc_fd, d->root_pid, &all, e);
	if (r >= 0 && !mnts_top(&all))
		r = err_set(e, -EPROTO, "the container has no root mount");
	for (size_t i = 0; i < all.n && r >= 0; i++) {
		auto_buf where = BUF_INIT;

		if (mnt_way(&all, &all.list[i]) != MNT_REFUSE)
			continue;
		r = buf_addf(&where, "mount %s", all.list[i].path);
		if (r >= 0)
			r = refusals_add(
				&d->refusals, 0, where.data, all.list[i].fstype,
				"mounts of this type cannot be carried yet; unmount it first");
		if (r < 0)
			err_sys(e, r, "checking mounts");
	}
	mnts_done(&all);
	return r;
}

/* The options of the file system, with ids as the container counts; without those of a tmpfs that
 * its root folder shows. */
static int options_make(const struct mnt *m, const struct ids *ids, struct buf *b)
{
	bool tmpfs = mnt_is_tmpfs(m);
	int r = buf_adds(b, "");

	for (const char *p = m->sopts; *p && r >= 0;) {
		size_t len = strcspn(p, ",");
		bool skip = (len == 2 && (!strncmp(p, "rw", 2) || !strncmp(p, "ro", 2))) ||
			    (tmpfs && (str_starts(p, "uid=") || str_starts(p, "gid=") ||
				       str_starts(p, "mode=") || str_starts(p, "inode"))) ||
			    str_starts(p, "seclabel");

		if (!skip && b->len)
			r = buf_adds(b, ",");
		if (!skip && r >= 0 && (str_starts(p, "gid=") || str_starts(p, "uid=")))
			r = buf_addf(b, "%.4s%u", p,
				     id_inside(p[0] == 'g' ? &ids->gid : &ids->uid,
					       (uint32_t)strtoul(p + 4, NULL, 10)));
		else if (!skip && r >= 0)
			r = buf_add(b, p, len);
		p += len + (p[len] == ',');
	}
	return r;
}

static int mount_put(struct dump *d, const struct mnts *all, const struct mnt *m,
		     const struct ids *ids, struct err *e)
{
	auto_free char *source = mnt_bind_source(all, m);
	auto_buf options = BUF_INIT;
	MntEntry x = MNT_ENTRY__INIT;

	if (!source || options_make(m, ids, &options) < 0)
		return err_sys(e, -ENOMEM, "mounts");
	x.fstype = FSTYPE__AUTO;
	x.mnt_id = (uint32_t)m->id;
	x.root_dev = m->major << 20 | m->minor;
	x.parent_mnt_id = (uint32_t)m->parent;
	x.flags = (uint32_t)mnt_flags(m->opts);
	x.root = m->root;
	x.mountpoint = m->path;
	x.source = m->source;
	x.options = options.data;
	x.has_shared_id = x.has_master_id = true;
	x.shared_id = (uint32_t)m->shared;
	x.master_id = (uint32_t)m->master;
	x.fsname = m->fstype;
	if (mnt_way(all, m) == MNT_BIND)
		x.ext_key = source;
	return sink_put(d->sink, REC_MOUNTPOINTS, x.mnt_id, &x.base, e);
}

static int tmpfs_put(struct dump *d, const struct mnt *m, const struct ids *ids, struct err *e)
{
	auto_fd int dir = fd_open_in_root(d->root_fd, m->path, O_RDONLY | O_DIRECTORY, 0);
	struct statx st;
	int r;

	if (dir < 0)
		return err_sys(e, dir, "opening %s", m->path);
	if (statx(dir, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0)
		return err_sys(e, -errno, "%s", m->path);
	if ((int)st.stx_mnt_id != m->id)
		return 0; /* hidden by another mount */
	r = tree_dump(d, (uint32_t)m->id, dir, ids, e);
	return r < 0 ? err_context(e, r, "content of %s", m->path) : 0;
}

static int frozen(struct dump *d, struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	struct mnts all = { 0 };
	int r;

	if (!ids || proc_fd < 0)
		return err_sys(e, ids ? -errno : -ENOMEM, "mounts");
	r = ids_load(proc_fd, d->root_pid, ids, e);
	if (r >= 0)
		r = mnts_read(proc_fd, d->root_pid, &all, e);
	for (size_t i = 0; i < all.n && r >= 0; i++) {
		const struct mnt *m = &all.list[i];

		r = mount_put(d, &all, m, ids, e);
		if (r >= 0 && mnt_is_tmpfs(m) && mnt_way(&all, m) == MNT_MAKE)
			r = tmpfs_put(d, m, ids, e);
	}
	mnts_done(&all);
	return r;
}

const struct cr_part cr_part_mounts = {
	.name = "mounts", .ns = CLONE_NEWNS, .check = check, .frozen = frozen, .build = mounts_build
};

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
#include "cr/ns/outside.h"
#include "mnt.pb-c.h"

/* ---- from outside, in a checkpoint ---- */

/* The path by which we reach what this mount shows, from one of our own mounts of the same file system; malloc'd,
 * NULL: none. */
static char *outside_path(const struct mnts *ours, const struct mnt *m)
{
	for (size_t i = ours->n; i-- > 0;) {
		const struct mnt *o = &ours->list[i];
		size_t n = strlen(o->root) > 1 ? strlen(o->root) : 0;
		struct statx st;
		char *path;

		if (o->major != m->major || o->minor != m->minor || strncmp(o->root, m->root, n) != 0 ||
		    (n && m->root[n] != '/' && m->root[n]))
			continue;
		if (asprintf(&path, "%s%s", o->path[1] ? o->path : "", m->root[n] ? m->root + n : "/") < 0)
			return NULL;
		/* Not one that something else covers. */
		if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) == 0 &&
		    st.stx_dev_major == m->major && st.stx_dev_minor == m->minor)
			return path;
		free(path);
	}
	return NULL;
}

static bool is_ours(const struct mnts *ours, const struct mnt *m)
{
	for (size_t i = 0; i < ours->n; i++) {
		const struct mnt *o = &ours->list[i];

		if (o->major == m->major && o->minor == m->minor && strcmp(o->root, m->root) == 0 &&
		    strcmp(o->path, m->path) == 0)
			return true;
	}
	return false;
}

/* These show the state of a namespace, which the tree may share: mounted anew they are the same. */
static bool is_view(const struct mnt *m)
{
	return strcmp(m->fstype, "proc") == 0 || strcmp(m->fstype, "sysfs") == 0 || strcmp(m->fstype, "mqueue") == 0;
}

/* As mnt_way; but a file system that is mounted on the host as well is the host's: not to be made, and its content
 * not to be taken. */
static enum mnt_way way_alone(const struct mnts *all, const struct mnts *ours, const struct mnt *m)
{
	enum mnt_way way = mnt_way(all, m);

	if ((way != MNT_MAKE && way != MNT_OPTIONAL) || is_view(m))
		return way;
	for (size_t i = 0; i < ours->n; i++)
		if (ours->list[i].major == m->major && ours->list[i].minor == m->minor)
			return MNT_ADOPT;
	return way;
}

/* Is it given from outside, and as what?  1: *ret is its key in the record (malloc'd); 0: no. */
static int outside_key(const struct dump *d, const struct mnts *all, const struct mnts *ours, const struct mnt *m,
		       char **ret)
{
	const char *name = outside_mount_name(d->opts, m->path);
	auto_free char *found = NULL;
	enum mnt_way way;

	*ret = NULL;
	if (!d->opts || m == mnts_top(all))
		return 0;
	if (name) {
		*ret = strdup(name);
		return *ret ? 1 : -ENOMEM;
	}
	way = way_alone(all, ours, m);
	if (way != MNT_ADOPT && way != MNT_REFUSE)
		return 0;
	/* What is ours at the same place needs no looking for: a restore without a root of its own has it. */
	if (is_ours(ours, m))
		found = strdup(m->path);
	else if (outside_mount_auto(d->opts))
		found = outside_path(ours, m);
	if (!found)
		return 0;
	if (asprintf(ret, MNT_AUTO "%s", found) < 0)
		*ret = NULL;
	return *ret ? 1 : -ENOMEM;
}

static int mount_refuse(struct dump *d, const struct mnt *m, const char *why)
{
	auto_buf where = BUF_INIT;
	int r = buf_addf(&where, "mount %s", m->path);

	return r < 0 ? r : refusals_add(&d->refusals, 0, where.data, m->fstype, "%s", why);
}

/* Of a checkpoint: what cannot be made has to be given at the restore, so it needs a name now. */
static int mount_check(struct dump *d, const struct mnts *all, const struct mnts *ours, const struct mnt *m)
{
	auto_free char *key = NULL;
	enum mnt_way way = way_alone(all, ours, m);
	int r = outside_key(d, all, ours, m, &key);

	if (r != 0)
		return r < 0 ? r : 0;
	if (way == MNT_REFUSE)
		return mount_refuse(d, m, "mounts of this type cannot be carried yet; unmount it first");
	if (way == MNT_ADOPT && d->opts && m != mnts_top(all))
		return mount_refuse(d, m, "it comes from outside of the container, where a restore cannot look for it: name "
					  "it (--external mnt[MOUNTPOINT]:NAME), or have it looked for (--external "
					  "mnt[], --ext-mount-map auto)");
	return 0;
}

static int check(struct dump *d, struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mnts all = { 0 }, ours = { 0 };
	int r;

	if (proc_fd < 0)
		return err_sys(e, -errno, "opening /proc");
	r = mnts_read(proc_fd, d->root_pid, &all, e);
	if (r >= 0 && d->opts)
		r = mnts_read(proc_fd, getpid(), &ours, e);
	if (r >= 0 && !mnts_top(&all))
		r = err_set(e, -EPROTO, "the container has no root mount");
	for (size_t i = 0; i < all.n && r >= 0; i++) {
		r = mount_check(d, &all, &ours, &all.list[i]);
		if (r < 0)
			err_sys(e, r, "checking mounts");
	}
	mnts_done(&all);
	mnts_done(&ours);
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

static int mount_put(struct dump *d, const struct mnts *all, const struct mnts *ours, const struct mnt *m,
		     const struct ids *ids, bool *ret_outside, struct err *e)
{
	auto_free char *source = mnt_bind_source(all, m), *key = NULL;
	int outside = outside_key(d, all, ours, m, &key);
	auto_buf options = BUF_INIT;
	MntEntry x = MNT_ENTRY__INIT;

	*ret_outside = outside > 0;
	if (outside < 0 || !source || options_make(m, ids, &options) < 0)
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
	if (outside) {
		x.has_ext_mount = x.ext_mount = true;
		x.ext_key = key;
	} else if (mnt_way(all, m) == MNT_BIND) {
		x.ext_key = source;
	}
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
	struct mnts all = { 0 }, ours = { 0 };
	bool outside;
	int r;

	if (!ids || proc_fd < 0)
		return err_sys(e, ids ? -errno : -ENOMEM, "mounts");
	r = ids_load(proc_fd, d->root_pid, ids, e);
	if (r >= 0)
		r = mnts_read(proc_fd, d->root_pid, &all, e);
	if (r >= 0 && d->opts)
		r = mnts_read(proc_fd, getpid(), &ours, e);
	for (size_t i = 0; i < all.n && r >= 0; i++) {
		const struct mnt *m = &all.list[i];

		r = mount_put(d, &all, &ours, m, ids, &outside, e);
		if (r >= 0 && !outside && mnt_is_tmpfs(m) && mnt_way(&all, m) == MNT_MAKE)
			r = tmpfs_put(d, m, ids, e);
	}
	mnts_done(&all);
	mnts_done(&ours);
	return r;
}

const struct cr_part cr_part_mounts = {
	.name = "mounts", .ns = CLONE_NEWNS, .check = check, .frozen = frozen, .build = mounts_build,
	.restore_done = mounts_restore_done
};

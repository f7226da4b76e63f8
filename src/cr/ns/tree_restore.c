/* tree_restore - the content of a tmpfs from records (tree_dump.c).
 *
 * What the records do not name is removed, but for mount points; what they name is made anew, or
 * kept where it is the same kind of node.  Times come last, folders after what is in them. The
 * records are not trusted: paths are opened beneath the mount's root. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/mounts.h"

#define DEPTH_MAX 200

struct put {
	struct restore *r;
	int dir;
	const struct ids *ids;
	const GwTreeEntry *
		*list; /* entries with a mode, in their order: hardlink_of counts them from 1 */
	char **paths;
	size_t n, cap, cap_paths;
	struct err *e;
};

static int path_check(const GwTreeEntry *m, char **ret, struct err *e)
{
	const char *p = (const char *)m->path.data;
	size_t len = m->path.len;

	if (!m->has_path || len >= PATH_MAX || memchr(p ? p : "", 0, len) || (len && p[0] == '/'))
		return err_set(e, -EPROTO, "the image has an impossible path in a tmpfs");
	*ret = strndup(p ? p : "", len);
	if (!*ret)
		return err_sys(e, -ENOMEM, "content of a tmpfs");
	for (const char *c = *ret; *c;) {
		size_t n = strcspn(c, "/");

		if (n == 0 || (n == 1 && c[0] == '.') || (n == 2 && strncmp(c, "..", 2) == 0))
			return err_set(e, -EPROTO, "the image has an impossible path in a tmpfs");
		c += n + (c[n] == '/');
	}
	return 0;
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ---- removing what is not in the records ---- */

static bool is_mount_point(int dir, const char *name)
{
	struct statx st;

	return statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) ==
		       0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Everything below dir but for mount points and `keep` (sorted; NULL: nothing).  1: something
 * stayed. */
static int sweep(int dir, char *path, char *const *keep, size_t n, unsigned depth)
{
	size_t len = strlen(path);
	int fd = dup(dir), stayed = 0;
	struct dirent *de;
	DIR *list;

	if (fd < 0 || depth > DEPTH_MAX) {
		fd_close(&fd);
		return -ELOOP;
	}
	lseek(fd, 0, SEEK_SET);
	list = fdopendir(fd);
	if (!list) {
		fd_close(&fd);
		return -errno;
	}
	while (stayed >= 0 && (de = readdir(list))) {
		auto_fd int sub = -1;
		int kept, r = 0;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (snprintf(path + len, PATH_MAX - len, "%s%s", len ? "/" : "", de->d_name) >=
		    (int)(PATH_MAX - len)) {
			stayed = -ENAMETOOLONG;
			break;
		}
		kept = bsearch(&path, keep, n, sizeof(*keep), name_cmp) != NULL;
		if (is_mount_point(dir, de->d_name)) {
			stayed = 1;
		} else {
			sub = openat(dir, de->d_name,
				     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sub >= 0)
				r = sweep(sub, path, keep, n, depth + 1);
			if (r < 0)
				stayed = r;
			else if (kept || r == 1)
				stayed = 1;
			else if (unlinkat(dir, de->d_name, sub >= 0 ? AT_REMOVEDIR : 0) < 0 &&
				 errno != ENOENT)
				stayed = -errno;
		}
		path[len] = 0;
	}
	closedir(list);
	return stayed;
}

/* ---- making ---- */

/* The folder of path, and its last name. */
static int parent_open(struct put *p, char *path, const char **ret_name)
{
	char *slash = strrchr(path, '/');
	int fd;

	if (!slash) {
		*ret_name = path;
		return fcntl(p->dir, F_DUPFD_CLOEXEC, 0);
	}
	*slash = 0;
	fd = fd_open_beneath(p->dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	*slash = '/';
	*ret_name = slash + 1;
	return fd;
}

static int node_make(struct put *p, const GwTreeEntry *m, int dir, const char *name)
{
	auto_free char *target = NULL;
	mode_t type = m->mode & S_IFMT;
	dev_t dev = 0;

	switch (type) {
	case S_IFDIR:
		return mkdirat(dir, name, 0700) < 0 ? -errno : 0;
	case S_IFLNK:
		if (!m->has_target || !m->target.len || m->target.len >= PATH_MAX)
			return -EPROTO;
		target = strndup((const char *)m->target.data, m->target.len);
		if (!target)
			return -ENOMEM;
		return symlinkat(target, dir, name) < 0 ? -errno : 0;
	case S_IFCHR:
	case S_IFBLK:
		dev = makedev((unsigned)(m->rdev >> 32), (unsigned)m->rdev);
		/* A right of the target's configuration: a container with ids of its own has none
		 * to make device nodes, whatever its image says. */
		if (p->r->user_ns)
			return -EPERM;
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		return -EPROTO;
	}
	return mknodat(dir, name, type | 0600, dev) < 0 ? -errno : 0;
}

/* A file stays too, so that a mount of the target that shows it goes on doing so. */
static bool node_fits(const GwTreeEntry *m, const struct stat *st)
{
	if ((st->st_mode & S_IFMT) != (m->mode & S_IFMT))
		return false;
	if (S_ISDIR(st->st_mode))
		return true;
	if (S_ISREG(st->st_mode))
		return st->st_nlink == 1;
	return (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) &&
	       st->st_rdev == makedev((unsigned)(m->rdev >> 32), (unsigned)m->rdev);
}

/* Keeps what is already there and of the same kind.  1: something is mounted there. */
static int node_have(struct put *p, const GwTreeEntry *m, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (is_mount_point(dir, name))
			return 1;
		if (node_fits(m, &st))
			return 0;
		if (unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
			return -errno;
	}
	return node_make(p, m, dir, name);
}

static int extents_write(int fd, const GwTreeEntry *m)
{
	for (size_t i = 0; i < m->n_extents; i++) {
		const GwExtent *x = m->extents[i];
		size_t done = 0;

		if (x->offset > INT64_MAX - x->data.len)
			return -EPROTO;
		while (done < x->data.len) {
			ssize_t n = pwrite(fd, x->data.data + done, x->data.len - done,
					   (off_t)(x->offset + done));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n < 0 ? -errno : -EIO;
			done += (size_t)n;
		}
	}
	return 0;
}

static int attributes_set(struct put *p, const GwTreeEntry *m, int dir, const char *name)
{
	uint32_t uid = id_outside(&p->ids->uid, m->uid), gid = id_outside(&p->ids->gid, m->gid);
	auto_fd int fd = *name ? openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
			       : fcntl(dir, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (uid == UINT32_MAX || gid == UINT32_MAX)
		return -ERANGE;
	/* What was hidden by a mount has no owner in the records: root's. */
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (S_ISLNK(m->mode))
		return 0;
	/* chmod follows links; this is none.  After the owner: chown takes set-id bits away. */
	if (fchmodat(dir, *name ? name : ".", m->mode & 07777, 0) < 0)
		return -errno;
	return 0;
}

static int xattrs_set(struct put *p, const GwTreeEntry *m, int dir, const char *name)
{
	auto_fd int fd = -1;

	if (!m->n_xattrs || !(S_ISREG(m->mode) || S_ISDIR(m->mode)))
		return 0;
	fd = openat(dir, *name ? name : ".", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < m->n_xattrs; i++)
		if (!m->xattrs[i]->name ||
		    fsetxattr(fd, m->xattrs[i]->name, m->xattrs[i]->value.data,
			      m->xattrs[i]->value.len, 0) < 0)
			return -errno;
	return 0;
}

static int times_set(const GwTreeEntry *m, int dir, const char *name)
{
	struct timespec ts[2] = {
		{ (time_t)(m->atime_ns / 1000000000u), (long)(m->atime_ns % 1000000000u) },
		{ (time_t)(m->mtime_ns / 1000000000u), (long)(m->mtime_ns % 1000000000u) }
	};

	if (!m->has_mtime_ns)
		return 0;
	return utimensat(dir, *name ? name : ".", ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int content_set(const GwTreeEntry *m, int dir, const char *name)
{
	auto_fd int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPROTO;
	if (m->has_mode && ftruncate(fd, 0) < 0) /* the first record of a file that was there */
		return -errno;
	r = extents_write(fd, m);
	if (r >= 0 && m->has_size && ((int64_t)m->size < 0 || ftruncate(fd, (off_t)m->size) < 0))
		r = (int64_t)m->size < 0 ? -EPROTO : -errno;
	return r;
}

static int hard_link(struct put *p, const GwTreeEntry *m, int dir, const char *name)
{
	const char *from_name;
	auto_fd int from = -1;

	if (m->hardlink_of == 0 || m->hardlink_of > p->n || p->list[m->hardlink_of - 1] == m)
		return -EPROTO;
	from = parent_open(p, p->paths[m->hardlink_of - 1], &from_name);
	if (from < 0)
		return from;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return linkat(from, from_name, dir, name, 0) < 0 ? -errno : 0;
}

static int entry_make(struct put *p, size_t i)
{
	const GwTreeEntry *m = p->list[i];
	const char *name;
	auto_fd int dir = parent_open(p, p->paths[i], &name);
	int r = 0;

	if (dir < 0)
		return dir;
	if (!*name)
		return attributes_set(p, m, dir, name);
	if (m->has_hardlink_of)
		return hard_link(p, m, dir, name);
	r = node_have(p, m, dir, name);
	if (r == 1) /* something is mounted there, whose attributes are its own */
		return 0;
	if (r >= 0)
		r = attributes_set(p, m, dir, name);
	if (r >= 0)
		r = xattrs_set(p, m, dir, name);
	if (r >= 0 && S_ISREG(m->mode))
		r = content_set(m, dir, name);
	return r;
}

static int entry_times(struct put *p, size_t i)
{
	const char *name;
	auto_fd int dir = parent_open(p, p->paths[i], &name);

	if (dir < 0)
		return dir;
	if (*name && is_mount_point(dir, name))
		return 0;
	return times_set(p->list[i], dir, name);
}

/* The rest of a large file. */
static int more_write(struct put *p, const GwTreeEntry *m)
{
	auto_free char *path = NULL;
	const char *name;
	auto_fd int dir = -1;
	int r = path_check(m, &path, p->e);

	if (r < 0)
		return r;
	dir = parent_open(p, path, &name);
	return dir < 0 ? dir : content_set(m, dir, name);
}

static int list_build(struct put *p, uint32_t id)
{
	const struct record *rec;
	size_t pos = 0;

	while ((rec = image_find(p->r->image, REC_GW_TREE_ENTRY, id, &pos))) {
		const GwTreeEntry *m = (const GwTreeEntry *)rec->msg;
		int r;

		if (!m->has_mode)
			continue;
		if (array_grow(p->list, p->n, p->cap) < 0 ||
		    array_grow(p->paths, p->n, p->cap_paths) < 0)
			return err_sys(p->e, -ENOMEM, "content of a tmpfs");
		p->paths[p->n] = NULL;
		p->list[p->n] = m;
		r = path_check(m, &p->paths[p->n++], p->e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int old_remove(struct put *p)
{
	auto_free char **sorted = calloc(p->n + 1, sizeof(*sorted));
	auto_free char *path = calloc(1, PATH_MAX);
	int r;

	if (!sorted || !path)
		return -ENOMEM;
	memcpy(sorted, p->paths, p->n * sizeof(*sorted));
	qsort(sorted, p->n, sizeof(*sorted), name_cmp);
	r = sweep(p->dir, path, sorted, p->n, 0);
	return r < 0 ? r : 0;
}

static int all_put(struct put *p, uint32_t id)
{
	const struct record *rec;
	size_t pos = 0;
	int r = list_build(p, id);

	if (r < 0)
		return r;
	r = old_remove(p);
	if (r < 0)
		return err_sys(p->e, r, "clearing a tmpfs");
	for (size_t i = 0; i < p->n; i++) {
		r = entry_make(p, i);
		if (r < 0)
			return err_sys(p->e, r, "making %s in a tmpfs", p->paths[i]);
	}
	while ((rec = image_find(p->r->image, REC_GW_TREE_ENTRY, id, &pos))) {
		const GwTreeEntry *m = (const GwTreeEntry *)rec->msg;

		r = m->has_mode ? 0 : more_write(p, m);
		if (r < 0)
			return err_sys(p->e, r, "writing a file in a tmpfs");
	}
	for (size_t i = p->n; i-- > 0;) {
		r = entry_times(p, i);
		if (r < 0)
			return err_sys(p->e, r, "times of %s in a tmpfs", p->paths[i]);
	}
	return 0;
}

int tree_restore(struct restore *r, uint32_t id, int dir, const struct ids *ids, struct err *e)
{
	struct put p = { .r = r, .dir = dir, .ids = ids, .e = e };
	int x = ids_fs_enter(ids, e);

	if (x < 0)
		return x;
	x = all_put(&p, id);
	ids_fs_leave();
	for (size_t i = 0; i < p.n; i++)
		free(p.paths[i]);
	free(p.paths);
	free(p.list);
	return x;
}

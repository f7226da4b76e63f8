/* tree_dump - the content of a tmpfs as records.
 *
 * Read: everything below the mount's root by descriptors (the tree is frozen): folders, regular
 * files with their holes, symbolic links, fifos, sockets as nodes, devices, hard links, extended
 * attributes, owners, modes, times.  What other mounts cover is not seen: a mount point is recorded
 * as an empty folder or file.  Not covered: inode flags (chattr), quotas. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/mounts.h"

#define EXTENT_MAX (1u << 20)
#define ENTRY_MAX (8u << 20) /* of content in one record; more follows in further ones */
#define ENTRIES_MAX 1000000u
#define DEPTH_MAX 200
#define XATTR_MAX 65536

struct walk {
	struct dump *d;
	uint32_t id;
	const struct ids *ids;
	struct err *e;
	uint64_t count;
	struct link {
		ino_t ino;
		uint64_t index;
	} * links; /* inodes with several names */
	size_t n_links, cap_links;
	char path[PATH_MAX];
};

static uint64_t ns_of(struct statx_timestamp t)
{
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static int put(struct walk *w, GwTreeEntry *m)
{
	m->has_path = true;
	m->path.data = (uint8_t *)w->path;
	m->path.len = strlen(w->path);
	return sink_put(w->d->sink, REC_GW_TREE_ENTRY, w->id, &m->base, w->e);
}

/* ---- extended attributes ---- */

static int xattrs_read(struct walk *w, int fd, GwTreeEntry *m)
{
	auto_free char *names = NULL;
	ssize_t len;
	char proc[40];
	size_t cap = 0;

	/* The descriptor is O_PATH: through its link. */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	len = listxattr(proc, NULL, 0);
	if (len == 0 || (len < 0 && (errno == EOPNOTSUPP || errno == ENOENT)))
		return 0;
	names = len > 0 && len <= XATTR_MAX ? malloc((size_t)len + 1) : NULL;
	len = names ? listxattr(proc, names, (size_t)len) : -1;
	if (len < 0)
		return err_sys(w->e, errno ? -errno : -EIO, "attributes of %s", w->path);
	for (char *p = names; p < names + len; p += strlen(p) + 1) {
		GwXattr *x = calloc(1, sizeof(*x));
		ssize_t n = getxattr(proc, p, NULL, 0);

		if (!x || array_grow(m->xattrs, m->n_xattrs, cap) < 0) {
			free(x);
			return err_sys(w->e, -ENOMEM, "attributes");
		}
		gw_xattr__init(x);
		m->xattrs[m->n_xattrs++] = x;
		x->name = strdup(p);
		x->value.data = n >= 0 ? malloc((size_t)n + 1) : NULL;
		n = x->value.data ? getxattr(proc, p, x->value.data, (size_t)n) : -1;
		if (n < 0 || !x->name)
			return err_sys(w->e, -EIO, "attribute %s of %s", p, w->path);
		x->has_value = true;
		x->value.len = (size_t)n;
	}
	return 0;
}

static void entry_clear(GwTreeEntry *m)
{
	for (size_t i = 0; i < m->n_xattrs; i++) {
		free(m->xattrs[i]->name);
		free(m->xattrs[i]->value.data);
		free(m->xattrs[i]);
	}
	free(m->xattrs);
	for (size_t i = 0; i < m->n_extents; i++) {
		free(m->extents[i]->data.data);
		free(m->extents[i]);
	}
	free(m->extents);
	m->xattrs = NULL;
	m->extents = NULL;
	m->n_xattrs = m->n_extents = 0;
}

/* ---- content ---- */

static int extent_read(struct walk *w, int fd, GwTreeEntry *m, size_t *cap, off_t at, size_t len)
{
	GwExtent *x = calloc(1, sizeof(*x));
	ssize_t n;

	if (!x || array_grow(m->extents, m->n_extents, *cap) < 0) {
		free(x);
		return err_sys(w->e, -ENOMEM, "content of %s", w->path);
	}
	gw_extent__init(x);
	m->extents[m->n_extents++] = x;
	x->has_offset = x->has_data = true;
	x->offset = (uint64_t)at;
	x->data.data = malloc(len);
	if (!x->data.data)
		return err_sys(w->e, -ENOMEM, "content of %s", w->path);
	n = pread(fd, x->data.data, len, at);
	if (n != (ssize_t)len)
		return err_sys(w->e, n < 0 ? -errno : -EIO, "reading %s", w->path);
	x->data.len = len;
	return 0;
}

/* The first record has the attributes and the first part of the content; those behind it, with the
 * same path and no mode, the rest. */
static int content_put(struct walk *w, int dir, const char *name, GwTreeEntry *m, off_t size)
{
	auto_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	off_t at = 0, end;
	size_t cap = 0, held = 0;
	int r = 0;

	if (fd < 0)
		return err_sys(w->e, -errno, "opening %s", w->path);
	while (r >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < size) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			return err_sys(w->e, -errno, "reading %s", w->path);
		for (; at < end && r >= 0; at += EXTENT_MAX) {
			size_t len = end - at < EXTENT_MAX ? (size_t)(end - at) : EXTENT_MAX;

			r = extent_read(w, fd, m, &cap, at, len);
			held += len;
			if (r >= 0 && held >= ENTRY_MAX) {
				r = put(w, m);
				entry_clear(m);
				*m = (GwTreeEntry)GW_TREE_ENTRY__INIT;
				cap = held = 0;
			}
		}
		at = end;
	}
	if (r >= 0 && (m->has_mode || m->n_extents))
		r = put(w, m);
	return r;
}

/* ---- the walk ---- */

static int folder(struct walk *w, int dir, unsigned depth);

static void attributes_fill(struct walk *w, const struct statx *st, GwTreeEntry *m)
{
	m->has_mode = m->has_uid = m->has_gid = m->has_size = m->has_atime_ns = m->has_mtime_ns =
		m->has_ino = true;
	m->mode = st->stx_mode;
	m->uid = id_inside(&w->ids->uid, st->stx_uid);
	m->gid = id_inside(&w->ids->gid, st->stx_gid);
	m->size = st->stx_size;
	m->atime_ns = ns_of(st->stx_atime);
	m->mtime_ns = ns_of(st->stx_mtime);
	m->ino = st->stx_ino;
	if (S_ISCHR(st->stx_mode) || S_ISBLK(st->stx_mode)) {
		m->has_rdev = true;
		m->rdev = (uint64_t)st->stx_rdev_major << 32 | st->stx_rdev_minor;
	}
}

/* 1: an entry for the same inode was written before, as index *ret. */
static int link_seen(struct walk *w, const struct statx *st, uint64_t *ret)
{
	for (size_t i = 0; i < w->n_links; i++) {
		if (w->links[i].ino == st->stx_ino) {
			*ret = w->links[i].index;
			return 1;
		}
	}
	if (array_grow(w->links, w->n_links, w->cap_links) < 0)
		return err_sys(w->e, -ENOMEM, "hard links");
	w->links[w->n_links++] = (struct link){ st->stx_ino, w->count };
	return 0;
}

static int body_put(struct walk *w, int dir, const char *name, const struct statx *st,
		    GwTreeEntry *m)
{
	auto_fd int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char target[PATH_MAX];
	ssize_t n;
	int r;

	if (fd < 0)
		return err_sys(w->e, -errno, "opening %s", w->path);
	if (!S_ISLNK(st->stx_mode)) {
		r = xattrs_read(w, fd, m);
		if (r < 0)
			return r;
	}
	if (S_ISREG(st->stx_mode))
		return content_put(w, dir, name, m, (off_t)st->stx_size);
	if (S_ISLNK(st->stx_mode)) {
		n = readlinkat(fd, "", target, sizeof(target));
		if (n < 0 || n == sizeof(target))
			return err_sys(w->e, n < 0 ? -errno : -ENAMETOOLONG, "reading the link %s",
				       w->path);
		m->has_target = true;
		m->target.data = (uint8_t *)target;
		m->target.len = (size_t)n;
	}
	return put(w, m);
}

static int entry(struct walk *w, int dir, const char *name, unsigned depth)
{
	GwTreeEntry m = GW_TREE_ENTRY__INIT;
	struct statx st;
	uint64_t first = 0;
	int r = 0;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) < 0)
		return err_sys(w->e, -errno, "%s", w->path);
	if (++w->count > ENTRIES_MAX)
		return err_set(w->e, -E2BIG, "a tmpfs has more than %u entries", ENTRIES_MAX);
	if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) {
		m.has_mode = true;
		m.mode = S_ISDIR(st.stx_mode) ? S_IFDIR | 0755 : S_IFREG | 0644;
		return put(w, &m);
	}
	attributes_fill(w, &st, &m);
	if (!S_ISDIR(st.stx_mode) && st.stx_nlink > 1) {
		r = link_seen(w, &st, &first);
		if (r == 1) {
			m.has_hardlink_of = true;
			m.hardlink_of = first;
			return put(w, &m);
		}
	}
	if (r >= 0)
		r = body_put(w, dir, name, &st, &m);
	entry_clear(&m);
	if (r >= 0 && S_ISDIR(st.stx_mode)) {
		auto_fd int sub =
			openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		r = sub < 0 ? err_sys(w->e, -errno, "opening %s", w->path)
			    : folder(w, sub, depth + 1);
	}
	return r;
}

static int folder(struct walk *w, int dir, unsigned depth)
{
	size_t len = strlen(w->path);
	struct dirent *de;
	int fd = dup(dir), r = 0;
	DIR *list;

	if (depth > DEPTH_MAX) {
		fd_close(&fd);
		return err_set(w->e, -ELOOP, "%s: too deep", w->path);
	}
	list = fd >= 0 ? fdopendir(fd) : NULL;
	if (!list) {
		r = err_sys(w->e, -errno, "opening %s", w->path);
		fd_close(&fd);
		return r;
	}
	while (r >= 0 && (de = readdir(list))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "",
			     de->d_name) >= (int)(sizeof(w->path) - len))
			r = err_set(w->e, -ENAMETOOLONG, "a path in a tmpfs is too long");
		else
			r = entry(w, dir, de->d_name, depth);
		w->path[len] = 0;
	}
	closedir(list);
	return r;
}

int tree_dump(struct dump *d, uint32_t id, int dir, const struct ids *ids, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	GwTreeEntry m = GW_TREE_ENTRY__INIT;
	struct statx st;
	int r;

	if (!w)
		return err_sys(e, -ENOMEM, "content of a tmpfs");
	*w = (struct walk){ .d = d, .id = id, .ids = ids, .e = e, .count = 1 };
	if (statx(dir, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) < 0) {
		r = err_sys(e, -errno, "root of a tmpfs");
	} else {
		attributes_fill(w, &st, &m);
		r = xattrs_read(w, dir, &m);
		if (r >= 0)
			r = put(w, &m);
		entry_clear(&m);
		if (r >= 0)
			r = folder(w, dir, 0);
	}
	free(w->links);
	free(w);
	return r;
}

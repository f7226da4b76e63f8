#include "image_store/unpack.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "image_store/archive_in.h"
#include "image_store/metadata.h"
#include "image_store/tarpath.h"

struct folder_time {
	char *path;
	struct timespec times[2];
};

struct session {
	const struct unpack *u;
	struct archive *a;
	int root;       /* O_PATH of u->to */
	int parent;     /* of the entry before; -1: none */
	char *parent_path;
	struct folder_time *folders;
	size_t n_folders, cap_folders;
	uint64_t total; /* the archive's bytes */
	struct err *e;
};

static int shift(struct session *s, int64_t id, uint32_t *ret, const char *path)
{
	uint32_t max = s->u->idmap_size ? s->u->idmap_size : UINT32_MAX - 1;

	if (id < 0 || id >= max)
		return err_set(s->e, -ERANGE, "\"%s\" belongs to the id %lld, and the container has the ids 0 to %u only%s", path,
			       (long long)id, max - 1, s->u->idmap_size ? " (a privileged one has all of them)" : "");
	*ret = (uint32_t)id + s->u->idmap_base;
	return 0;
}

/* Folders that the archive has no entry for, before something in them. */
static int parents_make(struct session *s, const char *path)
{
	auto_free char *p = strdup(path);

	if (!p)
		return -ENOMEM;
	for (char *slash = p;; slash++) {
		auto_fd int up = -1, here = -1;
		char *name;

		slash = strchr(slash, '/');
		if (slash)
			*slash = '\0';
		here = fd_open_in_root(s->root, p, O_PATH | O_DIRECTORY, 0);
		if (here < 0 && here != -ENOENT)
			return here;
		if (here < 0) {
			name = strrchr(p, '/');
			if (name)
				*name = '\0';
			up = fd_open_in_root(s->root, name ? p : ".", O_PATH | O_DIRECTORY, 0);
			if (name)
				*name = '/';
			name = name ? name + 1 : p;
			if (up < 0)
				return up;
			if (mkdirat(up, name, 0755) < 0 ||
			    fchownat(up, name, s->u->idmap_base, s->u->idmap_base, AT_SYMLINK_NOFOLLOW) < 0)
				return -errno;
		}
		if (!slash)
			return 0;
		*slash = '/';
	}
}

/* The folder an entry is made in, symbolic links on the way resolved inside the root; *ret_name points into
 * path.  The descriptor is kept for the next entry, which mostly is a neighbour, and stays the session's. */
static int parent_open(struct session *s, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	auto_free char *up = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	int fd;

	if (!up)
		return err_sys(s->e, -ENOMEM, "%s", path);
	*ret_name = slash ? slash + 1 : path;
	if (s->parent >= 0 && strcmp(up, s->parent_path) == 0)
		return s->parent;
	fd = fd_open_in_root(s->root, up, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		int r = parents_make(s, up);

		if (r < 0)
			return err_sys(s->e, r, "cannot make the folder %s", up);
		fd = fd_open_in_root(s->root, up, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return err_sys(s->e, fd, "cannot open the folder %s", up);
	fd_close(&s->parent);
	free(s->parent_path);
	s->parent = fd;
	s->parent_path = ptr_take(up);
	return fd;
}

/* The descriptor kept may be of a folder that an entry has just replaced. */
static void parent_forget(struct session *s)
{
	fd_close(&s->parent);
}

/* How far it is; and whether to go on. */
static int tell(struct session *s)
{
	int r = s->u->progress ? s->u->progress((uint64_t)archive_filter_bytes(s->a, -1), s->total, s->u->arg) : 0;

	return r == -ECANCELED ? err_set(s->e, r, "cancelled") : r < 0 ? err_sys(s->e, r, "unpacking") : 0;
}

static int data_write(struct session *s, int fd, int64_t size, const char *path)
{
	const void *block;
	uint64_t n_blocks = 0;
	size_t len;
	int64_t at;
	int r;

	while ((r = archive_read_data_block(s->a, &block, &len, &at)) == ARCHIVE_OK) {
		/* A large file is many of them. */
		r = ++n_blocks % 256 ? 0 : tell(s);
		if (r < 0)
			return r;
		while (len) {
			ssize_t n = pwrite(fd, block, len, at);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return err_sys(s->e, -errno, "cannot write %s", path);
			block = (const char *)block + n;
			len -= (size_t)n;
			at += n;
		}
	}
	if (r != ARCHIVE_EOF && r != ARCHIVE_WARN)
		return err_set(s->e, -EINVAL, "the archive is damaged at %s: %s", path,
			       archive_error_string(s->a) ? archive_error_string(s->a) : "");
	/* A hole at the end is no block. */
	if (ftruncate(fd, size) < 0)
		return err_sys(s->e, -errno, "cannot write %s", path);
	return 0;
}

/* A capability that holds in the user namespace whose root is host id `base` is of version 3, with that id
 * in it; version 2 means the host's own root.  Numbers are little-endian in the attribute. */
static int capability_set(struct session *s, int fd, const void *value, size_t size)
{
	struct vfs_ns_cap_data cap = { 0 };
	uint32_t magic;

	if (size != XATTR_CAPS_SZ_2 && size != XATTR_CAPS_SZ_3)
		return 0;
	memcpy(&cap, value, size);
	magic = cap.magic_etc & VFS_CAP_REVISION_MASK;
	if (magic != VFS_CAP_REVISION_2 && magic != VFS_CAP_REVISION_3)
		return 0;
	cap.magic_etc &= ~(uint32_t)VFS_CAP_REVISION_MASK;
	cap.magic_etc |= s->u->idmap_size ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2;
	cap.rootid = s->u->idmap_base;
	size = s->u->idmap_size ? XATTR_CAPS_SZ_3 : XATTR_CAPS_SZ_2;
	return fsetxattr(fd, XATTR_NAME_CAPS, &cap, size, 0) < 0 ? -errno : 0;
}

static int attributes_set(struct session *s, struct archive_entry *en, int fd, const char *path)
{
	const char *name;
	const void *value;
	size_t size;
	int r = 0;

	archive_entry_xattr_reset(en);
	while (r == 0 && archive_entry_xattr_next(en, &name, &value, &size) == ARCHIVE_OK) {
		if (!name)
			continue;
		if (strcmp(name, XATTR_NAME_CAPS) == 0)
			r = capability_set(s, fd, value, size);
		else if (str_starts(name, "user."))
			r = fsetxattr(fd, name, value, size, 0) < 0 ? -errno : 0;
		/* A file system without user attributes loses nothing a container cannot do without. */
		if (r == -EOPNOTSUPP)
			r = 0;
	}
	return r < 0 ? err_sys(s->e, r, "cannot set an attribute of %s", path) : 0;
}

static void times_of(struct archive_entry *en, struct timespec ret[2])
{
	ret[0].tv_nsec = UTIME_OMIT;
	ret[0].tv_sec = 0;
	ret[1].tv_sec = archive_entry_mtime(en);
	ret[1].tv_nsec = archive_entry_mtime_nsec(en);
	if (!archive_entry_mtime_is_set(en) || ret[1].tv_nsec < 0 || ret[1].tv_nsec > 999999999)
		ret[1].tv_nsec = UTIME_OMIT;
}

static int put_file(struct session *s, struct archive_entry *en, int up, const char *name, const char *path,
		    uid_t uid, gid_t gid)
{
	auto_fd int fd = openat(up, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct timespec times[2];
	int64_t size = archive_entry_size_is_set(en) ? archive_entry_size(en) : 0;
	int r;

	if (fd < 0)
		return err_sys(s->e, -errno, "cannot make %s", path);
	if (size < 0)
		return err_set(s->e, -EINVAL, "%s has no size", path);
	r = data_write(s, fd, size, path);
	if (r < 0)
		return r;
	/* The owner first: changing it takes away set-id bits and capabilities. */
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, archive_entry_perm(en)) < 0)
		return err_sys(s->e, -errno, "cannot set the owner of %s", path);
	r = attributes_set(s, en, fd, path);
	if (r < 0)
		return r;
	times_of(en, times);
	return futimens(fd, times) < 0 ? err_sys(s->e, -errno, "cannot set the time of %s", path) : 0;
}

static int folder_remember(struct session *s, struct archive_entry *en, const char *path)
{
	struct folder_time *t;

	if (array_grow(s->folders, s->n_folders, s->cap_folders) < 0)
		return err_sys(s->e, -ENOMEM, "%s", path);
	t = &s->folders[s->n_folders];
	t->path = strdup(path);
	if (!t->path)
		return err_sys(s->e, -ENOMEM, "%s", path);
	times_of(en, t->times);
	s->n_folders++;
	return 0;
}

static int put_folder(struct session *s, struct archive_entry *en, int up, const char *name, const char *path,
		      uid_t uid, gid_t gid)
{
	auto_fd int fd = -1;
	int r;

	if (mkdirat(up, name, 0700) < 0 && errno != EEXIST)
		return err_sys(s->e, -errno, "cannot make the folder %s", path);
	fd = openat(up, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(s->e, -errno, "cannot open the folder %s", path);
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, archive_entry_perm(en)) < 0)
		return err_sys(s->e, -errno, "cannot set the owner of %s", path);
	r = attributes_set(s, en, fd, path);
	return r < 0 ? r : folder_remember(s, en, path);
}

static int put_link(struct session *s, int up, const char *name, const char *path, const char *target)
{
	char clean[PATH_MAX];
	const char *below, *slash;
	auto_free char *dir = NULL;
	auto_fd int from = -1;
	struct stat st;

	if (tarpath_clean(target, clean, sizeof(clean)) < 0 || !(below = tarpath_below(clean, s->u->below)) ||
	    !*below)
		return err_set(s->e, -EINVAL, "%s is a hard link to %.200s, outside of the root", path, target);
	slash = strrchr(below, '/');
	dir = slash ? strndup(below, (size_t)(slash - below)) : strdup(".");
	if (!dir)
		return err_sys(s->e, -ENOMEM, "%s", path);
	from = fd_open_in_root(s->root, dir, O_PATH | O_DIRECTORY, 0);
	if (from < 0)
		return err_sys(s->e, from, "%s is a hard link to %s", path, below);
	slash = slash ? slash + 1 : below;
	if (fstatat(from, slash, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(s->e, -errno, "%s is a hard link to %s", path, below);
	if (linkat(from, slash, up, name, 0) < 0)
		return err_sys(s->e, -errno, "cannot link %s to %s", path, below);
	return 0;
}

/* Symbolic links may point anywhere: inside the container they are resolved in its root, and nobody
 * outside follows them. */
static int put_special(struct session *s, struct archive_entry *en, int up, const char *name,
		       const char *path, uid_t uid, gid_t gid)
{
	mode_t type = archive_entry_filetype(en), perm = archive_entry_perm(en);
	const char *target = archive_entry_symlink(en);
	struct timespec times[2];
	int r = 0;

	if (type == AE_IFLNK)
		r = symlinkat(target ? target : "", up, name);
	else if (type == AE_IFIFO)
		r = mknodat(up, name, S_IFIFO | 0600, 0);
	else
		r = mknodat(up, name, (type == AE_IFCHR ? S_IFCHR : S_IFBLK) | 0600,
			    makedev(archive_entry_rdevmajor(en), archive_entry_rdevminor(en)));
	if (r < 0 || fchownat(up, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (type != AE_IFLNK && fchmodat(up, name, perm, 0) < 0))
		return err_sys(s->e, -errno, "cannot make %s", path);
	times_of(en, times);
	if (utimensat(up, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(s->e, -errno, "cannot set the time of %s", path);
	return 0;
}

/* The top folder itself: only its mode and time count. */
static int put_top(struct session *s, struct archive_entry *en, uid_t uid, gid_t gid)
{
	if (archive_entry_filetype(en) != AE_IFDIR)
		return err_set(s->e, -EINVAL, "the root of the archive is not a folder");
	if (fchownat(s->root, "", uid, gid, AT_EMPTY_PATH) < 0 ||
	    chmod(s->u->to, archive_entry_perm(en)) < 0)
		return err_sys(s->e, -errno, "cannot set the owner of the root");
	return folder_remember(s, en, ".");
}

/* What is in the way of an entry: an earlier entry of the same name (later ones win in a tar). */
static int clear_way(struct session *s, struct archive_entry *en, int up, const char *name, const char *path)
{
	bool folder = archive_entry_filetype(en) == AE_IFDIR && !archive_entry_hardlink(en);
	struct stat st;

	if (fstatat(up, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(s->e, -errno, "%s", path);
	if (folder && S_ISDIR(st.st_mode))
		return 0;
	if (unlinkat(up, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		return err_sys(s->e, -errno, "%s is in the archive twice, and the first cannot be replaced",
			       path);
	return S_ISDIR(st.st_mode) ? 1 : 0;
}

static int put_entry(struct session *s, struct archive_entry *en, const char *path)
{
	const char *hard = archive_entry_hardlink(en), *name = NULL;
	mode_t type = archive_entry_filetype(en);
	uint32_t uid = 0, gid = 0;
	int up, r;

	r = shift(s, archive_entry_uid(en), &uid, path);
	if (r == 0)
		r = shift(s, archive_entry_gid(en), &gid, path);
	if (r < 0)
		return r;
	if (!*path)
		return put_top(s, en, uid, gid);
	if (!hard && (type == AE_IFSOCK || ((type == AE_IFCHR || type == AE_IFBLK) && s->u->idmap_size)))
		return 0;
	up = parent_open(s, path, &name);
	if (up < 0)
		return up;
	r = clear_way(s, en, up, name, path);
	if (r < 0)
		return r;
	if (hard)
		r = put_link(s, up, name, path, hard);
	else if (type == AE_IFREG)
		r = put_file(s, en, up, name, path, uid, gid);
	else if (type == AE_IFDIR)
		r = put_folder(s, en, up, name, path, uid, gid);
	else if (type == AE_IFLNK || type == AE_IFIFO || type == AE_IFCHR || type == AE_IFBLK)
		r = put_special(s, en, up, name, path, uid, gid);
	else
		r = err_set(s->e, -EINVAL, "%s is of a kind that is not known", path);
	if (!hard && type != AE_IFREG && type != AE_IFDIR)
		parent_forget(s);
	return r;
}

/* Last, and innermost first: making entries changes their folder's time. */
static int folder_times_set(struct session *s)
{
	for (size_t i = s->n_folders; i-- > 0;) {
		const struct folder_time *t = &s->folders[i];
		auto_fd int fd = fd_open_in_root(s->root, t->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

		/* A later entry may have put something else there. */
		if (fd >= 0 && futimens(fd, t->times) < 0)
			return err_sys(s->e, -errno, "cannot set the time of %s", t->path);
	}
	return 0;
}

static int entries_put(struct session *s)
{
	struct archive_entry *en;
	uint64_t n = 0;
	int r;

	while ((r = archive_in_next(s->a, &en, "the image", s->e)) > 0) {
		char clean[PATH_MAX];
		const char *path;

		if (++n > UNPACK_ENTRIES_MAX)
			return err_set(s->e, -E2BIG, "the image has more than %d files", UNPACK_ENTRIES_MAX);
		if (tarpath_clean(archive_entry_pathname(en), clean, sizeof(clean)) < 0)
			return err_set(s->e, -EINVAL, "the image holds the name \"%.200s\", which leads out of it",
				       archive_entry_pathname(en) ? archive_entry_pathname(en) : "");
		path = tarpath_below(clean, s->u->below);
		if (!path)
			continue;
		r = put_entry(s, en, path);
		if (r < 0)
			return r;
		r = n % 256 ? 0 : tell(s);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : folder_times_set(s);
}

int unpack_run(const struct unpack *u, struct err *e)
{
	struct session s = { .u = u, .root = -1, .parent = -1, .e = e };
	auto_fd int fd = open(u->file, O_RDONLY | O_CLOEXEC), root = -1;
	auto_archive *a = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "cannot open %s", u->file);
	root = open(u->to, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(e, -errno, "cannot open %s", u->to);
	a = archive_in_open(fd, "the image", e);
	if (!a)
		return -EINVAL;
	s.a = a;
	s.root = root;
	s.total = (uint64_t)st.st_size;
	r = entries_put(&s);
	fd_close(&s.parent);
	free(s.parent_path);
	for (size_t i = 0; i < s.n_folders; i++)
		free(s.folders[i].path);
	free(s.folders);
	return r;
}

static int metadata_text(struct archive *a, struct archive_entry *en, char **ret, struct err *e)
{
	int64_t size = archive_entry_size(en);
	auto_free char *text = NULL;
	la_ssize_t n;

	if (archive_entry_filetype(en) != AE_IFREG || size < 0 || size > METADATA_MAX)
		return err_set(e, -EINVAL, "metadata.yaml is not a file of at most %d bytes", METADATA_MAX);
	text = calloc(1, (size_t)size + 1);
	if (!text)
		return err_sys(e, -ENOMEM, "metadata.yaml");
	n = archive_read_data(a, text, (size_t)size);
	if (n != size)
		return err_set(e, -EINVAL, "metadata.yaml cannot be read");
	free(*ret);
	*ret = ptr_take(text);
	return 0;
}

/* Where an init may be, as far as names tell: the folder sbin may be a link, before or behind what it leads to. */
struct init_names {
	char names[32][128];
	unsigned n;
	char sbin[128]; /* where the link leads; "": it is none */
};

static void init_names_add(struct init_names *in, struct archive_entry *en, const char *path)
{
	const char *link = archive_entry_symlink(en), *slash = strrchr(path, '/');

	if (strcmp(path, "sbin") == 0 && archive_entry_filetype(en) == AE_IFLNK && link)
		snprintf(in->sbin, sizeof(in->sbin), "%s", link + strspn(link, "/"));
	if (slash && strcmp(slash, "/init") == 0 && archive_entry_filetype(en) != AE_IFDIR &&
	    in->n < array_len(in->names))
		snprintf(in->names[in->n++], sizeof(in->names[0]), "%s", path);
}

static bool init_names_have(const struct init_names *in)
{
	for (unsigned i = 0; i < in->n; i++) {
		size_t n = strlen(in->names[i]) - strlen("/init");

		if (strcmp(in->names[i], "sbin/init") == 0 ||
		    (n == strlen(in->sbin) && strncmp(in->names[i], in->sbin, n) == 0))
			return true;
	}
	return in->n == array_len(in->names); /* too many to tell */
}

/* Hard links have no owner of their own, but unpacking looks at it all the same. */
static void owner_look(struct unpack_look *l, struct archive_entry *en, const char *path)
{
	int64_t uid = archive_entry_uid(en), gid = archive_entry_gid(en), id = uid < 0 || uid >= UNPACK_IDS ? uid : gid;

	if (id >= 0 && id < UNPACK_IDS)
		return;
	if (l->foreign++ == 0) {
		snprintf(l->foreign_name, sizeof(l->foreign_name), "%s", path);
		l->foreign_id = id;
	}
}

/* One entry. */
static int look_at(struct unpack_look *l, struct archive *a, struct archive_entry *en, struct init_names *in,
		   struct err *e)
{
	const char *raw = archive_entry_pathname(en), *hard = archive_entry_hardlink(en), *path;
	char clean[PATH_MAX];
	int r;

	if (tarpath_clean(raw, clean, sizeof(clean)) < 0)
		return err_set(e, -EINVAL, "the image holds the name \"%.200s\", which leads out of it", raw ? raw : "");
	if (strcmp(clean, "metadata.yaml") == 0) {
		r = metadata_text(a, en, &l->metadata, e);
		if (r < 0)
			return r;
	}
	path = tarpath_below(clean, l->below);
	if (!path)
		return 0;
	l->has_root = true;
	init_names_add(in, en, path);
	owner_look(l, en, path);
	if (hard && (tarpath_clean(hard, clean, sizeof(clean)) < 0 || !tarpath_below(clean, l->below)))
		return err_set(e, -EINVAL, "the image holds a hard link to \"%.200s\", which leads out of it", hard);
	if (!hard && archive_entry_size_is_set(en) && archive_entry_size(en) > 0 &&
	    __builtin_add_overflow(l->bytes, (uint64_t)archive_entry_size(en), &l->bytes))
		return err_set(e, -EINVAL, "the image's files have no sensible size");
	return 0;
}

static int look_through(struct unpack_look *l, struct err *e)
{
	auto_fd int fd = open(l->file, O_RDONLY | O_CLOEXEC);
	struct init_names in = { 0 };
	auto_archive *a = NULL;
	struct archive_entry *en;
	uint64_t n = 0;
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", l->file);
	a = archive_in_open(fd, "the image", e);
	if (!a)
		return -EINVAL;
	while ((r = archive_in_next(a, &en, "the image", e)) > 0) {
		if (++n > UNPACK_ENTRIES_MAX)
			return err_set(e, -E2BIG, "the image has more than %d files", UNPACK_ENTRIES_MAX);
		r = look_at(l, a, en, &in, e);
		if (r < 0)
			return r;
		if (l->cancelled && n % 64 == 0 && l->cancelled(l->arg) < 0)
			return err_set(e, -ECANCELED, "cancelled");
	}
	if (r < 0)
		return r;
	l->has_init = init_names_have(&in);
	return n ? 0 : err_set(e, -EINVAL, "the image is an empty archive");
}

int unpack_check(struct unpack_look *l, struct err *e)
{
	int r;

	l->has_root = l->has_init = false;
	l->foreign = 0;
	l->metadata = NULL;
	l->bytes = 0;
	r = look_through(l, e);
	if (r < 0)
		free(ptr_take(l->metadata));
	return r;
}

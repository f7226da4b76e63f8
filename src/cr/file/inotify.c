/* inotify - watches on files and folders.
 *
 * State: the watched inodes with masks, under their numbers (wd). Read: fdinfo has a file handle of
 * each inode; open_by_handle_at on a mount of that device, of which the container has at least one,
 * gives a path, which counts only if it leads there again. Where a handle leads to an inode without
 * a known name (not in the kernel's cache), the names that the container has open are tried.
 * Back: made and filled by the container's init (limits count per user, and the engine's would be
 * the host's root). Numbers are given out in ascending order and never again, so that a number is
 * reached by adding and removing.
 * Refused: inodes without a path; events that wait to be read (nobody can put them back). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"

#define WD_MAX (1u << 22)
#define BATCH 100

static bool inotify_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:inotify");
}

struct watches {
	struct fdinfo_inotify *list;
	size_t n, cap;
};

static int watch_compare(const void *a, const void *b)
{
	const struct fdinfo_inotify *x = a, *y = b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static int watches_read(const struct ofile *f, struct watches *ret, struct err *e)
{
	for (const char *p = f->fdinfo; (p = strstr(p, "inotify wd:"));) {
		p += strlen("inotify ");
		if (array_grow(ret->list, ret->n, ret->cap) < 0)
			return err_sys(e, -ENOMEM, "watches");
		if (fdinfo_inotify(p, &ret->list[ret->n]) < 0)
			return err_set(e, -EPROTO, "fdinfo of inotify cannot be read");
		ret->n++;
	}
	if (ret->n)
		qsort(ret->list, ret->n, sizeof(*ret->list), watch_compare);
	return 0;
}

/* ---- from an inode to a path ---- */

static bool leads(const struct dump *d, const char *path, const struct stat *want)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == want->st_dev &&
	       st.st_ino == want->st_ino;
}

static char *path_of(int fd)
{
	char name[48], text[PATH_MAX];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, text, sizeof(text) - 1);
	if (n <= 0 || text[0] != '/')
		return NULL;
	text[n] = 0;
	return strdup(text);
}

/* A name that the container has open. */
static char *path_open(struct dump *d, const struct stat *st)
{
	for (const struct ofile *o = NULL; (o = dump_inode_next(d, st->st_dev, st->st_ino, o));)
		if (o->link[0] == '/' && leads(d, o->link, st))
			return strdup(o->link);
	return NULL;
}

/* By way of one mount; *ret_st is filled where the inode was found at all. */
static char *path_by_mount(struct dump *d, const struct fdinfo_inotify *w, const char *mount,
			   struct stat *ret_st)
{
	struct {
		struct file_handle h;
		uint8_t bytes[128];
	} fh = { .h = { .handle_bytes = (unsigned)w->bytes, .handle_type = w->type } };
	auto_fd int mfd = -1, fd = -1;
	auto_free char *path = NULL;

	memcpy(fh.bytes, w->handle, w->bytes);
	mfd = fd_open_in_root(d->root_fd, mount, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (mfd < 0)
		return NULL;
	fd = open_by_handle_at(mfd, &fh.h, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, ret_st) < 0 || ret_st->st_ino != w->ino)
		return NULL;
	path = path_of(fd);
	if (path && leads(d, path, ret_st))
		return ptr_take(path);
	return path_open(d, ret_st);
}

/* mountinfo: "36 35 98:0 /root /mount ..."; \ooo in names. */
static bool mount_line(const char *p, uint64_t sdev, char *mount, size_t len)
{
	uint64_t v[2], maj, min;
	size_t n = 0;

	for (size_t i = 0; i < 2; i++) {
		if (parse_u64_at(&p, 10, &v[i]) < 0 || *p++ != ' ')
			return false;
	}
	if (parse_u64_at(&p, 10, &maj) < 0 || *p++ != ':' || parse_u64_at(&p, 10, &min) < 0 ||
	    *p++ != ' ')
		return false;
	if (maj != sdev >> 20 || min != (sdev & 0xfffff))
		return false;
	p += strcspn(p, " ");
	p += *p == ' ';
	for (; *p && *p != ' ' && n + 1 < len; n++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] && p[3]) {
			mount[n] = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
			p += 4;
		} else {
			mount[n] = *p++;
		}
	}
	mount[n] = 0;
	return n > 0;
}

/* Path of the watched inode, malloc'd; NULL: none to be found. */
static char *watch_path(struct dump *d, const char *mountinfo, const struct fdinfo_inotify *w)
{
	char mount[PATH_MAX];
	struct stat st = { .st_dev = makedev(w->sdev >> 20, w->sdev & 0xfffff), .st_ino = w->ino };

	if (!w->bytes)
		return path_open(d, &st);
	for (const char *p = mountinfo; p && *p;) {
		const char *end = strchr(p, '\n');
		char *path;

		if (mount_line(p, w->sdev, mount, sizeof(mount))) {
			path = path_by_mount(d, w, mount, &st);
			if (path)
				return path;
		}
		p = end ? end + 1 : NULL;
	}
	return NULL;
}

static int mountinfo_read(const struct dump *d, char **ret, struct err *e)
{
	int r = fd_read_file_at(d->tasks[0]->proc_fd, "mountinfo", 16u << 20, ret, NULL);

	return r < 0 ? err_sys(e, r, "mounts of the container") : 0;
}

static int inotify_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct watches ws = { 0 };
	auto_free char *mi = NULL;
	int waiting = 0, r;

	r = mountinfo_read(d, &mi, e);
	if (r == 0)
		r = watches_read(f, &ws, e);
	for (size_t i = 0; r == 0 && i < ws.n; i++) {
		auto_free char *path = watch_path(d, mi, &ws.list[i]);

		if (!path &&
		    ofile_refuse(d, f, "inotify",
				 "watch %d is on inode %llu of device %llu:%llu, which has no "
				 "path in the container (deleted?)",
				 ws.list[i].wd, (unsigned long long)ws.list[i].ino,
				 (unsigned long long)ws.list[i].sdev >> 20,
				 (unsigned long long)ws.list[i].sdev & 0xfffff) < 0)
			r = err_sys(e, -ENOMEM, "refusal");
	}
	free(ws.list);
	/* While tasks run an event is no obstacle yet, and it passes when they run on. */
	if (r == 0 && !d->check_only && ioctl(f->lfd, FIONREAD, &waiting) == 0 && waiting > 0) {
		d->n_passing++;
		if (ofile_refuse(d, f, "inotify",
				 "events wait to be read, which cannot be carried; try again") < 0)
			r = err_sys(e, -ENOMEM, "refusal");
	}
	return r;
}

static int watches_put(struct dump *d, const struct ofile *f, const struct watches *ws,
		       const char *mi, InotifyFileEntry *ie, struct err *e)
{
	auto_free InotifyWdEntry *wd = calloc(ws->n + 1, sizeof(*wd));
	auto_free InotifyWdEntry **wp = calloc(ws->n + 1, sizeof(*wp));
	auto_free FhEntry *fh = calloc(ws->n + 1, sizeof(*fh));
	auto_free uint64_t *handles = calloc(ws->n + 1, 16 * sizeof(uint64_t));
	FileEntry fe = FILE_ENTRY__INIT;
	int r = 0;

	if (!wd || !wp || !fh || !handles)
		return err_sys(e, -ENOMEM, "watches");
	for (size_t i = 0; r == 0 && i < ws->n; i++) {
		const struct fdinfo_inotify *w = &ws->list[i];

		inotify_wd_entry__init(&wd[i]);
		fh_entry__init(&fh[i]);
		memcpy(handles + i * 16, w->handle, w->bytes);
		fh[i].bytes = (uint32_t)w->bytes;
		fh[i].type = (uint32_t)w->type;
		fh[i].n_handle = 16;
		fh[i].handle = handles + i * 16;
		fh[i].path = watch_path(d, mi, w);
		if (!fh[i].path)
			r = err_set(e, -EOPNOTSUPP, "watch %d has no path", w->wd);
		wd[i].id = f->id;
		wd[i].i_ino = w->ino;
		wd[i].mask = w->mask;
		wd[i].ignored_mask = w->ignored;
		wd[i].s_dev = (uint32_t)w->sdev;
		wd[i].wd = (uint32_t)w->wd;
		wd[i].f_handle = &fh[i];
		wp[i] = &wd[i];
	}
	ie->n_wd = ws->n;
	ie->wd = wp;
	fe.ify = ie;
	if (r == 0)
		r = ofile_put(d, f, &fe, e);
	for (size_t i = 0; i < ws->n; i++)
		free(fh[i].path);
	return r;
}

static int inotify_capture(struct dump *d, struct ofile *f, struct err *e)
{
	InotifyFileEntry ie = INOTIFY_FILE_ENTRY__INIT;
	struct watches ws = { 0 };
	auto_free char *mi = NULL;
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r == 0)
		r = mountinfo_read(d, &mi, e);
	if (r == 0)
		r = watches_read(f, &ws, e);
	ie.id = f->id;
	ie.flags = f->flags;
	ie.fown = &own;
	if (r == 0)
		r = watches_put(d, f, &ws, mi, &ie, e);
	free(ws.list);
	return r;
}

/* ---- restore ---- */

static int inotify_load(struct restore *r, struct rfile *f, struct err *e)
{
	const InotifyFileEntry *ie = f->fe->ify;
	uint32_t last = 0;

	if (!ie)
		return err_set(e, -EINVAL, "file %u: not the record of inotify", f->id);
	for (size_t i = 0; i < ie->n_wd; i++) {
		const InotifyWdEntry *w = ie->wd[i];

		if (w->wd <= last || w->wd > WD_MAX || !w->f_handle || !w->f_handle->path ||
		    w->f_handle->path[0] != '/' || strlen(w->f_handle->path) >= PATH_MAX)
			return err_set(e, -EINVAL, "file %u: watch %u makes no sense", f->id,
				       w->wd);
		last = w->wd;
	}
	return 0;
}

/* Uses up numbers [from, to). */
static int numbers_skip(struct agent *a, int number, const char *path, uint32_t from, uint32_t to,
			struct err *e)
{
	while (from < to) {
		struct aprog *p = aprog_new();
		uint32_t end = to - from < BATCH ? to : from + BATCH;
		struct aarg name;
		int got;

		if (!p)
			return err_sys(e, -ENOMEM, "watches");
		name = aprog_str(p, path);
		for (; from < end; from++) {
			APROG_CALL(p, 0, SYS_inotify_add_watch, aarg_imm((uint64_t)number), name,
				   aarg_imm(IN_DELETE_SELF));
			APROG_CALL(p, 0, SYS_inotify_rm_watch, aarg_imm((uint64_t)number),
				   aarg_imm(from));
		}
		got = agent_run(a, p, e);
		aprog_free(p);
		if (got < 0)
			return got;
	}
	return 0;
}

static int watch_add(struct agent *a, int number, const InotifyWdEntry *w, uint32_t next,
		     struct err *e)
{
	/* IN_IGNORED is what the kernel adds; IN_DONT_FOLLOW: the path is that of the inode
	 * itself. */
	uint64_t mask = (w->mask & ~(uint32_t)IN_IGNORED) | IN_DONT_FOLLOW;
	struct aprog *p;
	long got;
	int r;

	r = numbers_skip(a, number, w->f_handle->path, next, w->wd, e);
	if (r < 0)
		return r;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "watches");
	APROG_CALL(p, 0, SYS_inotify_add_watch, aarg_imm((uint64_t)number),
		   aprog_str(p, w->f_handle->path), aarg_imm(mask));
	r = agent_run(a, p, e);
	got = r < 0 ? r : aprog_result(p, 0);
	aprog_free(p);
	if (r < 0)
		return err_context(e, r, "watch on %s", w->f_handle->path);
	if (got != (long)w->wd)
		return err_set(e, -EIO, "watch on %s became number %ld instead of %u",
			       w->f_handle->path, got, w->wd);
	return 0;
}

/* Adding and removing leaves IN_IGNORED events behind. */
static int events_drop(int fd)
{
	char buf[65536];
	ssize_t n;

	do
		n = read(fd, buf, sizeof(buf));
	while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 && errno != EAGAIN ? -errno : 0;
}

static int inotify_build(struct restore *r, struct rfile *f, struct err *e)
{
	const InotifyFileEntry *ie = f->fe->ify;
	struct agent *a = r->tasks[0]->agent;
	auto_fd int fd = -1;
	uint32_t next = 1;
	long number;
	int got;

	got = AGENT_CALL(a, &number, e, SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK);
	for (size_t i = 0; got >= 0 && i < ie->n_wd; i++) {
		got = watch_add(a, (int)number, ie->wd[i], next, e);
		next = ie->wd[i]->wd + 1;
	}
	if (got >= 0)
		got = agent_get_fd(a, (int)number, &fd, e);
	if (got >= 0)
		got = AGENT_CALL(a, NULL, e, SYS_close, (uint64_t)number);
	if (got < 0)
		return got;
	got = events_drop(fd);
	if (got < 0)
		return err_sys(e, got, "events of inotify");
	got = rfile_set_flags(f, fd, ie->flags, e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

/* Making other files (deleted ones, tmpfs content) may have raised events since. */
static int inotify_placed(struct restore *r, struct rfile *f, struct err *e)
{
	int got = 0;

	if (f->fe->ify->flags & O_NONBLOCK) {
		got = events_drop(f->fd);
	} else if (fcntl(f->fd, F_SETFL, O_NONBLOCK) == 0) {
		got = events_drop(f->fd);
		if (fcntl(f->fd, F_SETFL, 0) < 0)
			got = -errno;
	}
	if (got < 0)
		return err_sys(e, got, "events of inotify");
	return fown_restore(r, f, f->fe->ify->fown, f->fe->ify->flags, e);
}

const struct file_kind file_kind_inotify = {
	.name = "inotify",
	.type = FD_TYPES__INOTIFY,
	.recognise = inotify_recognise,
	.check = inotify_check,
	.capture = inotify_capture,
	.load = inotify_load,
	.build = inotify_build,
	.placed = inotify_placed,
};

/* table - the descriptor tables of all tasks at a dump.
 *
 * State: numbers, FD_CLOEXEC, and which numbers of which tasks share an open file description.
 * Read: /proc/PID/fd for the numbers, pidfd_getfd for a descriptor of our own of each description,
 * fdinfo for flags (O_CLOEXEC in it belongs to the number), position and locks. Two descriptors are
 * the same description if kcmp of our own two says so; descriptions are kept in buckets by device
 * and inode, ordered within by kcmp, so that 10,000 of them cost a few comparisons each.
 * Back: table_restore.c.  Not covered: tables shared by processes (refused by the task tree). */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"
#include "sys/procfs.h"

#define FDINFO_MAX (8u << 20) /* an epoll with 100,000 files has about this much text */

struct table *dump_table(struct dump *d)
{
	size_t i = cr_part_index(&cr_part_files);

	if (i >= array_len(d->part_data))
		return NULL;
	if (!d->part_data[i])
		d->part_data[i] = calloc(1, sizeof(struct table));
	return d->part_data[i];
}

static void ofile_free(struct ofile *f)
{
	if (!f)
		return;
	fd_close(&f->lfd);
	free(f->link);
	free(f->fdinfo);
	free(f);
}

/* Forgets everything that was collected. */
void dump_table_reset(struct dump *d)
{
	struct table *tb = dump_table(d);

	for (size_t i = 0; i < d->n_ofiles; i++)
		ofile_free(d->ofiles[i]);
	d->n_ofiles = 0;
	d->next_file_id = 1;
	if (!tb)
		return;
	for (size_t i = 0; i < tb->n_tasks; i++) {
		free(tb->tasks[i].fds);
		if (tb->tasks[i].task)
			tb->tasks[i].task->part_data[cr_part_index(&cr_part_files)] = NULL;
	}
	free(tb->tasks);
	free(tb->locks);
	for (size_t i = 0; i < TABLE_BUCKETS; i++)
		free(tb->buckets[i].list);
	memset(tb, 0, sizeof(*tb));
}

/* `more` tells files apart that share one inode (eventfds have a number of their own). */
static size_t bucket_of(dev_t dev, ino_t ino, uint64_t more)
{
	uint64_t h = ((uint64_t)ino + (more << 32)) * 0x9e3779b97f4a7c15ull ^ (uint64_t)dev;

	h ^= h >> 29;

	return (h >> 20) % TABLE_BUCKETS;
}

static uint64_t more_of(const char *info)
{
	uint64_t v;

	return fdinfo_u64(info, "eventfd-id", 10, &v) == 0 ? v + 1 : 0;
}

/* Those whose inode is the one that all anonymous files share are in several buckets. */
static struct ofile *anon_next(struct dump *d, const struct table *tb, const struct ofile *prev)
{
	for (size_t i = prev ? prev->id : 0; i < d->n_ofiles; i++) /* ids count from 1 */
		if (d->ofiles[i]->st.st_dev == tb->anon_dev &&
		    d->ofiles[i]->st.st_ino == tb->anon_ino)
			return d->ofiles[i];
	return NULL;
}

struct ofile *dump_inode_next(struct dump *d, dev_t dev, ino_t ino, const struct ofile *prev)
{
	struct table *tb = dump_table(d);
	const struct table_bucket *b = &tb->buckets[bucket_of(dev, ino, 0)];
	bool seen = !prev;

	if (dev == tb->anon_dev && ino == tb->anon_ino)
		return anon_next(d, tb, prev);
	for (size_t i = 0; i < b->n; i++) {
		struct ofile *f = b->list[i];

		if (seen && f->st.st_dev == dev && f->st.st_ino == ino)
			return f;
		seen = seen || f == prev;
	}
	return NULL;
}

/* Where fd's description is in the bucket, or where it would have to be. */
static int bucket_find(const struct table_bucket *b, int fd, size_t *ret_at, bool *ret_found)
{
	size_t lo = 0, hi = b->n;
	pid_t self = hi ? getpid() : 0;

	*ret_found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		long c =
			syscall(SYS_kcmp, self, self, KCMP_FILE, (long)fd, (long)b->list[mid]->lfd);

		if (c < 0)
			return -errno;
		if (c == 0) {
			*ret_at = mid;
			*ret_found = true;
			return 0;
		}
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	*ret_at = lo;
	return 0;
}

static int bucket_insert(struct table_bucket *b, size_t at, struct ofile *f)
{
	if (array_grow(b->list, b->n, b->cap) < 0)
		return -ENOMEM;
	memmove(b->list + at + 1, b->list + at, (b->n - at) * sizeof(*b->list));
	b->list[at] = f;
	b->n++;
	return 0;
}

static int link_read(int dirfd, const char *name, char **ret)
{
	char text[PATH_MAX + 32];
	ssize_t n = readlinkat(dirfd, name, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(text) - 1)
		return -ENAMETOOLONG;
	text[n] = 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/* Fills flags, position and mount from the fdinfo text. */
static int ofile_parse(struct ofile *f, struct err *e)
{
	uint64_t flags, mnt = 0;

	if (fdinfo_u64(f->fdinfo, "flags", 8, &flags) < 0 ||
	    fdinfo_i64(f->fdinfo, "pos", &f->pos) < 0)
		return err_set(e, -EPROTO, "fdinfo of %s has no flags or position", f->link);
	if (fdinfo_u64(f->fdinfo, "mnt_id", 10, &mnt) < 0)
		mnt = 0;
	f->flags = (unsigned)flags & ~(unsigned)O_CLOEXEC;
	f->mnt_id = (int)mnt;
	return 0;
}

static const struct file_kind *kind_of(const struct ofile *f)
{
	for (size_t i = 0; i < file_kinds_n; i++)
		if (file_kinds[i]->recognise(f))
			return file_kinds[i];
	return NULL; /* the last one takes everything */
}

/* Adds f to the dump and to its bucket; on failure f stays the caller's. */
static int ofile_add(struct dump *d, struct table_bucket *b, size_t at, struct ofile *f,
		     struct err *e)
{
	f->kind = kind_of(f);
	if (!f->kind)
		return err_set(e, -EIO, "no kind for %s", f->link);
	if (array_grow(d->ofiles, d->n_ofiles, d->cap_ofiles) < 0 || bucket_insert(b, at, f) < 0)
		return err_sys(e, -ENOMEM, "list of open files");
	if (!d->next_file_id)
		d->next_file_id = 1;
	f->id = d->next_file_id++;
	d->ofiles[d->n_ofiles++] = f;
	if (str_starts(f->link, "anon_inode:") && !str_eq(f->link, "anon_inode:[pidfd]") &&
	    !S_ISREG(f->st.st_mode)) {
		struct table *tb = dump_table(d);

		tb->anon_dev = f->st.st_dev;
		tb->anon_ino = f->st.st_ino;
	}
	return 0;
}

/* All locks of an fdinfo belong to this task and number (POSIX) or to the description. */
static int locks_note(struct table *tb, struct task *t, int fd, struct ofile *of, const char *info,
		      struct err *e)
{
	const char *line = NULL;

	while ((line = fdinfo_line(info, "lock", line))) {
		struct table_lock l = { t, fd, of, { 0 } };
		bool known = false;

		if (fdinfo_lock(line, &l.lock, NULL) < 0)
			return err_set(e, -EPROTO, "process %d, fd %d: a lock that cannot be read",
				       t->nspid, fd);
		for (size_t i = tb->n_locks; i-- > 0 && !known;) {
			const struct table_lock *o = &tb->locks[i];

			known = o->of == of && fdinfo_lock_same(&o->lock, &l.lock) &&
				(o->task == t || l.lock.kind != LOCK_POSIX);
		}
		if (known)
			continue;
		if (array_grow(tb->locks, tb->n_locks, tb->cap_locks) < 0)
			return err_sys(e, -ENOMEM, "list of locks");
		tb->locks[tb->n_locks++] = l;
	}
	return 0;
}

/* `fd/N` or `fdinfo/N`, by the folder itself where that is open. */
static int number_name(int folder, int proc_fd, const char *which, int fd, char name[48])
{
	if (folder >= 0)
		snprintf(name, 48, "%d", fd);
	else
		snprintf(name, 48, "%s/%d", which, fd);
	return folder >= 0 ? folder : proc_fd;
}

/* The parent's, where the number came along at a fork and is still the same. */
static struct ofile *inherited(const struct table_task *tt, int fd)
{
	const struct table_task *p = tt->parent;
	size_t lo = 0, hi = p ? p->n : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->fds[mid].fd == fd)
			return syscall(SYS_kcmp, tt->task->pid, p->task->pid, KCMP_FILE, (long)fd, (long)fd) == 0 ?
				       p->fds[mid].of :
				       NULL;
		if (p->fds[mid].fd < fd)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* 0; 1: the number is not there any more (only while tasks run); the found or new file in *ret. */
static int file_find(struct dump *d, struct table *tb, const struct table_task *tt, int fd, const char *info,
		     struct ofile **ret, struct err *e)
{
	struct task *t = tt->task;
	auto_fd int lfd = (int)syscall(SYS_pidfd_getfd, t->pidfd, fd, 0);
	struct table_bucket *b;
	struct ofile *f;
	char name[48];
	struct stat st;
	size_t at;
	bool found;
	int dir, r;

	if (lfd < 0) {
		if (errno == EBADF || errno == ESRCH)
			return 1;
		return err_sys(e, -errno, "process %d, fd %d: pidfd_getfd", t->nspid, fd);
	}
	if (fstat(lfd, &st) < 0)
		return err_sys(e, -errno, "process %d, fd %d: fstat", t->nspid, fd);
	b = &tb->buckets[bucket_of(st.st_dev, st.st_ino, more_of(info))];
	r = bucket_find(b, lfd, &at, &found);
	if (r < 0)
		return err_sys(e, r, "kcmp");
	if (found) {
		*ret = b->list[at];
		return 0;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_sys(e, -ENOMEM, "an open file");
	*f = (struct ofile){ .task = t, .fd = fd, .lfd = fd_take(&lfd), .st = st };
	f->fdinfo = strdup(info);
	dir = number_name(tt->fd_dir, t->proc_fd, "fd", fd, name);
	r = f->fdinfo ? link_read(dir, name, &f->link) : -ENOMEM;
	if (r == 0)
		r = ofile_parse(f, e);
	else if (r != -ENOENT && r != -ESRCH)
		r = err_sys(e, r, "process %d, fd %d: readlink", t->nspid, fd);
	else
		r = 1;
	if (r == 0)
		r = ofile_add(d, b, at, f, e);
	if (r != 0) {
		ofile_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

/* 0; 1: the number is not there any more (only while tasks run). */
static int fd_collect(struct dump *d, struct table *tb, struct table_task *tt, int fd,
		      struct err *e)
{
	struct task *t = tt->task;
	auto_free char *info = NULL;
	struct ofile *f;
	char name[48];
	uint64_t flags;
	int dir = number_name(tt->info_dir, t->proc_fd, "fdinfo", fd, name);
	int r = fd_read_piece_at(dir, name, FDINFO_MAX, &info, NULL);

	if (r == -ENOENT || r == -ESRCH)
		return 1;
	if (r < 0)
		return err_sys(e, r, "process %d: fdinfo of %d", t->nspid, fd);
	if (fdinfo_u64(info, "flags", 8, &flags) < 0)
		return err_set(e, -EPROTO, "process %d, fd %d: fdinfo without flags", t->nspid, fd);
	f = d->check_only ? NULL : inherited(tt, fd);
	r = f ? 0 : file_find(d, tb, tt, fd, info, &f, e);
	if (r != 0)
		return r;
	if (f->fd < 0) { /* first seen as a mapped file or in flight */
		f->task = t;
		f->fd = fd;
	}
	if (array_grow(tt->fds, tt->n, tt->cap) < 0)
		return err_sys(e, -ENOMEM, "table of descriptors");
	tt->fds[tt->n++] = (struct table_fd){ fd, flags & O_CLOEXEC, f };
	return locks_note(tb, t, fd, f, info, e);
}

static int fd_compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* From this many numbers on it pays to open the folders. */
#define FOLDERS_FROM 16

static int task_collect(struct dump *d, struct table *tb, struct table_task *tt, struct err *e)
{
	auto_free int *list = NULL;
	auto_fd int fds = -1;
	auto_fd int infos = -1;
	size_t n = 0;
	int r = proc_fds(tt->task->proc_fd, &list, &n, e);

	if (r == -ENOENT || r == -ESRCH)
		return 0; /* it has ended: it has none */
	if (r < 0)
		return err_context(e, r, "process %d", tt->task->nspid);
	if (n)
		qsort(list, n, sizeof(*list), fd_compare);
	if (n >= FOLDERS_FROM) {
		fds = openat(tt->task->proc_fd, "fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
		infos = openat(tt->task->proc_fd, "fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	tt->fd_dir = fds;
	tt->info_dir = infos;
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = fd_collect(d, tb, tt, list[i], e);
	return r < 0 ? r : 0;
}

/* We hold a descriptor of every open file of the container at the same time. */
static void nofile_raise(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl); /* where it fails the collecting says EMFILE */
	}
}

int dump_table_collect(struct dump *d, struct err *e)
{
	struct table *tb = dump_table(d);
	int r = 0;

	if (!tb)
		return err_sys(e, -ENOMEM, "table of descriptors");
	if (tb->collected)
		return 0;
	tb->collected = true;
	nofile_raise();
	tb->tasks = calloc(d->n_tasks, sizeof(*tb->tasks));
	if (!tb->tasks)
		return err_sys(e, -ENOMEM, "table of descriptors");
	tb->n_tasks = d->n_tasks;
	for (size_t i = 0; r == 0 && i < d->n_tasks; i++) {
		const struct task *parent = d->tasks[i]->parent;

		tb->tasks[i].task = d->tasks[i];
		d->tasks[i]->part_data[cr_part_index(&cr_part_files)] = &tb->tasks[i];
		tb->tasks[i].parent = parent ? parent->part_data[cr_part_index(&cr_part_files)] : NULL;
		if (!d->tasks[i]->zombie)
			r = task_collect(d, tb, &tb->tasks[i], e);
	}
	return r;
}

/* ---- files that are in no table ---- */

static int foreign_new(struct task *holder, int lfd, const struct stat *st, struct ofile **ret,
		       struct err *e)
{
	struct ofile *f = calloc(1, sizeof(*f));
	auto_fd int self = -1;
	char name[48];
	int r;

	if (!f)
		return err_sys(e, -ENOMEM, "an open file");
	*f = (struct ofile){ .task = holder, .fd = -1, .lfd = -1, .st = *st };
	self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0) {
		r = err_sys(e, -errno, "/proc/self");
		goto fail;
	}
	snprintf(name, sizeof(name), "fd/%d", lfd);
	r = link_read(self, name, &f->link);
	if (r == 0) {
		snprintf(name, sizeof(name), "fdinfo/%d", lfd);
		r = fd_read_file_at(self, name, FDINFO_MAX, &f->fdinfo, NULL);
	}
	if (r < 0) {
		err_sys(e, r, "/proc/self/%s", name);
		goto fail;
	}
	r = ofile_parse(f, e);
	if (r < 0)
		goto fail;
	f->lfd = lfd;
	*ret = f;
	return 0;
fail:
	ofile_free(f);
	return r;
}

/* The ofile of a path that we opened ourselves before, with the same way of access. */
static struct ofile *path_find(const struct table_bucket *b, const struct stat *st, unsigned flags,
			       int mnt_id)
{
	for (size_t i = 0; i < b->n; i++) {
		struct ofile *f = b->list[i];

		if (f->fd < 0 && f->st.st_ino == st->st_ino && f->st.st_dev == st->st_dev &&
		    f->mnt_id == mnt_id && f->flags == flags)
			return f;
	}
	return NULL;
}

struct ofile *dump_ofile_known(struct dump *d, int dir, const char *name)
{
	const unsigned want = STATX_BASIC_STATS | STATX_MNT_ID;
	struct table *tb = dump_table(d);
	struct statx x;
	struct stat st;

	if (!tb || statx(dir, name, AT_NO_AUTOMOUNT, want, &x) < 0 || !(x.stx_mask & STATX_MNT_ID))
		return NULL;
	st.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor);
	st.st_ino = x.stx_ino;
	return path_find(&tb->buckets[bucket_of(st.st_dev, st.st_ino, 0)], &st, O_PATH, (int)x.stx_mnt_id);
}

static int foreign_add(struct dump *d, struct task *holder, int lfd_, bool by_path,
		       struct ofile **ret, struct err *e)
{
	auto_fd int lfd = lfd_;
	struct table *tb;
	struct table_bucket *b;
	struct ofile *f = NULL, *old;
	struct stat st;
	size_t at;
	bool found;
	int r;

	r = dump_table_collect(d, e);
	if (r < 0)
		return r;
	tb = dump_table(d);
	if (fstat(lfd, &st) < 0)
		return err_sys(e, -errno, "fstat of a file in use");
	r = foreign_new(holder, lfd, &st, &f, e);
	if (r < 0)
		return r;
	b = &tb->buckets[bucket_of(st.st_dev, st.st_ino, more_of(f->fdinfo))];
	r = bucket_find(b, lfd, &at, &found);
	fd_take(&lfd);
	if (r < 0 || found) {
		ofile_free(f);
		if (r < 0)
			return err_sys(e, r, "kcmp");
		*ret = b->list[at];
		return 0;
	}
	old = by_path ? path_find(b, &st, f->flags, f->mnt_id) : NULL;
	if (old) {
		ofile_free(f);
		*ret = old;
		return 0;
	}
	r = ofile_add(d, b, at, f, e);
	if (r < 0) {
		ofile_free(f);
		return r;
	}
	*ret = f;
	/* Within a capture the loop that called the kind comes to this file by itself. */
	return tb->capturing && !tb->in_loop ? dump_capture_from(d, tb, e) : 0;
}

int dump_ofile_of(struct dump *d, struct task *holder, int lfd, struct ofile **ret, struct err *e)
{
	return foreign_add(d, holder, lfd, false, ret, e);
}

int dump_ofile_of_path(struct dump *d, struct task *holder, int lfd, struct ofile **ret,
		       struct err *e)
{
	return foreign_add(d, holder, lfd, true, ret, e);
}

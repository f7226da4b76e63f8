/* ghost - deleted files that are still open or mapped.
 *
 * State: content, owner, mode, times of an inode without a name; which open files share it.
 * Read: the engine's descriptor, reopened for reading; SEEK_DATA keeps holes. Content goes into
 * records, up to a limit (64 MiB, or $GODWIT_GHOST_LIMIT), because rsync cannot see the file.
 * Back: created by the init's agent (in a user namespace of its own only an id of the container may
 * own a new file, and the engine's root is none) in the folder where it was, with its old name
 * if that is free, and unlinked at once; each open file is another open of it by /proc/self/fd.
 * Not covered: extended attributes; files above the limit, which are refused by name. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/ghost.h"
#include "cr/file/table.h"

#include "ghost-file.pb-c.h"
#include "remap-file-path.pb-c.h"

#define BLOB_MAX (1u << 20)

static uint64_t ghost_limit(const struct dump *d)
{
	const char *s = getenv("GODWIT_GHOST_LIMIT");
	uint64_t v;

	if (d->opts)
		return d->opts->ghost_limit ? d->opts->ghost_limit : CHECKPOINT_GHOST_LIMIT;
	return s && parse_size(s, &v) == 0 ? v : GHOST_LIMIT_DEFAULT;
}

int ghost_check(struct dump *d, struct ofile *f, struct err *e)
{
	uint64_t bytes = (uint64_t)f->st.st_blocks * 512;

	if (!S_ISREG(f->st.st_mode) || bytes <= ghost_limit(d))
		return 0;
	if (ofile_refuse(d, f, "deleted file",
			 "%s is open and has no name any more, and its %llu KiB are more than the "
			 "limit of %llu KiB "
			 "(%s)",
			 f->link, (unsigned long long)(bytes >> 10),
			 (unsigned long long)(ghost_limit(d) >> 10),
			 d->opts ? "--ghost-limit" : "GODWIT_GHOST_LIMIT") < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 1;
}

static int blob_put(struct dump *d, uint32_t id, uint64_t offset, void *data, size_t len,
		    struct err *e)
{
	GwBlob b = GW_BLOB__INIT;

	b.has_data = 1;
	b.data.data = data;
	b.data.len = len;
	b.has_offset = 1;
	b.offset = offset;
	return sink_put(d->sink, REC_GW_BLOB, id, &b.base, e);
}

static int range_put(struct dump *d, int fd, uint64_t at, uint64_t end, uint32_t id, void *buf,
		     struct err *e)
{
	while (at < end) {
		size_t want = end - at < BLOB_MAX ? (size_t)(end - at) : BLOB_MAX;
		ssize_t n = pread(fd, buf, want, (off_t)at);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, -errno, "reading a file without a name");
		if (n == 0)
			return 0;
		r = blob_put(d, id, at, buf, (size_t)n, e);
		if (r < 0)
			return r;
		at += (uint64_t)n;
	}
	return 0;
}

int content_put(struct dump *d, int fd, uint64_t size, uint32_t id, struct err *e)
{
	auto_free void *buf = malloc(BLOB_MAX);
	uint64_t at = 0;
	int r = 0;

	if (!buf)
		return err_sys(e, -ENOMEM, "reading a file");
	while (r == 0 && at < size) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (data < 0 || hole < 0) /* a file system that knows of no holes */
			return range_put(d, fd, at, size, id, buf, e);
		r = range_put(d, fd, (uint64_t)data, (uint64_t)hole < size ? (uint64_t)hole : size,
			      id, buf, e);
		at = (uint64_t)hole;
	}
	return r;
}

/* ---- dump ---- */

/* The first open file of this inode lends its id to the ghost. */
static uint32_t ghost_id(struct dump *d, const struct ofile *f)
{
	uint32_t id = f->id;

	for (const struct ofile *o = NULL; (o = dump_inode_next(d, f->st.st_dev, f->st.st_ino, o));)
		if (o->kind == f->kind && o->id < id)
			id = o->id;
	return id;
}

static int ghost_write(struct dump *d, struct ofile *f, uint32_t id, struct err *e)
{
	GhostFileEntry ge = GHOST_FILE_ENTRY__INIT;
	Timeval at = TIMEVAL__INIT, mt = TIMEVAL__INIT;
	const struct idmap *map = dump_idmap(d, e);
	auto_fd int fd = -1;
	char path[48];
	struct stat st;
	int r;

	if (!map)
		return -EIO;
	if (fstat(f->lfd, &st) < 0)
		return err_sys(e, -errno, "%s", f->link);
	idmap_uid_in(map, st.st_uid, &ge.uid);
	idmap_gid_in(map, st.st_gid, &ge.gid);
	ge.mode = st.st_mode;
	ge.has_ino = 1;
	ge.ino = st.st_ino;
	ge.has_size = 1;
	ge.size = (uint64_t)st.st_size;
	at.tv_sec = (uint64_t)st.st_atim.tv_sec;
	at.tv_usec = (uint64_t)st.st_atim.tv_nsec / 1000;
	mt.tv_sec = (uint64_t)st.st_mtim.tv_sec;
	mt.tv_usec = (uint64_t)st.st_mtim.tv_nsec / 1000;
	ge.atim = &at;
	ge.mtim = &mt;
	r = sink_put(d->sink, REC_GHOST_FILE, id, &ge.base, e);
	if (r < 0 || !S_ISREG(st.st_mode))
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->lfd);
	fd = open(path, O_RDONLY | O_NOATIME | O_CLOEXEC);
	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "reading %s", f->link);
	return content_put(d, fd, ge.size, id, e);
}

int ghost_capture(struct dump *d, struct ofile *f, struct err *e)
{
	RemapFilePathEntry re = REMAP_FILE_PATH_ENTRY__INIT;
	uint32_t id = ghost_id(d, f);
	int r = 0;

	if (id == f->id)
		r = ghost_write(d, f, id, e);
	if (r < 0)
		return r;
	re.orig_id = f->id;
	re.remap_id = id;
	re.has_remap_type = 1;
	re.remap_type = REMAP_TYPE__GHOST;
	return sink_put(d->sink, REC_REMAP_FPATH, f->id, &re.base, e);
}

/* ---- restore ---- */

struct ghost {
	uint32_t id;
	int fd;
};
struct ghosts {
	struct ghost *list;
	size_t n, cap;
};

int content_get(struct restore *r, size_t pos, uint32_t id, int fd, uint64_t size, struct err *e)
{
	for (; pos < image_count(r->image); pos++) {
		const struct record *rec = image_at(r->image, pos);
		const GwBlob *b = (const GwBlob *)rec->msg;
		size_t done = 0;

		if (rec->kind != REC_GW_BLOB || rec->id != id)
			return 0;
		if (b->offset > size || b->data.len > size - b->offset)
			return err_set(e, -EINVAL, "content of file %u goes beyond its end", id);
		while (done < b->data.len) {
			ssize_t n = pwrite(fd, b->data.data + done, b->data.len - done,
					   (off_t)(b->offset + done));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return err_sys(e, n < 0 ? -errno : -EIO,
					       "writing content of file %u", id);
			done += (size_t)n;
		}
	}
	return 0;
}

/* Creates and unlinks a file (or folder) at path as the container's init; *ret_fd is ours. */
static int nameless_make(struct restore *r, const char *path, bool dir, int *ret_fd, struct err *e)
{
	struct agent *a = r->tasks[0]->agent;
	struct aprog *p = aprog_new();
	uint64_t at = (uint64_t)AT_FDCWD;
	struct aarg name;
	size_t op;
	long number;
	int got;

	if (!p)
		return err_sys(e, -ENOMEM, "a file without a name");
	name = aprog_str(p, path);
	if (dir) {
		APROG_CALL(p, 0, SYS_mkdirat, aarg_imm(at), name, aarg_imm(0700));
		op = APROG_CALL(p, AOP_MAY_FAIL, SYS_openat, aarg_imm(at), name,
				aarg_imm(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
				aarg_imm(0));
	} else {
		op = APROG_CALL(
			p, 0, SYS_openat, aarg_imm(at), name,
			aarg_imm(O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY),
			aarg_imm(0600));
	}
	APROG_CALL(p, 0, SYS_unlinkat, aarg_imm(at), name, aarg_imm(dir ? AT_REMOVEDIR : 0));
	got = agent_run(a, p, e);
	number = got < 0 ? got : aprog_result(p, op);
	aprog_free(p);
	if (got < 0)
		return got;
	if (number < 0)
		return err_sys(e, (int)number, "opening %s", path);
	got = agent_get_fd(a, (int)number, ret_fd, e);
	if (got < 0)
		return got;
	return AGENT_CALL(a, NULL, e, SYS_close, (uint64_t)number);
}

/* At its old name, beside it, or where there is any room. */
static int ghost_place(struct restore *r, uint32_t id, const char *name, bool dir, int *ret_fd,
		       struct err *e)
{
	const char *slash = strrchr(name, '/');
	char path[PATH_MAX];
	int got;

	if (!slash || strlen(name) >= PATH_MAX - 48)
		return err_set(e, -EINVAL, "file %u has no proper path", id);
	got = nameless_make(r, name, dir, ret_fd, e);
	for (unsigned i = 0; got == -EEXIST && i < 100; i++) {
		snprintf(path, sizeof(path), "%.*s/.deleted-%u-%u", (int)(slash - name), name, id,
			 i);
		got = nameless_make(r, path, dir, ret_fd, e);
	}
	if (got == -ENOENT || got == -ENOTDIR) { /* its folder is gone as well */
		snprintf(path, sizeof(path), "/.deleted-%u", id);
		got = nameless_make(r, path, dir, ret_fd, e);
	}
	return got < 0 ? err_context(e, got, "making the deleted file %s", name) : 0;
}

/* A file that was made by O_TMPFILE can be linked later; one that was unlinked cannot. */
static int tmpfile_place(struct restore *r, const char *name, int *ret_fd, struct err *e)
{
	const char *slash = strrchr(name, '/');
	char dir[PATH_MAX];

	if (!slash || strlen(name) >= PATH_MAX)
		return err_set(e, -EINVAL, "%s is no proper path", name);
	snprintf(dir, sizeof(dir), "%.*s", slash == name ? 1 : (int)(slash - name), name);
	return rfile_open_in_task(r->tasks[0], dir, O_TMPFILE | O_RDWR, ret_fd, e);
}

static int ghost_fill(struct restore *r, const GhostFileEntry *ge, size_t pos, uint32_t id, int fd,
		      struct err *e)
{
	const struct idmap *map = restore_idmap(r, e);
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
	uid_t uid;
	gid_t gid;
	int got = 0;

	if (!map)
		return -EIO;
	if (S_ISREG(ge->mode)) {
		if (ge->size > INT64_MAX || ftruncate(fd, (off_t)ge->size) < 0)
			return err_sys(e, -errno, "size of deleted file %u", id);
		got = content_get(r, pos, id, fd, ge->size, e);
	}
	if (got < 0)
		return got;
	idmap_uid_out(map, ge->uid, &uid);
	idmap_gid_out(map, ge->gid, &gid);
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, ge->mode & 07777) < 0)
		return err_sys(e, -errno, "owner and mode of deleted file %u", id);
	if (ge->atim)
		ts[0] = (struct timespec){ (time_t)ge->atim->tv_sec,
					   (long)ge->atim->tv_usec % 1000000 * 1000 };
	if (ge->mtim)
		ts[1] = (struct timespec){ (time_t)ge->mtim->tv_sec,
					   (long)ge->mtim->tv_usec % 1000000 * 1000 };
	if (futimens(fd, ts) < 0)
		return err_sys(e, -errno, "times of deleted file %u", id);
	return 0;
}

int ghost_open(struct restore *r, uint32_t id, const char *name, bool tmpfile, struct err *e)
{
	struct rtable *rt = restore_table(r);
	const struct record *rec = image_find(r->image, REC_REMAP_FPATH, id, NULL);
	const RemapFilePathEntry *re = rec ? (const RemapFilePathEntry *)rec->msg : NULL;
	const GhostFileEntry *ge;
	struct ghosts *gs = rt->ghosts;
	auto_fd int fd = -1;
	size_t pos = 0;
	int got;

	if (!re || (re->has_remap_type && re->remap_type != REMAP_TYPE__GHOST))
		return -ENOENT;
	for (size_t i = 0; gs && i < gs->n; i++)
		if (gs->list[i].id == re->remap_id)
			return gs->list[i].fd;
	rec = image_find(r->image, REC_GHOST_FILE, re->remap_id, &pos);
	ge = rec ? (const GhostFileEntry *)rec->msg : NULL;
	if (!ge || !(S_ISREG(ge->mode) || S_ISDIR(ge->mode)))
		return err_set(e, -EINVAL, "deleted file %u has no content in the records", id);
	if (!gs)
		gs = rt->ghosts = calloc(1, sizeof(*gs));
	if (!gs || array_grow(gs->list, gs->n, gs->cap) < 0)
		return err_sys(e, -ENOMEM, "deleted files");
	got = tmpfile ? tmpfile_place(r, name, &fd, e) : -EOPNOTSUPP;
	if (got < 0)
		got = ghost_place(r, re->remap_id, name, S_ISDIR(ge->mode), &fd, e);
	if (got == 0)
		got = ghost_fill(r, ge, pos, re->remap_id, fd, e);
	if (got < 0)
		return got;
	gs->list[gs->n++] = (struct ghost){ re->remap_id, fd };
	return fd_take(&fd);
}

void ghosts_done(struct restore *r)
{
	struct rtable *rt = restore_table(r);
	struct ghosts *gs = rt ? rt->ghosts : NULL;

	if (!gs)
		return;
	for (size_t i = 0; i < gs->n; i++)
		fd_close(&gs->list[i].fd);
	free(gs->list);
	free(gs);
	rt->ghosts = NULL;
}

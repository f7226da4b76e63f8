/* pipe_restore - the part of pipe.c that puts pipes and fifos back, or puts what the caller gives in
 * their place. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/pipe.h"
#include "cr/file/table.h"

#include "pipe-data.pb-c.h"

/* The pipe itself: priv of the first file that has its id. */
struct rpipe {
	int rd, wr;		 /* -1: there are none, the caller gives it */
	bool rd_taken, wr_taken; /* the description that pipe2 made has its owner */
	bool filled;
};

static uint32_t pipe_id_of(const struct rfile *f)
{
	return f->fe->pipe ? f->fe->pipe->pipe_id : f->fe->fifo->pipe_id;
}

static unsigned flags_of(const struct rfile *f)
{
	return f->fe->pipe ? f->fe->pipe->flags : f->fe->reg->flags;
}

static const GwFile *extra_of(struct restore *r, const struct rfile *f)
{
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);

	return rec ? (const GwFile *)rec->msg : NULL;
}

/* ---- files by their pipe ---- */

static int by_pipe(const void *pa, const void *pb)
{
	const struct rfile *a = *(struct rfile *const *)pa, *b = *(struct rfile *const *)pb;
	uint32_t x = pipe_id_of(a), y = pipe_id_of(b);

	if (a->kind != b->kind)
		return a->kind == &file_kind_pipe ? -1 : 1;
	if (x != y)
		return x < y ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static bool is_record(const struct rfile *f)
{
	const FileEntry *fe = f->fe;

	if (f->kind == &file_kind_pipe)
		return fe->pipe && !fe->fifo;
	return fe->fifo && fe->reg && !fe->pipe && fe->reg->name[0] == '/' && strlen(fe->reg->name) < PATH_MAX;
}

/* Once, with the first of them. */
static int pipes_sort(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);

	if (rt->pipes)
		return 0;
	rt->pipes = calloc(r->n_files, sizeof(*rt->pipes));
	if (!rt->pipes)
		return err_sys(e, -ENOMEM, "pipes");
	for (size_t i = 0; i < r->n_files; i++) {
		struct rfile *f = r->files[i];

		if (f->kind != &file_kind_pipe && f->kind != &file_kind_fifo)
			continue;
		if (!is_record(f))
			return err_set(e, -EINVAL, "file %u: not the record of a %s", f->id, f->kind->name);
		rt->pipes[rt->n_pipes++] = f;
	}
	qsort(rt->pipes, rt->n_pipes, sizeof(*rt->pipes), by_pipe);
	return 0;
}

/* The position of the first file with f's pipe. */
static size_t first_at(struct restore *r, const struct rfile *f)
{
	const struct rtable *rt = restore_table(r);
	size_t lo = 0, hi = rt->n_pipes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct rfile *o = rt->pipes[mid];
		bool less = o->kind != f->kind ? o->kind == &file_kind_pipe : pipe_id_of(o) < pipe_id_of(f);

		if (less)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The next file of the same pipe; NULL: no more. */
static const struct rfile *next_of(struct restore *r, const struct rfile *f, size_t at)
{
	const struct rtable *rt = restore_table(r);

	if (at >= rt->n_pipes || rt->pipes[at]->kind != f->kind || pipe_id_of(rt->pipes[at]) != pipe_id_of(f))
		return NULL;
	return rt->pipes[at];
}

int pipe_load(struct restore *r, struct rfile *f, struct err *e)
{
	int got = pipes_sort(r, e);

	if (got < 0)
		return got;
	if (f->kind == &file_kind_fifo && f->fe->reg->ext && !r->opts)
		return err_set(e, -EINVAL, "file %u: a fifo from outside", f->id);
	return 0;
}

static bool is_packets(struct restore *r, const struct rfile *f)
{
	const struct rfile *o;

	for (size_t i = first_at(r, f); (o = next_of(r, f, i)); i++)
		if (flags_of(o) & O_DIRECT)
			return true;
	return false;
}

/* ---- content ---- */

static const PipeDataEntry *content_of(struct restore *r, const struct rfile *f, size_t *ret_pos)
{
	const struct record *rec;

	*ret_pos = 0;
	rec = image_find(r->image, f->kind == &file_kind_pipe ? REC_PIPES_DATA : REC_FIFO_DATA, pipe_id_of(f),
			 ret_pos);
	return rec ? (const PipeDataEntry *)rec->msg : NULL;
}

static int blobs_write(struct restore *r, const struct rfile *f, size_t pos, int wr, struct err *e)
{
	for (; pos < image_count(r->image); pos++) {
		const struct record *br = image_at(r->image, pos);
		const GwBlob *b = (const GwBlob *)br->msg;
		ssize_t n;

		if (br->kind != REC_GW_BLOB || br->id != pipe_id_of(f))
			break;
		n = write(wr, b->data.data, b->data.len);
		if (n < 0 || (size_t)n != b->data.len)
			return err_sys(e, n < 0 ? -errno : -EMSGSIZE, "content of %s %u",
				       f->kind->name, pipe_id_of(f));
	}
	return 0;
}

static int content_restore(struct restore *r, const struct rfile *f, int wr, struct err *e)
{
	size_t pos;
	const PipeDataEntry *pd = content_of(r, f, &pos);

	if (!pd)
		return err_set(e, -EINVAL, "%s %u: no record of its content", f->kind->name, pipe_id_of(f));
	if (pd->has_size && pd->size && pd->size != (uint32_t)fcntl(wr, F_GETPIPE_SZ) &&
	    fcntl(wr, F_SETPIPE_SZ, (int)pd->size) < 0)
		return err_sys(e, -errno, "a pipe of %u bytes", pd->size);
	return pd->bytes ? blobs_write(r, f, pos, wr, e) : 0;
}

/* What the tree had not read yet comes before all else, so only into an empty pipe: whoever was at the other
 * end may have kept the old one, with the bytes. */
static int given_fill(struct restore *r, const struct rfile *f, int fd, struct err *e)
{
	auto_fd int wr = -1;
	int waiting = 0;
	struct stat st;
	size_t pos;
	const PipeDataEntry *pd = content_of(r, f, &pos);

	if (!pd || !pd->bytes)
		return 0;
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && ioctl(fd, FIONREAD, &waiting) == 0 && !waiting)
		wr = rfile_reopen(r, fd, O_WRONLY | O_NONBLOCK);
	if (wr < 0) {
		log_warn("%u bytes that waited in %s %u are not put into what is given for it: it is no pipe, or not "
			 "empty", pd->bytes, f->kind->name, pipe_id_of(f));
		return 0;
	}
	return blobs_write(r, f, pos, wr, e);
}

/* ---- what the caller gives ---- */

/* NULL: no memory. */
static struct rpipe *rpipe_of(struct rfile *first)
{
	struct rpipe *rp = first->priv;

	if (!rp && (rp = first->priv = calloc(1, sizeof(*rp))))
		rp->rd = rp->wr = -1;
	return rp;
}

/* The descriptor itself, or where it cannot do what f needs another open file of the same. */
static int given_take(struct restore *r, struct rfile *f, int given, struct err *e)
{
	unsigned acc = flags_of(f) & O_ACCMODE;
	struct rfile *first = restore_table(r)->pipes[first_at(r, f)];
	struct rpipe *rp = rpipe_of(first);
	auto_fd int fd = given_allows(given, acc) ? fcntl(given, F_DUPFD_CLOEXEC, 3) :
						    rfile_reopen(r, given, acc | O_NONBLOCK);
	int got = 0;

	if (fd < 0)
		return err_sys(e, fd < -1 ? fd : -EBADF, "descriptor %d, given for %s %u, cannot be %s", given,
			       f->kind->name, pipe_id_of(f), acc == O_WRONLY ? "written" : "read");
	if (!given_allows(given, acc))
		got = rfile_set_flags(f, fd, flags_of(f), e);
	if (!rp)
		return err_sys(e, -ENOMEM, "a pipe");
	if (got == 0 && acc != O_WRONLY && !rp->filled) {
		rp->filled = true;
		got = given_fill(r, f, fd, e);
	}
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

/* ---- making ---- */

static int pipe_make(struct restore *r, struct rfile *f, struct err *e)
{
	const GwFile *gf = extra_of(r, f);
	const struct idmap *map = restore_idmap(r, e);
	struct rpipe *rp = rpipe_of(f);
	int p[2], got;
	uid_t uid;
	gid_t gid;

	if (!rp)
		return err_sys(e, -ENOMEM, "a pipe");
	if (!map)
		return -EIO;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK | (is_packets(r, f) ? O_DIRECT : 0)) < 0)
		return err_sys(e, -errno, "a pipe");
	rp->rd = p[0];
	rp->wr = p[1];
	got = content_restore(r, f, rp->wr, e);
	if (got < 0 || !gf)
		return got;
	idmap_uid_out(map, gf->uid, &uid);
	idmap_gid_out(map, gf->gid, &gid);
	if (fchown(rp->rd, uid, gid) < 0 || fchmod(rp->rd, gf->mode & 07777) < 0)
		return err_sys(e, -errno, "owner of a pipe");
	return 0;
}

/* The pipe of f, made if this is the first open file of it; NULL: *e. */
static struct rpipe *pipe_of(struct restore *r, struct rfile *f,
			     int (*make)(struct restore *, struct rfile *, struct err *),
			     struct err *e)
{
	struct rfile *first = restore_table(r)->pipes[first_at(r, f)];
	const struct rpipe *rp = first->priv;

	if ((!rp || rp->rd < 0) && make(r, first, e) < 0)
		return NULL;
	return first->priv;
}

int pipe_build(struct restore *r, struct rfile *f, struct err *e)
{
	unsigned acc = flags_of(f) & O_ACCMODE;
	int given = given_pipe(r->opts, pipe_id_of(f), acc), got;
	const GwFile *gf = extra_of(r, f);
	struct rpipe *rp;
	auto_fd int fd = -1;

	if (given >= 0)
		return given_take(r, f, given, e);
	if (gf && gf->outside)
		return err_set(e, -ENOENT, "pipe[%u] had its other end outside of the tree, and has to be given "
			       "(--inherit-fd fd[N]:pipe[%u])", pipe_id_of(f), pipe_id_of(f));
	rp = pipe_of(r, f, pipe_make, e);
	if (!rp)
		return e->code;
	if (acc == O_RDONLY && !rp->rd_taken) {
		rp->rd_taken = true;
		fd = fcntl(rp->rd, F_DUPFD_CLOEXEC, 3);
	} else if (acc == O_WRONLY && !rp->wr_taken) {
		rp->wr_taken = true;
		fd = fcntl(rp->wr, F_DUPFD_CLOEXEC, 3);
	} else {
		fd = rfile_reopen(r, rp->rd, acc | O_NONBLOCK);
		if (fd < 0)
			return err_sys(e, fd, "opening a pipe again");
	}
	if (fd < 0)
		return err_sys(e, -errno, "a pipe");
	got = rfile_set_flags(f, fd, flags_of(f), e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

/* A fifo without writers that no reader has seen hang up must not get a writer now, not even for
 * a moment: its reader would find POLLHUP for ever. */
static int fifo_make(struct restore *r, struct rfile *f, struct err *e)
{
	const GwFile *gf = extra_of(r, f);
	struct rpipe *rp = rpipe_of(f);
	auto_fd int path = -1;
	struct stat st;
	int got;

	if (!rp)
		return err_sys(e, -ENOMEM, "a fifo");
	path = fd_open_in_root(r->root_fd, f->fe->reg->name, O_PATH | O_NOFOLLOW, 0);
	if (path < 0)
		return err_sys(e, path, "%s", f->fe->reg->name);
	if (fstat(path, &st) < 0 || !S_ISFIFO(st.st_mode))
		return err_set(e, -ESTALE, "%s is no fifo here", f->fe->reg->name);
	got = rfile_reopen(r, path, (gf && gf->no_hangup ? O_RDONLY : O_RDWR) | O_NONBLOCK);
	if (got < 0)
		return err_sys(e, got, "opening %s", f->fe->reg->name);
	rp->rd = got;
	if (gf && gf->no_hangup)
		return 0;
	rp->wr = fcntl(rp->rd, F_DUPFD_CLOEXEC, 3);
	if (rp->wr < 0)
		return err_sys(e, -errno, "a fifo");
	if (is_packets(r, f) && fcntl(rp->wr, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return err_sys(e, -errno, "packets of a fifo");
	/* With somebody outside the fifo may still be there, with its bytes. */
	return gf && gf->outside ? given_fill(r, f, rp->rd, e) : content_restore(r, f, rp->wr, e);
}

int fifo_build(struct restore *r, struct rfile *f, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;
	int given = given_file(r->opts, re->name, re->flags & O_ACCMODE), got;
	struct rpipe *rp;
	auto_fd int fd = -1;

	if (given >= 0)
		return given_take(r, f, given, e);
	if (re->ext)
		return err_set(e, -ENOENT, "%s comes from outside and has to be given (--inherit-fd fd[N]:%s)",
			       re->name + 1, re->name + 1);
	rp = pipe_of(r, f, fifo_make, e);
	if (!rp)
		return e->code;
	/* Non-blocking, so that the engine never waits for the other end. */
	fd = rfile_reopen(r, rp->rd, (flags_of(f) & O_ACCMODE) | O_NONBLOCK);
	if (fd < 0)
		return err_sys(e, fd, "opening %s", f->fe->reg->name);
	got = rfile_set_flags(f, fd, flags_of(f), e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

int pipe_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const FownEntry *own = f->fe->pipe ? f->fe->pipe->fown : f->fe->reg->fown;
	struct rpipe *rp = f->priv;

	if (rp) {
		fd_close(&rp->rd);
		fd_close(&rp->wr);
	}
	return fown_restore(r, f, own, flags_of(f), e);
}

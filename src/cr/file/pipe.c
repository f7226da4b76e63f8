/* pipe - pipes and fifos.
 *
 * State: which open files are ends of the same pipe, its size, the bytes in it, the inode's owner
 * (a container's root reopens /dev/stdout, which is a pipe).
 * Read: tee into a pipe of our own, which takes nothing away; packets (O_DIRECT) come out one by
 * one.
 * Back: the engine makes the pipe, writes the bytes, hands out the ends; further open files of an
 * end are reopened by /proc/self/fd. An end that nobody in the container holds is closed with the
 * engine's last descriptor, so that end-of-file and EPIPE are as they were.
 * Refused: a pipe whose other end is outside of the container. Not covered: bytes that nobody can
 * read (no reader is left). */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"
#include "cr/sock/sock.h"

#include "pipe-data.pb-c.h"

static bool can_read(unsigned flags)
{
	return (flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(unsigned flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static bool is_anonymous(const struct ofile *f)
{
	return str_starts(f->link, "pipe:[");
}

static bool pipe_recognise(const struct ofile *f)
{
	return S_ISFIFO(f->st.st_mode) && !(f->flags & O_PATH) && is_anonymous(f);
}

static bool fifo_recognise(const struct ofile *f)
{
	return S_ISFIFO(f->st.st_mode) && !(f->flags & O_PATH) && f->link[0] == '/';
}

/* What the container holds of one pipe. */
struct ends {
	bool reader, writer, packets;
	uint32_t id; /* lowest file id: that of the pipe */
	const struct ofile *read_end;
};

static struct ends ends_of(struct dump *d, const struct ofile *f)
{
	struct ends x = { .id = f->id };

	for (const struct ofile *o = NULL;
	     (o = dump_inode_next(d, f->st.st_dev, f->st.st_ino, o));) {
		if (o->flags & O_PATH)
			continue;
		x.packets = x.packets || (o->flags & O_DIRECT);
		x.writer = x.writer || can_write(o->flags);
		if (can_read(o->flags)) {
			x.reader = true;
			x.read_end = o;
		}
		if (o->id < x.id)
			x.id = o->id;
	}
	return x;
}

static short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static int pipe_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct ends x = ends_of(d, f);
	short now = poll_now(f->lfd);
	const char *who = NULL;

	if (!x.writer && !(now & POLLHUP))
		who = "writes into";
	else if (!x.reader && !(now & POLLERR))
		who = "reads from";
	/* The other end may be on its way through a unix socket. */
	if (who && sock_in_flight(d))
		who = NULL;
	if (who &&
	    ofile_refuse(d, f, "pipe", "somebody outside of the container %s %s", who, f->link) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static int fifo_check(struct dump *d, struct ofile *f, struct err *e)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, f->link, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->st.st_dev &&
	    st.st_ino == f->st.st_ino)
		return 0;
	if (ofile_refuse(d, f, "fifo",
			 "%s does not lead to it inside the container (deleted, or outside)",
			 f->link) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

/* ---- content ---- */

static int copy_make(int lfd, int size, int p[2], struct err *e)
{
	int r;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK | O_DIRECT) < 0)
		return err_sys(e, -errno, "a pipe");
	if (fcntl(p[1], F_SETPIPE_SZ, size) < 0)
		r = err_sys(e, -errno, "a pipe of %d bytes for the content of another", size);
	else if (tee(lfd, p[1], 1 << 30, SPLICE_F_NONBLOCK) < 0 && errno != EAGAIN)
		r = err_sys(e, -errno, "tee");
	else
		return 0;
	close(p[0]);
	close(p[1]);
	return r;
}

static int bytes_put(struct dump *d, uint32_t id, int fd, bool packets, size_t want, struct err *e)
{
	auto_free char *buf = malloc(want + 1);
	size_t have = 0;

	if (!buf)
		return err_sys(e, -ENOMEM, "content of a pipe");
	while (have < want) {
		GwBlob b = GW_BLOB__INIT;
		ssize_t n = read(fd, buf + have, want - have);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EIO, "%zu bytes in a pipe, but only %zu could be read",
				       want, have);
		have += (size_t)n;
		if (!packets && have < want)
			continue;
		b.has_data = 1;
		b.data.data = (uint8_t *)buf + (packets ? have - (size_t)n : 0);
		b.data.len = packets ? (size_t)n : have;
		r = sink_put(d->sink, REC_GW_BLOB, id, &b.base, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int content_write(struct dump *d, const struct ends *x, enum rec_kind kind,
			 const struct ofile *f, struct err *e)
{
	PipeDataEntry pd = PIPE_DATA_ENTRY__INIT;
	int size = fcntl(f->lfd, F_GETPIPE_SZ), bytes = 0, p[2], r;

	if (size < 0)
		return err_sys(e, -errno, "size of %s", f->link);
	if (x->read_end && ioctl(x->read_end->lfd, FIONREAD, &bytes) < 0)
		return err_sys(e, -errno, "bytes in %s", f->link);
	pd.pipe_id = x->id;
	pd.bytes = (uint32_t)bytes;
	pd.has_size = 1;
	pd.size = (uint32_t)size;
	r = sink_put(d->sink, kind, x->id, &pd.base, e);
	if (r < 0 || bytes == 0)
		return r;
	r = copy_make(x->read_end->lfd, size, p, e);
	if (r < 0)
		return r;
	r = bytes_put(d, x->id, p[0], x->packets, (size_t)bytes, e);
	close(p[0]);
	close(p[1]);
	return r;
}

static int extra_put(struct dump *d, const struct ofile *f, const struct ends *x, struct err *e)
{
	const struct idmap *map = dump_idmap(d, e);
	GwFile gf = GW_FILE__INIT;

	if (!map)
		return -EIO;
	gf.has_uid = gf.has_gid = gf.has_mode = gf.has_no_hangup = 1;
	idmap_uid_in(map, f->st.st_uid, &gf.uid);
	idmap_gid_in(map, f->st.st_gid, &gf.gid);
	gf.mode = f->st.st_mode;
	gf.no_hangup = !x->writer && can_read(f->flags) && !(poll_now(f->lfd) & (POLLHUP | POLLIN));
	return sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int pipe_capture(struct dump *d, struct ofile *f, struct err *e)
{
	struct ends x = ends_of(d, f);
	FileEntry fe = FILE_ENTRY__INIT;
	PipeEntry pe = PIPE_ENTRY__INIT;
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	pe.id = f->id;
	pe.pipe_id = x.id;
	pe.flags = f->flags;
	pe.fown = &own;
	fe.pipe = &pe;
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = extra_put(d, f, &x, e);
	return r == 0 && x.id == f->id ? content_write(d, &x, REC_PIPES_DATA, f, e) : r;
}

static int fifo_capture(struct dump *d, struct ofile *f, struct err *e)
{
	struct ends x = ends_of(d, f);
	FileEntry fe = FILE_ENTRY__INIT;
	FifoEntry fi = FIFO_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	fi.id = f->id;
	fi.pipe_id = x.id;
	re.id = f->id;
	re.flags = f->flags;
	re.fown = &own;
	re.name = f->link;
	re.has_mode = 1;
	re.mode = f->st.st_mode;
	fe.fifo = &fi;
	fe.reg = &re;
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = extra_put(d, f, &x, e);
	return r == 0 && x.id == f->id ? content_write(d, &x, REC_FIFO_DATA, f, e) : r;
}

/* ---- restore ---- */

/* The pipe itself: priv of the rfile whose id it has. */
struct rpipe {
	int rd, wr;
	bool rd_given, wr_given; /* the description that pipe2 made has its owner */
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

static int pipe_load(struct restore *r, struct rfile *f, struct err *e)
{
	bool anon = f->kind == &file_kind_pipe;
	const struct rfile *first;

	if (anon ? !f->fe->pipe
		 : !f->fe->fifo || !f->fe->reg || f->fe->reg->name[0] != '/' ||
			    strlen(f->fe->reg->name) >= PATH_MAX)
		return err_set(e, -EINVAL, "file %u: not the record of a %s", f->id, f->kind->name);
	first = restore_file(r, pipe_id_of(f));
	if (!first || first->kind != f->kind || first->id > f->id)
		return err_set(e, -EINVAL, "file %u: %s %u is not there", f->id, f->kind->name,
			       pipe_id_of(f));
	return 0;
}

static int content_restore(struct restore *r, const struct rfile *f, int wr, struct err *e)
{
	enum rec_kind kind = f->kind == &file_kind_pipe ? REC_PIPES_DATA : REC_FIFO_DATA;
	size_t pos = 0;
	const struct record *rec = image_find(r->image, kind, f->id, &pos);
	const PipeDataEntry *pd = rec ? (const PipeDataEntry *)rec->msg : NULL;

	if (!pd)
		return err_set(e, -EINVAL, "%s %u: no record of its content", f->kind->name, f->id);
	if (pd->has_size && pd->size && pd->size != (uint32_t)fcntl(wr, F_GETPIPE_SZ) &&
	    fcntl(wr, F_SETPIPE_SZ, (int)pd->size) < 0)
		return err_sys(e, -errno, "a pipe of %u bytes", pd->size);
	if (!pd->bytes)
		return 0;
	for (; pos < image_count(r->image); pos++) {
		const struct record *br = image_at(r->image, pos);
		const GwBlob *b = (const GwBlob *)br->msg;
		ssize_t n;

		if (br->kind != REC_GW_BLOB || br->id != f->id)
			break;
		n = write(wr, b->data.data, b->data.len);
		if (n < 0 || (size_t)n != b->data.len)
			return err_sys(e, n < 0 ? -errno : -EMSGSIZE, "content of %s %u",
				       f->kind->name, f->id);
	}
	return 0;
}

static bool is_packets(struct restore *r, uint32_t id)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const struct rfile *f = r->files[i];

		if ((f->kind == &file_kind_pipe || f->kind == &file_kind_fifo) &&
		    pipe_id_of(f) == id && (flags_of(f) & O_DIRECT))
			return true;
	}
	return false;
}

static int pipe_make(struct restore *r, struct rfile *f, struct err *e)
{
	const GwFile *gf = extra_of(r, f);
	const struct idmap *map = restore_idmap(r, e);
	struct rpipe *rp = calloc(1, sizeof(*rp));
	int p[2], got;
	uid_t uid;
	gid_t gid;

	if (!rp)
		return err_sys(e, -ENOMEM, "a pipe");
	f->priv = rp;
	if (!map)
		return -EIO;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK | (is_packets(r, f->id) ? O_DIRECT : 0)) < 0)
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
	struct rfile *first = restore_file(r, pipe_id_of(f));

	if (!first->priv && make(r, first, e) < 0)
		return NULL;
	return first->priv;
}

static int pipe_build(struct restore *r, struct rfile *f, struct err *e)
{
	struct rpipe *rp = pipe_of(r, f, pipe_make, e);
	unsigned acc = flags_of(f) & O_ACCMODE;
	auto_fd int fd = -1;
	int got;

	if (!rp)
		return e->code;
	if (acc == O_RDONLY && !rp->rd_given) {
		rp->rd_given = true;
		fd = fcntl(rp->rd, F_DUPFD_CLOEXEC, 3);
	} else if (acc == O_WRONLY && !rp->wr_given) {
		rp->wr_given = true;
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
	struct rpipe *rp = calloc(1, sizeof(*rp));
	auto_fd int path = -1;
	struct stat st;
	int got;

	if (!rp)
		return err_sys(e, -ENOMEM, "a fifo");
	f->priv = rp;
	rp->rd = rp->wr = -1;
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
	if (is_packets(r, f->id) && fcntl(rp->wr, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return err_sys(e, -errno, "packets of a fifo");
	return content_restore(r, f, rp->wr, e);
}

static int fifo_build(struct restore *r, struct rfile *f, struct err *e)
{
	struct rpipe *rp = pipe_of(r, f, fifo_make, e);
	auto_fd int fd = -1;
	int got;

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

static int pipe_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const FownEntry *own = f->fe->pipe ? f->fe->pipe->fown : f->fe->reg->fown;
	struct rpipe *rp = f->priv;

	if (rp) {
		fd_close(&rp->rd);
		fd_close(&rp->wr);
	}
	return fown_restore(r, f, own, flags_of(f), e);
}

const struct file_kind file_kind_pipe = {
	.name = "pipe",
	.type = FD_TYPES__PIPE,
	.recognise = pipe_recognise,
	.check = pipe_check,
	.capture = pipe_capture,
	.load = pipe_load,
	.build = pipe_build,
	.placed = pipe_placed,
};

const struct file_kind file_kind_fifo = {
	.name = "fifo",
	.type = FD_TYPES__FIFO,
	.recognise = fifo_recognise,
	.check = fifo_check,
	.capture = fifo_capture,
	.load = pipe_load,
	.build = fifo_build,
	.placed = pipe_placed,
};

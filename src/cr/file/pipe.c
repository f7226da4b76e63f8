/* pipe - pipes and fifos.
 *
 * State: which open files are ends of the same pipe, its size, the bytes in it, the inode's owner
 * (a container's root reopens /dev/stdout, which is a pipe).
 * Read: tee into a pipe of our own, which takes nothing away; packets (O_DIRECT) come out one by
 * one.
 * Back: the engine makes the pipe, writes the bytes, hands out the ends; further open files of an
 * end are reopened by /proc/self/fd. An end that nobody in the container holds is closed with the
 * engine's last descriptor, so that end-of-file and EPIPE are as they were.
 * Refused: a pipe whose other end is outside of the container. In a checkpoint it may have a name
 * (--external pipe[INODE]; a fifo --external file[MNT_ID:INODE]): then the restore is given a pipe
 * (--inherit-fd), and bytes that were not read yet are put into it if it is empty. A fifo that is
 * not given is opened by its path, as before.
 * Not covered: bytes that nobody can read (no reader is left). */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/pipe.h"
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
	uint32_t id;	  /* lowest file id */
	uint32_t pipe_id; /* of the records: a pipe's inode, by which callers name it; a fifo's id */
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
	x.pipe_id = is_anonymous(f) ? (uint32_t)f->st.st_ino : x.id;
	return x;
}

static short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

/* A fifo that never had a writer does not say that it has none: a tee of nothing ends, or would wait. */
static bool has_writer(const struct ofile *f)
{
	ssize_t n = -1;
	int p[2];

	if (!is_anonymous(f) && pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0) {
		n = tee(f->lfd, p[1], 1, SPLICE_F_NONBLOCK);
		close(p[0]);
		close(p[1]);
	}
	return n != 0;
}

/* What somebody outside does with it; NULL: nobody is there. */
static const char *outside_does(const struct ofile *f, const struct ends *x)
{
	short now = poll_now(f->lfd);

	if (!x->writer && !(now & POLLHUP) && has_writer(f))
		return "writes into";
	return !x->reader && !(now & POLLERR) ? "reads from" : NULL;
}

static bool is_named(const struct dump *d, const struct ofile *f)
{
	return given_names_file(d->opts, f->mnt_id, f->st.st_ino) ||
	       (is_anonymous(f) && given_names_pipe(d->opts, f->st.st_ino));
}

static int outside_refuse(struct dump *d, const struct ofile *f, const char *who, struct err *e)
{
	int r;

	if (!d->opts)
		r = ofile_refuse(d, f, "pipe", "somebody outside of the container %s %s", who, f->link);
	else if (is_anonymous(f))
		r = ofile_refuse(d, f, "pipe",
				 "somebody outside of the tree %s %s: give it a name (--external pipe[%llu]) and the "
				 "restore another pipe (--inherit-fd fd[N]:pipe[%llu])",
				 who, f->link, (unsigned long long)f->st.st_ino, (unsigned long long)f->st.st_ino);
	else
		r = ofile_refuse(d, f, "fifo",
				 "somebody outside of the tree %s %s: give it a name (--external file[%x:%llx])", who,
				 f->link, (unsigned)f->mnt_id, (unsigned long long)f->st.st_ino);
	return r < 0 ? err_sys(e, r, "refusal") : 0;
}

static int pipe_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct ends x = ends_of(d, f);
	const char *who = outside_does(f, &x);

	/* The other end may be on its way through a unix socket. */
	if (!who || sock_in_flight(d) || is_named(d, f))
		return 0;
	return outside_refuse(d, f, who, e);
}

static bool fifo_leads(const struct dump *d, const struct ofile *f)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, f->link, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->st.st_dev && st.st_ino == f->st.st_ino;
}

static int fifo_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct ends x = ends_of(d, f);
	const char *who = d->opts ? outside_does(f, &x) : NULL;
	int r = 0;

	if (is_named(d, f))
		return 0;
	if (who && !sock_in_flight(d))
		return outside_refuse(d, f, who, e);
	if (!fifo_leads(d, f))
		r = ofile_refuse(d, f, "fifo",
				 "%s does not lead to it inside the container (deleted, or outside)", f->link);
	return r < 0 ? err_sys(e, r, "refusal") : 0;
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
	pd.pipe_id = x->pipe_id;
	pd.bytes = (uint32_t)bytes;
	pd.has_size = 1;
	pd.size = (uint32_t)size;
	r = sink_put(d->sink, kind, x->pipe_id, &pd.base, e);
	if (r < 0 || bytes == 0)
		return r;
	r = copy_make(x->read_end->lfd, size, p, e);
	if (r < 0)
		return r;
	r = bytes_put(d, x->pipe_id, p[0], x->packets, (size_t)bytes, e);
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
	/* While descriptors are in flight the check could not tell. */
	gf.outside = gf.has_outside = d->opts && outside_does(f, x);
	if (gf.outside && !is_named(d, f))
		return err_set(e, -EOPNOTSUPP, "somebody outside of the tree has the other end of %s", f->link);
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
	pe.pipe_id = x.pipe_id;
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
	char name[GIVEN_NAME_MAX];
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	fi.id = f->id;
	fi.pipe_id = x.pipe_id;
	re.id = f->id;
	re.flags = f->flags;
	re.fown = &own;
	re.name = f->link;
	if (is_named(d, f) && !fifo_leads(d, f)) {
		given_file_name(name, f->mnt_id, f->st.st_ino);
		re.name = name;
		re.ext = re.has_ext = 1;
	}
	re.has_mode = 1;
	re.mode = f->st.st_mode;
	fe.fifo = &fi;
	fe.reg = &re;
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = extra_put(d, f, &x, e);
	return r == 0 && x.id == f->id ? content_write(d, &x, REC_FIFO_DATA, f, e) : r;
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

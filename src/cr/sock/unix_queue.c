/* unix_queue - what waits to be read from a unix socket: bytes, message boundaries, descriptors in
 * flight, credentials, senders' addresses.
 *
 * Read: SO_PEEK_OFF = 0 and MSG_PEEK on our duplicate walk through the queue without disturbing it; the
 * offset is set back at once (it belongs to the socket, not to the descriptor).  Descriptors that come
 * along become open files of the dump like any other.
 * Put back: sent again, by the peer where there is one, with the credentials and descriptors.
 *
 * A stream gives the bytes in front of a message with descriptors in one piece with it.  Where exactly
 * the descriptors belong is found by asking again (queue_find_fds), so that a reader of a few bytes gets
 * them no earlier than before.
 *
 * Not covered: an out-of-band byte (refused); an empty datagram that an attempt before this one has
 * already looked at (the kernel skips it); credentials of a sender that is no longer alive are those of
 * process 0.  A pending ECONNRESET of a SOCK_SEQPACKET socket is consumed by reading its queue. */
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/unix.h"

#include "sk-packet.pb-c.h"

#define QUEUE_MSG_MAX (64u << 20)
#define QUEUE_FDS_MAX 253 /* the kernel's SCM_MAX_FD */
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* ---- reading ---- */

struct qmsg {
	char *data; /* room of the queue's, not owned */
	size_t len;
	bool truncated;
	int fds[QUEUE_FDS_MAX];
	size_t n_fds;
	bool has_cred;
	struct ucred cred;
	char addr[sizeof(struct sockaddr_un) + 1];
	size_t addr_len;
};

static void qmsg_close(struct qmsg *q)
{
	for (size_t i = 0; i < q->n_fds; i++)
		fd_close(&q->fds[i]);
	q->n_fds = 0;
}

static void qmsg_control(struct qmsg *q, struct msghdr *mh)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t len = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS) {
			size_t n = len / sizeof(int);

			for (size_t i = 0; i < n; i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
				if (q->n_fds < QUEUE_FDS_MAX)
					q->fds[q->n_fds++] = fd;
				else
					close(fd);
			}
		} else if (c->cmsg_type == SCM_CREDENTIALS && len >= sizeof(q->cred)) {
			memcpy(&q->cred, CMSG_DATA(c), sizeof(q->cred));
			q->has_cred = true;
		} else if (c->cmsg_type == SCM_PIDFD && len >= sizeof(int)) {
			int fd; /* made for us by looking; the reader gets its own */

			memcpy(&fd, CMSG_DATA(c), sizeof(int));
			if (fd >= 0)
				close(fd);
		}
	}
}

/* One look at what follows the present offset.  1: filled; 0: nothing more; -errno. */
static int queue_peek(int fd, char *buf, size_t room, int flags, struct qmsg *ret)
{
	_Alignas(struct cmsghdr) char control[4096];
	struct iovec iov = { .iov_base = buf, .iov_len = room };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			     .msg_controllen = sizeof(control), .msg_name = ret->addr,
			     .msg_namelen = sizeof(struct sockaddr_un) };
	ssize_t n;

	ret->data = buf;
	ret->n_fds = 0;
	ret->has_cred = false;
	n = recvmsg(fd, &mh, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	qmsg_control(ret, &mh);
	ret->len = (size_t)n;
	ret->truncated = mh.msg_flags & MSG_TRUNC;
	ret->addr_len = mh.msg_namelen > sizeof(sa_family_t) ? mh.msg_namelen : 0;
	if (mh.msg_flags & MSG_CTRUNC) {
		qmsg_close(ret);
		return -EMFILE;
	}
	return 1;
}

static int scm_add(SkPacketEntry *pk, uint32_t type, const uint32_t *values, size_t n)
{
	ScmEntry **list = realloc(pk->scm, (pk->n_scm + 1) * sizeof(*list));
	ScmEntry *s;

	if (!list)
		return -ENOMEM;
	pk->scm = list;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	scm_entry__init(s);
	s->type = type;
	s->rights = malloc(n * sizeof(uint32_t));
	if (!s->rights) {
		free(s);
		return -ENOMEM;
	}
	memcpy(s->rights, values, n * sizeof(uint32_t));
	s->n_rights = n;
	list[pk->n_scm++] = s;
	return 0;
}

static int scm_add_fds(struct dump *d, struct ofile *f, struct qmsg *q, SkPacketEntry *pk, struct err *e)
{
	uint32_t ids[QUEUE_FDS_MAX];

	for (size_t i = 0; i < q->n_fds; i++) {
		struct ofile *of = NULL;
		int r = dump_ofile_of(d, f->task, fd_take(&q->fds[i]), &of, e);

		if (r < 0)
			return r;
		ids[i] = of->id;
	}
	return q->n_fds ? scm_add(pk, SCM_RIGHTS, ids, q->n_fds) : 0;
}

static int scm_add_cred(struct dump *d, struct qmsg *q, SkPacketEntry *pk, struct err *e)
{
	const struct idmap *m = dump_idmap(d, e);
	uint32_t v[3] = { 0 };
	struct task *t;

	if (!q->has_cred)
		return 0;
	if (!m)
		return e && e->code ? e->code : -EIO;
	t = q->cred.pid > 0 ? dump_task_by_pid(d, q->cred.pid) : NULL;
	v[0] = t ? (uint32_t)t->nspid : 0;
	(void)idmap_uid_in(m, q->cred.uid, &v[1]);
	(void)idmap_gid_in(m, q->cred.gid, &v[2]);
	return scm_add(pk, SCM_CREDENTIALS, v, 3);
}

static int queue_put(struct dump *d, struct ofile *f, struct qmsg *q, struct err *e)
{
	SkPacketEntry *pk = calloc(1, sizeof(*pk));
	GwBlob blob = GW_BLOB__INIT;
	int r;

	if (!pk)
		return err_sys(e, -ENOMEM, "queue of a unix socket");
	sk_packet_entry__init(pk);
	pk->id_for = f->id;
	pk->length = (uint32_t)q->len;
	r = scm_add_fds(d, f, q, pk, e);
	if (r >= 0)
		r = scm_add_cred(d, q, pk, e);
	if (r >= 0)
		r = sink_put(d->sink, REC_SK_QUEUES, f->id, &pk->base, e);
	sk_packet_entry__free_unpacked(pk, NULL);
	if (r < 0)
		return r;
	blob.has_data = true;
	blob.data.data = (uint8_t *)q->data;
	blob.data.len = q->len;
	if (q->addr_len) {
		blob.has_addr = true;
		blob.addr.data = (uint8_t *)q->addr;
		blob.addr.len = q->addr_len;
	}
	return sink_put(d->sink, REC_GW_BLOB, f->id, &blob.base, e);
}

/* Where in the n bytes from offset `start` the message with the descriptors begins.
 *
 * A look at fewer bytes does not tell: Linux (seen with 6.18) goes on to later messages with nothing left
 * to copy, and brings their descriptors.  But it copies message by message, and one that does not fit into
 * memory counts as not read at all: so the last of the n bytes lies where nothing can be written. */
static int queue_find_fds(int fd, size_t start, size_t n, size_t *ret)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
	char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	auto_free struct qmsg *q = calloc(1, sizeof(*q));
	int r;

	if (map == MAP_FAILED)
		return -errno;
	r = !q ? -ENOMEM : mprotect(map + room, page, PROT_NONE) < 0 ? -errno : 0;
	if (r == 0)
		r = sock_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, (int)start);
	if (r == 0) {
		r = queue_peek(fd, map + room - (n - 1), n, 0, q);
		if (r == -EFAULT) {
			q->len = 0;
			r = 0;
		}
	}
	munmap(map, room + page);
	if (r < 0)
		return r;
	qmsg_close(q);
	*ret = q->len;
	return q->len >= n ? -EIO : sock_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, (int)(start + n));
}

static int queue_split(struct dump *d, struct ofile *f, struct qmsg *q, size_t start, struct err *e)
{
	struct qmsg head = { .data = q->data, .has_cred = q->has_cred, .cred = q->cred };
	size_t at = 0;
	int r;

	r = queue_find_fds(f->lfd, start, q->len, &at);
	if (r < 0)
		return err_sys(e, r, "the queue of a unix socket cannot be read");
	if (at > 0) {
		head.len = at;
		r = queue_put(d, f, &head, e);
		if (r < 0)
			return r;
		q->data += head.len;
		q->len -= head.len;
	}
	return queue_put(d, f, q, e);
}

/* Room for the longest message so far; a longer one is looked at again. */
struct qroom {
	char *buf;
	size_t size;
};

static int qroom_grow(struct qroom *m, size_t size)
{
	char *p;

	if (size > QUEUE_MSG_MAX)
		return -EFBIG;
	p = realloc(m->buf, size);
	if (!p)
		return -ENOMEM;
	m->buf = p;
	m->size = size;
	return 0;
}

/* The next message at offset `at`, whole.  As queue_peek. */
static int queue_next(struct ofile *f, int type, struct qroom *m, size_t at, struct qmsg *q)
{
	bool failed_once = false;
	size_t len;
	int r;

	for (;;) {
		r = queue_peek(f->lfd, m->buf, m->size, type == SOCK_STREAM ? 0 : MSG_TRUNC, q);
		if (r < 0 && r != -EMFILE && type != SOCK_STREAM && !failed_once) {
			failed_once = true; /* a pending error stood in front of the queue */
			continue;
		}
		if (r <= 0 || !q->truncated)
			return r;
		len = q->len;
		qmsg_close(q);
		r = qroom_grow(m, len + 1);
		if (r == 0)
			r = sock_set_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, (int)at);
		if (r < 0)
			return r;
	}
}

static int queue_walk(struct dump *d, struct ofile *f, int type, size_t unread, struct qroom *m,
		      struct err *e)
{
	auto_free struct qmsg *q = calloc(1, sizeof(*q));
	bool counted = type == SOCK_STREAM;
	size_t got = 0, len;
	int r;

	if (!q)
		return err_sys(e, -ENOMEM, "queue of a unix socket");
	/* A stream is never asked beyond its last byte: that would consume a pending error. */
	while (!counted || got < unread) {
		r = queue_next(f, type, m, got, q);
		if (r < 0)
			return err_sys(e, r, "the queue of a unix socket cannot be read");
		if (r == 0 || (type == SOCK_SEQPACKET && !q->len))
			return counted ? err_set(e, -EIO, "the queue of a unix socket ends early") : 0;
		len = q->len;
		if (type == SOCK_STREAM && q->n_fds && q->len > 1)
			r = queue_split(d, f, q, got, e);
		else
			r = queue_put(d, f, q, e);
		got += len;
		qmsg_close(q);
		if (r < 0)
			return r;
	}
	return 0;
}

int unix_queue_capture(struct dump *d, struct ofile *f, const struct udiag_sock *u, struct err *e)
{
	struct qroom m = { 0 };
	int unread = 0, offset = -1, r;
	char oob;

	if (u->type == SOCK_SEQPACKET && !u->has_peer)
		return 0; /* never connected */
	if (u->type == SOCK_STREAM && (ioctl(f->lfd, SIOCINQ, &unread) < 0 || unread <= 0))
		return 0;
	if (u->type == SOCK_STREAM && recv(f->lfd, &oob, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1)
		return err_set(e, -EOPNOTSUPP, "a unix socket holds an out-of-band byte");
	r = qroom_grow(&m, u->type == SOCK_STREAM ? (size_t)unread + 1 : 256u << 10);
	if (r == 0)
		r = sock_get_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, &offset);
	if (r == 0)
		r = sock_set_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, 0);
	if (r < 0) {
		err_sys(e, r, "the queue of a unix socket cannot be read");
	} else {
		r = queue_walk(d, f, u->type, (size_t)unread, &m, e);
		if (sock_set_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, offset) < 0 && r >= 0)
			r = err_set(e, -EIO, "a unix socket's offset for peeking cannot be set back");
	}
	free(m.buf);
	return r;
}

/* ---- putting back ---- */

struct fill {
	struct restore *r;
	struct usk *s;
	int from;
};

static size_t fill_control(struct fill *fi, const SkPacketEntry *pk, char *control, size_t room,
			   struct err *e, int *ret_err)
{
	const struct idmap *m = restore_idmap(fi->r, e);
	struct msghdr mh = { .msg_control = control, .msg_controllen = room };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	size_t used = 0;

	memset(control, 0, room);
	*ret_err = 0;
	for (size_t i = 0; i < pk->n_scm; i++) {
		const ScmEntry *s = pk->scm[i];
		size_t len = s->type == SCM_RIGHTS ? s->n_rights * sizeof(int) : sizeof(struct ucred);

		if (!m || s->n_rights > QUEUE_FDS_MAX || !s->n_rights ||
		    used + CMSG_SPACE(len) > room || !c) {
			*ret_err = err_set(e, -EINVAL, "a queued message's control data makes no sense");
			return 0;
		}
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = (int)s->type;
		c->cmsg_len = CMSG_LEN(len);
		if (s->type == SCM_RIGHTS) {
			for (size_t k = 0; k < s->n_rights; k++) {
				struct rfile *rf = restore_file(fi->r, s->rights[k]);

				if (!rf || rf->fd < 0) {
					*ret_err = err_set(e, -EINVAL, "file %u in flight was not made",
							   s->rights[k]);
					return 0;
				}
				memcpy(CMSG_DATA(c) + k * sizeof(int), &rf->fd, sizeof(int));
			}
		} else if (s->type == SCM_CREDENTIALS && s->n_rights == 3) {
			struct rtask *t = restore_task(fi->r, (pid_t)s->rights[0]);
			struct ucred cr = { .pid = t && t->pid > 0 ? t->pid : getpid() };

			if (idmap_uid_out(m, s->rights[1], &cr.uid) < 0)
				cr.uid = 65534;
			if (idmap_gid_out(m, s->rights[2], &cr.gid) < 0)
				cr.gid = 65534;
			memcpy(CMSG_DATA(c), &cr, sizeof(cr));
		} else {
			*ret_err = err_set(e, -EINVAL, "a queued message's control data is of type %u", s->type);
			return 0;
		}
		used += CMSG_SPACE(len);
		c = CMSG_NXTHDR(&mh, c);
	}
	return used;
}

/* A socket to send a datagram from: the one with this address if it lives, else one that has the name
 * for a moment.  *ret_tmp is to be closed. */
static int fill_sender(struct fill *fi, const GwBlob *b, int *ret_tmp, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(fi->r);
	const size_t off = sizeof(sa_family_t);

	*ret_tmp = -1;
	if (fi->from >= 0)
		return fi->from;
	for (size_t i = 0; b->has_addr && b->addr.len > off && i < sr->n_unix; i++) {
		struct usk *s = sr->unix_socks[i];

		if (s->u->type == SOCK_DGRAM && s->u->name.len == b->addr.len - off &&
		    !memcmp(s->u->name.data, b->addr.data + off, s->u->name.len) && s->f->fd >= 0)
			return s->f->fd;
	}
	*ret_tmp = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*ret_tmp < 0)
		return err_sys(e, -errno, "unix socket");
	/* The name of a sender that is gone can be had again only if it is an abstract one. */
	if (b->has_addr && b->addr.len > off && b->addr.len <= sizeof(struct sockaddr_un) && !b->addr.data[off])
		(void)bind(*ret_tmp, (const struct sockaddr *)b->addr.data, (socklen_t)b->addr.len);
	return *ret_tmp;
}

static int fill_send(struct fill *fi, const SkPacketEntry *pk, const GwBlob *b, struct err *e)
{
	_Alignas(struct cmsghdr) char control[4096];
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct iovec iov;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	auto_fd int tmp = -1;
	size_t done = 0;
	int fd, r;

	fd = fill_sender(fi, b, &tmp, e);
	if (fd < 0)
		return fd;
	if (fi->from < 0) {
		if (!fi->s->u->name.len || fi->s->u->name.len > sizeof(to.sun_path))
			return err_set(e, -EOPNOTSUPP, "a datagram waits at a unix socket that nobody can address");
		memcpy(to.sun_path, fi->s->u->name.data, fi->s->u->name.len);
		mh.msg_name = &to;
		mh.msg_namelen = (socklen_t)(sizeof(sa_family_t) + fi->s->u->name.len);
	}
	mh.msg_controllen = fill_control(fi, pk, control, sizeof(control), e, &r);
	if (r < 0)
		return r;
	mh.msg_control = mh.msg_controllen ? control : NULL;
	do {
		ssize_t n;

		iov.iov_base = b->data.data + done;
		iov.iov_len = b->data.len - done;
		n = sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return err_sys(e, -errno, "what waits at a unix socket cannot be sent again (%zu bytes)",
				       b->data.len);
		done += (size_t)n;
		mh.msg_control = NULL; /* descriptors go with the first byte */
		mh.msg_controllen = 0;
	} while (done < b->data.len);
	return 0;
}

/* A sender's buffer must hold it all at once. */
static void fill_make_room(int fd, size_t bytes)
{
	int now = 0;

	if (sock_get_int(fd, SOL_SOCKET, SO_SNDBUF, &now) == 0 && bytes < INT32_MAX / 8 &&
	    (size_t)now < bytes * 4 + (256u << 10))
		(void)sock_set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)(bytes * 2 + (128u << 10)));
}

int unix_queue_fill(struct restore *r, struct usk *s, int from, struct err *e)
{
	struct fill fi = { .r = r, .s = s, .from = from };
	const struct record *rec;
	size_t pos = 0, sum = 0;

	while (from >= 0 && (rec = image_find(r->image, REC_SK_QUEUES, s->f->id, &pos)))
		sum += ((const SkPacketEntry *)rec->msg)->length;
	if (from >= 0 && sum)
		fill_make_room(from, sum);
	pos = 0;
	while ((rec = image_find(r->image, REC_SK_QUEUES, s->f->id, &pos))) {
		const struct record *next = pos < image_count(r->image) ? image_at(r->image, pos) : NULL;
		int ret;

		if (!next || next->kind != REC_GW_BLOB || next->id != s->f->id)
			return err_set(e, -EINVAL, "a queued message of file %u has no content", s->f->id);
		ret = fill_send(&fi, (const SkPacketEntry *)rec->msg, (const GwBlob *)next->msg, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

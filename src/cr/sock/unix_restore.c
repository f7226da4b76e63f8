/* unix_restore - unix sockets, the making half (see unix_dump.c for the state).
 *
 * Plain sockets (not connected, listening, datagrams) are made, bound and listen in `build`; connected
 * streams come as pairs: socketpair() where neither end has a name, else connect() and accept() at
 * the listener whose name the accepted end carries, or at one that has that name for the moment.
 * A name whose node is gone, or is somebody else's by now, is bound below a root of our own (a
 * tmpfs nobody else sees), so that the name reads the same and no path is touched.
 *
 * Queues, connections of datagram sockets, connections that wait in a backlog, half-closed directions and
 * last options come in unix_finish, when every socket stands.
 *
 * SO_PEERCRED: the engine takes on the recorded effective ids for socketpair, listen and connect.  The
 * process id is that of the recorded task where it can make the call itself (unix_maker.c). */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/unix.h"

const GwSockopt *unix_own(const struct usk *s, int name)
{
	for (size_t i = 0; s->x && i < s->x->n_opts; i++)
		if (s->x->opts[i]->level == GW_LEVEL_OWN && s->x->opts[i]->name == (uint32_t)name)
			return s->x->opts[i];
	return NULL;
}

static uint32_t unix_own_u32(const struct usk *s, int name)
{
	const GwSockopt *o = unix_own(s, name);
	uint32_t v = 0;

	if (o && o->value.len == sizeof(v))
		memcpy(&v, o->value.data, sizeof(v));
	return v;
}

/* ---- plan ---- */

int unix_load(struct restore *r, struct rfile *f, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);
	const UnixSkEntry *u = f->fe->usk;
	struct usk *s;

	if (!u || !u->opts || !u->fown)
		return err_set(e, -EINVAL, "file %u: a unix socket's record is not complete", f->id);
	if ((u->type != SOCK_STREAM && u->type != SOCK_DGRAM && u->type != SOCK_SEQPACKET) ||
	    u->name.len > sizeof(((struct sockaddr_un *)0)->sun_path) || u->backlog > INT32_MAX)
		return err_set(e, -EINVAL, "file %u: a unix socket's record makes no sense", f->id);
	if (array_grow(sr->unix_socks, sr->n_unix, sr->cap_unix) < 0)
		return err_sys(e, -ENOMEM, "unix sockets");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, -ENOMEM, "unix sockets");
	s->f = f;
	s->u = u;
	s->x = sock_extra_of(r, f);
	s->gone_peer = -1;
	f->priv = s;
	sr->unix_socks[sr->n_unix++] = s;
	sr->unix_sorted = false;
	return unix_outside_load(r, s, e);
}

static int usk_cmp(const void *a, const void *b)
{
	const struct usk *x = *(struct usk *const *)a, *y = *(struct usk *const *)b;

	return x->u->ino < y->u->ino ? -1 : x->u->ino > y->u->ino;
}

struct usk *unix_by_ino(struct sock_restore *s, uint32_t ino)
{
	size_t lo = 0, hi = s->n_unix;

	while (ino && lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->unix_socks[mid]->u->ino == ino)
			return s->unix_socks[mid];
		if (s->unix_socks[mid]->u->ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static bool same_name(const struct usk *a, const struct usk *b)
{
	return a->u->type == b->u->type && a->u->name.len == b->u->name.len &&
	       !memcmp(a->u->name.data, b->u->name.data, a->u->name.len);
}

static bool is_connected_stream(const struct usk *s)
{
	return s->u->type != SOCK_DGRAM && s->u->state == TCP_ESTABLISHED;
}

/* A listener that an accepted socket of this name came from, if it still listens. */
static struct usk *find_listener(struct sock_restore *sr, const struct usk *s)
{
	struct usk *found = NULL;

	for (size_t i = 0; s->u->name.len && i < sr->n_unix; i++) {
		struct usk *l = sr->unix_socks[i];

		if (l->u->state == TCP_LISTEN && same_name(l, s) && (!found || found->u->deleted))
			found = l;
	}
	return found;
}

int unix_plan(struct restore *r, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);

	if (sr->unix_sorted)
		return 0;
	if (sr->n_unix)
		qsort(sr->unix_socks, sr->n_unix, sizeof(*sr->unix_socks), usk_cmp);
	sr->unix_sorted = true;
	for (size_t i = 0; i < sr->n_unix; i++) {
		struct usk *s = sr->unix_socks[i];

		if (i && sr->unix_socks[i - 1]->u->ino == s->u->ino)
			return err_set(e, -EINVAL, "two unix sockets have inode %u", s->u->ino);
		s->peer = unix_by_ino(sr, s->u->peer);
		if (s->peer && unix_is_outside(s->peer)) {
			s->outside = ptr_take(s->peer);
			if (unix_is_outside(s) || s->outside->u->type != s->u->type)
				return err_set(e, -EINVAL, "unix socket %u: its far end makes no sense", s->u->ino);
			continue;
		}
		if (is_connected_stream(s)) {
			if (s->peer && (s->peer->u->peer != s->u->ino || s->peer == s ||
					s->peer->u->type != s->u->type || !is_connected_stream(s->peer)))
				return err_set(e, -EINVAL, "unix socket %u: its peer does not know it", s->u->ino);
			s->listener = find_listener(sr, s);
		}
		if (unix_own(s, UNIX_OWN_WAITS_AT))
			s->listener = unix_by_ino(sr, unix_own_u32(s, UNIX_OWN_WAITS_AT));
	}
	return 0;
}

void unix_restore_free(struct sock_restore *s)
{
	for (size_t i = 0; i < s->n_unix; i++) {
		fd_close(&s->unix_socks[i]->gone_peer);
		free(s->unix_socks[i]);
	}
	free(s->unix_socks);
	s->unix_socks = NULL;
	s->n_unix = 0;
}

/* ---- making ---- */

/* Options and owner that come before everything else. */
static int usk_dress(struct restore *r, struct usk *s, int fd, struct err *e)
{
	int ret = sock_opts_early(fd, s->u->opts, s->x, e);

	return ret < 0 ? ret : sock_owner_restore(r, fd, s->x, e);
}

static int usk_socket(struct restore *r, struct usk *s, struct err *e)
{
	auto_fd int fd = socket(AF_UNIX, (int)s->u->type | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return err_sys(e, -errno, "unix socket");
	ret = usk_dress(r, s, fd, e);
	return ret < 0 ? ret : fd_take(&fd);
}

static int build_plain(struct restore *r, struct usk *s, struct err *e)
{
	auto_fd int fd = usk_socket(r, s, e);
	int ret;

	if (fd < 0)
		return fd;
	if (s->u->name.len) {
		ret = unix_bind(r, s, fd, s->u->deleted, e);
		if (ret < 0)
			return ret;
	}
	if (s->u->state == TCP_LISTEN) {
		ret = unix_listen(r, s, fd, (int)s->u->backlog, e);
		if (ret < 0)
			return ret;
	}
	s->f->fd = fd_take(&fd);
	s->made = true;
	return 0;
}

/* Both ends of a connection without names. */
static int build_socketpair(struct restore *r, struct usk *s, struct err *e)
{
	int fds[2], ret;

	ret = unix_socketpair(r, s, (int)s->u->type, fds, e);
	if (ret < 0)
		return ret;
	s->f->fd = fds[0];
	s->made = true;
	if (s->peer) {
		s->peer->f->fd = fds[1];
		s->peer->made = true;
	} else {
		s->gone_peer = fds[1];
	}
	ret = usk_dress(r, s, fds[0], e);
	if (ret >= 0 && s->peer)
		ret = usk_dress(r, s->peer, fds[1], e);
	return ret;
}

/* A listener that has the name of `s` for as long as a connection takes. */
static int listener_for(struct restore *r, struct usk *s, int *ret_fd, struct err *e)
{
	auto_fd int fd = socket(AF_UNIX, (int)s->u->type | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return err_sys(e, -errno, "unix socket");
	ret = unix_bind(r, s, fd, true, e);
	if (ret == -EADDRINUSE) {
		/* The abstract name is another's by now; the connection then goes without. */
		struct sockaddr_un any = { .sun_family = AF_UNIX };

		if (bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)) < 0)
			return err_sys(e, -errno, "unix socket");
		ret = 0;
	}
	if (ret < 0)
		return ret;
	ret = unix_listen(r, s->peer ? s->peer : s, fd, 1, e);
	if (ret < 0)
		return ret;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* `acc` is the end that was accepted and has its listener's name; `cli` the one that connected, NULL if
 * it is gone.  */
static int build_connection(struct restore *r, struct usk *cli, struct usk *acc, struct err *e)
{
	struct usk *l = acc->listener;
	auto_fd int tmp = -1, c = -1, a = -1;
	int lfd, ret;

	if (l && !l->made)
		return 1;
	lfd = l ? l->f->fd : -1;
	if (!l || l->u->deleted) {
		ret = listener_for(r, acc, &tmp, e);
		if (ret < 0)
			return ret;
		lfd = tmp;
	}
	c = cli ? usk_socket(r, cli, e) : socket(AF_UNIX, (int)acc->u->type | SOCK_CLOEXEC, 0);
	if (c < 0)
		return cli ? c : err_sys(e, -errno, "unix socket");
	if (cli && cli->u->name.len) {
		ret = unix_bind(r, cli, c, cli->u->deleted, e);
		if (ret < 0)
			return ret;
	}
	ret = unix_connect(r, acc, c, lfd, e);
	if (ret < 0)
		return ret;
	a = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
	if (a < 0)
		return err_sys(e, -errno, "a unix connection cannot be accepted");
	ret = usk_dress(r, acc, a, e);
	if (ret < 0)
		return ret;
	acc->f->fd = fd_take(&a);
	acc->made = true;
	if (cli) {
		cli->f->fd = fd_take(&c);
		cli->made = true;
	} else {
		acc->gone_peer = fd_take(&c);
	}
	return 0;
}

/* The client of a pair of which both ends have names is the one whose name no listener has; an
 * abstract name of five digits is one the kernel gave to a client. */
static bool is_accepted_end(const struct usk *s)
{
	const struct usk *p = s->peer;

	if (!p || !p->u->name.len)
		return s->u->name.len > 0;
	if (!s->u->name.len)
		return false;
	if ((s->listener != NULL) != (p->listener != NULL))
		return s->listener != NULL;
	return !(s->u->name.len == 6 && !s->u->name.data[0]);
}

static int build_stream(struct restore *r, struct usk *s, struct err *e)
{
	bool named = s->u->name.len || (s->peer && s->peer->u->name.len);
	int ret;

	if (s->outside || (!s->peer && unix_own(s, UNIX_OWN_WAITS_AT)))
		return build_plain(r, s, e); /* connects in unix_finish */
	if (!named)
		return build_socketpair(r, s, e);
	if (!s->peer || is_accepted_end(s))
		ret = build_connection(r, s->peer, s, e);
	else
		ret = build_connection(r, s, s->peer, e);
	return ret;
}

int unix_build(struct restore *r, struct rfile *f, struct err *e)
{
	struct usk *s = f->priv;
	int ret = unix_plan(r, e);

	if (ret < 0 || s->made)
		return ret;
	if (unix_is_outside(s))
		return unix_outside_build(s, e);
	if (unix_maker_awaited(r, s) || unix_maker_awaited(r, s->peer))
		return 1;
	if (is_connected_stream(s))
		return build_stream(r, s, e);
	if (s->u->type == SOCK_DGRAM && s->peer && s->peer->peer == s && s->peer != s &&
	    !s->u->name.len && !s->peer->u->name.len)
		return build_socketpair(r, s, e);
	return build_plain(r, s, e);
}

int unix_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const struct usk *s = f->priv;

	return fown_restore(r, f, s->u->fown, s->u->flags, e);
}

/* ---- the end ---- */

static int finish_queue(struct restore *r, struct usk *s, struct err *e)
{
	int from = s->gone_peer;

	if (s->u->type == SOCK_DGRAM) {
		/* Connected to each other from the beginning: a socketpair. */
		if (s->peer && s->peer->peer == s && !s->u->name.len && !s->peer->u->name.len)
			from = s->peer->f->fd;
	} else if (s->peer) {
		from = s->peer->f->fd;
	}
	return unix_queue_fill(r, s, from, e);
}

/* To somebody who is gone: what it sends is refused, as before. */
static int connect_to_gone(struct usk *s, struct err *e)
{
	auto_fd int tmp = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(any);

	if (tmp < 0 || bind(tmp, (struct sockaddr *)&any, sizeof(sa_family_t)) < 0 ||
	    getsockname(tmp, (struct sockaddr *)&any, &len) < 0 ||
	    connect(s->f->fd, (struct sockaddr *)&any, len) < 0)
		return err_sys(e, -errno, "a datagram socket cannot be connected");
	return 0;
}

static int finish_connect_dgram(struct restore *r, struct usk *s, struct err *e)
{
	if (s->outside)
		return 0;
	if (!s->peer)
		return unix_own(s, UNIX_OWN_HAD_PEER) ? connect_to_gone(s, e) : 0;
	if (s->peer->peer == s && !s->u->name.len && !s->peer->u->name.len)
		return 0;
	if (!s->peer->u->name.len)
		return err_set(e, -EOPNOTSUPP, "a datagram socket is connected to one that has no name any more");
	return unix_connect(r, NULL, s->f->fd, s->peer->f->fd, e);
}

static int finish_gone(struct usk *s, struct err *e)
{
	if (s->gone_peer < 0)
		return 0;
	/* What the peer never read makes its end a reset instead of an end of file. */
	if (unix_own(s, UNIX_OWN_ERROR) && send(s->f->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return err_sys(e, -errno, "unix socket");
	fd_close(&s->gone_peer);
	return 0;
}

static int finish_last(struct usk *s, struct err *e)
{
	int r;

	if (s->u->has_shutdown && s->u->shutdown >= SK_SHUTDOWN__READ && s->u->shutdown <= SK_SHUTDOWN__BOTH &&
	    shutdown(s->f->fd, (int)s->u->shutdown - 1) < 0 && errno != ENOTCONN)
		return err_sys(e, -errno, "unix socket");
	r = sock_opts_late(s->f->fd, s->u->opts, s->x, e);
	return r < 0 ? r : rfile_set_flags(s->f, s->f->fd, s->u->flags, e);
}

int unix_finish(struct restore *r, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);
	int ret = 0;

	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++) {
		if (sr->unix_socks[i]->f->fd < 0)
			return err_set(e, -EIO, "a unix socket was not made");
		ret = finish_queue(r, sr->unix_socks[i], e);
	}
	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++)
		if (sr->unix_socks[i]->u->type == SOCK_DGRAM)
			ret = finish_connect_dgram(r, sr->unix_socks[i], e);
	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++) {
		struct usk *s = sr->unix_socks[i];

		if (is_connected_stream(s) && !s->peer && unix_own(s, UNIX_OWN_WAITS_AT) && s->listener)
			ret = unix_connect(r, NULL, s->f->fd, s->listener->f->fd, e);
	}
	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++)
		if (sr->unix_socks[i]->outside)
			ret = unix_outside_connect(r, sr->unix_socks[i], e);
	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++)
		ret = finish_gone(sr->unix_socks[i], e);
	for (size_t i = 0; ret >= 0 && i < sr->n_unix; i++)
		if (!unix_is_outside(sr->unix_socks[i]))
			ret = finish_last(sr->unix_socks[i], e);
	return ret;
}

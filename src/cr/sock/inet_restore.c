/* inet_restore - TCP and UDP sockets, the making half.
 *
 * `build` makes, binds, listens, and makes connections in repair mode, in which they send nothing.
 * inet_finish comes when the whole tree stands: the far ends' FINs, then repair mode is left (what was
 * not sent yet goes out, into a link that is not joined to the bridge yet, and is sent again), then
 * the options that would have been in the way.
 *
 * A connection that is not restored (--tcp-close, here or at the dump) is a socket without an address, shut down both
 * ways: who reads it finds the end, who writes to it a broken pipe.
 *
 * A connection that is over (state CLOSE, perhaps with data still to be read) is made as one to a port of
 * our own loopback address and ended by packets of our own, with a FIN or with a reset. */
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/inet.h"

#include "inventory.pb-c.h"
#include "tcp-stream.pb-c.h"

static uint32_t own_u32(const struct isk *s, int name)
{
	uint32_t v = 0;

	for (size_t i = 0; s->x && i < s->x->n_opts; i++)
		if (s->x->opts[i]->level == GW_LEVEL_OWN && s->x->opts[i]->name == (uint32_t)name &&
		    s->x->opts[i]->value.len == sizeof(v))
			memcpy(&v, s->x->opts[i]->value.data, sizeof(v));
	return v;
}

/* ---- load ---- */

static int addr_load(const InetSkEntry *i, const uint32_t *words, size_t n, uint32_t port, union inet_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (port > 65535 || (n && n != (i->family == AF_INET ? 1 : 4)))
		return -EINVAL;
	ret->sa.sa_family = (sa_family_t)i->family;
	if (i->family == AF_INET) {
		ret->v4.sin_port = htons((uint16_t)port);
		if (n)
			memcpy(&ret->v4.sin_addr, words, 4);
	} else {
		ret->v6.sin6_port = htons((uint16_t)port);
		if (n)
			memcpy(&ret->v6.sin6_addr, words, 16);
	}
	return 0;
}

static int conn_load(struct restore *r, struct isk *s, struct err *e)
{
	size_t pos = 0;
	const struct record *rec = image_find(r->image, REC_TCP_STREAM, s->i->ino, &pos);
	const struct record *in, *out;
	const TcpStreamEntry *t;
	struct tcp_conn *c = &s->conn;

	if (!rec)
		return 0;
	t = (const TcpStreamEntry *)rec->msg;
	in = pos < image_count(r->image) ? image_at(r->image, pos) : NULL;
	out = pos + 1 < image_count(r->image) ? image_at(r->image, pos + 1) : NULL;
	if (!in || !out || in->kind != REC_GW_BLOB || out->kind != REC_GW_BLOB ||
	    ((const GwBlob *)in->msg)->data.len != t->inq_len ||
	    ((const GwBlob *)out->msg)->data.len != t->outq_len || t->unsq_len > t->outq_len ||
	    t->snd_wscale > 14 || t->rcv_wscale > 14)
		return err_set(e, -EINVAL, "the record of TCP connection %u makes no sense", s->i->ino);
	c->in = ((const GwBlob *)in->msg)->data.data;
	c->out = ((const GwBlob *)out->msg)->data.data;
	c->in_len = t->inq_len;
	c->out_len = t->outq_len;
	c->unsent = t->unsq_len;
	c->in_seq = t->inq_seq - t->inq_len;
	c->out_seq = t->outq_seq - t->outq_len;
	c->has_ts = t->opt_mask & 1;
	c->has_sack = t->opt_mask & 2;
	c->has_wscale = t->opt_mask & 4;
	c->snd_wscale = (uint8_t)t->snd_wscale;
	c->rcv_wscale = (uint8_t)t->rcv_wscale;
	c->mss_clamp = t->mss_clamp;
	c->timestamp = t->timestamp;
	c->win = (struct tcp_window){ t->snd_wl1, t->snd_wnd, t->max_window, t->rcv_wnd, t->rcv_wup };
	c->state = (uint8_t)s->i->state;
	c->state_in = (uint8_t)own_u32(s, INET_OWN_STATE_IN);
	if (!c->state_in)
		c->state_in = c->state;
	if (own_u32(s, INET_OWN_DEAD))
		c->state = c->state_in = TCP_ESTABLISHED;
	for (size_t k = 0; s->x && k < s->x->n_opts; k++) {
		const GwSockopt *o = s->x->opts[k];

		if (o->level == GW_LEVEL_OWN && o->name == INET_OWN_RTT && o->value.len == 8) {
			memcpy(&c->rtt_us, o->value.data, 4);
			memcpy(&c->rttvar_us, o->value.data + 4, 4);
		}
	}
	s->has_conn = true;
	return 0;
}

static bool is_connected_state(uint32_t state)
{
	return state != TCP_CLOSE && state != TCP_LISTEN;
}

bool isk_is_connection(const struct isk *s)
{
	return !s->dropped && s->i->proto == IPPROTO_TCP && is_connected_state(s->i->state);
}

/* What the caller of a restore from a folder has to have asked for. */
static int conn_asked(struct restore *r, struct isk *s, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_INVENTORY, REC_ANY, NULL);
	const InventoryEntry *inv = rec ? (const InventoryEntry *)rec->msg : NULL;
	char texts[2][INET_TEXT_MAX];

	if (!r->opts || !is_connected_state(s->i->state))
		return 0;
	s->dropped = r->opts->tcp_close || (inv && inv->has_tcp_close && inv->tcp_close);
	if (s->dropped || r->opts->tcp_established)
		return 0;
	return err_set(e, -EINVAL, "the image has a TCP connection of %s to %s; --tcp-established restores it, --tcp-close "
		       "leaves it out", inet_text(&s->self.sa, texts[0]), inet_text(&s->peer.sa, texts[1]));
}

int inet_load(struct restore *r, struct rfile *f, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);
	const InetSkEntry *i = f->fe->isk;
	struct isk *s;
	int ret;

	if (!i || !i->opts || !i->fown || (i->family != AF_INET && i->family != AF_INET6) ||
	    i->backlog > INT32_MAX || i->state > TCP_CLOSING ||
	    !((i->type == SOCK_STREAM && i->proto == IPPROTO_TCP) ||
	      (i->type == SOCK_DGRAM && i->proto == IPPROTO_UDP)))
		return err_set(e, -EINVAL, "file %u: an internet socket's record makes no sense", f->id);
	if (array_grow(sr->inet_socks, sr->n_inet, sr->cap_inet) < 0)
		return err_sys(e, -ENOMEM, "internet sockets");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, -ENOMEM, "internet sockets");
	s->f = f;
	s->i = i;
	s->x = sock_extra_of(r, f);
	f->priv = s;
	sr->inet_socks[sr->n_inet++] = s;
	if (addr_load(i, i->src_addr, i->n_src_addr, i->src_port, &s->self) < 0 ||
	    addr_load(i, i->dst_addr, i->n_dst_addr, i->dst_port, &s->peer) < 0)
		return err_set(e, -EINVAL, "file %u: an internet socket's addresses make no sense", f->id);
	if (i->proto != IPPROTO_TCP)
		return 0;
	ret = conn_asked(r, s, e);
	if (ret < 0 || s->dropped)
		return ret;
	if (conn_load(r, s, e) < 0)
		return e && e->code ? e->code : -EINVAL;
	if (is_connected_state(i->state) && i->state != TCP_SYN_SENT && !s->has_conn)
		return err_set(e, -EINVAL, "file %u: a TCP connection without its state", f->id);
	return 0;
}

void inet_restore_free(struct sock_restore *s)
{
	for (size_t i = 0; i < s->n_inet; i++)
		free(s->inet_socks[i]);
	free(s->inet_socks);
	s->inet_socks = NULL;
	s->n_inet = 0;
}

/* ---- build ---- */

static int scope_set(int fd, struct isk *s, struct err *e)
{
	struct ifreq ifr = { 0 };

	if (!s->i->ifname || s->i->family != AF_INET6)
		return 0;
	strncpy(ifr.ifr_name, s->i->ifname, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return err_sys(e, -errno, "interface %s of a socket", ifr.ifr_name);
	s->self.v6.sin6_scope_id = s->peer.v6.sin6_scope_id = (uint32_t)ifr.ifr_ifindex;
	return 0;
}

/* Packets are made for the family that is on the wire. */
static void addr_on_wire(const union inet_addr *a, union inet_addr *ret)
{
	*ret = *a;
	if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		return;
	memset(ret, 0, sizeof(*ret));
	ret->v4.sin_family = AF_INET;
	ret->v4.sin_port = a->v6.sin6_port;
	memcpy(&ret->v4.sin_addr, (const uint8_t *)&a->v6.sin6_addr + 12, 4);
}

/* One that listens at every address has all of them. */
static bool is_at_address(const struct isk *s, const struct idiag_sock *x)
{
	static const uint8_t any[16];
	union inet_addr self;

	addr_on_wire(&s->self, &self);
	if (self.sa.sa_family == AF_INET6)
		return memcmp(&self.v6.sin6_addr, any, 16) == 0 ||
		       (x->family == AF_INET6 && memcmp(&self.v6.sin6_addr, x->src, 16) == 0);
	if (memcmp(&self.v4.sin_addr, any, 4) == 0)
		return true;
	return memcmp(&self.v4.sin_addr, x->family == AF_INET ? x->src : x->src + 12, 4) == 0;
}

/* Where the tree listens without SO_REUSEADDR, connections that it ended in the last minute (TIME_WAIT) keep its port:
 * in a network that was here before.  Nobody else can have had them, since it held the port. */
static bool forget_ended(const struct isk *s)
{
	static const int families[] = { AF_INET, AF_INET6 };
	auto_fd int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	char text[INET_TEXT_MAX];
	size_t n = 0;

	for (size_t f = 0; f < array_len(families) && diag >= 0; f++) {
		struct idiag *t = NULL;

		if (idiag_read(diag, families[f], IPPROTO_TCP, 1u << TCP_TIME_WAIT, &t, NULL) < 0)
			continue;
		for (size_t i = 0; i < idiag_count(t); i++) {
			const struct idiag_sock *x = idiag_at(t, i);

			if (x->sport == s->i->src_port && is_at_address(s, x) && idiag_destroy(diag, x) == 0)
				n++;
		}
		idiag_free(t);
	}
	if (n)
		log_info("%zu connections that ended lately are forgotten, to listen at %s again", n,
			 inet_text(&s->self.sa, text));
	return n > 0;
}

/* errno is that of the call that failed, and stays it. */
static bool needs_forgetting(struct restore *r, const struct isk *s)
{
	int error = errno;
	bool done = r->opts && error == EADDRINUSE && s->i->proto == IPPROTO_TCP && forget_ended(s);

	errno = error;
	return done;
}

static int inet_bind(struct restore *r, int fd, const struct isk *s, struct err *e)
{
	char text[INET_TEXT_MAX];

	if (!s->i->src_port)
		return 0;
	if (bind(fd, &s->self.sa, inet_addr_len(&s->self)) == 0)
		return 0;
	if (needs_forgetting(r, s) && bind(fd, &s->self.sa, inet_addr_len(&s->self)) == 0)
		return 0;
	/* As at the source, the address may be gone from the link since. */
	if (errno == EADDRNOTAVAIL && sock_set_int(fd, SOL_IP, IP_FREEBIND, 1) == 0) {
		int ret = bind(fd, &s->self.sa, inet_addr_len(&s->self)) < 0 ? -errno : 0;
		int wanted = 0;

		for (size_t i = 0; s->x && i < s->x->n_opts; i++)
			wanted |= s->x->opts[i]->level == SOL_IP && s->x->opts[i]->name == IP_FREEBIND;
		if (!wanted)
			(void)sock_set_int(fd, SOL_IP, IP_FREEBIND, 0);
		if (ret == 0)
			return 0;
		errno = -ret;
	}
	return err_sys(e, -errno, "%s %s cannot be bound", s->i->proto == IPPROTO_TCP ? "TCP" : "UDP",
		       inet_text(&s->self.sa, text));
}

/* For a connection that is over: any far end will do, each its own. */
static void dead_peer(struct isk *s)
{
	static const uint8_t one4[4] = { 127, 0, 0, 1 };
	uint16_t port = htons((uint16_t)(1024 + s->i->id % 60000));

	if (s->i->family == AF_INET) {
		s->peer.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
		memcpy(&s->peer.v4.sin_addr, one4, 4);
		return;
	}
	s->peer.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port,
					    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	if (IN6_IS_ADDR_V4MAPPED(&s->self.v6.sin6_addr)) {
		memcpy(&s->peer.v6.sin6_addr, &s->self.v6.sin6_addr, 12);
		memcpy((uint8_t *)&s->peer.v6.sin6_addr + 12, one4, 4);
	}
}

static int tcp_build(struct restore *r, int fd, struct isk *s, struct err *e)
{
	char text[INET_TEXT_MAX];
	int ret;

	if (s->dropped) {
		log_info("a TCP connection of %s is left out", inet_text(&s->self.sa, text));
		return 0;
	}
	if (s->has_conn) {
		if (own_u32(s, INET_OWN_DEAD))
			dead_peer(s);
		return tcp_write(fd, &s->conn, &s->self.sa, inet_addr_len(&s->self), &s->peer.sa,
				 inet_addr_len(&s->peer), e);
	}
	ret = inet_bind(r, fd, s, e);
	if (ret == 0 && s->i->state == TCP_LISTEN && listen(fd, (int)s->i->backlog) < 0 &&
	    !(needs_forgetting(r, s) && listen(fd, (int)s->i->backlog) == 0))
		return err_sys(e, -errno, "cannot listen at %s", inet_text(&s->self.sa, text));
	return ret;
}

int inet_build(struct restore *r, struct rfile *f, struct err *e)
{
	struct isk *s = f->priv;
	auto_fd int fd = socket((int)s->i->family, (int)s->i->type | SOCK_CLOEXEC, (int)s->i->proto);
	int ret;

	if (fd < 0)
		return err_sys(e, -errno, "internet socket");
	ret = sock_opts_early(fd, s->i->opts, s->x, e);
	if (ret == 0)
		ret = sock_owner_restore(r, fd, s->x, e);
	if (ret == 0)
		ret = scope_set(fd, s, e);
	if (ret < 0)
		return ret;
	if (s->i->proto == IPPROTO_TCP) {
		ret = tcp_build(r, fd, s, e);
	} else {
		ret = inet_bind(r, fd, s, e);
		if (ret == 0)
			ret = inet_groups_join(fd, s->x, e);
	}
	if (ret < 0)
		return ret;
	f->fd = fd_take(&fd);
	s->made = true;
	return 0;
}

int inet_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const struct isk *s = f->priv;

	return fown_restore(r, f, s->i->fown, s->i->flags, e);
}

/* ---- the end ---- */

static int finish_dead(struct isk *s, const union inet_addr *self, const union inet_addr *peer, struct err *e)
{
	const struct tcp_conn *c = &s->conn;
	uint32_t next = c->in_seq + (uint32_t)c->in_len;

	if (own_u32(s, INET_OWN_DEAD) == 2)
		return forge_tcp(&peer->sa, &self->sa, next, c->out_seq, FORGE_RST | FORGE_ACK, 0, NULL, e);
	if (sock_set_int(s->f->fd, SOL_TCP, TCP_REPAIR_QUEUE, 2) < 0 || shutdown(s->f->fd, SHUT_WR) < 0)
		return err_sys(e, -errno, "a TCP connection that is over cannot be closed");
	return forge_tcp(&peer->sa, &self->sa, next, c->out_seq + 1, FORGE_FIN | FORGE_ACK, 0xffff, NULL, e);
}

/* Loopback delivers at once, in the sender's own context. */
static int finish_check_state(struct isk *s, struct err *e)
{
	uint8_t want = own_u32(s, INET_OWN_DEAD) ? TCP_CLOSE : 0;
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	if (getsockopt(s->f->fd, SOL_TCP, TCP_INFO, &ti, &len) < 0)
		return err_sys(e, -errno, "TCP connection");
	if (want ? ti.tcpi_state != want :
		   tcp_fin_received(s->conn.state_in) && !tcp_fin_received(ti.tcpi_state))
		return err_set(e, -EIO, "a TCP connection at port %u did not take its far end's FIN (state %u)",
			       s->i->src_port, ti.tcpi_state);
	return 0;
}

static int finish_conn(struct isk *s, struct err *e)
{
	union inet_addr self, peer;
	int ret;

	addr_on_wire(&s->self, &self);
	addr_on_wire(&s->peer, &peer);
	if (own_u32(s, INET_OWN_DEAD)) {
		ret = finish_dead(s, &self, &peer, e);
	} else {
		ret = tcp_write_out(s->f->fd, &s->conn, e);
		if (ret == 0)
			ret = tcp_write_clock(s->f->fd, &s->conn, &self.sa, &peer.sa, e);
		if (ret == 0)
			ret = tcp_write_fin_received(&s->conn, &self.sa, &peer.sa, e);
	}
	if (ret == 0)
		ret = finish_check_state(s, e);
	if (ret == 0)
		ret = tcp_write_end(s->f->fd, &s->conn, e);
	if (ret == 0 && own_u32(s, INET_OWN_SHUT_RD) && shutdown(s->f->fd, SHUT_RD) < 0 && errno != ENOTCONN)
		return err_sys(e, -errno, "TCP connection");
	return ret;
}

/* What was in the middle of connecting begins anew, and whoever waits for it goes on waiting. */
static int finish_connecting(struct isk *s, struct err *e)
{
	int ret = fd_set_nonblock(s->f->fd, 1);

	if (ret < 0)
		return err_sys(e, ret, "TCP socket");
	if (connect(s->f->fd, &s->peer.sa, inet_addr_len(&s->peer)) < 0 && errno != EINPROGRESS)
		return err_sys(e, -errno, "a TCP connection cannot be tried again");
	return fd_set_nonblock(s->f->fd, 0);
}

static int finish_udp(struct restore *r, struct isk *s, struct err *e)
{
	int ret = udp_queue_fill(r, s, e);

	if (ret < 0 || !s->i->n_dst_addr)
		return ret;
	if (connect(s->f->fd, &s->peer.sa, inet_addr_len(&s->peer)) < 0)
		return err_sys(e, -errno, "a UDP socket cannot be connected");
	return 0;
}

int inet_finish(struct restore *r, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);

	for (size_t i = 0; i < sr->n_inet; i++) {
		struct isk *s = sr->inet_socks[i];
		int ret = 0;

		if (!s->made || s->f->fd < 0)
			return err_set(e, -EIO, "an internet socket was not made");
		if (s->dropped)
			(void)shutdown(s->f->fd, SHUT_RDWR); /* marks it, although it says ENOTCONN */
		else if (s->has_conn)
			ret = finish_conn(s, e);
		else if (s->i->proto == IPPROTO_UDP)
			ret = finish_udp(r, s, e);
		else if (s->i->state == TCP_SYN_SENT)
			ret = finish_connecting(s, e);
		if (ret == 0)
			ret = sock_opts_late(s->f->fd, s->i->opts, s->x, e);
		if (ret == 0)
			ret = rfile_set_flags(s->f, s->f->fd, s->i->flags, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

void inet_restore_silence(struct restore *r)
{
	struct sock_restore *sr = sock_restore_of(r);

	for (size_t i = 0; sr && i < sr->n_inet; i++)
		if (sr->inet_socks[i]->has_conn && sr->inet_socks[i]->f->fd >= 0)
			(void)sock_set_int(sr->inet_socks[i]->f->fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);
}

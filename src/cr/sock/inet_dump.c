/* inet_dump - TCP and UDP sockets over IPv4 and IPv6, the reading half (tcp.c: connections, udp.c: datagrams
 * and groups, inet_restore.c: the other half).
 *
 * Refused: other protocols (other.c), ULPs (kernel TLS), MD5 keys, UDP encapsulation, a socket in repair mode.  In a
 * checkpoint also what its options do not allow: connections (--tcp-established takes them along, --tcp-close leaves
 * them out: they are recorded without their state, and end with the tree), and connections not accepted yet
 * (--skip-in-flight).
 * Lost, with a line in the log: connections not accepted even after the tree was given time for it
 * (settle.c).  Only accept() reaches them, which takes them away from the source, and nothing can fill a
 * backlog at the target; their clients get a reset. */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/inet.h"
#include "cr/sock/netlock.h"

#include "tcp-stream.pb-c.h"

static bool inet_recognise(const struct ofile *f)
{
	int domain = sock_domain(f), type, protocol;

	if ((domain != AF_INET && domain != AF_INET6) || !sock_is(f, &domain, &type, &protocol))
		return false;
	return (type == SOCK_STREAM && protocol == IPPROTO_TCP) || (type == SOCK_DGRAM && protocol == IPPROTO_UDP);
}

static const struct idiag_sock *tcp_listed(struct dump *d, const struct ofile *f)
{
	const struct idiag_sock *i = idiag_find(sock_tcp_list(d, 0), (uint32_t)f->st.st_ino);

	return i ? i : idiag_find(sock_tcp_list(d, 1), (uint32_t)f->st.st_ino);
}

static int tcp_state_of(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return getsockopt(fd, SOL_TCP, TCP_INFO, ret, &len) < 0 ? -errno : ret->tcpi_state;
}

int inet_tcp_state(const struct ofile *f)
{
	int domain, type, protocol;
	struct tcp_info ti;

	if (f->kind != &file_kind_inet || !sock_is(f, &domain, &type, &protocol) || protocol != IPPROTO_TCP)
		return 0;
	return tcp_state_of(f->lfd, &ti);
}

bool inet_is_dropped(const struct dump *d, unsigned tcp_state)
{
	return d->opts && d->opts->tcp_close && tcp_state != TCP_LISTEN && tcp_state != TCP_CLOSE;
}

/* "A to B" of a socket that is connected. */
static void conn_text(const struct ofile *f, char *ret, size_t size)
{
	char texts[2][INET_TEXT_MAX];
	union inet_addr a = { 0 };
	socklen_t len = sizeof(a);
	bool connected;

	(void)getsockname(f->lfd, &a.sa, &len);
	inet_text(&a.sa, texts[0]);
	len = sizeof(a);
	connected = getpeername(f->lfd, &a.sa, &len) == 0;
	snprintf(ret, size, "%s%s%s", texts[0], connected ? " to " : ", just connecting",
		 connected ? inet_text(&a.sa, texts[1]) : "");
}

static const char *tcp_state_name(unsigned state)
{
	static const char *const names[] = { [TCP_ESTABLISHED] = "established", [TCP_SYN_SENT] = "connecting",
					     [TCP_SYN_RECV] = "connecting", [TCP_FIN_WAIT1] = "closing",
					     [TCP_FIN_WAIT2] = "closing", [TCP_CLOSE_WAIT] = "closed by the far end",
					     [TCP_LAST_ACK] = "closing", [TCP_CLOSING] = "closing" };

	return state < array_len(names) && names[state] ? names[state] : "not known";
}

/* What the caller of a checkpoint has to have asked for. */
static int tcp_check_asked(struct dump *d, struct ofile *f, const struct idiag_sock *i, struct err *e)
{
	int state = inet_tcp_state(f), r;
	char text[2 * INET_TEXT_MAX + 32];

	if (!d->opts || state <= 0 || state == TCP_CLOSE)
		return 0;
	if (state != TCP_LISTEN) {
		if (d->opts->tcp_established || d->opts->tcp_close)
			return 0;
		conn_text(f, text, sizeof(text));
		return ofile_refuse(d, f, "TCP connection", "it is %s (%s); --tcp-established takes it along, --tcp-close "
				    "leaves it out", tcp_state_name((unsigned)state), text);
	}
	if (!i || !i->rqueue || d->opts->skip_in_flight)
		return 0;
	r = ofile_refuse(d, f, "TCP connections not accepted", "%u wait at port %u; --skip-in-flight drops them",
			 i->rqueue, i->sport);
	/* With the dump's freeze it has been waited for already (settle.c). */
	d->n_passing += r >= 0 && d->check_only;
	return r;
}

static int tcp_check(struct dump *d, struct ofile *f, struct err *e)
{
	const struct idiag_sock *i = tcp_listed(d, f);
	char ulp[16] = { 0 };
	socklen_t len = sizeof(ulp);
	int repair = 0;

	if (getsockopt(f->lfd, SOL_TCP, TCP_ULP, ulp, &len) == 0 && len && ulp[0])
		return ofile_refuse(d, f, "TCP upper layer protocol",
				    "the socket's protocol \"%.15s\" in the kernel cannot be carried", ulp);
	if (i && i->md5)
		return ofile_refuse(d, f, "TCP MD5 signatures", "their keys cannot be read");
	if (sock_get_int(f->lfd, SOL_TCP, TCP_REPAIR, &repair) == 0 && repair)
		return ofile_refuse(d, f, "TCP repair mode", "another program is repairing this connection");
	return tcp_check_asked(d, f, i, e);
}

static int inet_check(struct dump *d, struct ofile *f, struct err *e)
{
	int domain, type, protocol, encap = 0;
	int r = sock_check(d, f, e);

	if (r < 0 || !sock_is(f, &domain, &type, &protocol))
		return r;
	if (protocol == IPPROTO_TCP)
		return tcp_check(d, f, e);
	if (sock_get_int(f->lfd, SOL_UDP, UDP_ENCAP, &encap) == 0 && encap)
		return ofile_refuse(d, f, "UDP encapsulation", "tunnels cannot be carried");
	return 0;
}

/* ---- addresses ---- */

static int addr_words(const union inet_addr *a, uint32_t ret[4])
{
	if (a->sa.sa_family == AF_INET) {
		memcpy(ret, &a->v4.sin_addr, 4);
		return 1;
	}
	memcpy(ret, &a->v6.sin6_addr, 16);
	return 4;
}

static uint16_t addr_port(const union inet_addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
}

struct inet_rec {
	InetSkEntry isk;
	uint32_t src[4], dst[4];
	char ifname[IFNAMSIZ];
	FownEntry fown;
	SkOptsEntry opts;
	GwSockExtra *x;
};

static int rec_addresses(struct ofile *f, struct inet_rec *rec, struct err *e)
{
	union inet_addr self = { 0 }, peer = { 0 };
	socklen_t len = sizeof(self);
	uint32_t scope = 0;

	if (getsockname(f->lfd, &self.sa, &len) < 0)
		return err_sys(e, -errno, "the address of a socket cannot be read");
	rec->isk.src_port = addr_port(&self);
	rec->isk.n_src_addr = (size_t)addr_words(&self, rec->src);
	rec->isk.src_addr = rec->src;
	len = sizeof(peer);
	if (getpeername(f->lfd, &peer.sa, &len) == 0) {
		rec->isk.dst_port = addr_port(&peer);
		rec->isk.n_dst_addr = (size_t)addr_words(&peer, rec->dst);
		rec->isk.dst_addr = rec->dst;
	}
	if (self.sa.sa_family == AF_INET6)
		scope = self.v6.sin6_scope_id ? self.v6.sin6_scope_id : peer.v6.sin6_scope_id;
	if (scope) {
		/* Asked of the socket, which knows the interfaces of its own namespace. */
		struct ifreq ifr = { .ifr_ifindex = (int)scope };

		if (ioctl(f->lfd, SIOCGIFNAME, &ifr) < 0)
			return err_sys(e, -errno, "the interface of a link-local socket");
		memcpy(rec->ifname, ifr.ifr_name, sizeof(rec->ifname));
		rec->ifname[sizeof(rec->ifname) - 1] = 0;
		rec->isk.ifname = rec->ifname;
	}
	return 0;
}

/* ---- TCP ---- */

static int tcp_read_first(struct dump *d, struct ofile *f, struct tcp_read **ret, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	struct tcp_read *t;
	int r;

	if (array_grow(s->reads, s->n_reads, s->cap_reads) < 0)
		return err_sys(e, -ENOMEM, "TCP connections");
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_sys(e, -ENOMEM, "TCP connections");
	t->f = f;
	s->reads[s->n_reads++] = t;
	f->priv = t;
	r = tcp_read_out(f->lfd, &t->c, e);
	if (r < 0)
		return r;
	if (ret)
		*ret = t;
	return 0;
}

/* The send queues of all connections, before the first receive queue (tcp.h). */
static int tcp_sweep(struct dump *d, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	int r;

	if (s->tcp_swept)
		return 0;
	s->tcp_swept = true;
	/* Sockets in flight have come to light since the freeze. */
	r = netlock_dump(d, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->n_ofiles; i++) {
		struct ofile *f = d->ofiles[i];

		r = inet_tcp_state(f);
		if (r == 0)
			continue;
		f->priv = NULL;
		if (r > 0 && tcp_state_known((unsigned)r) && !inet_is_dropped(d, (unsigned)r)) {
			r = tcp_read_first(d, f, NULL, e);
			if (r < 0)
				return err_context(e, r, "process %d, fd %d", f->task ? f->task->nspid : 0,
						   f->fd);
		}
	}
	return 0;
}

void inet_dump_free(struct sock_dump *s)
{
	for (size_t i = 0; i < s->n_reads; i++) {
		tcp_conn_done(&s->reads[i]->c);
		free(s->reads[i]);
	}
	free(s->reads);
	s->reads = NULL;
	s->n_reads = 0;
	free(s->silenced);
	s->silenced = NULL;
	s->n_silenced = s->cap_silenced = 0;
}

static int put_blob(struct dump *d, uint32_t id, const void *data, size_t len, struct err *e)
{
	GwBlob b = GW_BLOB__INIT;

	b.has_data = true;
	b.data.data = (uint8_t *)data;
	b.data.len = len;
	return sink_put(d->sink, REC_GW_BLOB, id, &b.base, e);
}

/* Sequence numbers in the record are those behind the queues, as the kernel tells them. */
static int put_stream(struct dump *d, struct ofile *f, const struct tcp_conn *c, struct err *e)
{
	TcpStreamEntry t = TCP_STREAM_ENTRY__INIT;
	uint32_t id = (uint32_t)f->st.st_ino;
	int r;

	t.inq_len = (uint32_t)c->in_len;
	t.inq_seq = c->in_seq + (uint32_t)c->in_len;
	t.outq_len = (uint32_t)c->out_len;
	t.outq_seq = c->out_seq + (uint32_t)c->out_len;
	t.has_unsq_len = true;
	t.unsq_len = (uint32_t)c->unsent;
	t.opt_mask = (c->has_ts ? 1 : 0) | (c->has_sack ? 2 : 0) | (c->has_wscale ? 4 : 0);
	t.snd_wscale = c->snd_wscale;
	t.has_rcv_wscale = true;
	t.rcv_wscale = c->rcv_wscale;
	t.mss_clamp = c->mss_clamp;
	t.has_timestamp = true;
	t.timestamp = c->timestamp;
	t.has_snd_wl1 = t.has_snd_wnd = t.has_max_window = t.has_rcv_wnd = t.has_rcv_wup = true;
	t.snd_wl1 = c->win.snd_wl1;
	t.snd_wnd = c->win.snd_wnd;
	t.max_window = c->win.max_window;
	t.rcv_wnd = c->win.rcv_wnd;
	t.rcv_wup = c->win.rcv_wup;
	r = sink_put(d->sink, REC_TCP_STREAM, id, &t.base, e);
	if (r == 0)
		r = put_blob(d, id, c->in, c->in_len, e);
	if (r == 0)
		r = put_blob(d, id, c->out, c->out_len, e);
	return r;
}

static int own_u32(GwSockExtra *x, int name, uint32_t v)
{
	return gw_sock_add(x, GW_LEVEL_OWN, name, &v, sizeof(v));
}

/* A socket in state CLOSE that was connected once: what is left to read, and whether an error waits.
 * Reading the error would take it away, so it is not read: it becomes ECONNRESET. */
static int tcp_capture_closed(struct ofile *f, struct inet_rec *rec, struct tcp_conn *ret, bool *ret_was,
			      struct err *e)
{
	struct pollfd p = { .fd = f->lfd };
	bool error = poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
	int unread = 0, r;
	ssize_t n;
	char byte;

	*ret_was = false;
	if (!error) {
		n = recv(f->lfd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (n < 0 && (errno == ENOTCONN || errno == EAGAIN))
			return 0; /* never connected */
		if (n < 0)
			return err_sys(e, -errno, "a closed TCP socket cannot be read");
	}
	if (!rec->isk.src_port)
		return 0; /* a connection that never came about, without an address */
	*ret_was = true;
	if (ioctl(f->lfd, SIOCINQ, &unread) < 0 || unread < 0)
		unread = 0;
	ret->in = malloc((size_t)unread + 1);
	if (!ret->in)
		return err_sys(e, -ENOMEM, "TCP socket");
	ret->in_len = (size_t)unread;
	if (unread && recv(f->lfd, ret->in, (size_t)unread, MSG_PEEK | MSG_DONTWAIT) != unread)
		return err_set(e, -EIO, "a closed TCP socket cannot be read");
	ret->state = ret->state_in = TCP_ESTABLISHED;
	ret->mss_clamp = 1460;
	ret->in_seq = ret->out_seq = 1u << 20;
	r = own_u32(rec->x, INET_OWN_DEAD, error ? 2 : 1);
	return r < 0 ? err_sys(e, r, "TCP socket") : 0;
}

/* getpeername does not tell yet whom it is connecting to. */
static int tcp_capture_connecting(struct dump *d, struct ofile *f, struct inet_rec *rec, struct err *e)
{
	const struct idiag_sock *i = tcp_listed(d, f);

	if (!i || !i->dport)
		return err_set(e, -EAGAIN, "a TCP connection is just being made; try again in a moment");
	rec->isk.dst_port = i->dport;
	memcpy(rec->dst, i->dst, 16);
	rec->isk.n_dst_addr = rec->isk.family == AF_INET ? 1 : 4;
	rec->isk.dst_addr = rec->dst;
	if (rec->isk.family == AF_INET6 && i->family == AF_INET) {
		rec->dst[0] = rec->dst[1] = 0;
		rec->dst[2] = htonl(0xffff);
		memcpy(&rec->dst[3], i->dst, 4);
	}
	return 0;
}

static int tcp_capture_open(struct dump *d, struct ofile *f, struct inet_rec *rec, struct tcp_conn **ret,
			    struct err *e)
{
	const struct idiag_sock *i = tcp_listed(d, f);
	struct tcp_read *t = f->priv;
	int r;

	if (!t) {
		r = tcp_read_first(d, f, &t, e);
		if (r < 0)
			return r;
	}
	r = tcp_read_in(f->lfd, &t->c, e);
	if (r < 0)
		return r;
	if (!tcp_state_known(t->c.state_in))
		return err_set(e, -EAGAIN, "a TCP connection came to its end while it was read; try again");
	rec->isk.state = t->c.state;
	r = own_u32(rec->x, INET_OWN_STATE_IN, t->c.state_in);
	if (r == 0)
		r = gw_sock_add(rec->x, GW_LEVEL_OWN, INET_OWN_RTT, (uint32_t[]){ t->c.rtt_us, t->c.rttvar_us },
				2 * sizeof(uint32_t));
	if (r == 0 && i && (i->shutdown & 1) && !tcp_fin_received(t->c.state_in))
		r = own_u32(rec->x, INET_OWN_SHUT_RD, 1);
	if (r < 0)
		return err_sys(e, r, "TCP socket");
	*ret = &t->c;
	return 0;
}

static int tcp_capture(struct dump *d, struct ofile *f, struct inet_rec *rec, struct tcp_conn *closed,
		       struct tcp_conn **ret, struct err *e)
{
	struct tcp_info ti;
	bool was;
	int state, r;

	state = f->priv ? (int)((struct tcp_read *)f->priv)->c.state : tcp_state_of(f->lfd, &ti);
	if (state < 0)
		return err_sys(e, state, "a TCP socket's state cannot be read");
	rec->isk.state = (uint32_t)state;
	if (inet_is_dropped(d, (unsigned)state)) {
		char text[2 * INET_TEXT_MAX + 32];

		conn_text(f, text, sizeof(text));
		log_warn("process %d, fd %d: the TCP connection %s is left out (--tcp-close)",
			 f->task ? f->task->nspid : 0, f->fd, text);
		return 0;
	}
	switch (state) {
	case TCP_LISTEN:
		rec->isk.backlog = ti.tcpi_sacked;
		/* The tree had its chance to accept them (settle.c). */
		if (ti.tcpi_unacked)
			log_warn("%u connections that wait at port %u to be accepted are lost",
				 ti.tcpi_unacked, rec->isk.src_port);
		return 0;
	case TCP_CLOSE:
		r = tcp_capture_closed(f, rec, closed, &was, e);
		*ret = was ? closed : NULL;
		return r;
	case TCP_SYN_SENT:
		return tcp_capture_connecting(d, f, rec, e);
	default:
		if (!tcp_state_known((unsigned)state))
			return err_set(e, -EAGAIN, "a TCP connection is in state %d; try again in a moment", state);
		return tcp_capture_open(d, f, rec, ret, e);
	}
}

/* ---- the end of a checkpoint's tree ---- */

/* In repair mode a socket is closed without a word, and its address is free at once.  Listeners know no such mode; they
 * tell nobody. */
static bool is_silenced(struct dump *d, const struct ofile *f)
{
	int state = inet_tcp_state(f);

	return state > 0 && state != TCP_LISTEN && state != TCP_CLOSE && !inet_is_dropped(d, (unsigned)state);
}

int inet_silence(struct dump *d, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	int r = 0;

	for (size_t i = 0; i < d->n_ofiles && r >= 0; i++) {
		const struct ofile *f = d->ofiles[i];
		struct silenced x = { .fd = f->lfd };

		if (!is_silenced(d, f))
			continue;
		r = array_grow(s->silenced, s->n_silenced, s->cap_silenced);
		if (r >= 0)
			r = tcp_repair_enter(x.fd, &x.reuse);
		if (r >= 0)
			s->silenced[s->n_silenced++] = x;
		else
			err_sys(e, r, "process %d, fd %d: a TCP connection cannot be silenced",
				f->task ? f->task->nspid : 0, f->fd);
	}
	if (r < 0)
		inet_unsilence(d);
	return r < 0 ? r : 0;
}

void inet_unsilence(struct dump *d)
{
	struct sock_dump *s = sock_dump_of(d);

	while (s->n_silenced) {
		const struct silenced *x = &s->silenced[--s->n_silenced];

		(void)tcp_repair_leave(x->fd, x->reuse);
	}
}

/* ---- both ---- */

static int rec_put(struct dump *d, struct ofile *f, struct inet_rec *rec, const struct tcp_conn *conn,
		   struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	int r;

	fe.isk = &rec->isk;
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = sink_put(d->sink, REC_GW_SOCK, f->id, &rec->x->base, e);
	if (r == 0 && conn)
		r = put_stream(d, f, conn, e);
	if (r == 0 && rec->isk.proto == IPPROTO_UDP)
		r = udp_queue_capture(d, f, e);
	return r;
}

static int inet_capture(struct dump *d, struct ofile *f, struct err *e)
{
	struct tcp_conn closed = { 0 }, *conn = NULL;
	int domain, type, protocol, r;
	struct inet_rec rec = { 0 };

	if (!sock_is(f, &domain, &type, &protocol))
		return err_set(e, -EIO, "fd %d is no socket any more", f->fd);
	r = tcp_sweep(d, e);
	if (r < 0)
		return r;
	inet_sk_entry__init(&rec.isk);
	fown_entry__init(&rec.fown);
	rec.isk.id = f->id;
	rec.isk.ino = (uint32_t)f->st.st_ino;
	rec.isk.family = (uint32_t)domain;
	rec.isk.type = (uint32_t)type;
	rec.isk.proto = (uint32_t)protocol;
	rec.isk.state = TCP_CLOSE;
	rec.isk.flags = f->flags;
	rec.isk.fown = &rec.fown;
	rec.isk.opts = &rec.opts;
	r = rec_addresses(f, &rec, e);
	if (r == 0)
		r = fown_read(d, f, &rec.fown, e);
	if (r == 0)
		r = sock_opts_read(d, f, &rec.opts, &rec.x, e);
	if (r < 0)
		return r;
	if (protocol == IPPROTO_TCP)
		r = tcp_capture(d, f, &rec, &closed, &conn, e);
	else
		r = inet_groups_read(d, f, domain, rec.x, e);
	if (r == 0)
		r = rec_put(d, f, &rec, conn, e);
	tcp_conn_done(&closed);
	sock_opts_done(&rec.opts);
	gw_sock_extra__free_unpacked(rec.x, NULL);
	return r;
}

const struct file_kind file_kind_inet = {
	.name = "internet socket",
	.type = FD_TYPES__INETSK,
	.recognise = inet_recognise,
	.check = inet_check,
	.capture = inet_capture,
	.load = inet_load,
	.build = inet_build,
	.placed = inet_placed,
};

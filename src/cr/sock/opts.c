/* opts - options that sockets of all families have, and the plain ones of IP, IPv6, TCP and UDP.
 *
 * Read by getsockopt on our duplicate of the descriptor and compared with a fresh socket of the same
 * family, type and protocol in the same network namespace: what is equal does not travel.  Put back by
 * setsockopt, most before bind(), a few at the very end (they would stand in our own way).
 *
 * Buffer sizes travel always, with the kernel's note of who set them (SO_BUF_LOCK, Linux 5.14), so that
 * automatic tuning goes on.  The kernel doubles what SO_SNDBUF sets, so half is set.
 *
 * Not covered: an attached eBPF filter (SO_ATTACH_BPF) is refused in sock_check; reuseport programs
 * and SO_PREFER_BUSY_POLL cannot be read by anybody and are lost without a word; TCP_QUICKACK and
 * TCP_WINDOW_CLAMP of a connection change by themselves and start anew. */
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/sock.h"

/* Newer than Debian 12's headers, or in kernel headers that do not go together with libc's. */
#define X_SO_PASSPIDFD 76
#define X_SO_RCVPRIORITY 82
#define X_SO_PASSRIGHTS 83
#define X_IP_BIND_ADDRESS_NO_PORT 24
#define X_IP_RECVERR_RFC4884 26
#define X_IP_LOCAL_PORT_RANGE 51
#define X_TCP_FASTOPEN_CONNECT 30
#define X_TCP_FASTOPEN_NO_COOKIE 34
#define X_TCP_INQ 36
#define X_TCP_TX_DELAY 37
#define X_UDP_SEGMENT 103
#define X_UDP_GRO 104

enum { EARLY = 0, LATE = 1 << 0, CLOSED_ONLY = 1 << 1, LAST = 1 << 2, NO_STREAM = 1 << 3, NOT_UNIX = 1 << 4 };

struct opt {
	int level, name;
	unsigned char len; /* bytes; 0: up to OPT_MAX */
	unsigned char how;
};

#define OPT_MAX 256
#define MSS_MAX 32767

/* In the order in which they are set. */
static const struct opt opts[] = {
	{ SOL_SOCKET, SO_REUSEPORT, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_BINDTODEVICE, 0, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_DEBUG, 4, EARLY },
	{ SOL_SOCKET, SO_DONTROUTE, 4, LATE | NOT_UNIX },
	{ SOL_SOCKET, SO_BROADCAST, 4, EARLY },
	{ SOL_SOCKET, SO_KEEPALIVE, 4, LATE },
	{ SOL_SOCKET, SO_OOBINLINE, 4, EARLY },
	{ SOL_SOCKET, SO_NO_CHECK, 4, EARLY },
	{ SOL_SOCKET, SO_LINGER, sizeof(struct linger), EARLY },
	{ SOL_SOCKET, SO_MARK, 4, EARLY },
	{ SOL_SOCKET, SO_TIMESTAMP_OLD, 4, EARLY },
	{ SOL_SOCKET, SO_TIMESTAMPNS_OLD, 4, EARLY },
	{ SOL_SOCKET, SO_TIMESTAMP_NEW, 4, EARLY },
	{ SOL_SOCKET, SO_TIMESTAMPNS_NEW, 4, EARLY },
	{ SOL_SOCKET, SO_TIMESTAMPING_OLD, 4, LATE },
	{ SOL_SOCKET, SO_RXQ_OVFL, 4, EARLY },
	{ SOL_SOCKET, SO_WIFI_STATUS, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_NOFCS, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_SELECT_ERR_QUEUE, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_BUSY_POLL, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_MAX_PACING_RATE, 8, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_ZEROCOPY, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_TXTIME, 8, EARLY | NOT_UNIX },
	{ SOL_SOCKET, SO_TXREHASH, 4, EARLY | NOT_UNIX },
	{ SOL_SOCKET, X_SO_RCVPRIORITY, 4, EARLY | NOT_UNIX },
	/* With these a unix socket binds itself when it connects. */
	{ SOL_SOCKET, SO_PASSCRED, 4, LATE },
	{ SOL_SOCKET, SO_PASSSEC, 4, LATE },
	{ SOL_SOCKET, X_SO_PASSPIDFD, 4, LATE },
	{ SOL_SOCKET, X_SO_PASSRIGHTS, 4, LATE },

	{ SOL_IP, IP_FREEBIND, 4, EARLY },
	{ SOL_IP, IP_TRANSPARENT, 4, EARLY },
	{ SOL_IP, X_IP_BIND_ADDRESS_NO_PORT, 4, LATE },
	{ SOL_IP, X_IP_LOCAL_PORT_RANGE, 4, LATE },
	{ SOL_IP, IP_TOS, 4, EARLY },
	{ SOL_IP, IP_TTL, 4, EARLY },
	{ SOL_IP, IP_MINTTL, 4, LATE },
	{ SOL_IP, IP_MTU_DISCOVER, 4, EARLY },
	{ SOL_IP, IP_RECVOPTS, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_RETOPTS, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_OPTIONS, 0, EARLY },
	{ SOL_IP, IP_PKTINFO, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_RECVERR, 4, EARLY },
	{ SOL_IP, X_IP_RECVERR_RFC4884, 4, EARLY },
	{ SOL_IP, IP_RECVTTL, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_RECVTOS, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_RECVORIGDSTADDR, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_RECVFRAGSIZE, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_CHECKSUM, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_PASSSEC, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_MULTICAST_TTL, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_MULTICAST_LOOP, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_MULTICAST_ALL, 4, EARLY | NO_STREAM },
	{ SOL_IP, IP_MULTICAST_IF, 4, EARLY | NO_STREAM },

	{ SOL_IPV6, IPV6_V6ONLY, 4, EARLY },
	{ SOL_IPV6, IPV6_FREEBIND, 4, EARLY },
	{ SOL_IPV6, IPV6_TRANSPARENT, 4, EARLY },
	{ SOL_IPV6, IPV6_UNICAST_HOPS, 4, EARLY },
	{ SOL_IPV6, IPV6_MULTICAST_HOPS, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_MULTICAST_LOOP, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_MULTICAST_ALL, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_MINHOPCOUNT, 4, LATE },
	{ SOL_IPV6, IPV6_MTU_DISCOVER, 4, EARLY },
	{ SOL_IPV6, IPV6_RECVERR, 4, EARLY },
	{ SOL_IPV6, IPV6_RECVPKTINFO, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_2292PKTINFO, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVHOPLIMIT, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_2292HOPLIMIT, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVRTHDR, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVHOPOPTS, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVDSTOPTS, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVPATHMTU, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVTCLASS, 4, EARLY },
	{ SOL_IPV6, IPV6_RECVORIGDSTADDR, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_RECVFRAGSIZE, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_TCLASS, 4, EARLY },
	{ SOL_IPV6, IPV6_DONTFRAG, 4, EARLY | NO_STREAM },
	{ SOL_IPV6, IPV6_AUTOFLOWLABEL, 4, EARLY },
	{ SOL_IPV6, IPV6_ADDR_PREFERENCES, 4, EARLY },

	{ SOL_TCP, TCP_NODELAY, 4, LATE },
	{ SOL_TCP, TCP_CORK, 4, LATE },
	{ SOL_TCP, TCP_MAXSEG, 4, CLOSED_ONLY },
	{ SOL_TCP, TCP_KEEPIDLE, 4, EARLY },
	{ SOL_TCP, TCP_KEEPINTVL, 4, EARLY },
	{ SOL_TCP, TCP_KEEPCNT, 4, EARLY },
	{ SOL_TCP, TCP_SYNCNT, 4, EARLY },
	{ SOL_TCP, TCP_LINGER2, 4, EARLY },
	{ SOL_TCP, TCP_DEFER_ACCEPT, 4, EARLY },
	{ SOL_TCP, TCP_WINDOW_CLAMP, 4, CLOSED_ONLY },
	{ SOL_TCP, TCP_USER_TIMEOUT, 4, EARLY },
	{ SOL_TCP, TCP_FASTOPEN, 4, LATE },
	{ SOL_TCP, X_TCP_FASTOPEN_CONNECT, 4, LATE | CLOSED_ONLY },
	{ SOL_TCP, X_TCP_FASTOPEN_NO_COOKIE, 4, EARLY | CLOSED_ONLY },
	{ SOL_TCP, TCP_NOTSENT_LOWAT, 4, EARLY },
	{ SOL_TCP, TCP_SAVE_SYN, 4, CLOSED_ONLY },
	{ SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 4, EARLY },
	{ SOL_TCP, X_TCP_INQ, 4, EARLY },
	{ SOL_TCP, X_TCP_TX_DELAY, 4, LATE },
	{ SOL_TCP, TCP_CONGESTION, 0, EARLY },

	{ SOL_UDP, UDP_CORK, 4, LATE },
	{ SOL_UDP, UDP_NO_CHECK6_TX, 4, EARLY },
	{ SOL_UDP, UDP_NO_CHECK6_RX, 4, EARLY },
	{ SOL_UDP, X_UDP_SEGMENT, 4, EARLY },
	{ SOL_UDP, X_UDP_GRO, 4, EARLY },

	{ SOL_NETLINK, NETLINK_PKTINFO, 4, EARLY },
	{ SOL_NETLINK, NETLINK_BROADCAST_ERROR, 4, EARLY },
	{ SOL_NETLINK, NETLINK_NO_ENOBUFS, 4, EARLY },
	{ SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 4, EARLY },
	{ SOL_NETLINK, NETLINK_CAP_ACK, 4, EARLY },
	{ SOL_NETLINK, NETLINK_EXT_ACK, 4, EARLY },
	{ SOL_NETLINK, NETLINK_GET_STRICT_CHK, 4, EARLY },

	/* Behind IP_TOS, which sets a priority of its own. */
	{ SOL_SOCKET, SO_PRIORITY, 4, EARLY },
	/* Ahead of the buffer sizes, which it may change. */
	{ SOL_SOCKET, SO_RCVLOWAT, 4, LATE },
	{ SOL_SOCKET, SO_PEEK_OFF, 4, LATE },
	/* Behind the filter itself, see sock_opts_late. */
	{ SOL_SOCKET, SO_LOCK_FILTER, 4, LAST },
};

int sock_set(int fd, int level, int name, const void *value, size_t len)
{
	return setsockopt(fd, level, name, value, (socklen_t)len) < 0 ? -errno : 0;
}

int sock_set_int(int fd, int level, int name, int value)
{
	return sock_set(fd, level, name, &value, sizeof(value));
}

int sock_get_int(int fd, int level, int name, int *ret)
{
	socklen_t len = sizeof(*ret);

	*ret = 0;
	return getsockopt(fd, level, name, ret, &len) < 0 ? -errno : 0;
}

/* ---- a fresh socket to compare with ---- */

struct opt_value {
	int len; /* -1: the kernel has no such option here */
	unsigned char data[OPT_MAX];
};

struct opt_ref {
	int domain, type, protocol;
	struct opt_value *v; /* one for each of opts[] */
};

static void opt_get(int fd, const struct opt *o, struct opt_value *ret)
{
	socklen_t len = o->len ? o->len : OPT_MAX;

	memset(ret, 0, sizeof(*ret));
	ret->len = getsockopt(fd, o->level, o->name, ret->data, &len) < 0 ? -1 : (int)len;
}

/* Whether the option can mean anything to such a socket.  An accepted connection has multicast settings of
 * the packets it came from, and what would come along with a datagram never comes with a stream. */
static bool opt_belongs(const struct opt *o, int domain, int type, int protocol)
{
	bool inet = domain == AF_INET || domain == AF_INET6;

	if ((o->how & NO_STREAM && type == SOCK_STREAM) || (o->how & NOT_UNIX && domain == AF_UNIX))
		return false;

	switch (o->level) {
	case SOL_IP:
		return inet;
	case SOL_IPV6:
		return domain == AF_INET6;
	case SOL_TCP:
		return inet && protocol == IPPROTO_TCP;
	case SOL_UDP:
		return inet && protocol == IPPROTO_UDP;
	case SOL_NETLINK:
		return domain == AF_NETLINK;
	default:
		return true;
	}
}

static int opt_ref_get(struct dump *d, int domain, int type, int protocol, const struct opt_ref **ret,
		       struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	struct opt_ref *ref;
	auto_fd int fd = -1;

	for (size_t i = 0; i < s->n_refs; i++)
		if (s->refs[i].domain == domain && s->refs[i].type == type &&
		    s->refs[i].protocol == protocol) {
			*ret = &s->refs[i];
			return 0;
		}
	if (array_grow(s->refs, s->n_refs, s->cap_refs) < 0)
		return err_sys(e, -ENOMEM, "socket options");
	fd = netns_socket(s->netns_fd, domain, type, protocol);
	if (fd < 0)
		return err_sys(e, fd, "cannot make a socket of family %d, type %d, protocol %d in the "
			       "container's network to compare with", domain, type, protocol);
	ref = &s->refs[s->n_refs];
	*ref = (struct opt_ref){ .domain = domain, .type = type, .protocol = protocol };
	ref->v = calloc(array_len(opts), sizeof(*ref->v));
	if (!ref->v)
		return err_sys(e, -ENOMEM, "socket options");
	for (size_t i = 0; i < array_len(opts); i++) {
		ref->v[i].len = -1;
		if (opt_belongs(&opts[i], domain, type, protocol))
			opt_get(fd, &opts[i], &ref->v[i]);
	}
	s->n_refs++;
	*ret = ref;
	return 0;
}

/* ---- reading ---- */

int gw_sock_add(GwSockExtra *x, int level, int name, const void *value, size_t len)
{
	GwSockopt **list = realloc(x->opts, (x->n_opts + 1) * sizeof(*list));
	GwSockopt *o;

	if (!list)
		return -ENOMEM;
	x->opts = list;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	gw_sockopt__init(o);
	o->has_level = o->has_name = true;
	o->level = (uint32_t)level;
	o->name = (uint32_t)name;
	o->value.data = malloc(len ? len : 1);
	if (!o->value.data) {
		free(o);
		return -ENOMEM;
	}
	o->has_value = true;
	o->value.len = len;
	memcpy(o->value.data, value, len);
	list[x->n_opts++] = o;
	return 0;
}

static int opts_read_filter(struct sock_dump *s, struct ofile *f, SkOptsEntry *o, struct err *e)
{
	struct sock_filter insns[BPF_MAXINSNS];
	socklen_t n = 0;

	if (!deaf_is(&s->deaf, (uint32_t)f->st.st_ino))
		deaf_heal(f->lfd);
	if (getsockopt(f->lfd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0)
		return errno == ENOPROTOOPT ? 0 :
			err_sys(e, -errno, "the filter of a socket cannot be read");
	if (!n || deaf_is(&s->deaf, (uint32_t)f->st.st_ino)) /* a filter of ours */
		return 0;
	if (n > BPF_MAXINSNS)
		return err_set(e, -E2BIG, "the filter of a socket has %u instructions", n);
	if (getsockopt(f->lfd, SOL_SOCKET, SO_GET_FILTER, insns, &n) < 0)
		return err_sys(e, -errno, "the filter of a socket cannot be read");
	o->so_filter = calloc(n, sizeof(uint64_t));
	if (!o->so_filter)
		return err_sys(e, -ENOMEM, "socket filter");
	o->n_so_filter = n;
	for (socklen_t i = 0; i < n; i++)
		o->so_filter[i] = (uint64_t)insns[i].code << 48 | (uint64_t)insns[i].jt << 40 |
				  (uint64_t)insns[i].jf << 32 | insns[i].k;
	return 0;
}

static int opts_read_common(struct sock_dump *s, struct ofile *f, SkOptsEntry *o, struct err *e)
{
	struct timeval snd = { 0 }, rcv = { 0 };
	socklen_t len = sizeof(snd);
	int v, r;

	r = sock_get_int(f->lfd, SOL_SOCKET, SO_SNDBUF, &v);
	if (r < 0)
		return err_sys(e, r, "the options of a socket cannot be read");
	o->so_sndbuf = (uint32_t)v;
	r = sock_get_int(f->lfd, SOL_SOCKET, SO_RCVBUF, &v);
	if (r < 0)
		return err_sys(e, r, "the options of a socket cannot be read");
	o->so_rcvbuf = (uint32_t)v;
	if (sock_get_int(f->lfd, SOL_SOCKET, SO_BUF_LOCK, &v) == 0) {
		o->has_so_buf_lock = true;
		o->so_buf_lock = (uint32_t)v;
	}
	if (getsockopt(f->lfd, SOL_SOCKET, SO_SNDTIMEO, &snd, &len) < 0)
		return err_sys(e, -errno, "the options of a socket cannot be read");
	len = sizeof(rcv);
	if (getsockopt(f->lfd, SOL_SOCKET, SO_RCVTIMEO, &rcv, &len) < 0)
		return err_sys(e, -errno, "the options of a socket cannot be read");
	o->so_snd_tmo_sec = (uint64_t)snd.tv_sec;
	o->so_snd_tmo_usec = (uint64_t)snd.tv_usec;
	o->so_rcv_tmo_sec = (uint64_t)rcv.tv_sec;
	o->so_rcv_tmo_usec = (uint64_t)rcv.tv_usec;
	if (sock_get_int(f->lfd, SOL_SOCKET, SO_REUSEADDR, &v) == 0) {
		o->has_reuseaddr = true;
		o->reuseaddr = v != 0;
	}
	return opts_read_filter(s, f, o, e);
}

static int opts_read_owner(struct dump *d, struct ofile *f, GwSockExtra *x, struct err *e)
{
	const struct idmap *m = dump_idmap(d, e);
	uint32_t id;

	if (!m)
		return e && e->code ? e->code : -EIO;
	/* An owner without a mapping (a socket that came from outside) stays with the engine. */
	if (idmap_uid_in(m, f->st.st_uid, &id) == 0) {
		x->has_uid = true;
		x->uid = id;
	}
	if (idmap_gid_in(m, f->st.st_gid, &id) == 0) {
		x->has_gid = true;
		x->gid = id;
	}
	x->has_mode = true;
	x->mode = f->st.st_mode & 07777;
	return 0;
}

static bool sock_is_open_tcp(int fd)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);

	if (getsockopt(fd, SOL_TCP, TCP_INFO, &ti, &len) < 0)
		return false;
	return ti.tcpi_state != TCP_CLOSE && ti.tcpi_state != TCP_LISTEN;
}

/* Of a connection that is over the kernel may tell what it came to use, on loopback more than anybody can ask for. */
static bool is_unset(const struct opt *o, const struct opt_value *v)
{
	uint32_t mss;

	if (o->level != SOL_TCP || o->name != TCP_MAXSEG || v->len != sizeof(mss))
		return false;
	memcpy(&mss, v->data, sizeof(mss));
	return mss > MSS_MAX;
}

int sock_opts_read(struct dump *d, struct ofile *f, SkOptsEntry *ret_o, GwSockExtra **ret_x,
		   struct err *e)
{
	const struct opt_ref *ref = NULL;
	GwSockExtra *x;
	int domain, type, protocol, r;
	bool connected;

	if (!sock_is(f, &domain, &type, &protocol))
		return err_set(e, -EINVAL, "descriptor %d is no socket", f->fd);
	sk_opts_entry__init(ret_o);
	r = opts_read_common(sock_dump_of(d), f, ret_o, e);
	if (r < 0)
		return r;
	r = opt_ref_get(d, domain, type, protocol, &ref, e);
	if (r < 0) {
		sock_opts_done(ret_o);
		return r;
	}
	x = calloc(1, sizeof(*x));
	if (!x) {
		sock_opts_done(ret_o);
		return err_sys(e, -ENOMEM, "socket options");
	}
	gw_sock_extra__init(x);
	connected = protocol == IPPROTO_TCP && sock_is_open_tcp(f->lfd);
	r = opts_read_owner(d, f, x, e);
	for (size_t i = 0; r >= 0 && i < array_len(opts); i++) {
		struct opt_value v;

		if (!opt_belongs(&opts[i], domain, type, protocol) ||
		    ((opts[i].how & CLOSED_ONLY) && connected))
			continue;
		opt_get(f->lfd, &opts[i], &v);
		if (v.len < 0 || is_unset(&opts[i], &v) || (v.len == ref->v[i].len && !memcmp(v.data, ref->v[i].data, (size_t)v.len)))
			continue;
		r = gw_sock_add(x, opts[i].level, opts[i].name, v.data, (size_t)v.len);
		if (r < 0)
			err_sys(e, r, "socket options");
	}
	if (r < 0) {
		sock_opts_done(ret_o);
		gw_sock_extra__free_unpacked(x, NULL);
		return r;
	}
	*ret_x = x;
	return 0;
}

void sock_opts_done(SkOptsEntry *o)
{
	free(o->so_filter);
	o->so_filter = NULL;
	o->n_so_filter = 0;
}

/* ---- setting ---- */

static const struct opt *opt_known(const GwSockopt *o)
{
	for (size_t i = 0; i < array_len(opts); i++)
		if ((uint32_t)opts[i].level == o->level && (uint32_t)opts[i].name == o->name)
			return &opts[i];
	return NULL;
}

static int opts_set_one(int fd, const GwSockopt *o, struct err *e)
{
	int r = sock_set(fd, (int)o->level, (int)o->name, o->value.data, o->value.len);

	if (r == 0)
		return 0;
	if (o->level == SOL_TCP && o->name == TCP_CONGESTION) {
		log_warn("congestion control %.*s is not available here; the default is used",
			 (int)strnlen((const char *)o->value.data, o->value.len),
			 (const char *)o->value.data);
		return 0;
	}
	return err_sys(e, r, "socket option %u of level %u cannot be set", o->name, o->level);
}

static int opts_set_list(int fd, const GwSockExtra *x, unsigned late, struct err *e)
{
	/* The order of the table counts, not that of the record. */
	for (size_t i = 0; x && i < array_len(opts); i++) {
		if ((opts[i].how & (LATE | LAST)) != late)
			continue;
		for (size_t k = 0; k < x->n_opts; k++) {
			int r;

			if (opt_known(x->opts[k]) != &opts[i])
				continue;
			r = opts_set_one(fd, x->opts[k], e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Beyond the host's limit only by force, which is not for everybody. */
static int buffer_set(int fd, int plain, int force, int size)
{
	int r = sock_set_int(fd, SOL_SOCKET, force, size / 2), is = 0;

	if (r != -EPERM)
		return r;
	r = sock_set_int(fd, SOL_SOCKET, plain, size / 2);
	if (r == 0)
		r = sock_get_int(fd, SOL_SOCKET, plain, &is);
	return r < 0 ? r : is == size ? 0 : -EPERM;
}

static int opts_set_buffers(int fd, const SkOptsEntry *o, struct err *e)
{
	int r;

	if (o->so_sndbuf > INT32_MAX || o->so_rcvbuf > INT32_MAX)
		return err_set(e, -EINVAL, "a socket's buffer sizes make no sense");
	r = buffer_set(fd, SO_SNDBUF, SO_SNDBUFFORCE, (int)o->so_sndbuf);
	if (r == 0)
		r = buffer_set(fd, SO_RCVBUF, SO_RCVBUFFORCE, (int)o->so_rcvbuf);
	if (r == -EPERM)
		return err_set(e, r, "a socket's buffer sizes (%u, %u) are beyond the host's limit (net.core.wmem_max, "
			       "rmem_max), which needs CAP_NET_ADMIN in the first user namespace", o->so_sndbuf, o->so_rcvbuf);
	if (r < 0)
		return err_sys(e, r, "a socket's buffer sizes cannot be set");
	if (o->has_so_buf_lock && o->so_buf_lock != (SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK))
		(void)sock_set_int(fd, SOL_SOCKET, SO_BUF_LOCK, (int)(o->so_buf_lock & 3));
	return 0;
}

static int opts_set_filter(int fd, const SkOptsEntry *o, struct err *e)
{
	struct sock_filter insns[BPF_MAXINSNS];
	struct sock_fprog prog = { .len = (unsigned short)o->n_so_filter, .filter = insns };
	int r;

	if (!o->n_so_filter)
		return 0;
	if (o->n_so_filter > BPF_MAXINSNS)
		return err_set(e, -EINVAL, "a socket's filter is too long");
	for (size_t i = 0; i < o->n_so_filter; i++)
		insns[i] = (struct sock_filter){ .code = (uint16_t)(o->so_filter[i] >> 48),
						 .jt = (uint8_t)(o->so_filter[i] >> 40),
						 .jf = (uint8_t)(o->so_filter[i] >> 32),
						 .k = (uint32_t)o->so_filter[i] };
	r = sock_set(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
	return r < 0 ? err_sys(e, r, "a socket's filter cannot be attached") : 0;
}

int sock_opts_early(int fd, const SkOptsEntry *o, const GwSockExtra *x, struct err *e)
{
	int r, domain = 0;

	/* Sockets of one port are bound one after the other; who may share it is set at the end. */
	if (sock_get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) == 0 && domain != AF_UNIX)
		(void)sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	for (size_t k = 0; x && k < x->n_opts; k++)
		if (!opt_known(x->opts[k]) && x->opts[k]->level != GW_LEVEL_OWN)
			return err_set(e, -EOPNOTSUPP, "socket option %u of level %u is not known here",
				       x->opts[k]->name, x->opts[k]->level);
	r = opts_set_list(fd, x, EARLY, e);
	if (r < 0)
		return r;
	return opts_set_buffers(fd, o, e);
}

int sock_opts_late(int fd, const SkOptsEntry *o, const GwSockExtra *x, struct err *e)
{
	struct timeval snd = { .tv_sec = (time_t)o->so_snd_tmo_sec,
			       .tv_usec = (suseconds_t)o->so_snd_tmo_usec };
	struct timeval rcv = { .tv_sec = (time_t)o->so_rcv_tmo_sec,
			       .tv_usec = (suseconds_t)o->so_rcv_tmo_usec };
	int r;

	r = opts_set_list(fd, x, LATE, e);
	if (r < 0)
		return r;
	r = opts_set_buffers(fd, o, e);
	if (r < 0)
		return r;
	if (snd.tv_sec || snd.tv_usec)
		r = sock_set(fd, SOL_SOCKET, SO_SNDTIMEO, &snd, sizeof(snd));
	if (r == 0 && (rcv.tv_sec || rcv.tv_usec))
		r = sock_set(fd, SOL_SOCKET, SO_RCVTIMEO, &rcv, sizeof(rcv));
	if (r == 0 && o->has_reuseaddr)
		r = sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, o->reuseaddr);
	if (r < 0)
		return err_sys(e, r, "a socket's options cannot be set");
	r = opts_set_filter(fd, o, e);
	if (r < 0)
		return r;
	return opts_set_list(fd, x, LAST, e);
}

int sock_owner_restore(struct restore *r, int fd, const GwSockExtra *x, struct err *e)
{
	const struct idmap *m;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (!x)
		return 0;
	m = restore_idmap(r, e);
	if (!m)
		return e && e->code ? e->code : -EIO;
	if (x->has_uid && idmap_uid_out(m, x->uid, &uid) < 0)
		return err_set(e, -EINVAL, "a socket belongs to user %u, which is not mapped here", x->uid);
	if (x->has_gid && idmap_gid_out(m, x->gid, &gid) < 0)
		return err_set(e, -EINVAL, "a socket belongs to group %u, which is not mapped here", x->gid);
	if (fchown(fd, uid, gid) < 0)
		return err_sys(e, -errno, "a socket's owner cannot be set");
	if (x->has_mode && (x->mode & 0777) != 0777 && fchmod(fd, x->mode & 0777) < 0 && errno != EOPNOTSUPP)
		return err_sys(e, -errno, "a socket's mode cannot be set");
	return 0;
}

void sock_opts_refs_free(struct sock_dump *s)
{
	for (size_t i = 0; i < s->n_refs; i++)
		free(s->refs[i].v);
	free(s->refs);
	s->refs = NULL;
	s->n_refs = s->cap_refs = 0;
}

/* udp - datagrams that wait at a UDP socket, and multicast memberships of both protocols.
 *
 * Datagrams: read by MSG_PEEK with SO_PEEK_OFF, put back as packets of our own making from the same sender
 * (forge.c), before the socket is connected.  They arrive over loopback, so what a program reads about the
 * way of a datagram (interface, hop count, time) is that of loopback.  UDP may lose datagrams at
 * any time; one that cannot be put back is lost with a line in the log, no more.
 *
 * Memberships: no call lists those of a socket.  The groups of every interface are in /proc/net/igmp
 * and igmp6; for each, getsockopt(MCAST_MSFILTER) tells whether this socket is a member. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/sock/inet.h"

#include "sk-packet.pb-c.h"

#define DGRAM_MAX 65536

/* ---- datagrams ---- */

static int dgram_put(struct dump *d, struct ofile *f, const void *data, size_t len,
		     const union inet_addr *from, struct err *e)
{
	SkPacketEntry pk = SK_PACKET_ENTRY__INIT;
	GwBlob b = GW_BLOB__INIT;
	int r;

	pk.id_for = f->id;
	pk.length = (uint32_t)len;
	r = sink_put(d->sink, REC_SK_QUEUES, f->id, &pk.base, e);
	if (r < 0)
		return r;
	b.has_data = b.has_addr = true;
	b.data.data = (uint8_t *)data;
	b.data.len = len;
	b.addr.data = (uint8_t *)from;
	b.addr.len = inet_addr_len(from);
	return sink_put(d->sink, REC_GW_BLOB, f->id, &b.base, e);
}

int udp_queue_capture(struct dump *d, struct ofile *f, struct err *e)
{
	auto_free uint8_t *buf = NULL;
	int offset = -1, waiting = 0, r;

	if (ioctl(f->lfd, SIOCINQ, &waiting) < 0 || waiting <= 0)
		return 0;
	buf = malloc(DGRAM_MAX);
	if (!buf)
		return err_sys(e, -ENOMEM, "datagrams");
	r = sock_get_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, &offset);
	if (r == 0)
		r = sock_set_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, 0);
	if (r < 0)
		return err_sys(e, r, "the datagrams of a UDP socket cannot be read");
	for (;;) {
		union inet_addr from = { 0 };
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(f->lfd, buf, DGRAM_MAX, MSG_PEEK | MSG_DONTWAIT, &from.sa, &len);

		if (n < 0) {
			r = errno == EAGAIN ? 0 : err_sys(e, -errno, "the datagrams of a UDP socket cannot be read");
			break;
		}
		r = dgram_put(d, f, buf, (size_t)n, &from, e);
		if (r < 0)
			break;
	}
	if (sock_set_int(f->lfd, SOL_SOCKET, SO_PEEK_OFF, offset) < 0 && r == 0)
		r = err_set(e, -EIO, "a UDP socket's offset for peeking cannot be set back");
	return r;
}

static void to_v4(union inet_addr *a)
{
	uint16_t port = a->v6.sin6_port;
	uint32_t addr;

	memcpy(&addr, (const uint8_t *)&a->v6.sin6_addr + 12, 4);
	memset(a, 0, sizeof(*a));
	a->v4.sin_family = AF_INET;
	a->v4.sin_port = port;
	a->v4.sin_addr.s_addr = addr;
}

/* Where the datagram is sent: the socket's own address, or loopback where it listens to all. */
static int dgram_ends(const struct isk *s, const GwBlob *b, union inet_addr *from, union inet_addr *to)
{
	memset(from, 0, sizeof(*from));
	if (!b->has_addr || b->addr.len < sizeof(sa_family_t) || b->addr.len > sizeof(*from))
		return -EINVAL;
	memcpy(from, b->addr.data, b->addr.len);
	*to = s->self;
	if (from->sa.sa_family != s->i->family || b->addr.len != inet_addr_len(from))
		return -EINVAL;
	if (s->i->family == AF_INET) {
		if (!to->v4.sin_addr.s_addr)
			to->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return 0;
	}
	if (IN6_IS_ADDR_V4MAPPED(&from->v6.sin6_addr)) {
		bool any = IN6_IS_ADDR_UNSPECIFIED(&to->v6.sin6_addr);

		to_v4(from);
		to_v4(to);
		if (any)
			to->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return 0;
	}
	if (IN6_IS_ADDR_UNSPECIFIED(&to->v6.sin6_addr))
		to->v6.sin6_addr = in6addr_loopback;
	return 0;
}

int udp_queue_fill(struct restore *r, struct isk *s, struct err *e)
{
	const struct record *rec;
	size_t pos = 0;

	while ((rec = image_find(r->image, REC_SK_QUEUES, s->f->id, &pos))) {
		const struct record *next = pos < image_count(r->image) ? image_at(r->image, pos) : NULL;
		union inet_addr from, to;
		struct err why = { 0 };
		const GwBlob *b;

		if (!next || next->kind != REC_GW_BLOB || next->id != s->f->id)
			return err_set(e, -EINVAL, "a queued datagram of file %u has no content", s->f->id);
		b = (const GwBlob *)next->msg;
		if (dgram_ends(s, b, &from, &to) < 0)
			return err_set(e, -EINVAL, "a queued datagram of file %u has no sender", s->f->id);
		if (forge_udp(&from.sa, &to.sa, b->data.data, b->data.len, &why) < 0)
			log_warn("a datagram that waited at port %u is lost: %s", s->i->src_port, err_text(&why));
	}
	return 0;
}

/* ---- groups ---- */

static void group_sockaddr(int family, const uint8_t addr[16], struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		memcpy(&((struct sockaddr_in *)ret)->sin_addr, addr, 4);
	else
		memcpy(&((struct sockaddr_in6 *)ret)->sin6_addr, addr, 16);
}

static void group_addr(const struct sockaddr_storage *ss, uint8_t ret[16])
{
	memset(ret, 0, 16);
	if (ss->ss_family == AF_INET)
		memcpy(ret, &((const struct sockaddr_in *)ss)->sin_addr, 4);
	else
		memcpy(ret, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
}

#define GROUP_SOURCES_MAX 16

/* Adds the membership of this socket in this group at this interface, if it has one. */
static int group_probe(struct ofile *f, int family, uint32_t ifindex, const char *ifname,
		       const uint8_t addr[16], GwSockExtra *x, struct err *e)
{
	size_t room = GROUP_FILTER_SIZE(GROUP_SOURCES_MAX);
	auto_free struct group_filter *gf = calloc(1, room);
	struct inet_group g = { .family = (uint8_t)family };
	socklen_t len = (socklen_t)room;
	int r;

	if (!gf)
		return err_sys(e, -ENOMEM, "multicast groups");
	gf->gf_interface = ifindex;
	group_sockaddr(family, addr, &gf->gf_group);
	gf->gf_numsrc = GROUP_SOURCES_MAX;
	if (getsockopt(f->lfd, family == AF_INET ? SOL_IP : SOL_IPV6, MCAST_MSFILTER, gf, &len) < 0)
		return errno == EADDRNOTAVAIL || errno == ENODEV || errno == EINVAL ? 0 :
			err_sys(e, -errno, "the multicast groups of a socket cannot be read");
	if (gf->gf_numsrc > GROUP_SOURCES_MAX)
		return err_set(e, -EOPNOTSUPP, "a multicast membership with more than %d sources",
			       GROUP_SOURCES_MAX);
	snprintf(g.ifname, sizeof(g.ifname), "%s", ifname);
	g.exclude = gf->gf_fmode == MCAST_EXCLUDE;
	g.n_sources = (uint16_t)gf->gf_numsrc;
	memcpy(g.addr, addr, 16);
	for (uint32_t i = 0; i < gf->gf_numsrc; i++)
		group_addr(&gf->gf_slist[i], g.sources[i]);
	r = gw_sock_add(x, GW_LEVEL_OWN, INET_OWN_GROUP, &g, sizeof(g));
	return r < 0 ? err_sys(e, r, "multicast groups") : 0;
}

/* "1\tlo        :     1      V3" and then, for each of its groups, "\t\t\t\t010000E0     1 0:00000000 ...":
 * the address as a number of this machine. */
static int igmp_lines(struct ofile *f, char *text, GwSockExtra *x, struct err *e)
{
	char ifname[IFNAMSIZ] = "", *save = NULL;
	uint32_t index = 0;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		uint8_t addr[16] = { 0 };
		unsigned v;
		int r;

		if (l[0] >= '0' && l[0] <= '9') {
			if (sscanf(l, "%u %15s", &index, ifname) != 2)
				index = 0;
		} else if (l[0] == '\t' && index && sscanf(l, "%x", &v) == 1) {
			memcpy(addr, &v, 4);
			r = group_probe(f, AF_INET, index, ifname, addr, x, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* "1    lo              ff020000000000000000000000000001     1 0000000C 0" */
static int igmp6_lines(struct ofile *f, char *text, GwSockExtra *x, struct err *e)
{
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char ifname[IFNAMSIZ], hex[33];
		uint8_t addr[16];
		unsigned index;
		int r;

		if (sscanf(l, "%u %15s %32[0-9a-f]", &index, ifname, hex) != 3 || strlen(hex) != 32)
			continue;
		for (int i = 0; i < 16; i++) {
			unsigned byte;

			sscanf(hex + 2 * i, "%2x", &byte);
			addr[i] = (uint8_t)byte;
		}
		r = group_probe(f, AF_INET6, index, ifname, addr, x, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int inet_groups_read(struct dump *d, struct ofile *f, int domain, GwSockExtra *x, struct err *e)
{
	auto_free char *v4 = NULL, *v6 = NULL;
	int r;

	/* Of the init's network namespace, which is that of all sockets here. */
	r = fd_read_file_at(d->tasks[0]->proc_fd, "net/igmp", 1 << 20, &v4, NULL);
	if (r == 0)
		r = igmp_lines(f, v4, x, e);
	else if (r == -ENOENT)
		r = 0;
	else
		return err_sys(e, r, "the list of multicast groups");
	if (r < 0 || domain != AF_INET6)
		return r;
	r = fd_read_file_at(d->tasks[0]->proc_fd, "net/igmp6", 1 << 20, &v6, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : err_sys(e, r, "the list of multicast groups");
	return igmp6_lines(f, v6, x, e);
}

static int group_join(int fd, const struct inet_group *g, struct err *e)
{
	size_t room = GROUP_FILTER_SIZE(GROUP_SOURCES_MAX);
	auto_free struct group_filter *gf = calloc(1, room);
	int level = g->family == AF_INET ? SOL_IP : SOL_IPV6, r;
	char ifname[IFNAMSIZ] = "";
	struct ifreq ifr = { 0 };
	struct group_req req = { 0 };

	if (!gf)
		return err_sys(e, -ENOMEM, "multicast groups");
	memcpy(ifname, g->ifname, sizeof(ifname) - 1);
	memcpy(ifr.ifr_name, ifname, sizeof(ifname));
	if (ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return err_sys(e, -errno, "interface %s of a multicast group", ifname);
	req.gr_interface = gf->gf_interface = (uint32_t)ifr.ifr_ifindex;
	group_sockaddr(g->family, g->addr, &req.gr_group);
	r = sock_set(fd, level, MCAST_JOIN_GROUP, &req, sizeof(req));
	if (r == 0 && (g->n_sources || !g->exclude)) {
		gf->gf_group = req.gr_group;
		gf->gf_fmode = g->exclude ? MCAST_EXCLUDE : MCAST_INCLUDE;
		gf->gf_numsrc = g->n_sources;
		for (uint16_t i = 0; i < g->n_sources; i++)
			group_sockaddr(g->family, g->sources[i], &gf->gf_slist[i]);
		r = sock_set(fd, level, MCAST_MSFILTER, gf, GROUP_FILTER_SIZE(g->n_sources));
	}
	return r < 0 ? err_sys(e, r, "a multicast group at %s cannot be joined", ifname) : 0;
}

int inet_groups_join(int fd, const GwSockExtra *x, struct err *e)
{
	for (size_t i = 0; x && i < x->n_opts; i++) {
		const GwSockopt *o = x->opts[i];
		struct inet_group g;
		int r;

		if (o->level != GW_LEVEL_OWN || o->name != INET_OWN_GROUP)
			continue;
		if (o->value.len != sizeof(g))
			return err_set(e, -EINVAL, "a multicast membership's record makes no sense");
		memcpy(&g, o->value.data, sizeof(g));
		if ((g.family != AF_INET && g.family != AF_INET6) || g.n_sources > GROUP_SOURCES_MAX)
			return err_set(e, -EINVAL, "a multicast membership's record makes no sense");
		r = group_join(fd, &g, e);
		if (r < 0)
			return r;
	}
	return 0;
}

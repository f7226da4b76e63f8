/* net_restore - making the target's network as the source's was, where it is not already so.
 *
 * The links are there (the target's configuration made them); they are matched by name.  Everything
 * that names a link by its index is translated.  IPv6 addresses are set without duplicate address
 * detection: they were the container's, nobody else has them, and TCP wants to bind to them now.
 * The messages are those of the source's kernel, but come from the stream: bounds are checked, and
 * only the attributes that are meant get through. */
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/net.h"
#include "cr/ns/rtnl.h"

#define IFA_PROTO_ 11 /* who set it; since 5.18 */
#define FAMILIES_ARE_IP(f) ((f) == AF_INET || (f) == AF_INET6)
#define LINK_FLAGS (IFF_UP | IFF_NOARP | IFF_PROMISC | IFF_ALLMULTI | IFF_MULTICAST)

struct net {
	struct restore *r;
	int sock;
	struct {
		int source, target;
	} * index;
	size_t n, cap;
	struct err *e;
};

static const GwBlob *blob_of(struct restore *r, uint32_t id)
{
	const struct record *rec = image_find(r->image, REC_GW_NET, id, NULL);
	const GwBlob *b = rec ? (const GwBlob *)rec->msg : NULL;

	return b && b->has_data && b->data.len ? b : NULL;
}

static int index_target(const struct net *n, int source)
{
	for (size_t i = 0; i < n->n; i++)
		if (n->index[i].source == source)
			return n->index[i].target;
	return 0;
}

/* ---- links ---- */

static int link_change(struct net *n, const struct nlmsghdr *m, const struct nlmsghdr *have,
		       int index)
{
	const struct ifinfomsg *was = rtnl_head(m, sizeof(*was)),
			       *is = rtnl_head(have, sizeof(*is));
	static const unsigned short same[] = { IFLA_MTU, IFLA_TXQLEN, IFLA_ADDRESS };
	struct ifinfomsg hdr = { .ifi_family = AF_UNSPEC, .ifi_index = index };
	auto_buf b = BUF_INIT;
	bool differs;
	int r;

	hdr.ifi_change = (was->ifi_flags ^ is->ifi_flags) & LINK_FLAGS;
	/* Flags without a mask of changes would all be taken as they are. */
	hdr.ifi_flags = was->ifi_flags & hdr.ifi_change;
	differs = hdr.ifi_change != 0;
	r = rtnl_begin(&b, RTM_NEWLINK, 0, &hdr, sizeof(hdr));
	for (size_t i = 0; i < array_len(same) && r >= 0; i++) {
		const struct rtattr *a = rtnl_attr(m, sizeof(hdr), same[i]);
		const struct rtattr *h = rtnl_attr(have, sizeof(hdr), same[i]);

		if (!a || !h || (was->ifi_flags & IFF_LOOPBACK && same[i] == IFLA_ADDRESS))
			continue;
		if (a->rta_len == h->rta_len && memcmp(a, h, a->rta_len) == 0)
			continue;
		r = rtnl_add(&b, same[i], RTA_DATA(a), rtnl_attr_len(a));
		differs = true;
	}
	if (r >= 0 && differs)
		r = rtnl_talk(n->sock, (struct nlmsghdr *)b.data);
	return r;
}

static int link_match(struct net *n, const struct nlmsghdr *m, const struct buf *have)
{
	const struct ifinfomsg *was = rtnl_head(m, sizeof(*was));
	const char *name = was ? net_link_name(m) : NULL;
	const struct nlmsghdr *h;
	size_t pos = 0;
	int r;

	if (!name || m->nlmsg_type != RTM_NEWLINK)
		return err_set(n->e, -EPROTO, "the image has an impossible link");
	while ((h = rtnl_next(have->data, have->len, &pos))) {
		const struct ifinfomsg *is = rtnl_head(h, sizeof(*is));
		const char *hn = net_link_name(h);

		if (!is || !hn || strcmp(hn, name) != 0)
			continue;
		if (array_grow(n->index, n->n, n->cap) < 0)
			return err_sys(n->e, -ENOMEM, "links");
		n->index[n->n].source = was->ifi_index;
		n->index[n->n++].target = is->ifi_index;
		r = link_change(n, m, h, is->ifi_index);
		return r < 0 ? err_sys(n->e, r, "setting up the link %s", name) : 0;
	}
	if (!(was->ifi_flags & IFF_UP))
		return 0; /* one of the kernel's own that this kernel does not make */
	return err_set(n->e, -ENODEV,
		       "the container has a link %s, which its configuration at the target does "
		       "not provide",
		       name);
}

static int links_build(struct net *n)
{
	struct ifinfomsg hdr = { .ifi_family = AF_UNSPEC };
	const GwBlob *blob = blob_of(n->r, NET_LINKS);
	const struct nlmsghdr *m;
	auto_buf have = BUF_INIT;
	size_t pos = 0;
	int r;

	if (!blob)
		return 0;
	r = rtnl_dump(n->sock, RTM_GETLINK, &hdr, sizeof(hdr), &have);
	if (r < 0)
		return err_sys(n->e, r, "listing links");
	while (r >= 0 && (m = rtnl_next(blob->data.data, blob->data.len, &pos)))
		r = link_match(n, m, &have);
	return r;
}

/* ---- addresses ---- */

static uint32_t addr_flags(const struct nlmsghdr *m)
{
	const struct ifaddrmsg *a = rtnl_head(m, sizeof(*a));
	uint32_t flags = a->ifa_flags;

	rtnl_attr_u32(rtnl_attr(m, sizeof(*a), IFA_FLAGS), &flags);
	return flags;
}

static bool attr_same(const struct nlmsghdr *x, const struct nlmsghdr *y, size_t head,
		      unsigned short type)
{
	const struct rtattr *a = rtnl_attr(x, head, type), *b = rtnl_attr(y, head, type);

	if (!a || !b)
		return a == b;
	return a->rta_len == b->rta_len && memcmp(RTA_DATA(a), RTA_DATA(b), rtnl_attr_len(a)) == 0;
}

/* x: of the source, on the link with this index at the target. */
static bool addr_same(const struct nlmsghdr *x, int index, const struct nlmsghdr *y)
{
	const struct ifaddrmsg *a = rtnl_head(x, sizeof(*a)), *b = rtnl_head(y, sizeof(*b));

	return a && b && a->ifa_family == b->ifa_family && a->ifa_prefixlen == b->ifa_prefixlen &&
	       (int)b->ifa_index == index && attr_same(x, y, sizeof(*a), IFA_ADDRESS) &&
	       attr_same(x, y, sizeof(*a), IFA_LOCAL);
}

static int addr_send(struct net *n, const struct nlmsghdr *m, int index, uint16_t type,
		     uint16_t how)
{
	static const unsigned short pass[] = { IFA_ADDRESS,   IFA_LOCAL,     IFA_LABEL,
					       IFA_BROADCAST, IFA_CACHEINFO, IFA_RT_PRIORITY,
					       IFA_PROTO_ };
	struct ifaddrmsg hdr = *(const struct ifaddrmsg *)rtnl_head(m, sizeof(hdr));
	uint32_t flags =
		addr_flags(m) & (IFA_F_HOMEADDRESS | IFA_F_NOPREFIXROUTE | IFA_F_MANAGETEMPADDR);
	auto_buf b = BUF_INIT;
	int r;

	if (hdr.ifa_family == AF_INET6)
		flags |= IFA_F_NODAD;
	hdr.ifa_index = (unsigned)index;
	hdr.ifa_flags = (uint8_t)flags;
	r = rtnl_begin(&b, type, how, &hdr, sizeof(hdr));
	for (size_t i = 0; i < array_len(pass) && r >= 0; i++) {
		const struct rtattr *a = rtnl_attr(m, sizeof(hdr), pass[i]);

		if (a)
			r = rtnl_add(&b, pass[i], RTA_DATA(a), rtnl_attr_len(a));
	}
	if (r >= 0)
		r = rtnl_add(&b, IFA_FLAGS, &flags, sizeof(flags));
	return r < 0 ? r : rtnl_talk(n->sock, (struct nlmsghdr *)b.data);
}

/* A temporary (privacy) address is made by the kernel only. */
static bool addr_is_set(const struct nlmsghdr *m)
{
	const struct ifaddrmsg *a = rtnl_head(m, sizeof(*a));

	return a && m->nlmsg_type == RTM_NEWADDR && FAMILIES_ARE_IP(a->ifa_family) &&
	       !(a->ifa_family == AF_INET6 && addr_flags(m) & IFA_F_SECONDARY);
}

static int addr_want(struct net *n, const struct nlmsghdr *m, const struct buf *have)
{
	int index = index_target(
		n,
		(int)((const struct ifaddrmsg *)rtnl_head(m, sizeof(struct ifaddrmsg)))->ifa_index);
	const struct nlmsghdr *h;
	size_t pos = 0;
	int r;

	if (!index)
		return 0;
	while ((h = rtnl_next(have->data, have->len, &pos)))
		if (addr_same(m, index, h))
			break;
	if (h && !(addr_flags(h) & (IFA_F_TENTATIVE | IFA_F_DADFAILED)))
		return 0;
	if (h) { /* its detection still runs: again, without */
		r = addr_send(n, h, index, RTM_DELADDR, 0);
		if (r < 0 && r != -EADDRNOTAVAIL)
			return err_sys(n->e, r, "removing an address");
	}
	r = addr_send(n, m, index, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	return r < 0 ? err_sys(n->e, r, "setting an address") : 0;
}

static bool addr_wanted(const struct net *n, const GwBlob *blob, const struct nlmsghdr *h)
{
	const struct nlmsghdr *m;
	size_t pos = 0;

	while ((m = rtnl_next(blob->data.data, blob->data.len, &pos))) {
		const struct ifaddrmsg *a = rtnl_head(m, sizeof(*a));

		if (a && addr_same(m, index_target(n, (int)a->ifa_index), h))
			return true;
	}
	return false;
}

static int addrs_build(struct net *n)
{
	struct ifaddrmsg hdr = { .ifa_family = AF_UNSPEC };
	const GwBlob *blob = blob_of(n->r, NET_ADDRS);
	const struct nlmsghdr *m;
	auto_buf have = BUF_INIT;
	size_t pos = 0;
	int r;

	if (!blob)
		return 0;
	r = rtnl_dump(n->sock, RTM_GETADDR, &hdr, sizeof(hdr), &have);
	if (r < 0)
		return err_sys(n->e, r, "listing addresses");
	while (r >= 0 && (m = rtnl_next(have.data, have.len, &pos))) {
		const struct ifaddrmsg *a = rtnl_head(m, sizeof(*a));

		if (!addr_is_set(m) || addr_wanted(n, blob, m))
			continue;
		r = addr_send(n, m, (int)a->ifa_index, RTM_DELADDR, 0);
		r = r < 0 && r != -EADDRNOTAVAIL ? err_sys(n->e, r, "removing an address") : 0;
	}
	pos = 0;
	while (r >= 0 && (m = rtnl_next(blob->data.data, blob->data.len, &pos)))
		if (addr_is_set(m))
			r = addr_want(n, m, &have);
	return r;
}

/* ---- routes ---- */

static int hops_translate(const struct net *n, char *data, size_t len)
{
	for (size_t at = 0; len - at >= sizeof(struct rtnexthop) && at < len;) {
		struct rtnexthop *h = (struct rtnexthop *)(data + at);

		if (h->rtnh_len < sizeof(*h) || h->rtnh_len > len - at)
			return -EPROTO;
		if (n)
			h->rtnh_ifindex = index_target(n, h->rtnh_ifindex);
		at += RTNH_ALIGN(h->rtnh_len);
	}
	return 0;
}

/* The request for a route, which is also its canonical form.  n: translates the links; NULL: it is
 * the target's own. */
static int route_form(const struct net *n, const struct nlmsghdr *m, uint16_t type, uint16_t how,
		      struct buf *b)
{
	static const unsigned short pass[] = { RTA_DST,	     RTA_SRC,	    RTA_GATEWAY, RTA_VIA,
					       RTA_PRIORITY, RTA_PREFSRC,   RTA_METRICS, RTA_FLOW,
					       RTA_TABLE,    RTA_MULTIPATH, RTA_PREF };
	struct rtmsg hdr = *(const struct rtmsg *)rtnl_head(m, sizeof(hdr));
	uint32_t oif;
	int r;

	hdr.rtm_flags &= RTNH_F_ONLINK;
	r = rtnl_begin(b, type, how, &hdr, sizeof(hdr));
	if (r >= 0 && rtnl_attr_u32(rtnl_attr(m, sizeof(hdr), RTA_OIF), &oif)) {
		if (n)
			oif = (uint32_t)index_target(n, (int)oif);
		if (!oif)
			return -ENODEV;
		r = rtnl_add(b, RTA_OIF, &oif, sizeof(oif));
	}
	for (size_t i = 0; i < array_len(pass) && r >= 0; i++) {
		const struct rtattr *a = rtnl_attr(m, sizeof(hdr), pass[i]);
		size_t at = b->len;

		if (!a)
			continue;
		r = rtnl_add(b, pass[i], RTA_DATA(a), rtnl_attr_len(a));
		if (r >= 0 && pass[i] == RTA_MULTIPATH)
			r = hops_translate(n, b->data + at + RTA_LENGTH(0), rtnl_attr_len(a));
	}
	return r;
}

/* Is there one of the same form among these? */
static bool route_among(const struct net *n, const struct buf *form, const void *data, size_t len)
{
	const struct nlmsghdr *m;
	size_t pos = 0;

	while ((m = rtnl_next(data, len, &pos))) {
		auto_buf other = BUF_INIT;

		if (!net_route_is_set(m) || route_form(n, m, 0, 0, &other) < 0)
			continue;
		if (other.len == form->len && memcmp(other.data, form->data, form->len) == 0)
			return true;
	}
	return false;
}

static int routes_delete(struct net *n, const GwBlob *blob, const struct buf *have)
{
	const struct nlmsghdr *m;
	size_t pos = 0;

	while ((m = rtnl_next(have->data, have->len, &pos))) {
		auto_buf form = BUF_INIT, req = BUF_INIT;
		int r;

		if (!net_route_is_set(m))
			continue;
		r = route_form(NULL, m, 0, 0, &form);
		if (r >= 0 && route_among(n, &form, blob->data.data, blob->data.len))
			continue;
		if (r >= 0)
			r = route_form(NULL, m, RTM_DELROUTE, 0, &req);
		if (r >= 0)
			r = rtnl_talk(n->sock, (struct nlmsghdr *)req.data);
		if (r < 0 && r != -ESRCH)
			return err_sys(n->e, r, "removing a route");
	}
	return 0;
}

/* A route by a gateway wants the route to the gateway: again while some of them get through. */
static int routes_add(struct net *n, const GwBlob *blob, const struct buf *have)
{
	const struct nlmsghdr *m;
	int last = 0, added;

	do {
		size_t pos = 0;

		added = last = 0;
		while ((m = rtnl_next(blob->data.data, blob->data.len, &pos))) {
			auto_buf form = BUF_INIT, req = BUF_INIT;
			int r;

			if (!net_route_is_set(m))
				continue;
			r = route_form(n, m, 0, 0, &form);
			if (r >= 0 && route_among(NULL, &form, have->data, have->len))
				continue;
			if (r >= 0)
				r = route_form(n, m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &req);
			if (r >= 0)
				r = rtnl_talk(n->sock, (struct nlmsghdr *)req.data);
			if (r >= 0)
				added++;
			else if (r != -EEXIST)
				last = r;
		}
	} while (last < 0 && added);
	return last < 0 ? err_sys(n->e, last, "setting a route") : 0;
}

static int routes_build(struct net *n)
{
	struct rtmsg hdr = { .rtm_family = AF_UNSPEC };
	const GwBlob *blob = blob_of(n->r, NET_ROUTES);
	auto_buf have = BUF_INIT;
	int r;

	if (!blob)
		return 0;
	r = rtnl_dump(n->sock, RTM_GETROUTE, &hdr, sizeof(hdr), &have);
	if (r < 0)
		return err_sys(n->e, r, "listing routes");
	r = routes_delete(n, blob, &have);
	return r < 0 ? r : routes_add(n, blob, &have);
}

/* ---- neighbours ---- */

static int neighs_build(struct net *n)
{
	const GwBlob *blob = blob_of(n->r, NET_NEIGHS);
	const struct nlmsghdr *m;
	size_t pos = 0;

	while (blob && (m = rtnl_next(blob->data.data, blob->data.len, &pos))) {
		static const unsigned short pass[] = { NDA_DST, NDA_LLADDR };
		auto_buf b = BUF_INIT;
		struct ndmsg hdr;
		int r;

		if (!net_neigh_is_set(m))
			continue;
		hdr = *(const struct ndmsg *)rtnl_head(m, sizeof(hdr));
		hdr.ndm_ifindex = index_target(n, hdr.ndm_ifindex);
		hdr.ndm_flags &= NTF_PROXY | NTF_ROUTER;
		hdr.ndm_state = hdr.ndm_state & NUD_PERMANENT ? NUD_PERMANENT : NUD_STALE;
		if (!hdr.ndm_ifindex)
			continue;
		r = rtnl_begin(&b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &hdr, sizeof(hdr));
		for (size_t i = 0; i < array_len(pass) && r >= 0; i++) {
			const struct rtattr *a = rtnl_attr(m, sizeof(hdr), pass[i]);

			if (a)
				r = rtnl_add(&b, pass[i], RTA_DATA(a), rtnl_attr_len(a));
		}
		if (r >= 0)
			r = rtnl_talk(n->sock, (struct nlmsghdr *)b.data);
		if (r < 0)
			return err_sys(n->e, r, "setting a neighbour");
	}
	return 0;
}

int net_build(struct restore *r, struct err *e)
{
	struct net n = { .r = r, .sock = -1, .e = e };
	const GwBlob *sysctls = blob_of(r, NET_SYSCTLS);
	int x = 0;

	n.sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (n.sock < 0)
		return err_sys(e, -errno, "rtnetlink");
	if (sysctls)
		x = net_sysctls_write(r->proc_fd, (const char *)sysctls->data.data,
				      sysctls->data.len, e);
	if (x >= 0)
		x = links_build(&n);
	if (x >= 0)
		x = addrs_build(&n);
	if (x >= 0)
		x = routes_build(&n);
	if (x >= 0)
		x = neighs_build(&n);
	fd_close(&n.sock);
	free(n.index);
	return x;
}

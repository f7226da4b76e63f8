/* net - links, addresses, routes, neighbours and sysctls of the network namespace.
 *
 * Read: rtnetlink dumps from a socket made in the namespace, /proc/sys/net.  Put back:
 * net_restore.c, where it differs from what the target's configuration has made.  Refused by name
 * here: links other than lo and veth, routing rules, nexthop objects, nftables and iptables rules.
 * Not covered: traffic control (the target's), multicast memberships (cr/sock), connection
 * tracking. */
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/net.h"
#include "cr/ns/rtnl.h"
#include "cr/ns/util.h"

const char *net_link_name(const struct nlmsghdr *m)
{
	const struct rtattr *a = rtnl_attr(m, sizeof(struct ifinfomsg), IFLA_IFNAME);
	size_t len = a ? rtnl_attr_len(a) : 0;

	if (!len || len > IFNAMSIZ || ((const char *)RTA_DATA(a))[len - 1])
		return NULL;
	return RTA_DATA(a);
}

/* The kind in IFLA_LINKINFO; "" for hardware and lo. */
static void link_kind(const struct nlmsghdr *m, char *ret, size_t size)
{
	const struct rtattr *info = rtnl_attr(m, sizeof(struct ifinfomsg), IFLA_LINKINFO);
	size_t len = info ? rtnl_attr_len(info) : 0, at = 0;

	*ret = 0;
	while (info && len - at >= sizeof(struct rtattr) && at < len) {
		const struct rtattr *a = (const struct rtattr *)((const char *)RTA_DATA(info) + at);

		if (a->rta_len < sizeof(*a) || a->rta_len > len - at)
			return;
		if (a->rta_type == IFLA_INFO_KIND) {
			snprintf(ret, size, "%.*s", (int)rtnl_attr_len(a),
				 (const char *)RTA_DATA(a));
			return;
		}
		at += RTA_ALIGN(a->rta_len);
	}
}

/* The kernel puts its own fallback tunnels into every namespace; unused, they are down. */
static bool link_is_fallback(const char *name)
{
	static const char *const names[] = { "sit0",	"tunl0",    "gre0",    "gretap0", "erspan0",
					     "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0", NULL };

	for (size_t i = 0; names[i]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int links_check(struct dump *d, const struct buf *links, struct err *e)
{
	const struct nlmsghdr *m;
	size_t pos = 0;
	int r = 0;

	while (r >= 0 && (m = rtnl_next(links->data, links->len, &pos))) {
		const struct ifinfomsg *i = rtnl_head(m, sizeof(*i));
		const char *name = net_link_name(m);
		auto_buf where = BUF_INIT;
		char kind[32];

		if (!i || !name)
			return err_set(e, -EPROTO, "the kernel lists an impossible link");
		link_kind(m, kind, sizeof(kind));
		if (strcmp(name, "lo") == 0 || strcmp(kind, "veth") == 0)
			continue;
		if (link_is_fallback(name) && !(i->ifi_flags & IFF_UP))
			continue;
		r = buf_addf(&where, "link %s", name);
		if (r >= 0)
			r = refusals_add(
				&d->refusals, 0, where.data, *kind ? kind : "a network device",
				"only lo and the container's veth links can be carried yet");
	}
	return r < 0 ? err_sys(e, r, "checking links") : 0;
}

static int rules_check(struct dump *d, int sock, struct err *e)
{
	static const unsigned char families[] = { AF_INET, AF_INET6 };
	int r = 0;

	for (size_t f = 0; f < array_len(families) && r >= 0; f++) {
		struct fib_rule_hdr hdr = { .family = families[f] };
		auto_buf all = BUF_INIT;
		const struct nlmsghdr *m;
		size_t pos = 0;

		r = rtnl_dump(sock, RTM_GETRULE, &hdr, sizeof(hdr), &all);
		while (r >= 0 && (m = rtnl_next(all.data, all.len, &pos))) {
			uint32_t prio = 0;
			char where[32];

			rtnl_attr_u32(rtnl_attr(m, sizeof(hdr), FRA_PRIORITY), &prio);
			if (prio == 0 || prio == 32766 || prio == 32767)
				continue;
			snprintf(where, sizeof(where), "rule %u", prio);
			r = refusals_add(&d->refusals, 0, where, "a routing rule",
					 "routing rules cannot be carried yet");
		}
	}
	return r < 0 && r != -EAFNOSUPPORT && r != -EOPNOTSUPP
		       ? err_sys(e, r, "checking routing rules")
		       : 0;
}

static int filter_check(struct dump *d, struct err *e)
{
	static const char *const legacy[] = { "ip_tables_names", "ip6_tables_names" };
	struct nfgenmsg hdr = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 };
	auto_buf tables = BUF_INIT;
	auto_fd int sock = -1;
	int r = ns_socket(d->root_pid, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, &sock, NULL);

	if (r >= 0) {
		r = rtnl_dump(sock, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, &hdr, sizeof(hdr),
			      &tables);
		if (r == -EOPNOTSUPP || r == -EINVAL || r == -ENOENT)
			r = 0; /* no nf_tables in this kernel */
	} else if (r == -EPROTONOSUPPORT) {
		r = 0;
	}
	if (r >= 0 && tables.len)
		r = refusals_add(
			&d->refusals, 0, "network", "nftables",
			"packet filter rules made inside the container cannot be carried yet");
	for (size_t i = 0; i < array_len(legacy) && r >= 0; i++) {
		auto_free char *text = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)d->root_pid, legacy[i]);
		if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL) >= 0 && *text)
			r = refusals_add(&d->refusals, 0, "network", "iptables",
					 "packet filter rules made inside the container cannot be "
					 "carried yet");
	}
	return r < 0 ? err_sys(e, r, "checking packet filters") : 0;
}

bool net_route_is_set(const struct nlmsghdr *m)
{
	const struct rtmsg *t = rtnl_head(m, sizeof(*t));

	if (!t || m->nlmsg_type != RTM_NEWROUTE ||
	    (t->rtm_family != AF_INET && t->rtm_family != AF_INET6))
		return false;
	if (t->rtm_table == RT_TABLE_LOCAL || t->rtm_flags & RTM_F_CLONED ||
	    t->rtm_protocol == RTPROT_KERNEL || t->rtm_protocol == RTPROT_REDIRECT)
		return false;
	return t->rtm_type == RTN_UNICAST || t->rtm_type == RTN_BLACKHOLE ||
	       t->rtm_type == RTN_UNREACHABLE || t->rtm_type == RTN_PROHIBIT ||
	       t->rtm_type == RTN_THROW;
}

/* Those that were learned go along, to be confirmed again: a question for an address that is asked
 * while the target's link is not in the bridge yet is lost, and not asked again for a second. */
bool net_neigh_is_set(const struct nlmsghdr *m)
{
	const struct ndmsg *n = rtnl_head(m, sizeof(*n));

	return n && m->nlmsg_type == RTM_NEWNEIGH &&
	       (n->ndm_state &
		(NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)) &&
	       (n->ndm_state & NUD_PERMANENT || rtnl_attr(m, sizeof(*n), NDA_LLADDR)) &&
	       (n->ndm_family == AF_INET || n->ndm_family == AF_INET6);
}

static int nexthops_check(struct dump *d, int sock, struct err *e)
{
	struct rtmsg hdr = { .rtm_family = AF_UNSPEC };
	auto_buf all = BUF_INIT;
	const struct nlmsghdr *m;
	size_t pos = 0;
	int r = rtnl_dump(sock, RTM_GETROUTE, &hdr, sizeof(hdr), &all);

	while (r >= 0 && (m = rtnl_next(all.data, all.len, &pos)))
		if (net_route_is_set(m) && rtnl_attr(m, sizeof(hdr), RTA_NH_ID))
			r = refusals_add(&d->refusals, 0, "network", "a nexthop object",
					 "routes by nexthop objects cannot be carried yet");
	return r < 0 ? err_sys(e, r, "checking routes") : 0;
}

static int check(struct dump *d, struct err *e)
{
	struct ifinfomsg hdr = { .ifi_family = AF_UNSPEC };
	auto_buf links = BUF_INIT;
	auto_fd int sock = -1;
	int r = ns_socket(d->root_pid, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &sock, e);

	if (r < 0)
		return r;
	r = rtnl_dump(sock, RTM_GETLINK, &hdr, sizeof(hdr), &links);
	if (r < 0)
		return err_sys(e, r, "listing links");
	r = links_check(d, &links, e);
	if (r >= 0)
		r = rules_check(d, sock, e);
	if (r >= 0)
		r = nexthops_check(d, sock, e);
	return r < 0 ? r : filter_check(d, e);
}

static int blob_put(struct dump *d, uint32_t id, const struct buf *b, struct err *e)
{
	GwBlob m = GW_BLOB__INIT;

	m.has_data = true;
	m.data.data = (uint8_t *)b->data;
	m.data.len = b->len;
	return sink_put(d->sink, REC_GW_NET, id, &m.base, e);
}

static int kind_put(struct dump *d, int sock, uint32_t id, uint16_t type, const void *hdr,
		    size_t len, struct buf *keep, struct err *e)
{
	auto_buf mine = BUF_INIT;
	struct buf *b = keep ? keep : &mine;
	int r = rtnl_dump(sock, type, hdr, len, b);

	return r < 0 ? err_sys(e, r, "reading the network (%u)", id) : blob_put(d, id, b, e);
}

static int sysctls_visit(int out, void *arg)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_buf text = BUF_INIT;
	int r = proc_fd < 0 ? -errno : net_sysctls_read(proc_fd, arg, &text);

	return r < 0 ? r : fd_write_full(out, text.data ? text.data : "", text.len);
}

static int sysctls_put(struct dump *d, struct buf *links, struct err *e)
{
	auto_free char *text = NULL;
	struct buf b;
	int r = ns_visit(d->root_pid, CLONE_NEWNET, sysctls_visit, links, 1u << 20, &text, e);

	if (r < 0)
		return r;
	b = (struct buf){ text, strlen(text), 0 };
	return blob_put(d, NET_SYSCTLS, &b, e);
}

static int frozen(struct dump *d, struct err *e)
{
	struct ifinfomsg link = { .ifi_family = AF_UNSPEC };
	struct ifaddrmsg addr = { .ifa_family = AF_UNSPEC };
	struct rtmsg route = { .rtm_family = AF_UNSPEC };
	struct ndmsg neigh = { .ndm_family = AF_UNSPEC };
	auto_buf links = BUF_INIT;
	auto_fd int sock = -1;
	int r = ns_socket(d->root_pid, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &sock, e);

	if (r >= 0)
		r = kind_put(d, sock, NET_LINKS, RTM_GETLINK, &link, sizeof(link), &links, e);
	if (r >= 0)
		r = kind_put(d, sock, NET_ADDRS, RTM_GETADDR, &addr, sizeof(addr), NULL, e);
	if (r >= 0)
		r = kind_put(d, sock, NET_ROUTES, RTM_GETROUTE, &route, sizeof(route), NULL, e);
	if (r >= 0)
		r = kind_put(d, sock, NET_NEIGHS, RTM_GETNEIGH, &neigh, sizeof(neigh), NULL, e);
	return r < 0 ? r : sysctls_put(d, &links, e);
}

const struct cr_part cr_part_net = {
	.name = "network", .ns = CLONE_NEWNET, .check = check, .frozen = frozen, .build = net_build
};

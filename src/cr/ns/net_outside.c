/* net_outside - the links of a restored network whose other ends are the host's: `--external veth[IN]:OUT@BRIDGE`.
 *
 * The pair is made by the engine while it stands in the host's network, its inner end born in the network
 * namespace of the first process; address, MTU and the rest come with the records (net_restore.c).  Both ends go when
 * that namespace does, so a failed restore leaves none.
 *
 * And a network that shall come back empty (`--empty-ns net`, as runc has it always): it gets what each runtime gives
 * a new one, its loopback. */
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/net.h"
#include "cr/ns/ns.h"
#include "cr/ns/rtnl.h"

struct veth {
	char in[IF_NAMESIZE], out[IF_NAMESIZE], bridge[IF_NAMESIZE]; /* bridge "": none; out "": the kernel's choice */
};

static int name_copy(char to[IF_NAMESIZE], const char *from, size_t len)
{
	if (len >= IF_NAMESIZE || memchr(from, '/', len))
		return -EINVAL;
	snprintf(to, IF_NAMESIZE, "%.*s", (int)len, from);
	return 0;
}

/* 1: it is one; 0: an option of another kind. */
static int veth_parse(const struct cr_pair *p, struct veth *ret, struct err *e)
{
	const char *in = p->key + 5, *at = strchr(p->value, '@');
	size_t out = at ? (size_t)(at - p->value) : strlen(p->value);

	*ret = (struct veth){ .in = "" };
	if (!str_starts(p->key, "veth[") || !str_ends(p->key, "]"))
		return 0;
	if (name_copy(ret->in, in, strlen(in) - 1) < 0 || !ret->in[0] || name_copy(ret->out, p->value, out) < 0 ||
	    (at && name_copy(ret->bridge, at + 1, strlen(at + 1)) < 0))
		return err_set(e, -EINVAL, "--external %s:%s is no pair of links", p->key, p->value);
	return 1;
}

/* An attribute that contains others: where it begins, to be closed when they are there. */
static int nest_begin(struct buf *b, unsigned short type, size_t *ret_at)
{
	*ret_at = b->len;
	return rtnl_add(b, type, "", 0);
}

static void nest_end(struct buf *b, size_t at)
{
	struct rtattr *a = (struct rtattr *)(b->data + at);

	a->rta_len = (unsigned short)(b->len - at);
}

static int veth_request(const struct veth *v, pid_t pid, struct buf *b)
{
	struct ifinfomsg hdr = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct ifinfomsg peer = { .ifi_family = AF_UNSPEC };
	unsigned bridge = v->bridge[0] ? if_nametoindex(v->bridge) : 0;
	uint32_t ns = (uint32_t)pid;
	size_t info = 0, data = 0, other = 0;
	int r = rtnl_begin(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &hdr, sizeof(hdr));

	if (v->bridge[0] && !bridge)
		return -ENODEV;
	if (r >= 0 && v->out[0])
		r = rtnl_add(b, IFLA_IFNAME, v->out, strlen(v->out) + 1);
	if (r >= 0 && bridge)
		r = rtnl_add(b, IFLA_MASTER, &bridge, sizeof(bridge));
	if (r >= 0)
		r = nest_begin(b, IFLA_LINKINFO, &info);
	if (r >= 0)
		r = rtnl_add(b, IFLA_INFO_KIND, "veth", 4);
	if (r >= 0)
		r = nest_begin(b, IFLA_INFO_DATA, &data);
	if (r >= 0)
		r = rtnl_add(b, VETH_INFO_PEER, &peer, sizeof(peer));
	other = data + RTA_LENGTH(0);
	if (r >= 0)
		r = rtnl_add(b, IFLA_IFNAME, v->in, strlen(v->in) + 1);
	if (r >= 0)
		r = rtnl_add(b, IFLA_NET_NS_PID, &ns, sizeof(ns));
	if (r < 0)
		return r;
	nest_end(b, other);
	nest_end(b, data);
	nest_end(b, info);
	((struct nlmsghdr *)b->data)->nlmsg_len = (uint32_t)b->len;
	return 0;
}

static int veth_make(int sock, const struct veth *v, pid_t pid, struct err *e)
{
	auto_buf b = BUF_INIT;
	int r = veth_request(v, pid, &b);

	if (r == -ENODEV)
		return err_set(e, r, "there is no bridge %s for the link %s", v->bridge, v->in);
	if (r >= 0)
		r = rtnl_talk(sock, (struct nlmsghdr *)b.data);
	return r < 0 ? err_sys(e, r, "making the link %s (outside: %s)", v->in, v->out[0] ? v->out : "any name") : 0;
}

int net_links_make(struct restore *r, struct err *e)
{
	auto_fd int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int x = 0;

	if (sock < 0)
		return err_sys(e, -errno, "rtnetlink");
	for (size_t i = 0; x >= 0 && i < r->opts->externals.n; i++) {
		struct veth v;

		x = veth_parse(&r->opts->externals.v[i], &v, e);
		if (x > 0)
			x = veth_make(sock, &v, r->init_pid, e);
	}
	return x < 0 ? x : 0;
}

int net_loopback_up(struct err *e)
{
	auto_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo" };

	if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, &r) < 0)
		return err_sys(e, -errno, "looking at the loopback");
	r.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &r) < 0 ? err_sys(e, -errno, "bringing the loopback up") : 0;
}

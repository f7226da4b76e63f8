/* Sockets and links; what changes something is asked in a network namespace of its own. */
#include "engine/probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/net_namespace.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

/* ---- netlink ---- */

struct question {
	struct nlmsghdr h;
	char body[256];
};

static void attr_add(struct question *q, unsigned short type, const void *data, size_t len)
{
	struct nlattr *a = (struct nlattr *)((char *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	a->nla_type = type;
	a->nla_len = (unsigned short)(NLA_HDRLEN + len);
	memcpy((char *)a + NLA_HDRLEN, data, len);
	q->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + NLA_ALIGN(a->nla_len));
}

/* The answer: 0, or the error it carries. */
static int ask(int protocol, const void *q, size_t len)
{
	auto_fd int sk = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	union {
		struct nlmsghdr h;
		char room[8192];
	} a;
	ssize_t n;

	if (sk < 0)
		return -errno;
	if (send(sk, q, len, 0) < 0)
		return -errno;
	n = recv(sk, &a, sizeof(a), 0);
	if (n < (ssize_t)sizeof(a.h))
		return n < 0 ? -errno : -EIO;
	if (a.h.nlmsg_type == NLMSG_ERROR)
		return ((struct nlmsgerr *)NLMSG_DATA(&a.h))->error;
	return 0;
}

static int question_ask(int protocol, const struct question *q)
{
	return ask(protocol, q, q->h.nlmsg_len);
}

/* ---- sock_diag ---- */

static int inet_diag_ask(uint8_t protocol)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} q = { .h = { sizeof(q), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		.r = { .sdiag_family = AF_INET, .sdiag_protocol = protocol, .idiag_states = ~0u } };

	return ask(NETLINK_SOCK_DIAG, &q, sizeof(q));
}

int probe_net_diag_raw(struct err *e)
{
	return inet_diag_ask(IPPROTO_RAW) >= 0;
}

int probe_sock_diag(struct err *e)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} q = { .h = { sizeof(q), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		.r = { .sdiag_family = AF_UNIX, .udiag_states = ~0u } };

	return ask(NETLINK_SOCK_DIAG, &q, sizeof(q)) >= 0 && inet_diag_ask(IPPROTO_TCP) >= 0 &&
	       inet_diag_ask(IPPROTO_UDP) >= 0;
}

/* ---- links ---- */

static int nsid_set(int nsid)
{
	struct question q = { .h = { NLMSG_LENGTH(sizeof(struct rtgenmsg)), RTM_NEWNSID, NLM_F_REQUEST | NLM_F_ACK, 1, 0 } };
	auto_fd int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	q.h.nlmsg_len = NLMSG_ALIGN(q.h.nlmsg_len);
	attr_add(&q, NETNSA_NSID, &nsid, sizeof(nsid));
	attr_add(&q, NETNSA_FD, &self, sizeof(self));
	return self < 0 ? -errno : question_ask(NETLINK_ROUTE, &q);
}

int probe_nsid(struct err *e)
{
	struct question q = { .h = { NLMSG_LENGTH(sizeof(struct rtgenmsg)), RTM_GETNSID, NLM_F_REQUEST, 1, 0 } };
	auto_fd int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	q.h.nlmsg_len = NLMSG_ALIGN(q.h.nlmsg_len);
	attr_add(&q, NETNSA_FD, &self, sizeof(self));
	return self < 0 ? err_sys(e, -errno, "/proc/self/ns/net") : question_ask(NETLINK_ROUTE, &q) >= 0;
}

static int link_nsid_ask(void *arg)
{
	struct question q = { .h = { NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_GETLINK, NLM_F_REQUEST, 1, 0 } };
	int nsid = 7, r;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	r = nsid_set(nsid);
	if (r < 0)
		return r == -EPERM ? r : 0;
	((struct ifinfomsg *)q.body)->ifi_index = 1;
	attr_add(&q, IFLA_TARGET_NETNSID, &nsid, sizeof(nsid));
	return question_ask(NETLINK_ROUTE, &q) >= 0;
}

int probe_link_nsid(struct err *e)
{
	return probe_in_child(link_nsid_ask, NULL, e);
}

#define IFLA_NEW_IFINDEX_ 49

/* An index that no link can have is refused by who knows the attribute, and not seen by who does not. */
static int newifindex_ask(void *arg)
{
	struct question q = { .h = { NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 } };
	int index = -1;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	((struct ifinfomsg *)q.body)->ifi_index = 1;
	attr_add(&q, IFLA_NEW_IFINDEX_, &index, sizeof(index));
	return question_ask(NETLINK_ROUTE, &q) == -ERANGE;
}

int probe_newifindex(struct err *e)
{
	return probe_in_child(newifindex_ask, NULL, e);
}

/* ---- packet filters ---- */

/* A table is made, in a namespace that goes with its process. */
static int nftables_ask(void *arg)
{
	struct {
		struct nlmsghdr begin;
		struct nfgenmsg begin_body;
		struct nlmsghdr table;
		struct nfgenmsg table_body;
		struct nlattr name;
		char text[8];
		struct nlmsghdr end;
		struct nfgenmsg end_body;
	} q = {
		.begin = { sizeof(q.begin) + sizeof(q.begin_body), NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 1, 0 },
		.begin_body = { AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES) },
		.table = { offsetof(__typeof__(q), end) - offsetof(__typeof__(q), table),
			   NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 2, 0 },
		.table_body = { NFPROTO_INET, NFNETLINK_V0, 0 },
		.name = { sizeof(q.name) + sizeof(q.text), NFTA_TABLE_NAME },
		.text = "godwit",
		.end = { sizeof(q.end) + sizeof(q.end_body), NFNL_MSG_BATCH_END, NLM_F_REQUEST, 3, 0 },
		.end_body = { AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES) },
	};

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	return ask(NETLINK_NETFILTER, &q, sizeof(q)) >= 0;
}

int probe_nftables(struct err *e)
{
	return probe_in_child(nftables_ask, NULL, e);
}

int probe_ipt_legacy(struct err *e)
{
	auto_fd int sk = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	struct {
		char name[32];
		unsigned rest[13];
	} info = { "filter", { 0 } };
	socklen_t len = sizeof(info);

	if (sk < 0)
		return err_sys(e, -errno, "a raw socket");
	/* IPT_SO_GET_INFO */
	return getsockopt(sk, IPPROTO_IP, 64, &info, &len) >= 0 && access("/usr/sbin/iptables-legacy", X_OK) == 0;
}

/* ---- sockets ---- */

int probe_sk_ns(struct err *e)
{
	auto_fd int sk = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ns = -1;

	ns = sk < 0 ? -1 : ioctl(sk, SIOCGSKNS);
	return ns >= 0 ? 1 : errno == EPERM ? err_sys(e, -EPERM, "SIOCGSKNS") : 0;
}

/* A socket without a name has no file, which is said by who knows the question. */
int probe_sk_unix_file(struct err *e)
{
	auto_fd int sk = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), file = -1;

	file = sk < 0 ? -1 : ioctl(sk, SIOCPROTOPRIVATE + 0); /* SIOCUNIXFILE */
	return file >= 0 || errno == ENOENT ? 1 : errno == EPERM ? err_sys(e, -EPERM, "SIOCUNIXFILE") : 0;
}

int probe_ipv6_freebind(struct err *e)
{
	auto_fd int sk = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	return sk >= 0 && setsockopt(sk, SOL_IPV6, 78, &on, sizeof(on)) >= 0; /* IPV6_FREEBIND */
}

static int repair(int sk)
{
	int on = 1;

	return setsockopt(sk, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ? -errno : 1;
}

int probe_tcp_repair(struct err *e)
{
	auto_fd int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = sk < 0 ? -errno : repair(sk);

	return r == -ENOPROTOOPT ? 0 : r < 0 ? err_sys(e, r, "TCP_REPAIR") : 1;
}

/* Of a connection of which one direction has ended. */
int probe_tcp_half_closed(struct err *e)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_fd int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_fd int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);
	int r;

	if (bind(listener, (void *)&a, len) < 0 || listen(listener, 1) < 0 || getsockname(listener, (void *)&a, &len) < 0 ||
	    connect(sk, (void *)&a, len) < 0 || shutdown(sk, SHUT_WR) < 0)
		return err_sys(e, -errno, "a connection over loopback");
	r = repair(sk);
	return r == -EPERM && probe_tcp_repair(e) < 0 ? r : r > 0;
}

/* Nothing of the kernel's: joining what the caller has is a matter of setns. */
int probe_external_net_ns(struct err *e)
{
	return access("/proc/self/ns/net", F_OK) == 0;
}

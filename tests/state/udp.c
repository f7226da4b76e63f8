/* UDP (bound, connected, with datagrams that wait, multicast members), netlink sockets, and options that
 * all sockets have. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

static struct sockaddr_in v4(const char *host, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	inet_pton(AF_INET, host, &a.sin_addr);
	return a;
}

static struct sockaddr_in6 v6(const char *host, int port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

	inet_pton(AF_INET6, host, &a.sin6_addr);
	return a;
}

static void name_is(int fd, const void *want, socklen_t len)
{
	char got[128] = { 0 };
	socklen_t n = sizeof(got);

	MUST(getsockname(fd, (struct sockaddr *)got, &n));
	CHECK(n == len && !memcmp(got, want, len), "fd %d has another address", fd);
}

static void set(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) < 0)
		state_fail("fd %d: setting option %d of level %d: %m", fd, name, level);
}

static void opt_is(int fd, int level, int name, int want)
{
	int v = -1;
	socklen_t len = sizeof(v);

	MUST(getsockopt(fd, level, name, &v, &len));
	CHECK(v == want, "fd %d: option %d of level %d is %d instead of %d", fd, name, level, v, want);
}

static void is_from(int fd, const char *want, int port)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	char buf[100] = "";
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&ss, &len);
	int from = ntohs(((struct sockaddr_in *)&ss)->sin_port);

	CHECK(n >= 0, "fd %d: waiting for \"%s\": %m", fd, want);
	CHECK(n == (ssize_t)strlen(want) && !strcmp(buf, want), "fd %d: \"%s\" instead of \"%s\"", fd, buf, want);
	CHECK(!port || from == port, "fd %d: from port %d instead of %d", fd, from, port);
}

static uint32_t link_groups(int fd)
{
	uint32_t groups[4] = { 0 };
	socklen_t len = sizeof(groups);

	MUST(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
	return groups[0];
}

int main(void)
{
	struct sockaddr_in any = v4("0.0.0.0", 7000), far = v4("127.0.0.1", 7001), a;
	struct sockaddr_in6 six = v6("::1", 7002);
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_pid = 4321, .nl_groups = RTMGRP_LINK };
	/* Only datagrams of the port 7001 and no others. */
	struct sock_filter insns[] = { { BPF_LD | BPF_H | BPF_ABS, 0, 0, 0 }, { BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 7001 },
				       { BPF_RET | BPF_K, 0, 0, 0xffff }, { BPF_RET | BPF_K, 0, 0, 0 } };
	struct sock_fprog prog = { 4, insns };
	struct ip_mreqn group = { .imr_ifindex = (int)if_nametoindex("lo") };
	struct ipv6_mreq group6 = { .ipv6mr_interface = if_nametoindex("lo") };
	int bound, peer, plain, fd6, filtered, route, mcast, mcast6, shared[2];
	struct linger linger = { 1, 33 }, l2 = { 0 };
	socklen_t len = sizeof(l2);
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = { { NLMSG_LENGTH(sizeof(struct rtgenmsg)), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 5, 0 },
		  { AF_UNSPEC } };
	struct sock_filter back[8];
	struct stat st;
	char buf[16384];

	bound = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(bind(bound, (struct sockaddr *)&any, sizeof(any)));
	peer = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(bind(peer, (struct sockaddr *)&far, sizeof(far)));
	a = v4("127.0.0.1", 7000);
	MUST(connect(peer, (struct sockaddr *)&a, sizeof(a)));
	MUST(send(peer, "first", 5, 0));
	MUST(send(peer, "second", 6, 0));
	MUST(sendto(bound, "back", 4, 0, (struct sockaddr *)&far, sizeof(far)));
	fd6 = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	set(fd6, SOL_IPV6, IPV6_V6ONLY, 1);
	MUST(bind(fd6, (struct sockaddr *)&six, sizeof(six)));
	MUST(sendto(fd6, "to myself", 9, 0, (struct sockaddr *)&six, sizeof(six)));
	plain = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	set(plain, SOL_SOCKET, SO_BROADCAST, 1);
	set(plain, SOL_SOCKET, SO_RCVBUF, 50000);
	set(plain, SOL_IP, IP_TOS, 0x48); /* sets a priority as well */
	set(plain, SOL_SOCKET, SO_PRIORITY, 5);
	set(plain, SOL_IP, IP_TTL, 9);
	set(plain, SOL_IP, IP_RECVERR, 1);
	set(plain, SOL_IP, IP_MULTICAST_TTL, 7);
	set(plain, SOL_SOCKET, SO_TIMESTAMP, 1);
	MUST(setsockopt(plain, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	MUST(fchown(plain, 33, 44));
	filtered = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	a = v4("127.0.0.1", 7003);
	MUST(bind(filtered, (struct sockaddr *)&a, sizeof(a)));
	MUST(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	set(filtered, SOL_SOCKET, SO_LOCK_FILTER, 1);
	for (int i = 0; i < 2; i++) {
		shared[i] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
		set(shared[i], SOL_SOCKET, SO_REUSEPORT, 1);
		a = v4("127.0.0.1", 7004);
		MUST(bind(shared[i], (struct sockaddr *)&a, sizeof(a)));
	}
	mcast = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	a = v4("0.0.0.0", 7005);
	MUST(bind(mcast, (struct sockaddr *)&a, sizeof(a)));
	inet_pton(AF_INET, "239.1.2.3", &group.imr_multiaddr);
	MUST(setsockopt(mcast, SOL_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)));
	mcast6 = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	inet_pton(AF_INET6, "ff12::77", &group6.ipv6mr_multiaddr);
	MUST(setsockopt(mcast6, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof(group6)));
	route = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	MUST(bind(route, (struct sockaddr *)&nl, sizeof(nl)));
	set(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV4_ROUTE);
	set(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);

	state_wait();

	is_from(bound, "first", 7001);
	is_from(bound, "second", 7001);
	is_from(peer, "back", 7000);
	is_from(fd6, "to myself", 7002);
	name_is(bound, &any, sizeof(any));
	name_is(fd6, &six, sizeof(six));
	MUST(send(peer, "third", 5, 0));
	is_from(bound, "third", 7001);
	opt_is(fd6, SOL_IPV6, IPV6_V6ONLY, 1);
	opt_is(plain, SOL_SOCKET, SO_BROADCAST, 1);
	opt_is(plain, SOL_SOCKET, SO_RCVBUF, 100000);
	opt_is(plain, SOL_SOCKET, SO_PRIORITY, 5);
	opt_is(plain, SOL_IP, IP_TOS, 0x48);
	opt_is(plain, SOL_IP, IP_TTL, 9);
	opt_is(plain, SOL_IP, IP_RECVERR, 1);
	opt_is(plain, SOL_IP, IP_MULTICAST_TTL, 7);
	opt_is(plain, SOL_SOCKET, SO_TIMESTAMP, 1);
	opt_is(plain, SOL_SOCKET, SO_REUSEADDR, 0);
	MUST(getsockopt(plain, SOL_SOCKET, SO_LINGER, &l2, &len));
	CHECK(l2.l_onoff == 1 && l2.l_linger == 33, "linger %d %d", l2.l_onoff, l2.l_linger);
	MUST(fstat(plain, &st));
	CHECK(st.st_uid == 33 && st.st_gid == 44, "owner %u:%u", st.st_uid, st.st_gid);
	len = 8;
	MUST(getsockopt(filtered, SOL_SOCKET, SO_GET_FILTER, back, &len));
	CHECK(len == 4 && !memcmp(back, insns, sizeof(insns)), "the filter changed (%u)", len);
	opt_is(filtered, SOL_SOCKET, SO_LOCK_FILTER, 1);
	a = v4("127.0.0.1", 7003);
	MUST(sendto(bound, "no", 2, 0, (struct sockaddr *)&a, sizeof(a)));
	MUST(close(peer));
	peer = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(bind(peer, (struct sockaddr *)&far, sizeof(far)));
	MUST(sendto(peer, "yes", 3, 0, (struct sockaddr *)&a, sizeof(a)));
	is_from(filtered, "yes", 7001);
	opt_is(shared[0], SOL_SOCKET, SO_REUSEPORT, 1);
	a = v4("127.0.0.1", 7004);
	name_is(shared[1], &a, sizeof(a));

	a = v4("239.1.2.3", 7005);
	group.imr_multiaddr.s_addr = 0;
	MUST(setsockopt(bound, SOL_IP, IP_MULTICAST_IF, &group, sizeof(group)));
	MUST(sendto(bound, "all of you", 10, 0, (struct sockaddr *)&a, sizeof(a)));
	is_from(mcast, "all of you", 7000);
	inet_pton(AF_INET, "239.1.2.3", &group.imr_multiaddr);
	MUST(setsockopt(mcast, SOL_IP, IP_DROP_MEMBERSHIP, &group, sizeof(group)));
	MUST(setsockopt(mcast6, SOL_IPV6, IPV6_DROP_MEMBERSHIP, &group6, sizeof(group6)));

	name_is(route, &(struct sockaddr_nl){ .nl_family = AF_NETLINK, .nl_pid = 4321, .nl_groups =
		RTMGRP_LINK | RTMGRP_IPV4_ROUTE }, sizeof(nl));
	CHECK(link_groups(route) == (1u << (RTNLGRP_LINK - 1) | 1u << (RTNLGRP_IPV4_ROUTE - 1)), "groups %#x",
	      link_groups(route));
	opt_is(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	nl = (struct sockaddr_nl){ .nl_family = AF_NETLINK };
	MUST(sendto(route, &ask, ask.h.nlmsg_len, 0, (struct sockaddr *)&nl, sizeof(nl)));
	CHECK(recv(route, buf, sizeof(buf), 0) > 0 && ((struct nlmsghdr *)buf)->nlmsg_pid == 4321, "netlink: %m");
	state_pass();
}

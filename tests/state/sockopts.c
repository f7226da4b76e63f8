/* Every plain option of every sort of socket: set to something else than its default where the kernel lets
 * us, it reads the same after the move; and an untouched socket is as fresh as ever. */
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib.h"

struct opt {
	int level, name, value;
};

static const struct opt opts[] = {
	{ SOL_SOCKET, SO_DEBUG, 1 },
	{ SOL_SOCKET, SO_REUSEADDR, 1 },
	{ SOL_SOCKET, SO_REUSEPORT, 1 },
	{ SOL_SOCKET, SO_DONTROUTE, 1 },
	{ SOL_SOCKET, SO_BROADCAST, 1 },
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ SOL_SOCKET, SO_OOBINLINE, 1 },
	{ SOL_SOCKET, SO_NO_CHECK, 1 },
	{ SOL_SOCKET, SO_MARK, 77 },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 1 },
	{ SOL_SOCKET, SO_TIMESTAMPING, 8 },
	{ SOL_SOCKET, SO_RXQ_OVFL, 1 },
	{ SOL_SOCKET, SO_BUSY_POLL, 50 },
	{ SOL_SOCKET, SO_ZEROCOPY, 1 },
	{ SOL_SOCKET, SO_TXREHASH, 0 },
	{ SOL_SOCKET, SO_PASSCRED, 1 },
	{ SOL_SOCKET, SO_PASSSEC, 1 },
	{ SOL_SOCKET, SO_SNDBUF, 70000 },
	{ SOL_SOCKET, SO_RCVBUF, 90000 },
	{ SOL_SOCKET, SO_RCVLOWAT, 7 },
	{ SOL_SOCKET, SO_PEEK_OFF, 0 },
	{ SOL_IP, IP_TOS, 0x28 },
	{ SOL_IP, IP_TTL, 33 },
	{ SOL_IP, IP_MINTTL, 3 },
	{ SOL_IP, IP_FREEBIND, 1 },
	{ SOL_IP, IP_TRANSPARENT, 1 },
	{ SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1 },
	{ SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO },
	{ SOL_IP, IP_RECVERR, 1 },
	{ SOL_IP, IP_PKTINFO, 1 },
	{ SOL_IP, IP_RECVTTL, 1 },
	{ SOL_IP, IP_RECVTOS, 1 },
	{ SOL_IP, IP_RECVOPTS, 1 },
	{ SOL_IP, IP_RETOPTS, 1 },
	{ SOL_IP, IP_RECVORIGDSTADDR, 1 },
	{ SOL_IP, IP_MULTICAST_TTL, 9 },
	{ SOL_IP, IP_MULTICAST_LOOP, 0 },
	{ SOL_IP, IP_MULTICAST_ALL, 0 },
	{ SOL_IPV6, IPV6_V6ONLY, 1 },
	{ SOL_IPV6, IPV6_UNICAST_HOPS, 44 },
	{ SOL_IPV6, IPV6_MULTICAST_HOPS, 12 },
	{ SOL_IPV6, IPV6_MULTICAST_LOOP, 0 },
	{ SOL_IPV6, IPV6_TCLASS, 0x20 },
	{ SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO },
	{ SOL_IPV6, IPV6_RECVERR, 1 },
	{ SOL_IPV6, IPV6_RECVPKTINFO, 1 },
	{ SOL_IPV6, IPV6_RECVHOPLIMIT, 1 },
	{ SOL_IPV6, IPV6_RECVTCLASS, 1 },
	{ SOL_IPV6, IPV6_DONTFRAG, 1 },
	{ SOL_IPV6, IPV6_AUTOFLOWLABEL, 0 },
	{ SOL_IPV6, IPV6_FREEBIND, 1 },
	{ SOL_TCP, TCP_NODELAY, 1 },
	{ SOL_TCP, TCP_CORK, 1 },
	{ SOL_TCP, TCP_MAXSEG, 600 },
	{ SOL_TCP, TCP_KEEPIDLE, 111 },
	{ SOL_TCP, TCP_KEEPINTVL, 22 },
	{ SOL_TCP, TCP_KEEPCNT, 4 },
	{ SOL_TCP, TCP_SYNCNT, 5 },
	{ SOL_TCP, TCP_LINGER2, 30 },
	{ SOL_TCP, TCP_DEFER_ACCEPT, 7 },
	{ SOL_TCP, TCP_WINDOW_CLAMP, 30000 },
	{ SOL_TCP, TCP_USER_TIMEOUT, 4321 },
	{ SOL_TCP, TCP_NOTSENT_LOWAT, 5000 },
	{ SOL_TCP, TCP_SAVE_SYN, 1 },
	{ SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1 },
	{ SOL_UDP, UDP_CORK, 1 },
	{ SOL_UDP, 103 /* UDP_SEGMENT */, 500 },
	{ SOL_UDP, 104 /* UDP_GRO */, 1 },
	{ SOL_NETLINK, NETLINK_PKTINFO, 1 },
	{ SOL_NETLINK, NETLINK_BROADCAST_ERROR, 1 },
	{ SOL_NETLINK, NETLINK_NO_ENOBUFS, 1 },
	{ SOL_NETLINK, NETLINK_CAP_ACK, 1 },
	{ SOL_NETLINK, NETLINK_EXT_ACK, 1 },
	{ SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1 },
	{ SOL_SOCKET, SO_PRIORITY, 4 },
};
#define N_OPTS (sizeof(opts) / sizeof(opts[0]))

static const struct {
	int domain, type, protocol;
} sorts[] = {
	{ AF_INET, SOCK_STREAM, 0 },  { AF_INET6, SOCK_STREAM, 0 }, { AF_INET, SOCK_DGRAM, 0 },
	{ AF_INET6, SOCK_DGRAM, 0 },  { AF_UNIX, SOCK_STREAM, 0 },  { AF_UNIX, SOCK_DGRAM, 0 },
	{ AF_UNIX, SOCK_SEQPACKET, 0 }, { AF_NETLINK, SOCK_RAW, NETLINK_ROUTE },
};
#define N_SORTS (sizeof(sorts) / sizeof(sorts[0]))

static int read_opt(int fd, const struct opt *o)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(fd, o->level, o->name, &v, &len) < 0 ? -1000000 - errno : v;
}

static bool belongs(size_t sort, const struct opt *o)
{
	bool inet = sorts[sort].domain == AF_INET || sorts[sort].domain == AF_INET6;

	switch (o->level) {
	case SOL_IP: return inet;
	case SOL_IPV6: return sorts[sort].domain == AF_INET6;
	case SOL_TCP: return inet && sorts[sort].type == SOCK_STREAM;
	case SOL_UDP: return inet && sorts[sort].type == SOCK_DGRAM;
	case SOL_NETLINK: return sorts[sort].domain == AF_NETLINK;
	default: return true;
	}
}

/* Options that mean nothing to a stream (what comes along with a datagram; multicast) do not travel. */
static bool meaningless(size_t sort, const struct opt *o)
{
	if (sorts[sort].type != SOCK_STREAM)
		return sorts[sort].domain == AF_UNIX && (o->name == SO_REUSEPORT || o->name == SO_DONTROUTE ||
			o->name == SO_BUSY_POLL || o->name == SO_TXREHASH) && o->level == SOL_SOCKET;
	if (sorts[sort].domain == AF_UNIX)
		return o->level == SOL_SOCKET && (o->name == SO_REUSEPORT || o->name == SO_DONTROUTE ||
						  o->name == SO_BUSY_POLL || o->name == SO_TXREHASH);
	if (o->level == SOL_IP)
		return o->name == IP_PKTINFO || o->name == IP_RECVTTL || o->name == IP_RECVTOS || o->name == IP_RECVOPTS ||
		       o->name == IP_RETOPTS || o->name == IP_RECVORIGDSTADDR || o->name == IP_MULTICAST_TTL ||
		       o->name == IP_MULTICAST_LOOP || o->name == IP_MULTICAST_ALL;
	return o->level == SOL_IPV6 && (o->name == IPV6_MULTICAST_HOPS || o->name == IPV6_MULTICAST_LOOP ||
					o->name == IPV6_RECVPKTINFO || o->name == IPV6_RECVHOPLIMIT ||
					o->name == IPV6_DONTFRAG);
}

int main(void)
{
	int fds[N_SORTS], fresh[N_SORTS], before[N_SORTS][N_OPTS], plain[N_SORTS][N_OPTS];
	int changed = 0;

	for (size_t s = 0; s < N_SORTS; s++) {
		fds[s] = MUST(socket(sorts[s].domain, sorts[s].type, sorts[s].protocol));
		fresh[s] = MUST(socket(sorts[s].domain, sorts[s].type, sorts[s].protocol));
		for (size_t i = 0; i < N_OPTS; i++)
			if (belongs(s, &opts[i]))
				(void)!setsockopt(fds[s], opts[i].level, opts[i].name, &opts[i].value, sizeof(int));
	}
	for (size_t s = 0; s < N_SORTS; s++)
		for (size_t i = 0; i < N_OPTS; i++) {
			before[s][i] = read_opt(fds[s], &opts[i]);
			plain[s][i] = read_opt(fresh[s], &opts[i]);
			changed += belongs(s, &opts[i]) && before[s][i] != plain[s][i];
		}
	CHECK(changed > 150, "only %d options could be changed", changed);

	state_wait();

	for (size_t s = 0; s < N_SORTS; s++)
		for (size_t i = 0; i < N_OPTS; i++) {
			int v = read_opt(fds[s], &opts[i]), w = read_opt(fresh[s], &opts[i]);

			if (!belongs(s, &opts[i]))
				continue;
			CHECK(v == before[s][i] || meaningless(s, &opts[i]),
			      "family %d type %d: option %d of level %d is %d instead of %d", sorts[s].domain,
			      sorts[s].type, opts[i].name, opts[i].level, v, before[s][i]);
			CHECK(w == plain[s][i], "family %d type %d: untouched option %d of level %d is %d instead of %d",
			      sorts[s].domain, sorts[s].type, opts[i].name, opts[i].level, w, plain[s][i]);
		}
	state_pass();
}

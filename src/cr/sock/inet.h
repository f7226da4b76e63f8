/* inet - between the halves of TCP and UDP sockets. */
#pragma once
#include <netinet/in.h>

#include "cr/sock/sock.h"
#include "cr/sock/tcp.h"

/* Names at GW_LEVEL_OWN in an internet socket's gw_sock_extra. */
enum {
	INET_OWN_STATE_IN = 1, /* u32: tcp_conn.state_in */
	INET_OWN_DEAD = 2,     /* u32: a connection that is over: 1, or 2 with an error to be reported */
	INET_OWN_SHUT_RD = 3,  /* u32: shutdown(SHUT_RD) was called */
	INET_OWN_RTT = 5,      /* two u32: round trip time and its variance, µs */
	INET_OWN_GROUP = 4,    /* struct inet_group */
};

/* A multicast membership (IP_MSFILTER / MCAST_MSFILTER), by the interface's name. */
struct inet_group {
	char ifname[16];
	uint8_t family, exclude;
	uint16_t n_sources;
	uint8_t addr[16];
	uint8_t sources[16][16];
};

struct tcp_read {
	struct ofile *f;
	struct tcp_conn c;
};

union inet_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static inline socklen_t inet_addr_len(const union inet_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

/* An internet socket of a restore: rfile.priv. */
struct isk {
	struct rfile *f;
	const InetSkEntry *i;
	const GwSockExtra *x;
	union inet_addr self, peer;
	struct tcp_conn conn;   /* its queues point into the records */
	bool has_conn, made;
	bool dropped;           /* a connection that is not restored (--tcp-close) */
};

/* Of a restore: whether it has a far end (not one that is over). */
bool isk_is_connection(const struct isk *s);
/* TCP_*; 0: not a TCP socket. */
int inet_tcp_state(const struct ofile *f);

int inet_load(struct restore *r, struct rfile *f, struct err *e);
int inet_build(struct restore *r, struct rfile *f, struct err *e);
int inet_placed(struct restore *r, struct rfile *f, struct err *e);

/* Datagrams that wait (udp.c). */
int udp_queue_capture(struct dump *d, struct ofile *f, struct err *e);
int udp_queue_fill(struct restore *r, struct isk *s, struct err *e);
/* Multicast memberships (udp.c). */
int inet_groups_read(struct dump *d, struct ofile *f, int domain, GwSockExtra *x, struct err *e);
int inet_groups_join(int fd, const GwSockExtra *x, struct err *e);

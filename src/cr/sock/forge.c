/* forge - packets that look as if the far end had sent them, delivered to a socket of our own
 * namespace over loopback by a raw socket with its own header.
 *
 * IPv4: IP_HDRINCL lets us name any source (the route lookup is told so), and loopback keeps the
 * route of the sender, so that no filter for strange sources looks at it.  IPv6: IPV6_HDRINCL
 * (Linux 4.5) likewise.  They carry the mark that a lock of the network lets through. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/sock/lock_table.h"
#include "cr/sock/tcp.h"

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif
#define SEGMENT_MAX 65000

static uint32_t sum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (len & 1)
		sum += (uint32_t)p[len - 1] << 8;
	return sum;
}

static uint16_t sum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static const void *addr_of(const struct sockaddr *sa, size_t *ret_len)
{
	if (sa->sa_family == AF_INET) {
		*ret_len = 4;
		return &((const struct sockaddr_in *)sa)->sin_addr;
	}
	*ret_len = 16;
	return &((const struct sockaddr_in6 *)sa)->sin6_addr;
}

static uint16_t port_of(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port :
					  ((const struct sockaddr_in6 *)sa)->sin6_port;
}

static uint32_t pseudo_sum(const struct sockaddr *from, const struct sockaddr *to, int protocol, size_t len)
{
	const void *addr;
	uint32_t sum;
	size_t al;

	addr = addr_of(from, &al);
	sum = sum_add(0, addr, al);
	addr = addr_of(to, &al);
	sum = sum_add(sum, addr, al);
	return sum + (uint32_t)protocol + (uint32_t)(len >> 16) + (uint32_t)(len & 0xffff);
}

/* segment: with its own header and checksum. */
static int forge_send(const struct sockaddr *from, const struct sockaddr *to, int protocol,
		      const void *segment, size_t len, struct err *e)
{
	bool v4 = from->sa_family == AF_INET;
	size_t head = v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr), al;
	auto_fd int fd = socket(from->sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	auto_free uint8_t *packet = calloc(1, head + len);
	struct sockaddr_storage dst = { 0 };
	int on = 1, mark = LOCK_MARK;

	if (fd < 0 || !packet)
		return err_sys(e, fd < 0 ? -errno : -ENOMEM, "raw socket");
	if (v4) {
		struct iphdr *ip = (struct iphdr *)packet;

		ip->version = 4;
		ip->ihl = 5;
		ip->ttl = 64;
		ip->protocol = (uint8_t)protocol;
		ip->tot_len = htons((uint16_t)(head + len));
		memcpy(&ip->saddr, addr_of(from, &al), 4);
		memcpy(&ip->daddr, addr_of(to, &al), 4);
		memcpy(&dst, to, sizeof(struct sockaddr_in));
		((struct sockaddr_in *)&dst)->sin_port = 0;
	} else {
		struct ip6_hdr *ip = (struct ip6_hdr *)packet;

		ip->ip6_vfc = 6 << 4;
		ip->ip6_plen = htons((uint16_t)len);
		ip->ip6_nxt = (uint8_t)protocol;
		ip->ip6_hlim = 64;
		memcpy(&ip->ip6_src, addr_of(from, &al), 16);
		memcpy(&ip->ip6_dst, addr_of(to, &al), 16);
		memcpy(&dst, to, sizeof(struct sockaddr_in6));
		((struct sockaddr_in6 *)&dst)->sin6_port = 0;
	}
	if ((v4 ? setsockopt(fd, SOL_IP, IP_HDRINCL, &on, sizeof(on)) :
		  setsockopt(fd, SOL_IPV6, IPV6_HDRINCL, &on, sizeof(on))) < 0)
		return err_sys(e, -errno, "raw socket");
	/* In a network of somebody else's nobody locks it, and we may not mark. */
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 && errno != EPERM)
		return err_sys(e, -errno, "raw socket");
	memcpy(packet + head, segment, len);
	if (sendto(fd, packet, head + len, 0, (struct sockaddr *)&dst,
		   v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0)
		return err_sys(e, -errno, "a packet for a restored connection");
	return 0;
}

int forge_tcp(const struct sockaddr *from, const struct sockaddr *to, uint32_t seq, uint32_t ack,
	      unsigned flags, uint16_t window, const uint32_t *echo, struct err *e)
{
	struct {
		struct tcphdr t;
		uint8_t opt[4]; /* NOP, NOP, timestamps */
		uint32_t tsval, tsecr;
	} s = { .opt = { TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP } };
	size_t len = echo ? sizeof(s) : sizeof(s.t);

	s.t.th_sport = port_of(from);
	s.t.th_dport = port_of(to);
	s.t.th_seq = htonl(seq);
	s.t.th_ack = htonl(ack);
	s.t.th_off = (uint8_t)(len / 4) & 0xf;
	s.t.th_flags = (uint8_t)flags;
	s.t.th_win = htons(window);
	s.tsecr = echo ? htonl(*echo) : 0;
	s.t.th_sum = sum_end(sum_add(pseudo_sum(from, to, IPPROTO_TCP, len), &s, len));
	return forge_send(from, to, IPPROTO_TCP, &s, len, e);
}

int forge_udp(const struct sockaddr *from, const struct sockaddr *to, const void *data, size_t len,
	      struct err *e)
{
	size_t total = sizeof(struct udphdr) + len;
	auto_free uint8_t *dgram = calloc(1, total);
	struct udphdr *u = (struct udphdr *)dgram;

	if (!dgram)
		return err_sys(e, -ENOMEM, "datagram");
	if (len > SEGMENT_MAX)
		return err_set(e, -EMSGSIZE, "a queued datagram has %zu bytes", len);
	u->uh_sport = port_of(from);
	u->uh_dport = port_of(to);
	u->uh_ulen = htons((uint16_t)total);
	memcpy(dgram + sizeof(*u), data, len);
	u->uh_sum = sum_end(sum_add(pseudo_sum(from, to, IPPROTO_UDP, total), dgram, total));
	if (!u->uh_sum)
		u->uh_sum = 0xffff;
	return forge_send(from, to, IPPROTO_UDP, dgram, total, e);
}

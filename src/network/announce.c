/* announce - telling a layer 2 where an address lives now, and asking whether one is taken.
 *
 * Frames are sent by AF_PACKET through the bridge's own device, so that they leave by its uplinks (and
 * reach the other ports); the source MAC is the container's, which teaches every switch on the way. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if_arp.h>
#include <linux/if_ether.h>
#include <netpacket/packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "network/link.h"

#define PROBES 3
#define PROBE_WAIT_MS 40

struct arp_frame {
	struct ethhdr eth;
	struct arphdr arp;
	uint8_t sender_mac[6];
	uint8_t sender_ip[4];
	uint8_t target_mac[6];
	uint8_t target_ip[4];
} __attribute__((packed));

/* An unsolicited neighbour advertisement (RFC 4861 4.4) to all nodes. */
struct na_frame {
	struct ethhdr eth;
	uint8_t ip6[40];
	uint8_t type, code;
	uint16_t sum;
	uint32_t flags;
	uint8_t target[16];
	uint8_t opt_type, opt_len, opt_mac[6];
} __attribute__((packed));

static int packet_open(const char *ifname, uint16_t protocol, struct sockaddr_ll *ret_to, struct err *e)
{
	auto_fd int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol));
	unsigned index = if_nametoindex(ifname);

	if (!index)
		return err_set(e, -ENODEV, "there is no network link %s", ifname);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open a packet socket");
	*ret_to = (struct sockaddr_ll){ .sll_family = AF_PACKET,
					.sll_protocol = htons(protocol),
					.sll_ifindex = (int)index,
					.sll_halen = 6 };
	if (bind(fd, (struct sockaddr *)ret_to, sizeof(*ret_to)) < 0)
		return err_sys(e, -errno, "cannot bind a packet socket to %s", ifname);
	return fd_take(&fd);
}

static void arp_fill(struct arp_frame *f, const uint8_t mac[6], uint32_t sender, uint32_t target)
{
	memset(f, 0, sizeof(*f));
	memset(f->eth.h_dest, 0xff, 6);
	memcpy(f->eth.h_source, mac, 6);
	f->eth.h_proto = htons(ETH_P_ARP);
	f->arp.ar_hrd = htons(ARPHRD_ETHER);
	f->arp.ar_pro = htons(ETH_P_IP);
	f->arp.ar_hln = 6;
	f->arp.ar_pln = 4;
	f->arp.ar_op = htons(ARPOP_REQUEST);
	memcpy(f->sender_mac, mac, 6);
	memcpy(f->sender_ip, &sender, 4);
	memcpy(f->target_ip, &target, 4);
}

static uint16_t icmp6_sum(const struct na_frame *f)
{
	uint8_t pseudo[40] = { 0 };
	const uint8_t *body = &f->type;
	size_t len = sizeof(*f) - offsetof(struct na_frame, type);
	uint32_t sum = 0;

	memcpy(pseudo, f->ip6 + 8, 32);
	pseudo[35] = (uint8_t)len;
	pseudo[39] = IPPROTO_ICMPV6;
	for (size_t i = 0; i < sizeof(pseudo); i += 2)
		sum += (uint32_t)pseudo[i] << 8 | pseudo[i + 1];
	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)body[i] << 8 | body[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void na_fill(struct na_frame *f, const uint8_t mac[6], const uint8_t ip[16])
{
	static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };
	size_t len = sizeof(*f) - offsetof(struct na_frame, type);

	memset(f, 0, sizeof(*f));
	memcpy(f->eth.h_dest, (const uint8_t[]){ 0x33, 0x33, 0, 0, 0, 1 }, 6);
	memcpy(f->eth.h_source, mac, 6);
	f->eth.h_proto = htons(ETH_P_IPV6);
	f->ip6[0] = 0x60;
	f->ip6[5] = (uint8_t)len;
	f->ip6[6] = IPPROTO_ICMPV6;
	f->ip6[7] = 255; /* neighbours drop anything else: it may have been routed */
	memcpy(f->ip6 + 8, ip, 16);
	memcpy(f->ip6 + 24, all_nodes, 16);
	f->type = 136;
	f->flags = htonl(0x20000000); /* override */
	memcpy(f->target, ip, 16);
	f->opt_type = 2;
	f->opt_len = 1;
	memcpy(f->opt_mac, mac, 6);
	f->sum = icmp6_sum(f);
}

static int frame_send(int fd, const struct sockaddr_ll *to, const void *frame, size_t len, struct err *e)
{
	if (sendto(fd, frame, len, 0, (const struct sockaddr *)to, sizeof(*to)) < 0)
		return err_sys(e, -errno, "cannot send an announcement");
	return 0;
}

int link_announce(const char *bridge, const uint8_t mac[6], uint32_t ipv4, const uint8_t ipv6[16],
		  struct err *e)
{
	struct sockaddr_ll to;
	auto_fd int fd = packet_open(bridge, 0, &to, e);
	int r = 0;

	if (fd < 0)
		return fd;
	if (ipv4) {
		struct arp_frame f;

		/* Both forms of RFC 5227: some stacks take up requests only, some replies only. */
		arp_fill(&f, mac, ipv4, ipv4);
		r = frame_send(fd, &to, &f, sizeof(f), e);
		f.arp.ar_op = htons(ARPOP_REPLY);
		memset(f.target_mac, 0xff, 6);
		if (r == 0)
			r = frame_send(fd, &to, &f, sizeof(f), e);
	}
	if (r == 0 && ipv6) {
		struct na_frame f;

		na_fill(&f, mac, ipv6);
		r = frame_send(fd, &to, &f, sizeof(f), e);
	}
	return r;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Does this message say that somebody else has `ipv4`, or is about to take it (RFC 5227 2.1.1: whose probe
 * comes while ours are out)?  Whoever uses it as a sender has it, whatever kind of message it is. */
static bool arp_claims(const struct arp_frame *f, uint32_t ipv4, const uint8_t ours[2][6])
{
	static const uint8_t nobody[4];

	if (f->eth.h_proto != htons(ETH_P_ARP) || memcmp(f->sender_mac, ours[0], 6) == 0 ||
	    memcmp(f->sender_mac, ours[1], 6) == 0)
		return false;
	if (memcmp(f->sender_ip, nobody, 4) == 0)
		return memcmp(f->target_ip, &ipv4, 4) == 0;
	return memcmp(f->sender_ip, &ipv4, 4) == 0;
}

/* 1: somebody claimed `ipv4` before the deadline; 0: nobody. */
static int arp_answer_wait(int fd, uint32_t ipv4, const uint8_t ours[2][6], int64_t deadline, uint8_t ret_mac[6])
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		struct arp_frame f;
		ssize_t n;

		if (left <= 0)
			return 0;
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
		n = recv(fd, &f, sizeof(f), MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n >= (ssize_t)sizeof(f) && arp_claims(&f, ipv4, ours)) {
			memcpy(ret_mac, f.sender_mac, 6);
			return 1;
		}
	}
}

int link_probe_ipv4(const char *bridge, uint32_t ipv4, const uint8_t mac[6], uint8_t ret_mac[6], struct err *e)
{
	struct sockaddr_ll to;
	auto_fd int fd = packet_open(bridge, ETH_P_ARP, &to, e);
	struct ifreq ifr = { 0 };
	struct arp_frame f;
	uint8_t ours[2][6];

	if (fd < 0)
		return fd;
	strncpy(ifr.ifr_name, bridge, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return err_sys(e, -errno, "cannot read the address of %s", bridge);
	memcpy(ours[0], ifr.ifr_hwaddr.sa_data, 6);
	memcpy(ours[1], mac, 6);
	/* RFC 5227 2.1.1: the sender address is 0, so that nobody's table is changed by the question.  The bridge's
	 * MAC, since frames with the container's would tell switches that it is here already. */
	arp_fill(&f, ours[0], 0, ipv4);
	for (int tries = 0; tries < PROBES; tries++) {
		int r = frame_send(fd, &to, &f, sizeof(f), e);

		if (r == 0)
			r = arp_answer_wait(fd, ipv4, ours, now_ms() + PROBE_WAIT_MS, ret_mac);
		if (r < 0)
			return err_sys(e, r, "cannot ask %s who has an address", bridge);
		if (r > 0)
			return 1;
	}
	return 0;
}

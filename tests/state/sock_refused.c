/* Sockets that cannot be carried are refused by name, all at once; the one that can is not. */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib.h"

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7200),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	char c;

	MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	MUST(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	state_wait();
	/* Nothing was touched by it. */
	MUST(bind(udp, (struct sockaddr *)&a, sizeof(a)));
	MUST(sendto(udp, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)));
	CHECK(recv(udp, &c, 1, 0) == 1 && c == 'x', "the socket that is left does not work");
	state_pass();
}

/* The network namespace: addresses, routes, neighbours, settings and link state that the container
 * changed, on lo, which every container has, and on eth0 where there is one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib.h"

static void run(const char *cmd)
{
	int st = system(cmd);

	CHECK(st == 0, "%s: status %d", cmd, st);
}

static char *output(const char *cmd)
{
	static char text[8192];
	FILE *f = popen(cmd, "re");
	size_t n;

	CHECK(f, "%s: %m", cmd);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	CHECK(pclose(f) == 0, "%s failed", cmd);
	return strdup(text);
}

static const char *const views[] = {
	"ip -4 addr show dev lo",
	"ip -6 addr show dev lo",
	"ip -4 route show table all",
	"ip -6 route show table all",
	"ip neigh show nud permanent",
	"ip link show dev lo",
	"cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/rp_filter",
	"ip -4 addr show dev eth0 2>/dev/null | grep inet || true",
	/* "nodad" stays with what the move has set: nobody else has these addresses. */
	"ip -6 addr show dev eth0 2>/dev/null | grep inet | sed 's/ nodad//' || true",
	"ip -o link show dev eth0 2>/dev/null | sed 's/^[0-9]*: eth0@if[0-9]*: //; s/netnsid.*//' "
	"|| true",
	"cat /proc/sys/net/ipv4/conf/eth0/arp_ignore /proc/sys/net/ipv6/conf/eth0/accept_ra "
	"2>/dev/null || true",
	"cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ping_group_range",
};

/* What only a link to others has. */
static void link_prepare(void)
{
	run("ip addr add 10.88.0.1/16 brd + dev eth0");
	run("ip -6 addr add fd00:88::1/64 dev eth0 nodad");
	run("ip -6 route add fd00:87::/64 via fd00:88::2 dev eth0");
	run("ip route add 10.87.0.0/16 nexthop via 10.88.0.2 dev eth0 weight 1 nexthop via "
	    "10.88.0.3 dev eth0 weight 3");
	run("ip route del default");
	run("ip route add default via 10.77.0.1 dev eth0 metric 9 src 10.77.0.2");
	run("ip neigh add 10.88.0.2 lladdr 02:00:00:00:00:99 nud permanent dev eth0");
	run("ip link set eth0 mtu 1400 txqueuelen 77");
	run("echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_ignore");
	run("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
	for (int i = 0;
	     i < 100 && system("ip -6 addr show dev eth0 tentative | grep -q inet6") == 0; i++)
		usleep(100000);
}

int main(int argc, char **argv)
{
	char *before[sizeof(views) / sizeof(*views)];

	if (argc > 1 && strcmp(argv[1], "peer") == 0)
		return 0;
	if (access("/sbin/ip", X_OK) != 0 && access("/usr/sbin/ip", X_OK) != 0 &&
	    access("/bin/ip", X_OK) != 0)
		state_skip("there is no ip");
	run("ip addr add 10.99.0.1/24 brd 10.99.0.255 dev lo label lo:x");
	run("ip addr add 10.99.0.2/24 dev lo");
	run("ip -6 addr add fd00:99::1/64 dev lo nodad");
	run("ip route add 10.98.0.0/16 dev lo");
	run("ip route add default via 192.0.2.1 dev lo onlink metric 5");
	run("ip route add 10.97.0.0/16 via 10.98.0.5 dev lo mtu 1300");
	run("ip route add unreachable 10.96.0.0/16");
	run("ip route add 10.95.0.0/16 dev lo table 77");
	run("ip -6 route add fd00:98::/64 dev lo metric 7");
	run("ip link set dev lo mtu 40000");
	run("echo 1 > /proc/sys/net/ipv4/ip_forward");
	run("echo 2 > /proc/sys/net/ipv4/conf/lo/rp_filter");
	run("echo 777 > /proc/sys/net/core/somaxconn");
	run("echo '0 100' > /proc/sys/net/ipv4/ping_group_range");
	if (system("ip link show eth0 > /dev/null 2>&1") == 0)
		link_prepare();
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++)
		before[i] = output(views[i]);
	state_wait();
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++) {
		char *after = output(views[i]);

		CHECK(strcmp(before[i], after) == 0, "%s was\n%sand is\n%s", views[i], before[i],
		      after);
	}
	state_pass();
}

/* The network namespace: addresses, routes, neighbours, settings and link state that the container
 * changed, on lo, which every container has. */
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
	"ip -4 addr show dev lo",	"ip -6 addr show dev lo",     "ip -4 route show table all",
	"ip -6 route show table all",	"ip neigh show nud permanent", "ip link show dev lo",
	"cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/rp_filter",
	"cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ping_group_range",
};

int main(void)
{
	char *before[sizeof(views) / sizeof(*views)];

	if (access("/sbin/ip", X_OK) != 0 && access("/usr/sbin/ip", X_OK) != 0 && access("/bin/ip", X_OK) != 0)
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
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++)
		before[i] = output(views[i]);
	state_wait();
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++) {
		char *after = output(views[i]);

		CHECK(strcmp(before[i], after) == 0, "%s was\n%sand is\n%s", views[i], before[i], after);
	}
	state_pass();
}

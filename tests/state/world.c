#include "world.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only numbers of our own go into these lines. */
static int ip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int ip(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	return system(line) == 0 ? 0 : -1;
}

int net_make(struct net *n)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	n->on = true;
	return ip("ip link set lo up && ip link add br0 address 02:77:00:00:00:01 type bridge "
		  "stp_state 0 forward_delay 0 && ip link set br0 up && ip addr add 10.77.0.1/24 dev br0 && "
		  "ip addr add fd77::1/64 dev br0 nodad && "
		  /* Keeps the bridge's carrier, whose loss makes it forget its neighbours. */
		  "ip link add up0 type veth peer name up1 && ip link set up1 up && ip link set up0 master br0 up");
}

int net_peer(struct net *n, const char *program)
{
	n->peer = fork();
	if (n->peer == 0) {
		execl(program, program, "peer", NULL);
		_exit(127);
	}
	return n->peer < 0 ? -1 : 0;
}

int net_link(struct net *n, pid_t init, bool joined, unsigned *ret_link)
{
	unsigned i = n->n_links++;

	*ret_link = i;
	return ip("ip link add gw%u type veth peer name eth0 address 02:77:00:00:00:02 netns %d && "
		  /* Outside of the bridge this world must not answer for 10.77.0.1 there. */
		  "echo 8 >/proc/sys/net/ipv4/conf/gw%u/arp_ignore && ip link set gw%u %s up && nsenter -t %d -n sh -c '"
		  "ip link set lo up; ip addr add 10.77.0.2/24 dev eth0 && "
		  "ip addr add fd77::2/64 dev eth0 nodad && ip link set eth0 up && "
		  "ip route add default via 10.77.0.1'",
		  i, (int)init, i, i, joined ? "master br0" : "", (int)init);
}

int net_drop(const struct net *n, unsigned link)
{
	return ip("ip link del gw%u", link);
}

int net_joined(const struct net *n, unsigned link, bool joined)
{
	return ip("ip link set gw%u %s", link, joined ? "master br0" : "nomaster");
}

int net_done(struct net *n)
{
	int status = 0;

	if (!n->peer)
		return 0;
	/* It ends by itself once it has heard all it waits for. */
	for (int i = 0; i < 1000; i++) {
		if (waitpid(n->peer, &status, WNOHANG) == n->peer) {
			n->peer = 0;
			return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
		}
		usleep(10000);
	}
	kill(n->peer, SIGKILL);
	waitpid(n->peer, &status, 0);
	n->peer = 0;
	return -1;
}

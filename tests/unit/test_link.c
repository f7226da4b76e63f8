/* Links, bridges, probes and NAT in a network namespace of the test's own.  Needs root; skipped without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "network/bridge.h"
#include "network/firewall.h"
#include "network/link.h"
#include "network/rtnl.h"
#include "storage/folder.h"

static char top[64];
static bool able;

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/godwit-link-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	able = unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 && mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("sysfs", "/sys", "sysfs", 0, NULL) == 0;
	return 0;
}

static int teardown(void **state)
{
	return folder_remove(top, NULL);
}

static void veth_make(const char *a, const char *b)
{
	struct rtnl q;
	size_t info, data, peer;
	struct ifinfomsg none = { 0 };

	rtnl_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(q.link));
	rtnl_put_str(&q, IFLA_IFNAME, a);
	info = rtnl_nest(&q, IFLA_LINKINFO);
	rtnl_put_str(&q, IFLA_INFO_KIND, "veth");
	data = rtnl_nest(&q, IFLA_INFO_DATA);
	peer = NLMSG_ALIGN(q.h.nlmsg_len);
	rtnl_put(&q, 1, &none, sizeof(none)); /* VETH_INFO_PEER: a link message inside */
	rtnl_put_str(&q, IFLA_IFNAME, b);
	rtnl_nest_end(&q, peer);
	rtnl_nest_end(&q, data);
	rtnl_nest_end(&q, info);
	assert_int_equal(rtnl_call(&q), 0);
}

static int port_state(const char *link)
{
	char path[80], *text;
	int v;

	snprintf(path, sizeof(path), "/sys/class/net/%s/brport/state", link);
	if (fd_read_file_at(AT_FDCWD, path, 16, &text, NULL) < 0)
		return -1;
	v = atoi(text);
	free(text);
	return v;
}

static void network_up(struct db *db, const char *nat)
{
	json_t *row = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "name", "br-t0", "type", "bridge", "config",
				"ipv4.address", "10.9.9.1/29", "ipv4.nat", nat, "dns.mode", "none");
	struct err e = { 0 };
	char *note = NULL;

	db_network_put(db, row, true, NULL);
	json_decref(row);
	if (bridge_up(db, top, "br-t0", BRIDGE_BOOT, NULL, &note, &e) < 0)
		fail_msg("%s", err_text(&e));
	free(note);
}

static void ports(void **state)
{
	struct err e;
	struct db *db;

	if (!able) {
		skip();
		return;
	}
	assert_int_equal(db_open(top, &db, &e), 0);
	network_up(db, "false");
	network_up(db, "false"); /* again: nothing to do, no failure */
	veth_make("va", "vb");
	assert_true(link_exists("va"));
	assert_int_equal(link_set_up("va", true, &e), 0);
	assert_int_equal(link_set_up("vb", true, &e), 0);
	assert_int_equal(link_join_bridge("va", "br-t0", &e), 0);
	assert_int_equal(link_port_set("va", false, &e), 0);
	assert_int_equal(port_state("va"), 0);
	assert_int_equal(link_port_set("va", true, &e), 0);
	assert_int_equal(port_state("va"), 3);
	assert_int_equal(bridge_down(db, top, "br-t0", &e), -EBUSY);
	assert_int_equal(link_leave_bridge("va", &e), 0);
	assert_true(link_port_set("va", true, &e) < 0);
	assert_int_equal(link_port_set("nosuch", true, &e), -ENODEV);
	assert_int_equal(link_join_bridge("va", "nosuch", &e), -ENODEV);
	assert_int_equal(link_delete("va", &e), 0);
	assert_false(link_exists("vb"));
	assert_int_equal(link_delete("va", &e), 0);
	assert_int_equal(bridge_down(db, top, "br-t0", &e), 0);
	assert_false(link_exists("br-t0"));
	db_free(db);
}

/* A packet on `fd` whose bytes at `at` are `want`, within a second. */
static bool seen(int fd, size_t at, const void *want, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t frame[200];

	for (int i = 0; i < 50 && poll(&p, 1, 1000) == 1; i++) {
		ssize_t n = recv(fd, frame, sizeof(frame), 0);

		if (n >= (ssize_t)(at + len) && memcmp(frame + at, want, len) == 0)
			return true;
	}
	return false;
}

static void announcements(void **state)
{
	static const uint8_t mac[6] = { 0, 0x16, 0x3e, 1, 2, 3 };
	static const uint8_t ip6[16] = { 0xfe, 0x80, [15] = 9 };
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0003) };
	uint32_t ip = htonl(0x0a090903);
	struct err e;
	struct db *db;
	int fd;

	if (!able) {
		skip();
		return;
	}
	assert_int_equal(db_open(top, &db, &e), 0);
	network_up(db, "false");
	veth_make("va", "vb");
	assert_int_equal(link_set_up("va", true, &e), 0);
	assert_int_equal(link_set_up("vb", true, &e), 0);
	assert_int_equal(link_join_bridge("va", "br-t0", &e), 0);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x0003));
	at.sll_ifindex = (int)if_nametoindex("vb");
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(link_announce("br-t0", mac, ip, ip6, &e), 0);
	assert_true(seen(fd, 6, mac, 6)); /* from the container's MAC */
	assert_int_equal(link_announce("br-t0", mac, ip, NULL, &e), 0);
	assert_true(seen(fd, 28, &ip, 4)); /* ARP: sender address */
	assert_int_equal(link_announce("br-t0", mac, 0, ip6, &e), 0);
	assert_true(seen(fd, 62, ip6, 16)); /* NA: target */
	close(fd);
	assert_int_equal(link_delete("va", &e), 0);
	assert_int_equal(bridge_down(db, top, "br-t0", &e), 0);
	db_free(db);
}

static void hwaddr_read(const char *link, uint8_t ret[6])
{
	struct ifreq ifr = { 0 };
	auto_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(ifr.ifr_name, link, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &ifr), 0);
	memcpy(ret, ifr.ifr_hwaddr.sa_data, 6);
}

/* A process that asks for `ip` in namespace `net`, by vb, all the time, as RFC 5227 wants it. */
static pid_t probes_send(int net, const uint8_t mac[6], uint32_t ip)
{
	uint8_t f[42] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0806), .sll_halen = 6 };
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	memcpy(f + 6, mac, 6);
	memcpy(f + 22, mac, 6);
	memcpy(f + 38, &ip, 4);
	if (setns(net, CLONE_NEWNET) < 0)
		_exit(1);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	to.sll_ifindex = (int)if_nametoindex("vb");
	for (int i = 0; i < 500; i++) {
		if (sendto(fd, f, sizeof(f), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			_exit(1);
		usleep(10000);
	}
	_exit(0);
}

/* 10.9.9.0/29 has .1 to .6: .1 is the bridge's, .2 a row's, .3 somebody answers for in a namespace beyond
 * the bridge, so .4 is the first free one. */
static void address_choice(void **state)
{
	static const uint8_t mac[6] = { 0, 0x16, 0x3e, 1, 2, 3 };
	uint32_t got, three = htonl(0x0a090903);
	uint8_t vb[6], who[6];
	struct err e = { 0 };
	pid_t pid;
	struct db *db;
	json_t *row;
	int here, there;
	struct rtnl q;
	struct rtnl in;

	if (!able) {
		skip();
		return;
	}
	assert_int_equal(db_open(top, &db, &e), 0);
	network_up(db, "true");
	veth_make("va", "vb");
	assert_int_equal(link_set_up("va", true, &e), 0);
	assert_int_equal(link_join_bridge("va", "br-t0", &e), 0);
	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	there = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	rtnl_init(&q, RTM_SETLINK, 0, sizeof(q.link));
	q.link.ifi_index = (int)if_nametoindex("vb");
	rtnl_put_u32(&q, IFLA_NET_NS_FD, (uint32_t)there);
	assert_int_equal(rtnl_call(&q), 0);
	assert_int_equal(setns(there, CLONE_NEWNET), 0);
	assert_int_equal(link_set_up("vb", true, &e), 0);
	hwaddr_read("vb", vb);
	rtnl_init(&in, RTM_NEWADDR, NLM_F_CREATE, sizeof(in.addr));
	in.addr.ifa_family = AF_INET;
	in.addr.ifa_prefixlen = 29;
	in.addr.ifa_index = if_nametoindex("vb");
	rtnl_put(&in, IFA_LOCAL, &three, 4);
	assert_int_equal(rtnl_call(&in), 0);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	usleep(50000); /* the bridge port comes up */

	assert_int_equal(link_probe_ipv4("br-t0", three, mac, who, &e), 1);
	assert_memory_equal(who, vb, 6);
	/* Who asks for itself is not told that it has it. */
	assert_int_equal(link_probe_ipv4("br-t0", three, vb, who, &e), 0);
	assert_int_equal(link_probe_ipv4("br-t0", htonl(0x0a090905), mac, who, &e), 0);
	/* Another host is about to take it: its container does not answer yet. */
	pid = probes_send(there, vb, htonl(0x0a090905));
	usleep(20000);
	assert_int_equal(link_probe_ipv4("br-t0", htonl(0x0a090906), mac, who, &e), 0);
	assert_int_equal(link_probe_ipv4("br-t0", htonl(0x0a090905), mac, who, &e), 1);
	assert_memory_equal(who, vb, 6);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	row = json_pack("{s:s, s:{s:s}}", "name", "other", "config", "volatile.eth0.ipv4.address", "10.9.9.2");
	assert_int_equal(db_instance_create(db, row, OWN_MINE, &e), 0);
	json_decref(row);
	assert_int_equal(bridge_address_pick(db, "br-t0", "me", mac, 0, &got, &e), 0);
	assert_int_equal(ntohl(got), 0x0a090904);
	assert_int_equal(bridge_address_pick(db, "br-t0", "me", mac, htonl(0x0a090902), &got, &e), -EADDRINUSE);
	/* Its own address is not somebody else's. */
	assert_int_equal(bridge_address_pick(db, "br-t0", "other", mac, htonl(0x0a090902), &got, &e), 0);
	close(there);
	close(here);
	assert_int_equal(link_delete("va", &e), 0);
	assert_int_equal(bridge_down(db, top, "br-t0", &e), 0);
	db_free(db);
}

static void firewall(void **state)
{
	struct bridge_net net;
	struct err e;

	if (!able) {
		skip();
		return;
	}
	assert_int_equal(bridge_parse_cidr("10.9.9.1/29", &net), 0);
	assert_int_equal(firewall_nat_set("br-t1", &net, &e), 0);
	assert_int_equal(firewall_nat_set("br-t1", &net, &e), 0);
	assert_int_equal(firewall_clear("br-t1", &e), 0);
	assert_int_equal(firewall_clear("br-t1", &e), 0);
	assert_int_equal(firewall_nat_set("x; flush ruleset", &net, &e), -EINVAL);
	assert_int_equal(firewall_clear("a\"b", &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports),
		cmocka_unit_test(announcements),
		cmocka_unit_test(address_choice),
		cmocka_unit_test(firewall),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

#include "network/bridge.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/check.h"
#include "network/dnsmasq.h"
#include "network/firewall.h"
#include "network/link.h"
#include "network/rtnl.h"
#include "network/uplink.h"

static const char *config_str(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(row, "config"), key));

	return s && *s ? s : NULL;
}

/* A bridge without an address of its own takes the lowest of its ports', and changes it when containers
 * come and go: every neighbour's table would be wrong then.  So it gets one, once, kept in the row. */
static int mac_of(struct db *db, json_t *row, uint8_t ret[6], struct err *e)
{
	const char *text = config_str(row, "bridge.hwaddr");
	char made[18];

	if (!text)
		text = config_str(row, "volatile.bridge.hwaddr");
	if (text) {
		if (link_mac_parse(text, ret) < 0 || ret[0] & 1)
			return err_set(e, -EINVAL, "bridge.hwaddr \"%s\" is no address of a network card", text);
		return 0;
	}
	ret[0] = 0x00, ret[1] = 0x16, ret[2] = 0x3e;
	if (getrandom(ret + 3, 3, 0) != 3)
		return err_sys(e, -EIO, "no random numbers");
	snprintf(made, sizeof(made), "%02x:%02x:%02x:%02x:%02x:%02x", ret[0], ret[1], ret[2], ret[3], ret[4],
		 ret[5]);
	if (json_object_set_new(json_object_get(row, "config"), "volatile.bridge.hwaddr",
				json_string(made)) < 0)
		return err_sys(e, -ENOMEM, "bridge");
	return db_network_put(db, row, false, e);
}

static int device_make(const char *name, const uint8_t mac[6], struct err *e)
{
	struct rtnl q;
	size_t info, data;
	int r;

	if (link_exists(name)) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/class/net/%.15s/bridge", name);
		if (access(path, F_OK) < 0)
			return err_set(e, -EEXIST, "there is a network link %s already, and it is no bridge",
				       name);
		return 0;
	}
	rtnl_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(q.link));
	rtnl_put_str(&q, IFLA_IFNAME, name);
	rtnl_put(&q, IFLA_ADDRESS, mac, 6);
	info = rtnl_nest(&q, IFLA_LINKINFO);
	rtnl_put_str(&q, IFLA_INFO_KIND, "bridge");
	data = rtnl_nest(&q, IFLA_INFO_DATA);
	rtnl_put_u32(&q, IFLA_BR_STP_STATE, 0);
	rtnl_put_u32(&q, IFLA_BR_FORWARD_DELAY, 0);
	rtnl_nest_end(&q, data);
	rtnl_nest_end(&q, info);
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot make the bridge %s", name) : 0;
}

static int device_set_mtu(const char *name, const char *text, struct err *e)
{
	struct rtnl q;
	uint32_t mtu;
	int r;

	if (!text)
		return 0;
	if (parse_u32(text, 10, &mtu) < 0 || mtu < 576 || mtu > 65535)
		return err_set(e, -EINVAL, "bridge.mtu \"%s\" is not a number from 576 to 65535", text);
	rtnl_init(&q, RTM_SETLINK, 0, sizeof(q.link));
	q.link.ifi_index = (int)if_nametoindex(name);
	rtnl_put_u32(&q, IFLA_MTU, mtu);
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot set the MTU of %s", name) : 0;
}

static int device_del_address(const char *name, const struct bridge_net *net, struct err *e)
{
	struct rtnl q;
	int r;

	rtnl_init(&q, RTM_DELADDR, 0, sizeof(q.addr));
	q.addr.ifa_family = AF_INET;
	q.addr.ifa_prefixlen = (uint8_t)net->prefix;
	q.addr.ifa_index = if_nametoindex(name);
	rtnl_put(&q, IFA_LOCAL, &net->address, 4);
	r = rtnl_call(&q);
	return r < 0 && r != -EADDRNOTAVAIL ? err_sys(e, r, "cannot take %s its former address", name) : 0;
}

static int device_set_address(const char *name, const struct bridge_net *net, struct err *e)
{
	uint32_t broadcast = net->address | htonl(~(~0u << (32 - net->prefix)));
	struct rtnl q;
	int r;

	rtnl_init(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.addr));
	q.addr.ifa_family = AF_INET;
	q.addr.ifa_prefixlen = (uint8_t)net->prefix;
	q.addr.ifa_index = if_nametoindex(name);
	rtnl_put(&q, IFA_LOCAL, &net->address, 4);
	rtnl_put(&q, IFA_ADDRESS, &net->address, 4);
	rtnl_put(&q, IFA_BROADCAST, &broadcast, 4);
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot give %s its address", name) : 0;
}

/* What was made for a network, so that it can be taken back. */
struct made {
	bool device, forwarding;
	char *switched_on; /* cards that were off, a blank behind each */
};

static bool has_address(const char *name, uint32_t address)
{
	struct ifreq ifr = { 0 };
	auto_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	return fd >= 0 && ioctl(fd, SIOCGIFADDR, &ifr) == 0 &&
	       ((struct sockaddr_in *)(void *)&ifr.ifr_addr)->sin_addr.s_addr == address;
}

/* The most likely mistake with two hosts on one layer 2: both were given the same address. */
static int address_is_ours(const char *name, const struct bridge_net *net, const char *uplinks, const uint8_t mac[6],
			   struct err *e)
{
	char text[INET_ADDRSTRLEN];
	uint8_t who[6];
	int r;

	if (!uplinks || has_address(name, net->address))
		return 0;
	uplinks_wait(uplinks);
	r = link_probe_ipv4(name, net->address, mac, who, e);
	if (r <= 0)
		return r;
	inet_ntop(AF_INET, &net->address, text, sizeof(text));
	return err_set(e, -EADDRINUSE, "%s is the address of another host behind %s already (%02x:%02x:%02x:%02x:%02x:%02x): hosts "
		       "that share a network have each a bridge address of their own in one subnet", text, uplinks, who[0],
		       who[1], who[2], who[3], who[4], who[5]);
}

static int forwarding_on(struct made *made, struct err *e)
{
	auto_free char *was = NULL;
	int r = fd_read_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", 16, &was, NULL);

	if (r == 0 && str_starts(was, "1"))
		return 0;
	r = fd_write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1");
	made->forwarding = r == 0;
	return r < 0 ? err_sys(e, r, "cannot switch on net.ipv4.ip_forward, which NAT needs") : 0;
}

static int link_bring_up(struct db *db, const char *name, json_t *row, const struct bridge_net *net, enum bridge_why why,
			 struct made *made, char **ret_note, struct err *e)
{
	const char *uplinks = config_str(row, "bridge.external_interfaces");
	bool is_new = !link_exists(name);
	uint8_t mac[6];
	int r = mac_of(db, row, mac, e);

	if (r == 0)
		r = device_make(name, mac, e);
	made->device = r == 0 && is_new;
	if (r == 0)
		r = device_set_mtu(name, config_str(row, "bridge.mtu"), e);
	if (r == 0)
		r = link_set_up(name, true, e);
	if (r == 0)
		r = uplinks_join(name, uplinks, why == BRIDGE_BOOT, &made->switched_on, ret_note, e);
	if (r == 0 && net->address && why != BRIDGE_BOOT)
		r = address_is_ours(name, net, uplinks, mac, e);
	if (r == 0 && net->address)
		r = device_set_address(name, net, e);
	return r;
}

static int bridge_up_row(struct db *db, const char *state_dir, const char *name, json_t *row, enum bridge_why why,
			 struct made *made, char **ret_note, struct err *e)
{
	const char *nat = config_str(row, "ipv4.nat");
	auto_free char *note = NULL;
	struct bridge_net net;
	int r;

	if (bridge_parse_cidr(config_str(row, "ipv4.address"), &net) < 0)
		return err_set(e, -EINVAL, "ipv4.address \"%s\" is not ADDRESS/PREFIX (prefix 8 to 30)",
			       config_str(row, "ipv4.address"));
	r = why == BRIDGE_BOOT ? 0 : network_host_check(name, json_object_get(row, "config"), why == BRIDGE_NEW, e);
	if (r == 0)
		r = link_bring_up(db, name, row, &net, why, made, ret_note, e);
	if (r < 0)
		return r;
	if (net.address && nat && strcmp(nat, "true") == 0) {
		r = forwarding_on(made, e);
		if (r == 0)
			r = firewall_nat_set(name, &net, e);
	} else {
		r = firewall_clear(name, e);
	}
	if (r == 0)
		r = dnsmasq_start(db, state_dir, name, row, &net, &note, e);
	if (r == 0 && note && network_note_add(ret_note, note) < 0)
		r = err_sys(e, -ENOMEM, "network %s", name);
	return r;
}

/* What the former configuration had and the new one has not; last, so that a failure before it has changed less. */
static int former_leave(const char *name, const json_t *row, const json_t *former, struct err *e)
{
	struct bridge_net was, is;
	int r = uplinks_leave(name, config_str(former, "bridge.external_interfaces"),
			      config_str(row, "bridge.external_interfaces"), e);

	if (r < 0 || bridge_parse_cidr(config_str(former, "ipv4.address"), &was) < 0 || !was.address ||
	    bridge_parse_cidr(config_str(row, "ipv4.address"), &is) < 0 ||
	    (was.address == is.address && was.prefix == is.prefix))
		return r;
	r = device_del_address(name, &was, e);
	/* In one subnet the new one has come second, and goes with the first (unless promote_secondaries is on). */
	return r == 0 && is.address ? device_set_address(name, &is, e) : r;
}

/* As it was before; what fails here fails behind a failure that is told. */
static void take_back(const char *state_dir, const char *name, const struct made *made)
{
	char *save = NULL;

	if (!made->device)
		return;
	dnsmasq_stop(state_dir, name, NULL);
	firewall_clear(name, NULL);
	link_delete(name, NULL);
	for (char *s = made->switched_on ? strtok_r(made->switched_on, " ", &save) : NULL; s; s = strtok_r(NULL, " ", &save))
		link_set_up(s, false, NULL);
	if (made->forwarding)
		fd_write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "0");
}

int bridge_up(struct db *db, const char *state_dir, const char *name, enum bridge_why why, const json_t *former,
	      char **ret_note, struct err *e)
{
	auto_fd int lock = -1;
	struct made made = { 0 };
	json_t *row;
	int r = db_network_get(db, name, &row, e);

	*ret_note = NULL;
	if (r < 0)
		return r;
	lock = bridge_lock(state_dir, name, e);
	r = lock < 0 ? lock : bridge_up_row(db, state_dir, name, row, why, &made, ret_note, e);
	if (r == 0 && former)
		r = former_leave(name, row, former, e);
	if (r < 0 && why == BRIDGE_NEW)
		take_back(state_dir, name, &made);
	free(made.switched_on);
	json_decref(row);
	return r < 0 ? err_context(e, r, "network %s", name) : 0;
}

/* Ports that are not configured uplinks are somebody's containers. */
static int bridge_foreign_ports(const char *name, const char *uplinks)
{
	char path[64];
	struct dirent *de;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%.15s/brif", name);
	d = opendir(path);
	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.' && !(uplinks && strstr(uplinks, de->d_name)))
			n++;
	if (d)
		closedir(d);
	return n;
}

int bridge_down(struct db *db, const char *state_dir, const char *name, struct err *e)
{
	json_t *row;
	int r = db_network_get(db, name, &row, e), ports;

	if (r < 0)
		return r;
	ports = bridge_foreign_ports(name, config_str(row, "bridge.external_interfaces"));
	json_decref(row);
	if (ports)
		return err_set(e, -EBUSY, "network %s is in use by %d network card(s): stop their instances first",
			       name, ports);
	r = dnsmasq_stop(state_dir, name, e);
	if (r == 0)
		r = firewall_clear(name, e);
	if (r == 0)
		r = link_delete(name, e);
	return r;
}

int bridge_hosts_refresh(struct db *db, const char *state_dir, const char *name, struct err *e)
{
	auto_fd int lock = bridge_lock(state_dir, name, e);

	return lock < 0 ? lock : dnsmasq_hosts(db, state_dir, name, e);
}

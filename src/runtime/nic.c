/* nic - the container's network card: device "eth0" of its row, and what was made for it once and moves
 * with it: volatile.eth0.hwaddr, .host_name, .ipv4.address, .network. */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/link.h"
#include "runtime/internal.h"

void nic_done(struct nic *n)
{
	free(n->network);
	free(n->hwaddr);
	free(n->host_name);
	free(n->mtu);
	free(n->note);
	*n = (struct nic){ 0 };
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : NULL;
}

static int keep(char **to, const char *from)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -ENOMEM;
}

static int nic_read_device(struct container *c, const char *key, const json_t *d, struct err *e)
{
	const char *network = str(d, "network"), *parent = str(d, "parent"), *kind = str(d, "nictype");
	const char *hwaddr = str(d, "hwaddr"), *name = str(d, "name");
	struct nic *n = &c->nic;

	if (n->there || strcmp(key, "eth0") != 0 || (name && strcmp(name, "eth0") != 0))
		return err_set(e, -EOPNOTSUPP, "device %s: only one network card, named eth0, is supported",
			       key);
	if (kind && strcmp(kind, "bridged") != 0)
		return err_set(e, -EOPNOTSUPP, "device %s: nictype %s is not supported (only bridged)", key,
			       kind);
	if (!network)
		network = parent;
	if (!network || strlen(network) >= IFNAMSIZ)
		return err_set(e, -EINVAL, "device %s: its network is missing", key);
	n->there = true;
	if (keep(&n->network, network) < 0 || keep(&n->mtu, str(d, "mtu")) < 0 ||
	    keep(&n->hwaddr, hwaddr ? hwaddr : container_config_str(c, "volatile.eth0.hwaddr")) < 0 ||
	    keep(&n->host_name, container_config_str(c, "volatile.eth0.host_name")) < 0)
		return err_sys(e, -ENOMEM, "device %s", key);
	return 0;
}

static int nic_read_address(struct container *c, struct err *e)
{
	const char *fixed = str(json_object_get(c->devices, "eth0"), "ipv4.address");
	const char *text = fixed ? fixed : container_config_str(c, "volatile.eth0.ipv4.address");
	struct in_addr a;
	json_t *row;
	int r;

	if (text && inet_pton(AF_INET, text, &a) != 1)
		return err_set(e, -EINVAL, "\"%s\" is no IPv4 address", text);
	c->nic.address = text ? a.s_addr : 0;
	r = db_network_get(c->db, c->nic.network, &row, e);
	if (r < 0)
		return err_context(e, r, "device eth0");
	text = str(json_object_get(row, "config"), "ipv4.address");
	r = bridge_parse_cidr(text, &c->nic.net);
	if (r < 0)
		err_set(e, r, "network %s: ipv4.address is not ADDRESS/PREFIX", c->nic.network);
	json_decref(row);
	return r;
}

int nic_read(struct container *c, struct err *e)
{
	const char *key;
	json_t *d;
	int r;

	json_object_foreach(c->devices, key, d) {
		const char *type = str(d, "type");

		if (!type || strcmp(type, "nic") != 0)
			continue;
		r = nic_read_device(c, key, d, e);
		if (r < 0)
			return r;
	}
	return c->nic.there ? nic_read_address(c, e) : 0;
}

static int key_write(struct container *c, const char *key, const char *value, struct err *e)
{
	json_t *own = json_object_get(c->row, "config");

	if (json_object_set_new(c->config, key, json_string(value)) < 0 ||
	    (own && json_object_set_new(own, key, json_string(value)) < 0))
		return err_sys(e, -ENOMEM, "%s", key);
	return db_instance_set_config(c->db, c->name, key, value, e);
}

static int names_make(struct container *c, struct err *e)
{
	uint8_t x[4];
	char text[32];
	int r = 0;

	if (!c->nic.hwaddr) {
		if (getrandom(x, 3, 0) != 3)
			return err_sys(e, -EIO, "no random numbers");
		snprintf(text, sizeof(text), "00:16:3e:%02x:%02x:%02x", x[0], x[1], x[2]);
		r = keep(&c->nic.hwaddr, text) < 0 ? err_sys(e, -ENOMEM, "eth0") :
						     key_write(c, "volatile.eth0.hwaddr", text, e);
	}
	if (r == 0 && !c->nic.host_name) {
		if (getrandom(x, 4, 0) != 4)
			return err_sys(e, -EIO, "no random numbers");
		snprintf(text, sizeof(text), "gw%02x%02x%02x%02x", x[0], x[1], x[2], x[3]);
		r = keep(&c->nic.host_name, text) < 0 ? err_sys(e, -ENOMEM, "eth0") :
							key_write(c, "volatile.eth0.host_name", text, e);
	}
	return r;
}

static bool in_subnet(const struct bridge_net *n, uint32_t a)
{
	uint32_t mask = htonl(~0u << (32 - n->prefix));

	return n->address && (a & mask) == (n->address & mask) && a != n->address;
}

/* 1: somebody else on the network has it; *ret says which address and who. */
static int address_ask(struct container *c, const uint8_t mac[6], uint32_t a, char **ret, struct err *e)
{
	char text[INET_ADDRSTRLEN];
	uint8_t who[6];
	int r = link_probe_ipv4(c->nic.network, a, mac, who, e);

	if (r <= 0)
		return r;
	inet_ntop(AF_INET, &a, text, sizeof(text));
	if (asprintf(ret, "%s is in use on network %s by %02x:%02x:%02x:%02x:%02x:%02x", text, c->nic.network, who[0],
		     who[1], who[2], who[3], who[4], who[5]) < 0) {
		*ret = NULL;
		return err_sys(e, -ENOMEM, "eth0");
	}
	return 1;
}

/* While it was stopped its address may have become somebody else's: the other hosts of the layer 2 know only of
 * what answers.  One that the daemon gave it is given up (*wanted becomes 0), one that it was told is not. */
static int address_still(struct container *c, const uint8_t mac[6], bool fixed, uint32_t *wanted, char **ret_lost,
			 struct err *e)
{
	int r = address_ask(c, mac, *wanted, ret_lost, e);

	if (r <= 0)
		return r;
	if (fixed)
		return err_set(e, -EADDRINUSE,
			       "its address %s; change ipv4.address of its device eth0, or stop whoever that is",
			       *ret_lost);
	*wanted = 0;
	return 0;
}

static int address_note(struct container *c, const char *lost, struct err *e)
{
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &c->nic.address, text, sizeof(text));
	free(c->nic.note);
	if (asprintf(&c->nic.note, "its address %s: it has got %s instead", lost, text) < 0) {
		c->nic.note = NULL;
		return err_sys(e, -ENOMEM, "eth0");
	}
	return 0;
}

static int address_keep(struct container *c, uint32_t a, struct err *e)
{
	const char *network = container_config_str(c, "volatile.eth0.network");
	char text[INET_ADDRSTRLEN];
	int r = 0;

	if (!network || strcmp(network, c->nic.network) != 0)
		r = key_write(c, "volatile.eth0.network", c->nic.network, e);
	if (r == 0 && a && (a != c->nic.address || !container_config_str(c, "volatile.eth0.ipv4.address"))) {
		inet_ntop(AF_INET, &a, text, sizeof(text));
		r = key_write(c, "volatile.eth0.ipv4.address", text, e);
	}
	c->nic.address = a;
	return r;
}

/* moving_in: the address belongs to a container that still runs elsewhere: it is kept, whoever answers. */
static int address_assign(struct container *c, bool moving_in, struct err *e)
{
	bool fixed = str(json_object_get(c->devices, "eth0"), "ipv4.address") != NULL;
	uint32_t wanted = c->nic.address, got;
	auto_free char *lost = NULL;
	auto_fd int lock = -1;
	uint8_t mac[6];
	int r = link_mac_parse(c->nic.hwaddr, mac);

	if (r < 0)
		return err_set(e, r, "\"%s\" is no address of a network card", c->nic.hwaddr);
	if (!moving_in && !fixed && wanted && !in_subnet(&c->nic.net, wanted))
		wanted = 0;
	if (!moving_in && wanted && c->nic.net.address)
		r = address_still(c, mac, fixed, &wanted, &lost, e);
	if (r < 0)
		return r;
	/* Only now: 120 ms of each start are no reason for others to wait. */
	lock = bridge_lock(c->state_dir, c->nic.network, e);
	if (lock < 0)
		return lock;
	r = bridge_address_pick(c->db, c->nic.network, c->name, mac, wanted, &got, e);
	if (r == -EADDRINUSE && !moving_in && !fixed)
		r = bridge_address_pick(c->db, c->nic.network, c->name, mac, 0, &got, e);
	if (r == 0)
		r = address_keep(c, got, e);
	return r == 0 && lost ? address_note(c, lost, e) : r;
}

int nic_assign(struct container *c, bool moving_in, struct err *e)
{
	int r;

	if (!c->nic.there)
		return 0;
	if (!link_exists(c->nic.network))
		return err_set(e, -ENODEV, "the bridge of network %s is not there; restart the daemon or bring the network up",
			       c->nic.network);
	r = names_make(c, e);
	if (r == 0)
		r = address_assign(c, moving_in, e);
	if (r == 0)
		r = bridge_hosts_refresh(c->db, c->state_dir, c->nic.network, e);
	return r;
}

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/bridge.h"
#include "network/link.h"
#include "network/range.h"

int bridge_parse_cidr(const char *text, struct bridge_net *ret)
{
	char address[INET_ADDRSTRLEN];
	const char *slash;
	struct in_addr a;
	uint32_t prefix;

	*ret = (struct bridge_net){ 0 };
	if (!text || !*text || strcmp(text, "none") == 0)
		return 0;
	slash = strchr(text, '/');
	if (!slash || (size_t)(slash - text) >= sizeof(address) || parse_u32(slash + 1, 10, &prefix) < 0 ||
	    prefix < 8 || prefix > 30)
		return -EINVAL;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (inet_pton(AF_INET, address, &a) != 1 || a.s_addr == 0)
		return -EINVAL;
	ret->address = a.s_addr;
	ret->prefix = prefix;
	return 0;
}

int bridge_lock(const char *state_dir, const char *name, struct err *e)
{
	auto_free char *path = NULL;
	auto_fd int fd = -1;

	if (asprintf(&path, "%s/network-%s.lock", state_dir, name) < 0)
		return err_sys(e, -ENOMEM, "network %s", name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", path);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "cannot lock %s", path);
	return fd_take(&fd);
}

/* The addresses of all rows but `instance`, host order. */
struct taken {
	uint32_t *a;
	size_t n, cap;
};

static int taken_add_row(struct taken *t, const json_t *row)
{
	const json_t *config = json_object_get(row, "config");
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)config, key, value) {
		struct in_addr a;

		if (!str_starts(key, "volatile.") || !str_ends(key, ".ipv4.address"))
			continue;
		if (!json_is_string(value) || inet_pton(AF_INET, json_string_value(value), &a) != 1)
			continue;
		if (array_grow(t->a, t->n, t->cap) < 0)
			return -ENOMEM;
		t->a[t->n++] = ntohl(a.s_addr);
	}
	return 0;
}

static int taken_read(struct db *db, const char *instance, struct taken *t, struct err *e)
{
	json_t *rows, *row;
	size_t i;
	int r = db_instance_list(db, &rows, e);

	if (r < 0)
		return r;
	json_array_foreach(rows, i, row) {
		const char *name = json_string_value(json_object_get(row, "name"));

		if (name && strcmp(name, instance) == 0)
			continue;
		r = taken_add_row(t, row);
		if (r < 0)
			break;
	}
	json_decref(rows);
	return r < 0 ? err_sys(e, r, "addresses") : 0;
}

static bool taken_has(const struct taken *t, uint32_t a)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->a[i] == a)
			return true;
	return false;
}

/* 1: free, 0: taken, -errno. */
static int address_is_free(const char *network, const struct taken *t, uint32_t a, const uint8_t mac[6],
			   struct err *e)
{
	uint8_t who[6];
	int r;

	if (taken_has(t, a))
		return 0;
	r = link_probe_ipv4(network, htonl(a), mac, who, e);
	return r < 0 ? r : !r;
}

static int ranges_of(const char *network, const json_t *config, const struct bridge_net *net,
		     struct range *ret, struct err *e)
{
	const char *text = json_string_value(json_object_get(config, "ipv4.dhcp.ranges"));
	uint32_t mask = net->prefix ? ~0u << (32 - net->prefix) : 0, host = ntohl(net->address);
	int n;

	if (text && *text) {
		n = ranges_parse(text, ret, RANGES_MAX);
		if (n <= 0)
			return err_set(e, -EINVAL, "network %s: ipv4.dhcp.ranges \"%s\" is not FIRST-LAST[,…]",
				       network, text);
		return n;
	}
	ret[0].first = (host & mask) + 1;
	ret[0].last = (host | ~mask) - 1;
	return 1;
}

static int address_search(const char *network, const json_t *config, const struct bridge_net *net,
			  const struct taken *t, const uint8_t mac[6], uint32_t *ret, struct err *e)
{
	uint32_t mask = ~0u << (32 - net->prefix), host = ntohl(net->address);
	struct range ranges[RANGES_MAX];
	int n = ranges_of(network, config, net, ranges, e);

	for (int i = 0; i < n; i++)
		for (uint64_t a = ranges[i].first; a <= ranges[i].last; a++) {
			int r;

			if (a == host || (a & mask) != (host & mask) || a == (host & mask) ||
			    a == (host | ~mask))
				continue;
			r = address_is_free(network, t, (uint32_t)a, mac, e);
			if (r < 0)
				return r;
			if (r > 0) {
				*ret = htonl((uint32_t)a);
				return 0;
			}
		}
	if (n < 0)
		return n;
	return err_set(e, -EADDRNOTAVAIL,
		       "no address is left in network %s: widen ipv4.address or ipv4.dhcp.ranges", network);
}

int bridge_address_pick(struct db *db, const char *network, const char *instance, const uint8_t mac[6],
			uint32_t wanted, uint32_t *ret, struct err *e)
{
	char text[INET_ADDRSTRLEN];
	struct taken t = { 0 };
	struct bridge_net net;
	const json_t *config;
	json_t *row;
	int r = db_network_get(db, network, &row, e);

	if (r < 0)
		return r;
	config = json_object_get(row, "config");
	r = bridge_parse_cidr(json_string_value(json_object_get(config, "ipv4.address")), &net);
	if (r < 0)
		r = err_set(e, r, "network %s: ipv4.address is not ADDRESS/PREFIX", network);
	else if (!net.address)
		*ret = 0;
	if (r == 0 && net.address)
		r = taken_read(db, instance, &t, e);
	if (r == 0 && net.address && wanted) {
		if (taken_has(&t, ntohl(wanted)))
			r = err_set(e, -EADDRINUSE, "its address %s belongs to another instance of this host",
				    inet_ntop(AF_INET, &wanted, text, sizeof(text)));
		else
			*ret = wanted;
	} else if (r == 0 && net.address) {
		r = address_search(network, config, &net, &t, mac, ret, e);
	}
	free(t.a);
	json_decref(row);
	return r;
}

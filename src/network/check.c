#include "network/check.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "network/bridge.h"
#include "network/link.h"
#include "network/range.h"
#include "network/uplink.h"

#define NAMES_SHOWN 10

static const char *value_of(const json_t *config, const char *key)
{
	const char *s = json_string_value(json_object_get(config, key));

	return s && *s ? s : NULL;
}

static uint32_t mask_of(unsigned prefix)
{
	return prefix ? ~0u << (32 - prefix) : 0;
}

/* ---- what the configuration says for itself ---- */

static int address_check(const char *text, struct bridge_net *net, struct err *e)
{
	uint32_t a, mask;

	if (bridge_parse_cidr(text, net) < 0)
		return err_set(e, -EINVAL, "\"%s\" cannot be the bridge's address: it is written as ADDRESS/BITS, with 8 to 30 "
			       "bits, such as 10.83.0.1/24", text ? text : "");
	if (!net->address)
		return 0;
	a = ntohl(net->address);
	mask = mask_of(net->prefix);
	if (a >> 24 == 0 || a >> 24 == 127 || a >> 28 >= 14)
		return err_set(e, -EINVAL, "\"%s\" cannot be the bridge's address: no host can have one of that kind", text);
	if ((a & ~mask) == 0)
		return err_set(e, -EINVAL, "\"%s\" is the subnet itself; the bridge needs an address in it, such as the next one",
			       text);
	if ((a | mask) == ~0u)
		return err_set(e, -EINVAL, "\"%s\" is the subnet's broadcast address; the bridge needs one of a host", text);
	return 0;
}

static int ranges_check(const char *text, const struct bridge_net *net, struct err *e)
{
	uint32_t host = ntohl(net->address), mask = mask_of(net->prefix), first = (host & mask) + 1, last = (host | ~mask) - 1;
	struct range ranges[RANGES_MAX];
	uint64_t usable = 0;
	int n = ranges_parse(text, ranges, RANGES_MAX);

	if (n <= 0)
		return err_set(e, -EINVAL, "\"%s\" are no ranges of addresses: FIRST-LAST[,FIRST-LAST], each FIRST not behind "
			       "its LAST, at most %d", text, RANGES_MAX);
	if (!net->address)
		return err_set(e, -EINVAL, "ranges of addresses make no sense in a network without ipv4.address");
	for (int i = 0; i < n; i++) {
		struct range *r = &ranges[i];

		if ((r->first & mask) != (host & mask) || (r->last & mask) != (host & mask))
			return err_set(e, -EINVAL, "the ranges \"%s\" leave the bridge's subnet, which is %u.%u.%u.%u/%u", text,
				       (host & mask) >> 24, (host & mask) >> 16 & 255, (host & mask) >> 8 & 255,
				       host & mask & 255, net->prefix);
		r->first = r->first < first ? first : r->first;
		r->last = r->last > last ? last : r->last;
		if (r->first <= r->last)
			usable += (uint64_t)r->last - r->first + 1 - (r->first <= host && host <= r->last);
	}
	return usable ? 0 : err_set(e, -EINVAL, "the ranges \"%s\" leave no address for a container", text);
}

static int not_itself(const char *card, void *arg, struct err *e)
{
	return strcmp(card, arg) == 0 ? err_set(e, -EINVAL, "the bridge %s cannot be its own uplink", card) : 0;
}

int network_config_check(const char *name, const json_t *config, struct err *e)
{
	const char *ranges = value_of(config, "ipv4.dhcp.ranges");
	struct bridge_net net;
	int r = address_check(value_of(config, "ipv4.address"), &net, e);

	if (r == 0 && ranges)
		r = ranges_check(ranges, &net, e);
	return r < 0 ? r : network_uplinks_each(value_of(config, "bridge.external_interfaces"), not_itself, (void *)name, e);
}

/* ---- what this host has ---- */

static bool sys_has(const char *card, const char *what)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/net/%.15s/%s", card, what);
	return access(path, F_OK) == 0;
}

static bool default_route4(const char *card)
{
	FILE *f = fopen("/proc/self/net/route", "re");
	char line[512], name[32];
	unsigned long to, mask;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%31s %lx %*x %*x %*d %*d %*d %lx", name, &to, &mask) == 3 && !to && !mask &&
			strcmp(name, card) == 0;
	if (f)
		fclose(f);
	return found;
}

static bool default_route6(const char *card)
{
	FILE *f = fopen("/proc/self/net/ipv6_route", "re");
	char line[512], name[32];
	unsigned bits;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*32s %x %*32s %*x %*32s %*x %*x %*x %*x %31s", &bits, name) == 2 && !bits &&
			strcmp(name, card) == 0;
	if (f)
		fclose(f);
	return found;
}

static unsigned prefix_of(const struct sockaddr *mask)
{
	const uint8_t *p = mask->sa_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr :
							 (const void *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
	unsigned n = 0;

	for (size_t i = 0; i < (mask->sa_family == AF_INET6 ? 16u : 4u); i++)
		n += (unsigned)__builtin_popcount(p[i]);
	return n;
}

/* Does the host use it: the first address by which others reach it, as text; "" for none. */
static void own_address(const struct ifaddrs *all, const char *card, char *ret, size_t size)
{
	char text[INET6_ADDRSTRLEN];

	ret[0] = '\0';
	for (const struct ifaddrs *i = all; i && !*ret; i = i->ifa_next) {
		const struct sockaddr_in6 *a6 = (const void *)i->ifa_addr;

		if (!i->ifa_addr || !i->ifa_netmask || strcmp(i->ifa_name, card) != 0)
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, text, sizeof(text));
		else if (i->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&a6->sin6_addr))
			inet_ntop(AF_INET6, &a6->sin6_addr, text, sizeof(text));
		else
			continue;
		snprintf(ret, size, "%s/%u", text, prefix_of(i->ifa_netmask));
	}
}

static int no_such_card(const char *card, struct err *e)
{
	struct if_nameindex *all = if_nameindex();
	auto_buf names = BUF_INIT;
	unsigned n = 0;

	for (const struct if_nameindex *i = all; i && i->if_index && n < NAMES_SHOWN; i++)
		if (strcmp(i->if_name, "lo") != 0 && !sys_has(i->if_name, "bridge"))
			buf_addf(&names, "%s%s", n++ ? ", " : "", i->if_name);
	if (all)
		if_freenameindex(all);
	return err_set(e, -ENODEV, "there is no network card %.64s: this host has %s", card,
		       n && names.data ? (char *)names.data : "none");
}

static int in_use_check(const char *card, struct err *e)
{
	struct ifaddrs *all = NULL;
	bool route = default_route4(card) || default_route6(card);
	char own[INET6_ADDRSTRLEN + 8];

	if (getifaddrs(&all) < 0)
		return err_sys(e, -errno, "cannot read this host's addresses");
	own_address(all, card, own, sizeof(own));
	freeifaddrs(all);
	if (!*own && !route)
		return 0;
	return err_set(e, -EBUSY, "%s carries this host's own %s%s%s%s: put into a bridge, it would cut the host off. An uplink "
		       "is a second card without an address (or a VLAN link); without one, leave the uplink out",
		       card, *own ? "address " : "", own, *own && route ? " and its " : "", route ? "default route" : "");
}

int network_uplink_check(const char *name, const char *card, struct err *e)
{
	char master[IFNAMSIZ];

	if (!link_exists(card) || strchr(card, '/'))
		return no_such_card(card, e);
	if (strcmp(card, "lo") == 0 || sys_has(card, "bridge"))
		return err_set(e, -EINVAL, "%s cannot be an uplink: it is %s", card,
			       sys_has(card, "bridge") ? "a bridge itself" : "the host's loopback");
	uplink_master(card, master);
	if (strcmp(master, name) == 0)
		return 0;
	if (*master)
		return err_set(e, -EBUSY, "%s cannot be an uplink: it is part of %s already", card, master);
	return in_use_check(card, e);
}

static int uplink_check(const char *card, void *arg, struct err *e)
{
	return network_uplink_check(arg, card, e);
}

/* Two links with one subnet: the host would send to one of them what belongs to the other. */
static int overlap_check(const char *name, const struct bridge_net *net, struct err *e)
{
	struct ifaddrs *all = NULL;
	char text[INET_ADDRSTRLEN];
	int r = 0;

	if (!net->address)
		return 0;
	if (getifaddrs(&all) < 0)
		return err_sys(e, -errno, "cannot read this host's addresses");
	for (const struct ifaddrs *i = all; i && r == 0; i = i->ifa_next) {
		const struct sockaddr_in *a = (const void *)i->ifa_addr;
		unsigned prefix;

		if (!a || !i->ifa_netmask || a->sin_family != AF_INET || strcmp(i->ifa_name, name) == 0)
			continue;
		prefix = prefix_of(i->ifa_netmask);
		if ((ntohl(a->sin_addr.s_addr) ^ ntohl(net->address)) & mask_of(prefix < net->prefix ? prefix : net->prefix))
			continue;
		inet_ntop(AF_INET, &a->sin_addr, text, sizeof(text));
		r = err_set(e, -EADDRINUSE, "the bridge's subnet would overlap with that of %s (%s/%u), and this host would not know "
			    "any more where an address is: take another one", i->ifa_name, text, prefix);
	}
	freeifaddrs(all);
	return r;
}

int network_host_check(const char *name, const json_t *config, bool is_new, struct err *e)
{
	struct bridge_net net;
	int r = address_check(value_of(config, "ipv4.address"), &net, e);

	if (r == 0 && is_new && link_exists(name))
		r = err_set(e, -EEXIST, "there is a network link %s already, which is not of a network made here: take another name, "
			    "or remove it (ip link delete %s)", name, name);
	if (r == 0)
		r = overlap_check(name, &net, e);
	return r < 0 ? r : network_uplinks_each(value_of(config, "bridge.external_interfaces"), uplink_check, (void *)name, e);
}

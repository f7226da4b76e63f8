/* init: a host made ready with sensible defaults.  Every step looks first and leaves what is there; when one fails,
 * those before it are taken back. */
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/target.h"
#include "http/client.h"

struct wishes {
	const char *address, *network, *ipv4, *ranges, *uplink;
	bool nat, ipv4_said;
};

/* What was made until something failed, so that it can be taken back. */
struct made {
	bool pool, network, profile;
	json_t *profile_before;
};

/* ---- what can be seen to be wrong before the daemon is asked ---- */

static int network_name_check(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 2 || n > 15 || !isalnum((unsigned char)name[0]) ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != n)
		return err_set(e, -EINVAL, "'%s' cannot name the bridge: 2 to 15 letters, digits, '-', '_' and '.' can", name);
	return 0;
}

/* The bytes of an IP address; *ret_len of them. */
static const void *bytes_of(const struct sockaddr *a, size_t *ret_len)
{
	*ret_len = a->sa_family == AF_INET6 ? 16 : 4;
	return a->sa_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr :
					  (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;
}

/* Does an interface have it, or will the bridge? */
static bool address_is_here(const struct sockaddr *want, const char *ipv4)
{
	struct ifaddrs *all = NULL;
	char text[INET6_ADDRSTRLEN];
	bool found = false;
	size_t len;

	inet_ntop(want->sa_family, bytes_of(want, &len), text, sizeof(text));
	if (strcmp(text, "::") == 0 || strcmp(text, "0.0.0.0") == 0 ||
	    (strncmp(ipv4, text, strlen(text)) == 0 && ipv4[strlen(text)] == '/'))
		return true;
	if (getifaddrs(&all) < 0)
		return true; /* the daemon will say */
	for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next)
		found = i->ifa_addr && i->ifa_addr->sa_family == want->sa_family &&
			memcmp(bytes_of(i->ifa_addr, &len), bytes_of(want, &len), len) == 0;
	freeifaddrs(all);
	return found;
}

static int port_check(const char *text, uint16_t *ret, struct err *e)
{
	uint64_t n;

	if (parse_u64(text, 10, &n) < 0 || !n || n > 65535)
		return err_set(e, -EINVAL, "--address \":%s\" has no valid port: 1 to 65535", text);
	*ret = (uint16_t)n;
	return 0;
}

/* HOST:PORT; *ret_list is the caller's (freeaddrinfo), and what of ":PORT" is the wildcard. */
static int address_parse(const char *address, struct addrinfo **ret_list, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE };
	auto_free char *host = NULL;
	const char *path = "";
	uint16_t port;
	char digits[8];
	int r;

	if (strstr(address, "://"))
		return err_set(e, -EINVAL, "--address is HOST:PORT, not \"%s\"", address);
	if (*address == ':')
		r = port_check(address + 1, &port, e);
	else
		r = http_url_parse(address, &host, &port, &path, e);
	if (r < 0)
		return r;
	snprintf(digits, sizeof(digits), "%u", port);
	if (*path || getaddrinfo(host ? host : "::", digits, &hints, ret_list) != 0)
		return err_set(e, -EINVAL, "--address \"%s\": \"%s\" is no IP address; HOST:PORT with one of this host's is meant, or "
			       ":PORT for all of them", address, *path || !host ? address : host);
	return 0;
}

static int address_check(const struct wishes *w, struct err *e)
{
	struct addrinfo *list = NULL;
	int r = w->address ? address_parse(w->address, &list, e) : 0;

	if (r < 0 || !list)
		return r;
	r = address_is_here(list->ai_addr, w->ipv4) ? 0 :
	    err_set(e, -EADDRNOTAVAIL, "--address \"%s\": that is no address of this host (`ip address` shows those it has), so nobody "
		    "would be answered there", w->address);
	freeaddrinfo(list);
	return r;
}

/* Who listens there already would make the last of the steps fail.  A daemon that listens for others already is asked
 * nothing: it may be in its own way, and finds out. */
static int port_is_free(struct remote *r, const struct wishes *w, struct err *e)
{
	auto_json *server = NULL;
	struct addrinfo *list = NULL;
	auto_fd int fd = -1;
	int n, one = 1;

	if (!w->address)
		return 0;
	n = remote_call(r, "GET", NULL, &server, e, "/1.0");
	if (n < 0 || *json_str(json_object_get(server, "config"), "core.https_address"))
		return n;
	n = address_parse(w->address, &list, e);
	if (n < 0)
		return n;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* The address may be the bridge's, which is not there yet. */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (fd >= 0 && bind(fd, list->ai_addr, list->ai_addrlen) < 0 && errno == EADDRINUSE)
		n = err_set(e, -EADDRINUSE, "--address \"%s\": another program listens there already (`ss -ltnp` shows which): stop "
			    "it, or take another port", w->address);
	freeaddrinfo(list);
	return n < 0 ? n : 0;
}

/* ---- the steps ---- */

/* 1: it is there, 0: it is not. */
static int there(struct remote *r, const char *path, struct err *e)
{
	int n = remote_call(r, "GET", NULL, NULL, e, "%s", path);

	return n == -ENOENT ? 0 : n < 0 ? n : 1;
}

static int init_pool(struct remote *r, struct made *made, struct err *e)
{
	int n = there(r, "/1.0/storage-pools/default", e);

	if (n != 0)
		return n;
	n = remote_call(r, "POST", json_pack("{s:s, s:s, s:{}, s:s}", "name", "default", "driver", "dir", "config",
					     "description", ""), NULL, e, "/1.0/storage-pools");
	made->pool = n >= 0;
	return n;
}

static int same_or_fail(const struct wishes *w, const json_t *config, const char *key, const char *wish, struct err *e)
{
	if (!wish || str_eq(json_str(config, key), wish))
		return 0;
	return err_set(e, -EEXIST, "the network %s is there already, with %s \"%s\" and not \"%s\": init leaves what there is "
		       "as it is", w->network, key, json_str(config, key), wish);
}

/* A second init with other words must not look as if they had been taken. */
static int network_compare(struct remote *r, const struct wishes *w, struct err *e)
{
	auto_json *row = NULL;
	const json_t *config;
	int n = remote_call(r, "GET", NULL, &row, e, "/1.0/networks/%s", w->network);

	if (n < 0)
		return n;
	config = json_object_get(row, "config");
	n = same_or_fail(w, config, "ipv4.address", w->ipv4_said ? w->ipv4 : NULL, e);
	if (n >= 0)
		n = same_or_fail(w, config, "ipv4.dhcp.ranges", w->ranges, e);
	if (n >= 0)
		n = same_or_fail(w, config, "bridge.external_interfaces", w->uplink, e);
	return n;
}

static int init_network(struct remote *r, const struct wishes *w, struct made *made, struct err *e)
{
	char path[128];
	json_t *config;
	int n;

	snprintf(path, sizeof(path), "/1.0/networks/%s", w->network);
	n = there(r, path, e);
	if (n != 0)
		return n < 0 ? n : network_compare(r, w, e);
	config = json_pack("{s:s, s:s}", "ipv4.address", w->ipv4, "ipv4.nat", w->nat ? "true" : "false");
	if (w->ranges)
		json_object_set_new(config, "ipv4.dhcp.ranges", json_string(w->ranges));
	if (w->uplink)
		json_object_set_new(config, "bridge.external_interfaces", json_string(w->uplink));
	n = remote_call(r, "POST", json_pack("{s:s, s:s, s:s, s:o}", "name", w->network, "type", "bridge",
					     "description", "", "config", config), NULL, e, "/1.0/networks");
	made->network = n >= 0;
	return n;
}

/* The devices that a container needs and the profile lacks; NULL: none is lacking. */
static json_t *devices_completed(const json_t *profile, const struct wishes *w)
{
	json_t *devices = json_deep_copy(json_object_get(profile, "devices"));
	bool changed = false;

	if (!devices)
		devices = json_object();
	if (!json_object_get(devices, "root")) {
		json_object_set_new(devices, "root",
				    json_pack("{s:s, s:s, s:s}", "type", "disk", "path", "/", "pool", "default"));
		changed = true;
	}
	if (!json_object_get(devices, "eth0")) {
		json_object_set_new(devices, "eth0", json_pack("{s:s, s:s, s:s}", "type", "nic", "name", "eth0",
							       "network", w->network));
		changed = true;
	}
	if (!changed) {
		json_decref(devices);
		devices = NULL;
	}
	return devices;
}

static int profile_put(struct remote *r, const json_t *profile, json_t *devices, struct err *e)
{
	return remote_call(r, "PUT", json_pack("{s:s, s:O?, s:o}", "description", json_str(profile, "description"), "config",
					       json_object_get(profile, "config"), "devices", devices),
			   NULL, e, "/1.0/profiles/default");
}

/* Every host has the profile `default` from its first day on. */
static int init_profile(struct remote *r, const struct wishes *w, struct made *made, struct err *e)
{
	json_t *devices;
	int n = remote_call(r, "GET", NULL, &made->profile_before, e, "/1.0/profiles/default");

	devices = n < 0 ? NULL : devices_completed(made->profile_before, w);
	if (!devices)
		return n;
	n = profile_put(r, made->profile_before, devices, e);
	made->profile = n >= 0;
	return n;
}

static int init_address(struct remote *r, const struct wishes *w, struct err *e)
{
	return w->address ? remote_call(r, "PATCH", json_pack("{s:{s:s}}", "config", "core.https_address", w->address), NULL,
					e, "/1.0") : 0;
}

static void made_say(const struct made *made, const struct wishes *w)
{
	if (made->pool)
		puts("Storage pool `default` (driver dir) made.");
	if (made->network)
		printf("Network `%s` (bridge, %s) made.\n", w->network, w->ipv4);
	if (made->profile)
		printf("Profile `default`: a disk of pool `default`, a card in network `%s`.\n", w->network);
	if (w->address)
		printf("The API listens on %s; `godwit config trust add` lets a client in.\n", w->address);
}

/* The reason why is told already; what cannot be taken back is told beside it. */
static void take_back(struct remote *r, const struct made *made, const struct wishes *w)
{
	const json_t *before = made->profile_before;
	struct err e = { 0 };
	int n = 0;

	if (made->profile)
		n = profile_put(r, before, json_incref(json_object_get(before, "devices")), &e);
	if (n >= 0 && made->network)
		n = remote_call(r, "DELETE", NULL, NULL, &e, "/1.0/networks/%s", w->network);
	if (n >= 0 && made->pool)
		n = remote_call(r, "DELETE", NULL, NULL, &e, "/1.0/storage-pools/default");
	if (n < 0)
		fprintf(stderr, "What was made until then cannot be taken back: %s\n", err_text(&e));
}

static int init_all(struct remote *r, const struct wishes *w, struct err *e)
{
	struct made made = { 0 };
	int n = port_is_free(r, w, e);

	if (n >= 0)
		n = init_pool(r, &made, e);
	if (n >= 0)
		n = init_network(r, w, &made, e);
	if (n >= 0)
		n = init_profile(r, w, &made, e);
	if (n >= 0)
		n = init_address(r, w, e);
	if (n >= 0)
		made_say(&made, w);
	else
		take_back(r, &made, w);
	json_decref(made.profile_before);
	return n;
}

int cmd_init(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "address", required_argument, NULL, 'a' }, { "network", required_argument, NULL, 'n' },
		{ "ipv4", required_argument, NULL, '4' },    { "ranges", required_argument, NULL, 'r' },
		{ "uplink", required_argument, NULL, 'u' },  { "no-nat", no_argument, NULL, 'N' },
		CLI_HELP, { 0 },
	};
	struct wishes w = { .network = "gwbr0", .ipv4 = "10.83.0.1/24", .nat = true };
	auto_target target = { 0 };
	struct err e = { 0 };
	int opt, r;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'a':
			w.address = optarg;
			break;
		case 'n':
			w.network = optarg;
			break;
		case '4':
			w.ipv4 = optarg;
			w.ipv4_said = true;
			break;
		case 'r':
			w.ranges = optarg;
			break;
		case 'u':
			w.uplink = optarg;
			break;
		case 'N':
			w.nat = false;
			break;
		default:
			return cli_usage(cli, opt);
		}
	}
	if (!cli_args(cli, argc, 0, 0, &r))
		return r;
	if (!*w.ipv4)
		return cli_failf("--ipv4 is empty: an ADDRESS/BITS such as 10.83.0.1/24 is meant, or none");
	if (network_name_check(w.network, &e) < 0 || address_check(&w, &e) < 0)
		return cli_fail(&e);
	r = target_open(cli->conf, "local:", false, &target, &e);
	if (r >= 0)
		r = init_all(target.remote, &w, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

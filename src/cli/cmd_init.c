/* init: a host made ready with sensible defaults.  Every step looks first and leaves what is there. */
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "cli/cli.h"
#include "cli/target.h"

struct wishes {
	const char *address, *network, *ipv4, *ranges, *uplink;
	bool nat;
};

/* 1: it is there, 0: it is not. */
static int there(struct remote *r, const char *path, struct err *e)
{
	int n = remote_call(r, "GET", NULL, NULL, e, "%s", path);

	return n == -ENOENT ? 0 : n < 0 ? n : 1;
}

static int init_pool(struct remote *r, struct err *e)
{
	int n = there(r, "/1.0/storage-pools/default", e);

	if (n != 0)
		return n;
	n = remote_call(r, "POST", json_pack("{s:s, s:s, s:{}, s:s}", "name", "default", "driver", "dir", "config",
					     "description", ""), NULL, e, "/1.0/storage-pools");
	if (n >= 0)
		puts("Storage pool `default` (driver dir) made.");
	return n;
}

static int init_network(struct remote *r, const struct wishes *w, struct err *e)
{
	char path[128];
	json_t *config;
	int n;

	snprintf(path, sizeof(path), "/1.0/networks/%s", w->network);
	n = there(r, path, e);
	if (n != 0)
		return n;
	config = json_pack("{s:s, s:s}", "ipv4.address", w->ipv4, "ipv4.nat", w->nat ? "true" : "false");
	if (w->ranges)
		json_object_set_new(config, "ipv4.dhcp.ranges", json_string(w->ranges));
	if (w->uplink)
		json_object_set_new(config, "bridge.external_interfaces", json_string(w->uplink));
	n = remote_call(r, "POST", json_pack("{s:s, s:s, s:s, s:o}", "name", w->network, "type", "bridge",
					     "description", "", "config", config), NULL, e, "/1.0/networks");
	if (n >= 0)
		printf("Network `%s` (bridge, %s) made.\n", w->network, w->ipv4);
	return n;
}

static int init_profile(struct remote *r, const struct wishes *w, struct err *e)
{
	auto_json *profile = NULL;
	json_t *devices, *put;
	int n = remote_call(r, "GET", NULL, &profile, e, "/1.0/profiles/default");
	bool made = n == -ENOENT, changed = made;

	if (n < 0 && !made)
		return n;
	if (made)
		profile = json_pack("{s:s, s:{}, s:{}}", "description", "Default profile", "config", "devices");
	devices = json_deep_copy(json_object_get(profile, "devices"));
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
	put = json_pack("{s:s, s:O?, s:o}", "description", json_str(profile, "description"), "config",
			json_object_get(profile, "config"), "devices", devices);
	if (!changed) {
		json_decref(put);
		return 0;
	}
	if (made) {
		json_object_set_new(put, "name", json_string("default"));
		n = remote_call(r, "POST", put, NULL, e, "/1.0/profiles");
	} else {
		n = remote_call(r, "PUT", put, NULL, e, "/1.0/profiles/default");
	}
	if (n >= 0)
		printf("Profile `default`: a disk of pool `default`, a card in network `%s`.\n", w->network);
	return n;
}

static int init_address(struct remote *r, const struct wishes *w, struct err *e)
{
	int n;

	if (!w->address)
		return 0;
	n = remote_call(r, "PATCH", json_pack("{s:{s:s}}", "config", "core.https_address", w->address), NULL, e, "/1.0");
	if (n >= 0)
		printf("The API listens on %s; `godwit config trust add` lets a client in.\n", w->address);
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
	if (!*w.network || strspn(w.network, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
				   strlen(w.network))
		return cli_failf("'%s' cannot name a network", w.network);
	r = target_open(cli->conf, "local:", false, &target, &e);
	if (r >= 0)
		r = init_pool(target.remote, &e);
	if (r >= 0)
		r = init_network(target.remote, &w, &e);
	if (r >= 0)
		r = init_profile(target.remote, &w, &e);
	if (r >= 0)
		r = init_address(target.remote, &w, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

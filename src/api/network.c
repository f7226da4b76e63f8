/* Networks.  Their changes are synchronous at the API but done by jobs: the request is parked meanwhile. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/network.h"
#include "api/validate.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "network/check.h"
#include "runtime/expand.h"

/* Does any device of this object use the network? */
static bool devices_use(const json_t *devices, const char *network)
{
	const char *key;
	json_t *dev;

	json_object_foreach((json_t *)devices, key, dev)
		if (strcmp(body_str(dev, "type", ""), "nic") == 0 &&
		    (strcmp(body_str(dev, "network", ""), network) == 0 || strcmp(body_str(dev, "parent", ""), network) == 0))
			return true;
	return false;
}

static json_t *used_by(struct api *a, const char *network)
{
	auto_json *rows = NULL, *profiles = NULL;
	json_t *list = json_array(), *row;
	size_t i;

	if (db_instance_list(a->db, &rows, NULL) == 0)
		json_array_foreach(rows, i, row) {
			auto_json *config = NULL, *devices = NULL;

			if (instance_expand(a->db, row, &config, &devices, NULL) == 0 && devices_use(devices, network))
				json_array_append_new(list, json_sprintf("/1.0/instances/%s", body_str(row, "name", "")));
		}
	if (db_profile_list(a->db, &profiles, NULL) == 0)
		json_array_foreach(profiles, i, row)
			if (devices_use(json_object_get(row, "devices"), network))
				json_array_append_new(list, json_sprintf("/1.0/profiles/%s", body_str(row, "name", "")));
	return list;
}

static void network_complete(struct api *a, json_t *row)
{
	json_object_update_new(row, json_pack("{s:o, s:b, s:s, s:[s]}", "used_by", used_by(a, body_str(row, "name", "")),
					      "managed", 1, "status", "Created", "locations", "none"));
}

static void network_list(struct call *c)
{
	struct err e = { 0 };
	json_t *list, *row;
	size_t i;

	if (db_network_list(c->a->db, &list, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	json_array_foreach(list, i, row)
		network_complete(c->a, row);
	reply_list(c, list, "/1.0/networks", "name");
}

static void network_get(struct call *c)
{
	struct err e = { 0 };
	json_t *row;

	if (db_network_get(c->a->db, c->arg[0], &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	network_complete(c->a, row);
	reply_sync(c, row);
}

/* ---- changes ---- */

enum change { NET_CREATE, NET_UPDATE, NET_DELETE, NET_BOOT };

struct change_job {
	struct api *a;
	struct call *call; /* NULL: at the daemon's start */
	enum change what;
	char *name;
	json_t *before;    /* the row to go back to */
	void (*then)(struct api *a);
};

static void change_free(struct change_job *j)
{
	json_decref(j->before);
	free(j->name);
	free(j);
}

static void on_ended(struct job_handle *h, int code, const char *text, json_t *result, void *arg)
{
	struct change_job *j = arg;
	struct err e = { 0 };
	int r = 0;

	if (json_string_value(json_object_get(result, "note")))
		log_warn("network %s: %s", j->name, json_string_value(json_object_get(result, "note")));
	if (code && j->what == NET_CREATE)
		db_network_delete(j->a->db, j->name, NULL);
	else if (code && j->what == NET_UPDATE)
		db_network_put(j->a->db, j->before, false, NULL);
	else if (!code && j->what == NET_DELETE)
		r = db_network_delete(j->a->db, j->name, &e);
	if (j->call && code)
		reply_error(j->call->q, code, "%s", text);
	else if (j->call && r < 0)
		reply_err(j->call, &e);
	else if (j->call && j->what == NET_CREATE)
		reply_created(j->call, "/1.0/networks/%s", j->name);
	else if (j->call)
		reply_sync(j->call, NULL);
	else if (code)
		log_error("the network %s does not come up: %s", j->name, text);
	if (j->then)
		j->then(j->a);
	change_free(j);
}

static int change_start(struct api *a, struct call *c, enum change what, const char *name, const json_t *before,
			void (*then)(struct api *a), struct err *e)
{
	static const struct job_events events = { .ended = on_ended };
	struct change_job *j = calloc(1, sizeof(*j));
	struct job_handle *h;
	auto_json *spec = json_pack("{s:s, s:s, s:O*}", "name", name, "why",
				    what == NET_CREATE ? "new" : what == NET_UPDATE ? "changed" : "boot", "former", before);
	int r;

	if (!j || !(j->name = strdup(name)) || !spec) {
		free(j);
		return err_set(e, -ENOMEM, "out of memory");
	}
	j->a = a;
	j->call = c;
	j->what = what;
	j->before = json_incref((json_t *)before);
	j->then = then;
	r = job_start(a->ev, a->self, a->state_dir, what == NET_DELETE ? "network-down" : "network-up", spec, NULL, 0,
		      &events, j, &h, e);
	if (r < 0)
		change_free(j);
	return r;
}

int network_boot(struct api *a, const char *name, void (*then)(struct api *a), struct err *e)
{
	return change_start(a, NULL, NET_BOOT, name, NULL, then, e);
}

static void network_post(struct call *c)
{
	const char *name = body_str(c->body, "name", ""), *type = body_str(c->body, "type", "");
	const json_t *config = json_object_get(c->body, "config");
	auto_json *row = NULL;
	struct err e = { 0 };
	int r = name_check_interface(name, &e);

	if (r >= 0 && *type && strcmp(type, "bridge") != 0)
		r = err_set(&e, -EINVAL, "networks of type \"%s\" are not supported: only bridges are", type);
	if (r >= 0)
		r = config_check_network(config, &e);
	if (r >= 0) {
		row = json_pack("{s:s, s:s, s:s, s:o}", "name", name, "type", "bridge", "description",
				body_str(c->body, "description", ""), "config",
				json_is_object(config) ? json_copy((json_t *)config) : json_object());
		r = row ? network_config_check(name, json_object_get(row, "config"), &e) : err_set(&e, -ENOMEM, "out of memory");
		if (r >= 0)
			r = db_network_put(c->a->db, row, true, &e);
	}
	if (r >= 0) {
		r = change_start(c->a, c, NET_CREATE, name, NULL, NULL, &e);
		if (r < 0)
			db_network_delete(c->a->db, name, NULL);
	}
	if (r < 0)
		reply_err(c, &e);
}

static void network_write(struct call *c, bool merge)
{
	const json_t *config = json_object_get(c->body, "config");
	auto_json *before = NULL, *row = NULL;
	const char *key;
	json_t *value, *target;
	struct err e = { 0 };
	int r = db_network_get(c->a->db, c->arg[0], &before, &e);

	if (r >= 0)
		r = config_check_network(config, &e);
	if (r >= 0) {
		row = json_deep_copy(before);
		target = json_object_get(row, "config");
		if (!merge)
			json_object_clear(target);
		json_object_foreach((json_t *)config, key, value) {
			if (*json_string_value(value))
				json_object_set(target, key, value);
			else
				json_object_del(target, key);
		}
		if (json_is_string(json_object_get(c->body, "description")))
			json_object_set(row, "description", json_object_get(c->body, "description"));
		r = network_config_check(c->arg[0], target, &e);
		if (r >= 0)
			r = db_network_put(c->a->db, row, false, &e);
	}
	if (r >= 0)
		r = change_start(c->a, c, NET_UPDATE, c->arg[0], before, NULL, &e);
	if (r < 0)
		reply_err(c, &e);
}

static void network_put(struct call *c)
{
	network_write(c, false);
}

static void network_patch(struct call *c)
{
	network_write(c, true);
}

static void network_delete(struct call *c)
{
	auto_json *row = NULL, *users = NULL;
	struct err e = { 0 };
	int r = db_network_get(c->a->db, c->arg[0], &row, &e);

	users = used_by(c->a, c->arg[0]);
	if (r >= 0 && json_array_size(users))
		r = err_set(&e, -EINVAL, "the network \"%s\" is in use by %s", c->arg[0],
			    json_string_value(json_array_get(users, 0)));
	if (r >= 0)
		r = change_start(c->a, c, NET_DELETE, c->arg[0], NULL, NULL, &e);
	if (r < 0)
		reply_err(c, &e);
}

/* ---- state, leases ---- */

static json_int_t counter(const char *link, const char *name)
{
	auto_free char *path = NULL, *text = NULL;
	const char *p;
	uint64_t v = 0;

	if (asprintf(&path, "/sys/class/net/%s/%s", link, name) < 0) {
		path = NULL;
		return 0;
	}
	if (fd_read_file_at(AT_FDCWD, path, 256, &text, NULL) < 0)
		return 0;
	p = text;
	return parse_u64_at(&p, 10, &v) == 0 ? (json_int_t)v : 0;
}

static void network_state(struct call *c)
{
	auto_json *row = NULL;
	auto_free char *path = NULL, *mac = NULL;
	struct err e = { 0 };
	const char *cidr, *slash, *name = c->arg[0];
	json_t *addresses;

	if (db_network_get(c->a->db, name, &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	if (if_nametoindex(name) == 0) {
		reply_error(c->q, 404, "the bridge \"%s\" is not there", name);
		return;
	}
	if (asprintf(&path, "/sys/class/net/%s/address", name) < 0)
		path = NULL;
	if (path && fd_read_file_at(AT_FDCWD, path, 64, &mac, NULL) == 0)
		mac[strcspn(mac, "\n")] = '\0';
	addresses = json_array();
	cidr = body_str(json_object_get(row, "config"), "ipv4.address", "");
	slash = strchr(cidr, '/');
	if (slash)
		json_array_append_new(addresses, json_pack("{s:s, s:s%, s:s, s:s}", "family", "inet", "address", cidr,
							   (size_t)(slash - cidr), "netmask", slash + 1, "scope", "global"));
	reply_sync(c, json_pack("{s:o, s:{s:I, s:I, s:I, s:I}, s:s, s:I, s:s, s:s}", "addresses", addresses, "counters",
				"bytes_received", counter(name, "statistics/rx_bytes"), "bytes_sent",
				counter(name, "statistics/tx_bytes"), "packets_received", counter(name, "statistics/rx_packets"),
				"packets_sent", counter(name, "statistics/tx_packets"), "hwaddr", mac ? mac : "", "mtu",
				counter(name, "mtu"), "state", "up", "type", "broadcast"));
}

static void network_leases(struct call *c)
{
	auto_json *row = NULL, *rows = NULL;
	struct err e = { 0 };
	json_t *list, *inst;
	size_t i;

	if (db_network_get(c->a->db, c->arg[0], &row, &e) < 0 || db_instance_list(c->a->db, &rows, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	list = json_array();
	json_array_foreach(rows, i, inst) {
		auto_json *config = NULL, *devices = NULL;
		const char *address = body_str(json_object_get(inst, "config"), "volatile.eth0.ipv4.address", "");

		if (!*address || instance_expand(c->a->db, inst, &config, &devices, NULL) < 0 ||
		    !devices_use(devices, c->arg[0]))
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s%, s:s, s:s}", "hostname", body_str(inst, "name", ""),
						      "hwaddr", body_str(json_object_get(inst, "config"), "volatile.eth0.hwaddr", ""),
						      "address", address, strcspn(address, "/"), "type", "static", "location", "none"));
	}
	reply_sync(c, list);
}

const struct route routes_network[] = {
	{ "GET", "/1.0/networks", ACCESS_TRUSTED, network_list },
	{ "POST", "/1.0/networks", ACCESS_TRUSTED, network_post },
	{ "GET", "/1.0/networks/*", ACCESS_TRUSTED, network_get },
	{ "PUT", "/1.0/networks/*", ACCESS_TRUSTED, network_put },
	{ "PATCH", "/1.0/networks/*", ACCESS_TRUSTED, network_patch },
	{ "DELETE", "/1.0/networks/*", ACCESS_TRUSTED, network_delete },
	{ "GET", "/1.0/networks/*/state", ACCESS_TRUSTED, network_state },
	{ "GET", "/1.0/networks/*/leases", ACCESS_TRUSTED, network_leases },
	{ NULL, NULL, 0, NULL },
};

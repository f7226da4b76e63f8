/* …/state: what a running container uses, from cgroup files and /proc (the daemon enters no namespace). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/instance.h"
#include "api/move.h"
#include "api/running.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "runtime/cgroup.h"
#include "runtime/expand.h"

/* ---- cgroups ---- */

static int number_read(const struct cgroup_mounts *ms, const char *controller, bool want_v2, const char *name,
		       const char *file, uint64_t *ret)
{
	const struct cgroup_mount *m = want_v2 ? cgroup_mounts_v2(ms) : cgroup_mounts_with(ms, controller);
	const char *prefix = getenv("GODWIT_CGROUP_DIR");
	auto_free char *path = NULL, *text = NULL;
	const char *p;
	int r;

	if (!m || m->v2 != want_v2)
		return -ENOENT;
	if (asprintf(&path, "%s/%s/%s/%s", m->base, prefix && *prefix ? prefix : "godwit", name, file) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	if (r < 0)
		return r;
	p = text;
	if (strcmp(file, "cpu.stat") == 0) {
		p = strstr(text, "usage_usec ");
		if (!p)
			return -ENOENT;
		p += 11;
	}
	return parse_u64_at(&p, 10, ret);
}

struct usage {
	uint64_t memory, peak, swap, cpu_ns, processes;
};

/* Resident memory of the tree, where no memory controller counts. */
static uint64_t memory_of_tree(const struct cgroup_mounts *ms, const char *name, uint64_t *ret_count)
{
	const struct cgroup_mount *m = cgroup_mounts_v2(ms);
	const char *prefix = getenv("GODWIT_CGROUP_DIR");
	auto_free char *path = NULL, *text = NULL;
	uint64_t sum = 0, pid;
	const char *p;

	*ret_count = 0;
	if (!m || asprintf(&path, "%s/%s/%s/cgroup.procs", m->base, prefix && *prefix ? prefix : "godwit", name) < 0)
		return 0;
	if (fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return 0;
	for (p = text; parse_u64_at(&p, 10, &pid) == 0; p += *p == '\n') {
		char file[48];
		auto_free char *statm = NULL;
		uint64_t rss;
		const char *s;

		++*ret_count;
		snprintf(file, sizeof(file), "/proc/%u/statm", (unsigned)pid);
		if (fd_read_file_at(AT_FDCWD, file, 256, &statm, NULL) < 0)
			continue;
		s = strchr(statm, ' ');
		if (s && s++ && parse_u64_at(&s, 10, &rss) == 0)
			sum += rss * (uint64_t)sysconf(_SC_PAGESIZE);
	}
	return sum;
}

static void usage_read(const char *name, struct usage *u)
{
	auto_cgroup_mounts ms = { 0 };
	uint64_t sum, count;

	*u = (struct usage){ 0 };
	if (cgroup_mounts_read(&ms, NULL) < 0)
		return;
	sum = memory_of_tree(&ms, name, &count);
	if (number_read(&ms, "memory", false, name, "memory.usage_in_bytes", &u->memory) < 0 &&
	    number_read(&ms, "memory", true, name, "memory.current", &u->memory) < 0)
		u->memory = sum;
	if (number_read(&ms, "memory", false, name, "memory.max_usage_in_bytes", &u->peak) < 0)
		number_read(&ms, "memory", true, name, "memory.peak", &u->peak);
	number_read(&ms, "memory", true, name, "memory.swap.current", &u->swap);
	if (number_read(&ms, "cpuacct", false, name, "cpuacct.usage", &u->cpu_ns) < 0 &&
	    number_read(&ms, "cpu", true, name, "cpu.stat", &u->cpu_ns) == 0)
		u->cpu_ns *= 1000;
	if (number_read(&ms, "pids", false, name, "pids.current", &u->processes) < 0 &&
	    number_read(&ms, "pids", true, name, "pids.current", &u->processes) < 0)
		u->processes = count;
}

static bool frozen_is(const char *name)
{
	auto_cgroup_mounts ms = { 0 };
	uint64_t v = 0;

	return cgroup_mounts_read(&ms, NULL) >= 0 &&
	       number_read(&ms, "", true, name, "cgroup.freeze", &v) == 0 && v == 1;
}

/* ---- network ---- */

static const char *scope6(unsigned scope)
{
	return scope == 0x20 ? "link" : scope == 0x10 ? "local" : "global";
}

static void addresses6(pid_t pid, const char *dev, json_t *list)
{
	auto_free char *text = NULL;
	char path[48], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/net/if_inet6", (int)pid);
	if (fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned char raw[16];
		char hex[33], name[17], out[INET6_ADDRSTRLEN];
		unsigned prefix, scope, b;
		bool ok = true;

		if (sscanf(line, "%32s %*x %x %x %*x %16s", hex, &prefix, &scope, name) != 4 || strcmp(name, dev) != 0 ||
		    strlen(hex) != 32)
			continue;
		for (int i = 0; i < 16 && ok; i++) {
			ok = sscanf(hex + 2 * i, "%2x", &b) == 1;
			raw[i] = (unsigned char)b;
		}
		if (!ok || !inet_ntop(AF_INET6, raw, out, sizeof(out)))
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:s}", "family", "inet6", "address", out, "netmask",
						      json_sprintf("%u", prefix), "scope", scope6(scope)));
	}
}

/* The prefix length of the network the device is on. */
static void netmask_of(struct api *a, const char *network, char *ret, size_t len)
{
	auto_json *row = NULL;
	const char *cidr, *slash;

	snprintf(ret, len, "24");
	if (!network || db_network_get(a->db, network, &row, NULL) < 0)
		return;
	cidr = body_str(json_object_get(row, "config"), "ipv4.address", "");
	slash = strchr(cidr, '/');
	if (slash)
		snprintf(ret, len, "%s", slash + 1);
}

static void addresses4(struct api *a, const json_t *row, const char *dev, json_t *list)
{
	auto_json *config = NULL, *devices = NULL;
	auto_free char *key = NULL;
	const char *address, *slash;
	char mask[8];

	if (strcmp(dev, "lo") == 0) {
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "family", "inet", "address", "127.0.0.1",
						      "netmask", "8", "scope", "local"));
		return;
	}
	if (asprintf(&key, "volatile.%s.ipv4.address", dev) < 0) {
		key = NULL;
		return;
	}
	address = json_string_value(json_object_get(json_object_get(row, "config"), key));
	if (!address || instance_expand(a->db, row, &config, &devices, NULL) < 0)
		return;
	netmask_of(a, json_string_value(json_object_get(json_object_get(devices, dev), "network")), mask, sizeof(mask));
	slash = strchr(address, '/');
	json_array_append_new(list, json_pack("{s:s, s:s%, s:s, s:s}", "family", "inet", "address", address,
					      slash ? (size_t)(slash - address) : strlen(address), "netmask", mask,
					      "scope", "global"));
}

static json_t *network_json(struct api *a, const json_t *row, pid_t pid)
{
	json_t *all = json_object();
	auto_free char *text = NULL;
	char path[48], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
	if (fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return all;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long rxb, rxp, txb, txp;
		char name[32], key[64];
		const json_t *config = json_object_get(row, "config");
		json_t *addresses, *dev;

		if (sscanf(line, " %31[^:]: %llu %llu %*u %*u %*u %*u %*u %*u %llu %llu", name, &rxb, &rxp, &txb, &txp) != 5)
			continue;
		addresses = json_array();
		addresses4(a, row, name, addresses);
		addresses6(pid, name, addresses);
		dev = json_pack("{s:o, s:{s:I, s:I, s:I, s:I}, s:s, s:s}", "addresses", addresses, "counters",
				"bytes_received", (json_int_t)rxb, "bytes_sent", (json_int_t)txb, "packets_received",
				(json_int_t)rxp, "packets_sent", (json_int_t)txp, "state", "up", "type",
				strcmp(name, "lo") == 0 ? "loopback" : "broadcast");
		snprintf(key, sizeof(key), "volatile.%s.hwaddr", name);
		json_object_set_new(dev, "hwaddr", json_string(body_str(config, key, "")));
		snprintf(key, sizeof(key), "volatile.%s.host_name", name);
		json_object_set_new(dev, "host_name", json_string(body_str(config, key, "")));
		json_object_set_new(dev, "mtu", json_integer(strcmp(name, "lo") == 0 ? 65536 : 1500));
		json_object_set_new(all, name, dev);
	}
	return all;
}

/* ---- status ---- */

int instance_status(struct api *a, const json_t *row, const char **ret_text)
{
	const char *name = body_str(row, "name", "");
	int own = (int)json_integer_value(json_object_get(row, "own"));
	bool runs = own != OWN_CREATING && running_is(a, name);

	/* Nothing of it runs here before COMMIT, whether its monitor is there already or not. */
	if (own == OWN_INCOMING) {
		auto_json *moving = NULL;
		bool live = false;

		moving = move_view(a, row, &live);
		*ret_text = live ? "Starting" : "Stopped";
		return live ? 106 : 102;
	}
	if (runs && frozen_is(name)) {
		*ret_text = "Frozen";
		return 110;
	}
	*ret_text = runs ? "Running" : "Stopped";
	return runs ? 103 : 102;
}

json_t *instance_state_json(struct api *a, const json_t *row)
{
	const char *name = body_str(row, "name", ""), *status;
	int code = instance_status(a, row, &status);
	pid_t pid = code == 102 ? 0 : running_init(a, name);
	struct usage u = { 0 };

	if (pid)
		usage_read(name, &u);
	return json_pack("{s:s, s:i, s:{}, s:{s:I, s:I, s:I, s:I}, s:o, s:i, s:I, s:{s:I}}", "status", status,
			 "status_code", code, "disk", "memory", "usage", (json_int_t)u.memory, "usage_peak",
			 (json_int_t)u.peak, "swap_usage", (json_int_t)u.swap, "swap_usage_peak", (json_int_t)0, "network",
			 pid ? network_json(a, row, pid) : json_object(), "pid", (int)pid, "processes",
			 (json_int_t)u.processes, "cpu", "usage", (json_int_t)u.cpu_ns);
}

void instance_state_get(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_instance_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, instance_state_json(c->a, row));
}

/* ---- start, stop, restart ---- */

static bool state_ended(struct operation *op, int code, const char *text, json_t *result)
{
	running_scan(op->a, op->instance);
	return true;
}

/* A stop whose container is ephemeral goes on with its deletion. */
static bool stop_ended(struct operation *op, int code, const char *text, json_t *result)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (running_scan(op->a, op->instance) || code || db_instance_get(op->a->db, op->instance, &row, NULL) < 0 ||
	    !json_is_true(json_object_get(row, "ephemeral")))
		return true;
	op->hooks = NULL;
	if (op_job(op, "instance-delete", json_pack("{s:s}", "name", op->instance), NULL, 0, &e) < 0) {
		log_error("cannot delete the ephemeral instance %s: %s", op->instance, err_text(&e));
		return true;
	}
	return false;
}

static const struct op_hooks state_hooks = { .ended = state_ended }, stop_hooks = { .ended = stop_ended };

static const struct {
	const char *action, *verb, *description;
	const struct op_hooks *hooks;
} actions[] = {
	{ "start", "instance-start", "Starting instance", &state_hooks },
	{ "stop", "instance-stop", "Stopping instance", &stop_hooks },
	{ "restart", "instance-restart", "Restarting instance", &state_hooks },
};

static int state_change(struct api *a, const char *name, size_t i, const json_t *body, struct operation **ret,
			struct err *e)
{
	const json_t *timeout = json_object_get(body, "timeout");
	auto_json *row = NULL;
	struct operation *op;
	bool runs = running_scan(a, name);
	int r = instance_mine(a, name, &row, e);

	if (r < 0)
		return r;
	if (i == 0 && runs)
		return err_set(e, -EINVAL, "the instance \"%s\" is running already", name);
	if (i == 1 && !runs)
		return err_set(e, -EINVAL, "the instance \"%s\" is not running: it is stopped already", name);
	if (i == 2 && !runs)
		return err_set(e, -EINVAL, "the instance \"%s\" is not running", name);
	r = op_new(a, OP_TASK, actions[i].description, &op, e);
	if (r < 0)
		return r;
	op->hooks = actions[i].hooks;
	op->may_cancel = true;
	r = op_on_instance(op, name, true, e);
	if (r >= 0) {
		/* How long a clean shutdown may take when nothing is said is for the job to decide. */
		json_t *spec = json_pack("{s:s, s:b}", "name", name, "force", json_is_true(json_object_get(body, "force")));

		if (spec && json_is_integer(timeout))
			json_object_set(spec, "timeout", (json_t *)timeout);
		r = op_job(op, actions[i].verb, spec, NULL, 0, e);
	}
	if (r < 0) {
		op_drop(op);
		return r;
	}
	*ret = op;
	return 0;
}

void instance_state_put(struct call *c)
{
	const char *action = body_str(c->body, "action", "");
	struct operation *op;
	struct err e = { 0 };
	size_t i = 0;

	if (json_is_true(json_object_get(c->body, "stateful"))) {
		reply_error(c->q, 400, "stateful start and stop are not supported yet");
		return;
	}
	while (i < array_len(actions) && strcmp(actions[i].action, action) != 0)
		i++;
	if (i == array_len(actions)) {
		reply_error(c->q, 400, "\"%s\" is not an action that is supported (start, stop and restart are)", action);
		return;
	}
	if (state_change(c->a, c->arg[0], i, c->body, &op, &e) < 0)
		reply_err(c, &e);
	else
		reply_operation(c, op);
}

void instance_start_quietly(struct api *a, const char *name)
{
	struct operation *op;
	struct err e = { 0 };

	if (state_change(a, name, 0, NULL, &op, &e) < 0)
		log_error("cannot start %s: %s", name, err_text(&e));
}

void instance_stopped(struct api *a, const char *name)
{
	auto_json *row = NULL;
	char source[128];

	/* A request did it, and says so itself. */
	if (op_busy(a, name))
		return;
	snprintf(source, sizeof(source), "/1.0/instances/%s", name);
	event_lifecycle(a, "instance-shutdown", source);
	if (db_instance_get(a->db, name, &row, NULL) < 0 ||
	    json_integer_value(json_object_get(row, "own")) != OWN_MINE)
		return;
	log_info("the instance %s has shut down by itself", name);
	db_instance_set_power(a->db, name, false, NULL);
	if (json_is_true(json_object_get(row, "ephemeral"))) {
		struct operation *op = NULL;
		struct err e = { 0 };
		int r = op_new(a, OP_TASK, "Deleting instance", &op, &e);

		if (r >= 0)
			r = op_on_instance(op, name, true, &e);
		if (r >= 0)
			r = op_job(op, "instance-delete", json_pack("{s:s}", "name", name), NULL, 0, &e);
		if (r < 0)
			log_error("cannot delete the ephemeral instance %s: %s", name, err_text(&e));
		if (r < 0 && op)
			op_drop(op);
	}
}

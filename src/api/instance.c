/* Instances as objects: list, get, change, delete, rename. */
#include "api/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/filter.h"
#include "api/move.h"
#include "api/running.h"
#include "api/validate.h"
#include "base/log.h"
#include "base/parse.h"
#include "runtime/expand.h"

static const char *own_name(int own)
{
	switch (own) {
	case OWN_MINE:
		return "mine";
	case OWN_CREATING:
		return "creating";
	case OWN_INCOMING:
		return "incoming";
	case OWN_OUTGOING:
		return "outgoing";
	case OWN_HANDED:
		return "handed";
	default:
		return "deleting";
	}
}

json_t *instance_json(struct api *a, const json_t *row, int level)
{
	json_t *config = NULL, *devices = NULL, *o = json_object();
	static const char *const copied[] = { "name", "architecture", "description", "ephemeral", "config", "devices",
					      "profiles", "created_at", "last_used_at" };
	bool live;
	json_t *moving = move_view(a, row, &live);
	const char *status;
	int code = instance_status(a, row, &status);

	for (size_t i = 0; i < array_len(copied); i++)
		json_object_set(o, copied[i], json_object_get(row, copied[i]));
	if (instance_expand(a->db, row, &config, &devices, NULL) < 0) {
		config = json_copy(json_object_get(row, "config"));
		devices = json_copy(json_object_get(row, "devices"));
	}
	json_object_update_new(o, json_pack("{s:o, s:o, s:s, s:i, s:b, s:s, s:s, s:s, s:s}", "expanded_config", config,
					    "expanded_devices", devices, "status", status, "status_code", code,
					    "stateful", 0, "location", "none", "type", "container", "project", "default",
					    "godwit_own", own_name((int)json_integer_value(json_object_get(row, "own")))));
	if (moving)
		json_object_set_new(o, "migration", moving);
	if (level >= 2) {
		json_object_set_new(o, "state", instance_state_json(a, row));
		json_object_set_new(o, "snapshots", json_array());
		json_object_set_new(o, "backups", json_array());
	}
	return o;
}

static void instance_list(struct call *c)
{
	const char *filter = http_request_query(c->q, "filter");
	int level = call_recursion(c);
	auto_json *rows = NULL;
	struct err e = { 0 };
	json_t *list, *row;
	size_t i;

	if (db_instance_list(c->a->db, &rows, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	list = json_array();
	json_array_foreach(rows, i, row) {
		json_t *o = instance_json(c->a, row, level);
		int r = filter ? filter_match(filter, o, &e) : 1;

		if (r == 1)
			json_array_append(list, o);
		json_decref(o);
		if (r < 0) {
			json_decref(list);
			reply_err(c, &e);
			return;
		}
	}
	reply_list(c, list, "/1.0/instances", "name");
}

static void instance_get(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_instance_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, instance_json(c->a, row, call_recursion(c) ? 2 : 1));
}

int instance_mine(struct api *a, const char *name, json_t **ret, struct err *e)
{
	auto_json *row = NULL;
	int own, r = db_instance_get(a->db, name, &row, e);

	if (r < 0)
		return r;
	own = (int)json_integer_value(json_object_get(row, "own"));
	if (own != OWN_MINE)
		return err_set(e, -EBUSY, "the instance \"%s\" is %s: nothing else can be done with it now", name,
			       own == OWN_CREATING ? "being created" : own == OWN_INCOMING ? "arriving from another host" :
			       own == OWN_OUTGOING ? "moving to another host" :
			       own == OWN_HANDED ? "handed over to another host that has not yet confirmed it" :
			       "being deleted");
	*ret = ptr_take(row);
	return 0;
}

/* ---- change ---- */

/* What a client does not say about volatile keys stays: they are the daemon's memory. */
static json_t *config_merged(const json_t *row, const json_t *given)
{
	json_t *config = json_object(), *value;
	const char *key;

	json_object_foreach(json_object_get(row, "config"), key, value)
		if (str_starts(key, "volatile."))
			json_object_set(config, key, value);
	json_object_foreach((json_t *)given, key, value) {
		if (*json_string_value(value))
			json_object_set(config, key, value);
		else
			json_object_del(config, key);
	}
	return config;
}

static int profiles_exist(struct api *a, const json_t *profiles, struct err *e)
{
	json_t *p;
	size_t i;

	json_array_foreach((json_t *)profiles, i, p) {
		auto_json *row = NULL;
		int r = db_profile_get(a->db, json_string_value(p), &row, e);

		/* The profile is missing, not the instance. */
		if (r == -ENOENT && e)
			e->code = r = -EINVAL;
		if (r < 0)
			return r;
	}
	return 0;
}

int instance_body_check(struct api *a, const json_t *body, struct err *e)
{
	int r = config_check_instance(json_object_get(body, "config"), e);

	if (r >= 0)
		r = devices_check(json_object_get(body, "devices"), e);
	if (r >= 0)
		r = profiles_check(json_object_get(body, "profiles"), e);
	if (r >= 0)
		r = profiles_exist(a, json_object_get(body, "profiles"), e);
	return r;
}

static int privileged_of(const json_t *config)
{
	const char *v = json_string_value(json_object_get(config, "security.privileged"));

	return v && strchr("1tTyY", *v) && *v;
}

static int instance_change(struct api *a, const char *name, const json_t *body, bool patch, struct err *e)
{
	auto_json *row = NULL, *new = NULL, *config = NULL;
	const json_t *given = json_object_get(body, "config");
	static const char *const keys[] = { "devices", "profiles", "description", "ephemeral" };
	const char *key;
	json_t *value;
	int r = instance_mine(a, name, &row, e);

	if (r >= 0)
		r = instance_body_check(a, body, e);
	if (r < 0)
		return r;
	if (json_string_value(json_object_get(body, "restore")))
		return err_set(e, -EINVAL, "snapshots are not supported yet");
	new = json_copy(row);
	if (patch) {
		config = json_copy(json_object_get(row, "config"));
		json_object_foreach((json_t *)given, key, value) {
			/* An empty value unsets. */
			if (*json_string_value(value))
				json_object_set(config, key, value);
			else
				json_object_del(config, key);
		}
	} else {
		config = config_merged(row, given);
	}
	if (privileged_of(config) != privileged_of(json_object_get(row, "config")))
		return err_set(e, -EINVAL, "security.privileged cannot be changed after the instance was made: its files belong to other ids");
	json_object_set(new, "config", config);
	for (size_t i = 0; i < array_len(keys); i++) {
		json_t *v = json_object_get(body, keys[i]);

		if (v && !json_is_null(v))
			json_object_set(new, keys[i], v);
	}
	return db_instance_update(a->db, name, new, e);
}

static void instance_write(struct call *c, bool patch)
{
	struct operation *op = NULL;
	struct err e = { 0 };
	int r;

	if (!c->body) {
		reply_error(c->q, 400, "the body is missing");
		return;
	}
	r = instance_change(c->a, c->arg[0], c->body, patch, &e);
	if (r >= 0 && patch) {
		reply_sync(c, NULL);
		return;
	}
	/* LXD answers with an operation; this one has ended before the answer is sent. */
	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Updating instance", &op, &e);
	if (r < 0) {
		reply_err(c, &e);
		return;
	}
	op_resource(op, "instances", "/1.0/instances/%s", c->arg[0]);
	op_finish(op, 0, NULL);
	event_lifecycle(c->a, "instance-updated", "/1.0/instances");
	reply_operation(c, op);
}

static void instance_put(struct call *c)
{
	instance_write(c, false);
}

static void instance_patch(struct call *c)
{
	instance_write(c, true);
}

/* ---- delete, rename ---- */

static void instance_delete(struct call *c)
{
	auto_json *row = NULL;
	struct operation *op = NULL;
	struct err e = { 0 };
	int r = db_instance_get(c->a->db, c->arg[0], &row, &e);

	/* A deletion that died half-way is taken up again by the job. */
	if (r >= 0 && json_integer_value(json_object_get(row, "own")) != OWN_DELETING) {
		json_decref(ptr_take(row));
		r = instance_mine(c->a, c->arg[0], &row, &e);
	}
	if (r >= 0 && running_is(c->a, c->arg[0]))
		r = err_set(&e, -EINVAL, "the instance \"%s\" is running: stop it first", c->arg[0]);
	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Deleting instance", &op, &e);
	if (r >= 0)
		r = op_on_instance(op, c->arg[0], true, &e);
	if (r >= 0)
		r = op_job(op, "instance-delete", json_pack("{s:s}", "name", c->arg[0]), NULL, 0, &e);
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	reply_operation(c, op);
}

static void instance_rename(struct call *c)
{
	const char *to = body_str(c->body, "name", "");
	auto_json *row = NULL, *taken = NULL;
	struct operation *op = NULL;
	struct err e = { 0 };
	int r = name_check_instance(to, &e);

	if (r >= 0)
		r = instance_mine(c->a, c->arg[0], &row, &e);
	if (r >= 0 && db_instance_get(c->a->db, to, &taken, NULL) == 0)
		r = err_set(&e, -EEXIST, "an instance \"%s\" exists already", to);
	if (r >= 0 && running_is(c->a, c->arg[0]))
		r = err_set(&e, -EINVAL, "the instance \"%s\" is running: stop it before renaming it", c->arg[0]);
	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Renaming instance", &op, &e);
	if (r >= 0)
		r = op_on_instance(op, c->arg[0], true, &e);
	if (r >= 0)
		r = op_job(op, "instance-rename", json_pack("{s:s, s:s}", "name", c->arg[0], "to", to), NULL, 0, &e);
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	reply_operation(c, op);
}

static void instance_post_one(struct call *c)
{
	if (json_is_true(json_object_get(c->body, "migration")))
		instance_move_source(c);
	else
		instance_rename(c);
}

static void nothing_list(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_instance_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, json_array());
}

/* liblxc's log is the only one so far. */
static void log_get(struct call *c)
{
	auto_json *row = NULL;
	auto_free char *path = NULL;
	struct err e = { 0 };
	int fd;

	if (db_instance_get(c->a->db, c->arg[0], &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	if (asprintf(&path, "%s/logs/%s/lxc.log", c->a->state_dir, c->arg[0]) < 0) {
		path = NULL;
		reply_error(c->q, 500, "out of memory");
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		reply_error(c->q, 404, "there is no log of \"%s\" yet", c->arg[0]);
	else
		http_respond_fd(c->q, 200, fd, NULL);
}

static void log_list(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_instance_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, json_pack("[o]", json_sprintf("/1.0/instances/%s/logs/lxc.log", c->arg[0])));
}

const struct route routes_instance[] = {
	{ "GET", "/1.0/instances/*/logs", ACCESS_TRUSTED, log_list },
	{ "GET", "/1.0/instances/*/logs/lxc.log", ACCESS_TRUSTED, log_get },
	{ "GET", "/1.0/instances", ACCESS_TRUSTED, instance_list },
	{ "POST", "/1.0/instances", ACCESS_TRUSTED, instance_post },
	{ "GET", "/1.0/instances/*", ACCESS_TRUSTED, instance_get },
	{ "PUT", "/1.0/instances/*", ACCESS_TRUSTED, instance_put },
	{ "PATCH", "/1.0/instances/*", ACCESS_TRUSTED, instance_patch },
	{ "DELETE", "/1.0/instances/*", ACCESS_TRUSTED, instance_delete },
	{ "POST", "/1.0/instances/*", ACCESS_TRUSTED, instance_post_one },
	{ "GET", "/1.0/instances/*/state", ACCESS_TRUSTED, instance_state_get },
	{ "PUT", "/1.0/instances/*/state", ACCESS_TRUSTED, instance_state_put },
	{ "POST", "/1.0/instances/*/exec", ACCESS_TRUSTED, instance_exec },
	{ "GET", "/1.0/instances/*/snapshots", ACCESS_TRUSTED, nothing_list },
	{ "GET", "/1.0/instances/*/backups", ACCESS_TRUSTED, nothing_list },
	{ NULL, NULL, 0, NULL },
};

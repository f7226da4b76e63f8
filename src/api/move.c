/* Both sides of a move at the API (ARCHITECTURE.md, "Live move at the API"): operations whose work is a job,
 * and the bulk connections that find their way to it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/instance.h"
#include "api/move.h"
#include "api/running.h"
#include "api/validate.h"
#include "base/log.h"
#include "base/parse.h"
#include "http/client.h"

static bool move_ended(struct operation *op, int code, const char *text, json_t *result)
{
	if (op->instance)
		running_scan(op->a, op->instance);
	return true;
}

static const struct op_hooks move_hooks = { .ended = move_ended };

void instance_move_source(struct call *c)
{
	static const char *const channels[] = { "control", "disk", "mem" };
	static const char *const flags[] = { "live", "move", "dry_run" };
	auto_json *row = NULL;
	struct operation *op = NULL;
	struct err e = { 0 };
	json_t *spec;
	int r;

	if (!json_is_true(json_object_get(c->body, "move"))) {
		reply_error(c->q, 400, "copying an instance to another server is not supported yet: only moving is");
		return;
	}
	r = instance_mine(c->a, c->arg[0], &row, &e);
	if (r >= 0)
		r = op_new(c->a, OP_WEBSOCKET, "Migrating instance", &op, &e);
	if (r >= 0)
		r = op_on_instance(op, c->arg[0], true, &e);
	for (size_t i = 0; r >= 0 && i < array_len(channels); i++)
		if (op_secret(op, channels[i], NULL) < 0)
			r = err_set(&e, -EIO, "no random numbers");
	if (r >= 0) {
		op->hooks = &move_hooks;
		op->may_cancel = true;
		op->migration = strdup(op->id);
		if (*body_str(c->body, "destination", ""))
			op->destination = strndup(body_str(c->body, "destination", ""), 128);
		spec = json_pack("{s:s, s:s, s:O}", "name", c->arg[0], "id", op->id, "secrets", op->secrets);
		if (spec && op->destination)
			json_object_set_new(spec, "destination", json_string(op->destination));
		for (size_t i = 0; spec && i < array_len(flags); i++)
			json_object_set_new(spec, flags[i], json_boolean(json_is_true(json_object_get(c->body, flags[i]))));
		r = op_job(op, "move-source", spec, NULL, 0, &e);
	}
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	reply_operation(c, op);
}

/* The id at the end of the source's operation URL. */
static int migration_id(const char *url, char ret[UUID_LEN + 1], struct err *e)
{
	const char *path, *id;
	char *host = NULL;
	uint16_t port;
	int r = http_url_parse(url, &host, &port, &path, e);

	free(host);
	if (r < 0)
		return r;
	id = str_starts(path, "/1.0/operations/") ? path + 16 : "";
	if (strlen(id) != UUID_LEN || strspn(id, "0123456789abcdef-") != UUID_LEN)
		return err_set(e, -EINVAL, "\"%s\" is not the address of an operation", url);
	strcpy(ret, id);
	return 0;
}

static int target_check(struct call *c, const json_t *source, const char *name, char id[UUID_LEN + 1],
			struct err *e)
{
	static const char *const channels[] = { "control", "disk", "mem" };
	const json_t *secrets = json_object_get(source, "secrets");
	auto_json *there = NULL, *row = NULL;
	auto_free char *pem = NULL;
	int r;

	if (strcmp(body_str(source, "mode", "pull"), "pull") != 0)
		return err_set(e, -EINVAL, "only the mode \"pull\" is supported");
	if (!json_is_true(json_object_get(source, "move")))
		return err_set(e, -EINVAL, "the other server offers a copy: only moving is supported yet");
	for (size_t i = 0; i < array_len(channels); i++)
		if (!*body_str(secrets, channels[i], ""))
			return err_set(e, -EINVAL, "the secret of the channel \"%s\" is missing", channels[i]);
	r = cert_normalize(body_str(source, "certificate", ""), &pem, e);
	if (r >= 0)
		r = migration_id(body_str(source, "operation", ""), id, e);
	if (r >= 0)
		r = instance_body_check(c->a, c->body, e);
	if (r < 0)
		return r;
	if (db_instance_get(c->a->db, name, &there, NULL) == 0)
		return err_set(e, -EEXIST, "an instance \"%s\" exists already", name);
	if (db_migration_get(c->a->db, id, "target", &row, NULL) == 0)
		return err_set(e, -EEXIST, "this migration is here already, in the state \"%s\"", body_str(row, "state", ""));
	return 0;
}

void instance_move_target(struct call *c, const json_t *source)
{
	const char *name = body_str(c->body, "name", "");
	struct operation *op = NULL;
	char id[UUID_LEN + 1] = "";
	struct err e = { 0 };
	json_t *row, *spec;
	int r = name_check_instance(name, &e);

	if (r >= 0)
		r = target_check(c, source, name, id, &e);
	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Creating instance", &op, &e);
	if (r >= 0)
		r = op_on_instance(op, name, true, &e);
	if (r >= 0) {
		op->hooks = &move_hooks;
		op->may_cancel = true;
		op->migration = strdup(id);
		op->secrets = json_incref(json_object_get(source, "secrets"));
		row = json_copy((json_t *)c->body);
		json_object_del(row, "source");
		spec = json_pack("{s:s, s:s, s:o, s:s, s:s, s:O, s:s, s:b, s:b, s:b}", "name", name, "id", id, "instance",
				 row, "operation", body_str(source, "operation", ""), "certificate",
				 body_str(source, "certificate", ""), "secrets", json_object_get(source, "secrets"),
				 "pool", body_str(source, "pool", "default"), "live",
				 json_is_true(json_object_get(source, "live")), "move", 1, "dry_run",
				 json_is_true(json_object_get(source, "dry_run")));
		r = op_job(op, "move-target", spec, NULL, 0, &e);
	}
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	reply_operation(c, op);
}

/* ---- unfinished migrations ---- */

static bool resolve_ended(struct operation *op, int code, const char *text, json_t *result)
{
	if (op->instance)
		running_scan(op->a, op->instance);
	return true;
}

static const struct op_hooks resolve_hooks = { .ended = resolve_ended };

bool move_worked_on(struct api *a, const char *id)
{
	for (struct operation *op = a->ops; op; op = op->next)
		if (op->job && str_eq(op->migration, id))
			return true;
	return false;
}

/* One look at what is unfinished: a job for each that nobody works on. */
int move_resolve_all(struct api *a, int *ret_pending)
{
	auto_json *rows = NULL;
	json_t *row;
	size_t i;
	int r = db_migration_list(a->db, &rows, NULL);

	*ret_pending = 0;
	if (r < 0)
		return r;
	json_array_foreach(rows, i, row) {
		const char *id = body_str(row, "id", ""), *role = body_str(row, "role", "");
		struct operation *op;
		struct err e = { 0 };

		/* Handed over: only the target's word, which comes by a connection, can decide. All others,
		 * also a target's "mine" and "aborted" that the source has not heard yet, are worked on. */
		if (strcmp(role, "source") == 0 && strcmp(body_str(row, "state", ""), "handed") == 0)
			continue;
		++*ret_pending;
		if (move_worked_on(a, id))
			continue;
		r = op_new(a, OP_TASK, "Resolving a migration", &op, &e);
		if (r < 0)
			return r;
		op->hooks = &resolve_hooks;
		op->migration = strdup(id);
		op->secrets = json_pack("{s:s}", "control", body_str(row, "secret", ""));
		op_on_instance(op, body_str(row, "instance", ""), false, NULL);
		if (op_job(op, "move-resolve", json_pack("{s:s, s:s}", "id", id, "role", role), NULL, 0, &e) < 0) {
			log_error("cannot resolve the migration %s: %s", id, err_text(&e));
			op_drop(op);
		}
	}
	return 0;
}

/* ---- bulk connections ---- */

static int channel_of_operation(struct api *a, const char *id, const char *channel, const char *secret, int fd,
				struct err *e)
{
	for (struct operation *op = a->ops; op; op = op->next) {
		const char *want = json_string_value(json_object_get(op->secrets, channel));
		int r;

		if (!op->job || !op->migration || strcmp(op->migration, id) != 0)
			continue;
		if (!want || !*want || !secret_equal(want, secret))
			return err_set(e, -EACCES, "the secret is wrong");
		r = job_tell(op->job, &fd, 1, "channel", "name", channel);
		return r < 0 ? err_sys(e, r, "the migration is ending") : 0;
	}
	return -ENOENT;
}

/* Nobody works on it now, but it is written down: a peer that wants to know its state (or tell its own). */
static int channel_of_record(struct api *a, const char *id, const char *channel, const char *secret, int fd,
			     struct err *e)
{
	static const char *const roles[] = { "source", "target" };

	for (size_t i = 0; i < array_len(roles); i++) {
		auto_json *row = NULL;
		struct operation *op;
		const char *want;
		int r;

		if (db_migration_get(a->db, id, roles[i], &row, NULL) < 0)
			continue;
		want = body_str(row, "secret", "");
		if (!*want || strcmp(channel, "control") != 0 || !secret_equal(want, secret))
			return err_set(e, -EACCES, "the secret is wrong");
		r = op_new(a, OP_TASK, "Resolving a migration", &op, e);
		if (r < 0)
			return r;
		op->hooks = &resolve_hooks;
		op->migration = strdup(id);
		op->secrets = json_pack("{s:s}", "control", want);
		op_on_instance(op, body_str(row, "instance", ""), false, NULL);
		r = op_job(op, "move-resolve", json_pack("{s:s, s:s, s:b}", "id", id, "role", roles[i], "told", 1), NULL,
			   0, e);
		if (r >= 0)
			r = job_tell(op->job, &fd, 1, "channel", "name", channel);
		if (r < 0 && !op->job)
			op_drop(op);
		return r;
	}
	/* The word "unknown" is read by the dialler (ARCHITECTURE.md: an answer to "state?"). */
	return err_set(e, -ENOENT, "unknown migration %s", id);
}

int api_channel(struct api *a, const char *id, const char *channel, const char *secret, int fd, struct err *e)
{
	int r = channel_of_operation(a, id, channel, secret, fd, e);

	return r == -ENOENT ? channel_of_record(a, id, channel, secret, fd, e) : r;
}

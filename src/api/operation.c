#include "api/operation.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/parse.h"

#define REMEMBER_US (30 * 1000000ull)

/* A parked GET …/wait. */
struct waiter {
	struct operation *op;
	struct waiter *next;
	struct call call;
	sd_event_source *timer;
};

static const char *status_text(enum op_status s)
{
	switch (s) {
	case OP_PENDING:
		return "Pending";
	case OP_RUNNING:
		return "Running";
	case OP_CANCELLING:
		return "Cancelling";
	case OP_SUCCESS:
		return "Success";
	case OP_CANCELLED:
		return "Cancelled";
	default:
		return "Failure";
	}
}

bool op_final(const struct operation *op)
{
	return op->status >= OP_SUCCESS;
}

json_t *op_json(const struct operation *op)
{
	static const char *const classes[] = { "task", "websocket", "token" };

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:O, s:O?, s:b, s:s, s:s}", "id", op->id, "class",
			 classes[op->cls], "description", op->description, "created_at", op->created_at,
			 "updated_at", op->updated_at, "status", status_text(op->status), "status_code",
			 (int)op->status, "resources", op->resources, "metadata", op->metadata, "may_cancel",
			 op->may_cancel, "err", op->err ? op->err : "", "location", "none");
}

static void op_changed(struct operation *op)
{
	db_time_now(op->updated_at, sizeof(op->updated_at));
	event_send(op->a, "operation", op_json(op));
}

int op_new(struct api *a, enum op_class cls, const char *description, struct operation **ret, struct err *e)
{
	struct operation *op = calloc(1, sizeof(*op));

	if (!op || uuid_make(op->id) < 0 || !(op->description = strdup(description))) {
		free(op);
		return err_set(e, -ENOMEM, "out of memory");
	}
	op->a = a;
	op->cls = cls;
	op->status = OP_RUNNING;
	op->resources = json_object();
	db_time_now(op->created_at, sizeof(op->created_at));
	db_time_now(op->updated_at, sizeof(op->updated_at));
	op->next = a->ops;
	op->prev = &a->ops;
	if (op->next)
		op->next->prev = &op->next;
	a->ops = op;
	*ret = op;
	return 0;
}

static void waiter_free(struct waiter *w)
{
	sd_event_source_disable_unref(w->timer);
	free(w);
}

void op_drop(struct operation *op)
{
	*op->prev = op->next;
	if (op->next)
		op->next->prev = op->prev;
	if (op->hooks && op->hooks->free)
		op->hooks->free(op);
	while (op->waiters) {
		struct waiter *w = op->waiters;

		op->waiters = w->next;
		reply_error(w->call.q, 503, "the daemon is stopping");
		waiter_free(w);
	}
	sd_event_source_disable_unref(op->gone);
	json_decref(op->resources);
	json_decref(op->metadata);
	json_decref(op->secrets);
	free(op->description);
	free(op->err);
	free(op->instance);
	free(op->migration);
	free(op->destination);
	free(op);
}

void op_free_all(struct api *a)
{
	while (a->ops)
		op_drop(a->ops);
}

void op_resource(struct operation *op, const char *kind, const char *fmt, ...)
{
	auto_free char *text = NULL;
	json_t *list = json_object_get(op->resources, kind);
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!list) {
		list = json_array();
		json_object_set_new(op->resources, kind, list);
	}
	if (text)
		json_array_append_new(list, json_string(text));
}

struct operation *op_busy(struct api *a, const char *instance)
{
	for (struct operation *op = a->ops; op; op = op->next)
		if (op->exclusive && !op_final(op) && str_eq(op->instance, instance))
			return op;
	return NULL;
}

int op_on_instance(struct operation *op, const char *name, bool exclusive, struct err *e)
{
	struct operation *other = exclusive ? op_busy(op->a, name) : NULL;

	if (other)
		return err_set(e, -EBUSY, "the instance \"%s\" is busy: %s (operation %s)", name,
			       other->description, other->id);
	op->instance = strdup(name);
	if (!op->instance)
		return err_set(e, -ENOMEM, "out of memory");
	op->exclusive = exclusive;
	op_resource(op, "instances", "/1.0/instances/%s", name);
	return 0;
}

void op_metadata(struct operation *op, json_t *obj)
{
	if (op->metadata)
		json_object_update(op->metadata, obj);
	else
		op->metadata = json_incref(obj);
	json_decref(obj);
	if (!op_final(op))
		op_changed(op);
}

int op_secret(struct operation *op, const char *channel, const char *inside)
{
	char secret[SECRET_LEN + 1];
	json_t *where;

	if (secret_make(secret) < 0)
		return -EIO;
	if (!op->secrets)
		op->secrets = json_object();
	if (!op->metadata)
		op->metadata = json_object();
	where = op->metadata;
	if (inside) {
		where = json_object_get(op->metadata, inside);
		if (!where) {
			where = json_object();
			json_object_set_new(op->metadata, inside, where);
		}
	}
	if (json_object_set_new(op->secrets, channel, json_string(secret)) < 0 ||
	    json_object_set_new(where, channel, json_string(secret)) < 0)
		return -ENOMEM;
	return 0;
}

static int on_gone(sd_event_source *s, uint64_t usec, void *arg)
{
	op_drop(arg);
	return 0;
}

void op_finish(struct operation *op, int code, const char *text)
{
	uint64_t now;

	if (op_final(op))
		return;
	op->status = code == 0 ? OP_SUCCESS : code == 401 ? OP_CANCELLED : OP_FAILURE;
	op->err_code = code;
	if (code) {
		op->err = strdup(text ? text : "");
		if (op->err)
			text_clean(op->err);
		log_warn("operation %s (%s%s%s) failed: %s", op->id, op->description, op->instance ? ", " : "",
			 op->instance ? op->instance : "", text ? text : "");
	} else {
		log_debug("operation %s (%s) done", op->id, op->description);
	}
	op->may_cancel = false;
	op_changed(op);
	while (op->waiters) {
		struct waiter *w = op->waiters;

		op->waiters = w->next;
		reply_sync(&w->call, op_json(op));
		waiter_free(w);
	}
	sd_event_now(op->a->ev, CLOCK_MONOTONIC, &now);
	sd_event_add_time(op->a->ev, &op->gone, CLOCK_MONOTONIC, now + REMEMBER_US, 1000000, on_gone, op);
}

/* ---- its job ---- */

static void on_message(struct job_handle *h, struct msg *m, void *arg)
{
	struct operation *op = arg;

	if (op->hooks && op->hooks->message)
		op->hooks->message(op, m);
}

static void on_metadata(struct job_handle *h, json_t *obj, void *arg)
{
	op_metadata(arg, json_incref(obj));
}

static void on_lifecycle(struct job_handle *h, const char *action, const char *source, void *arg)
{
	struct operation *op = arg;

	event_lifecycle(op->a, action, source);
}

/* Too late for a DELETE, also for one that was answered already. */
static void on_committed(struct job_handle *h, void *arg)
{
	struct operation *op = arg;

	op->may_cancel = false;
	if (op->status == OP_CANCELLING)
		op->status = OP_RUNNING;
	op_changed(op);
}

static void on_ended(struct job_handle *h, int code, const char *text, json_t *result, void *arg)
{
	struct operation *op = arg;
	bool settle = true;

	op->job = NULL;
	if (code && op->status == OP_CANCELLING)
		code = 401;
	if (op->hooks && op->hooks->ended)
		settle = op->hooks->ended(op, code, text, result);
	if (!settle)
		return;
	if (code == 0 && json_object_size(result))
		op_metadata(op, json_incref(result));
	op_finish(op, code, text);
}

int op_job(struct operation *op, const char *verb, json_t *spec, const int *fds, size_t n_fds, struct err *e)
{
	static const struct job_events events = {
		.message = on_message, .metadata = on_metadata, .lifecycle = on_lifecycle,
		.committed = on_committed, .ended = on_ended,
	};
	int r;

	r = spec ? job_start(op->a->ev, op->a->self, op->a->state_dir, verb, spec, fds, n_fds, &events, op,
			     &op->job, e) : err_set(e, -ENOMEM, "out of memory");
	json_decref(spec);
	if (r >= 0)
		event_send(op->a, "operation", op_json(op));
	return r;
}

/* ---- its endpoints ---- */

struct operation *op_find(struct api *a, const char *id)
{
	for (struct operation *op = a->ops; op; op = op->next)
		if (strcmp(op->id, id) == 0)
			return op;
	return NULL;
}

static struct operation *find_or_404(struct call *c)
{
	struct operation *op = op_find(c->a, c->arg[0]);

	if (!op)
		reply_error(c->q, 404, "there is no operation %s", c->arg[0]);
	return op;
}

/* The channel whose secret the request shows; NULL: none. */
static const char *channel_of(struct operation *op, struct http_request *q)
{
	const char *given = http_request_query(q, "secret"), *name, *found = NULL;
	json_t *value;

	if (!given)
		return NULL;
	json_object_foreach(op->secrets, name, value)
		if (secret_equal(json_string_value(value), given))
			found = name;
	return found;
}

static void operation_list(struct call *c)
{
	auto_json *byStatus = json_object();
	int recursion = call_recursion(c);

	for (struct operation *op = c->a->ops; op; op = op->next) {
		char key[16];
		json_t *list;

		snprintf(key, sizeof(key), "%s", status_text(op->status));
		key[0] = (char)(key[0] | 0x20);
		list = json_object_get(byStatus, key);
		if (!list) {
			list = json_array();
			json_object_set_new(byStatus, key, list);
		}
		json_array_append_new(list, recursion ? op_json(op) : json_sprintf("/1.0/operations/%s", op->id));
	}
	reply_sync(c, json_incref(byStatus));
}

static void operation_get(struct call *c)
{
	struct operation *op = find_or_404(c);

	if (op)
		reply_sync(c, op_json(op));
}

static int on_wait_over(sd_event_source *s, uint64_t usec, void *arg)
{
	struct waiter *w = arg, **p;

	for (p = &w->op->waiters; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	reply_sync(&w->call, op_json(w->op));
	waiter_free(w);
	return 0;
}

static void operation_wait(struct call *c)
{
	struct operation *op = op_find(c->a, c->arg[0]);
	const char *text = http_request_query(c->q, "timeout");
	struct waiter *w;
	int64_t timeout = -1;
	uint64_t now;

	/* Whether an operation exists is nothing for those who know no secret of it. */
	if (!c->trusted && (!op || !channel_of(op, c->q))) {
		reply_error(c->q, 403, "not authorized");
		return;
	}
	if (!op) {
		reply_error(c->q, 404, "there is no operation %s", c->arg[0]);
		return;
	}
	if (text && parse_i64(text, 10, &timeout) < 0) {
		reply_error(c->q, 400, "\"%s\" is not a number of seconds", text);
		return;
	}
	if (op_final(op) || timeout == 0) {
		reply_sync(c, op_json(op));
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		reply_error(c->q, 500, "out of memory");
		return;
	}
	w->op = op;
	w->call = (struct call){ .a = c->a, .q = c->q };
	w->next = op->waiters;
	op->waiters = w;
	if (timeout > 0 && timeout < 1000000000) {
		sd_event_now(c->a->ev, CLOCK_MONOTONIC, &now);
		sd_event_add_time(c->a->ev, &w->timer, CLOCK_MONOTONIC, now + (uint64_t)timeout * 1000000, 1000,
				  on_wait_over, w);
	}
}

static void operation_delete(struct call *c)
{
	struct operation *op = find_or_404(c);

	if (!op)
		return;
	if (op_final(op) || (op->cls != OP_TOKEN && !op->may_cancel)) {
		reply_error(c->q, 400, "the operation cannot be cancelled%s",
			    op_final(op) ? ": it has ended" : op->migration ? ": the container has been handed over" : "");
		return;
	}
	if (op->status != OP_CANCELLING) {
		op->status = OP_CANCELLING;
		op_changed(op);
		if (op->hooks && op->hooks->cancel)
			op->hooks->cancel(op);
		else if (op->job)
			job_cancel(op->job);
		else
			op_finish(op, 401, "cancelled");
	}
	reply_sync(c, NULL);
}

static void operation_websocket(struct call *c)
{
	struct operation *op = op_find(c->a, c->arg[0]);
	const char *channel = op ? channel_of(op, c->q) : NULL;

	if (!channel) {
		reply_error(c->q, 403, "not authorized: the operation or its secret is not right");
		return;
	}
	if (op_final(op) || !op->hooks || !op->hooks->websocket) {
		reply_error(c->q, 400, "this operation takes no websocket%s", op_final(op) ? " any more" : "");
		return;
	}
	op->hooks->websocket(op, channel, c->q);
}

const struct route routes_operation[] = {
	{ "GET", "/1.0/operations", ACCESS_TRUSTED, operation_list },
	{ "GET", "/1.0/operations/*", ACCESS_TRUSTED, operation_get },
	{ "DELETE", "/1.0/operations/*", ACCESS_TRUSTED, operation_delete },
	{ "GET", "/1.0/operations/*/wait", ACCESS_SECRET, operation_wait },
	{ "GET", "/1.0/operations/*/websocket", ACCESS_SECRET, operation_websocket },
	{ "GET", "/1.0/events", ACCESS_TRUSTED, event_get },
	{ NULL, NULL, 0, NULL },
};

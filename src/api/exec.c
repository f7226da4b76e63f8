/* …/exec: a job runs the command in the container and gives us our ends of its descriptors; the bytes go
 * between them and the client's websockets here, in the event loop.
 *
 * The command starts when every websocket that carries data is there, so that no output is lost; the
 * operation ends when the command has ended and its output is out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "api/instance.h"
#include "api/running.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"

#define CONNECT_US (10 * 1000000ull) /* for the client to open its websockets */
#define DRAIN_US (2 * 1000000ull)    /* after the command's end, for what it wrote last */
#define QUEUED_MAX (512u << 10)      /* a client this far behind holds the command up */
#define STDIN_MAX (1u << 20)

enum { CH_IN, CH_OUT, CH_ERR, CH_CONTROL, CH_N };
static const char *const channel_names[CH_N] = { "0", "1", "2", "control" };

struct exec;

struct channel {
	struct exec *x;
	int index;
	struct ws *ws;
	bool used;          /* this command has it */
	bool claimed;       /* a websocket is being opened or was */
	int fd;             /* our end; CH_IN of a terminal is the master, used both ways */
	sd_event_source *io;
	struct buf pending; /* CH_IN: from the client, not yet written */
	bool in_eof;        /* the client's input has ended */
	bool out_eof;       /* the command's output has ended */
};

struct exec {
	struct operation *op;
	int refs; /* the operation, and each websocket that is open or opening */
	bool interactive, started, ended;
	int code;
	char *text;
	json_t *spec, *result;
	struct channel ch[CH_N];
	sd_event_source *timer;
};

static void channel_close_fd(struct channel *c)
{
	c->io = sd_event_source_disable_unref(c->io);
	fd_close(&c->fd);
}

static void exec_unref(struct exec *x)
{
	if (--x->refs)
		return;
	for (int i = 0; i < CH_N; i++) {
		channel_close_fd(&x->ch[i]);
		buf_done(&x->ch[i].pending);
	}
	sd_event_source_disable_unref(x->timer);
	json_decref(x->spec);
	json_decref(x->result);
	free(x->text);
	free(x);
}

/* The channel on which output comes. */
static bool channel_is_output(const struct exec *x, int i)
{
	return x->interactive ? i == CH_IN : i == CH_OUT || i == CH_ERR;
}

static void exec_settle(struct exec *x)
{
	struct operation *op = x->op;

	if (!x->ended || !op)
		return;
	for (int i = 0; i < CH_N; i++) {
		struct channel *c = &x->ch[i];

		if (channel_is_output(x, i) && c->used && c->fd >= 0 && !c->out_eof)
			return;
		if (channel_is_output(x, i) && c->ws && ws_queued(c->ws))
			return;
	}
	x->timer = sd_event_source_disable_unref(x->timer);
	x->op = NULL;
	for (int i = 0; i < CH_N; i++) {
		channel_close_fd(&x->ch[i]);
		if (x->ch[i].ws)
			ws_end(x->ch[i].ws);
	}
	if (x->code == 0 && x->result)
		op_metadata(op, json_incref(x->result));
	op_finish(op, x->code, x->text);
}

/* ---- bytes ---- */

static void channel_watch(struct channel *c)
{
	uint32_t want = 0;

	if (c->fd < 0 || !c->io)
		return;
	if (channel_is_output(c->x, c->index) && !c->out_eof && c->ws && ws_queued(c->ws) < QUEUED_MAX)
		want |= EPOLLIN;
	if (c->index == CH_IN && c->pending.len)
		want |= EPOLLOUT;
	sd_event_source_set_io_events(c->io, want);
	sd_event_source_set_enabled(c->io, want ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void stdin_write(struct channel *c)
{
	while (c->pending.len && c->fd >= 0) {
		ssize_t n = write(c->fd, c->pending.data, c->pending.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* The command does not read any more: what the client sends goes nowhere. */
			buf_done(&c->pending);
			if (!c->x->interactive)
				channel_close_fd(c);
			break;
		}
		buf_drop(&c->pending, (size_t)n);
	}
	if (c->in_eof && !c->pending.len && !c->x->interactive)
		channel_close_fd(c);
	if (c->ws)
		ws_pause(c->ws, c->pending.len > STDIN_MAX);
	channel_watch(c);
}

static void output_read(struct channel *c)
{
	char part[32768];

	for (int i = 0; i < 8 && c->fd >= 0 && c->ws && ws_queued(c->ws) < QUEUED_MAX; i++) {
		ssize_t n = read(c->fd, part, sizeof(part));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			/* A terminal whose last user has closed it says EIO. */
			c->out_eof = true;
			if (!c->x->interactive)
				channel_close_fd(c);
			/* The end of a stream is an empty text message, as LXD does it. */
			ws_send(c->ws, WS_FRAME_TEXT, "", 0);
			break;
		}
		ws_send(c->ws, WS_FRAME_BINARY, part, (size_t)n);
	}
	channel_watch(c);
}

static int on_fd(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct channel *c = arg;
	struct exec *x = c->x;

	x->refs++;
	if (revents & EPOLLOUT)
		stdin_write(c);
	if (channel_is_output(x, c->index) && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		output_read(c);
	else if (revents & (EPOLLERR | EPOLLHUP) && !(revents & EPOLLOUT))
		channel_close_fd(c);
	exec_settle(x);
	exec_unref(x);
	return 0;
}

static void channel_fd_set(struct exec *x, int i, int fd)
{
	struct channel *c = &x->ch[i];

	channel_close_fd(c);
	c->fd = fd;
	if (fd < 0)
		return;
	fd_set_nonblock(fd, 1);
	if (sd_event_add_io(x->op->a->ev, &c->io, fd, EPOLLIN, on_fd, c) < 0) {
		fd_close(&c->fd);
		return;
	}
	if (i == CH_IN)
		stdin_write(c);
	else
		channel_watch(c);
}

/* ---- the job ---- */

static void on_job_message(struct operation *op, struct msg *m)
{
	struct exec *x = op->data;

	if (msg_is(m, "pty")) {
		channel_fd_set(x, CH_IN, msg_take_fd(m, 0));
	} else if (msg_is(m, "stdio")) {
		channel_fd_set(x, CH_IN, msg_take_fd(m, 0));
		channel_fd_set(x, CH_OUT, msg_take_fd(m, 1));
		channel_fd_set(x, CH_ERR, msg_take_fd(m, 2));
	}
}

static int on_drain_over(sd_event_source *s, uint64_t usec, void *arg)
{
	struct exec *x = arg;

	/* Something the command left in the background still holds its output open. */
	for (int i = 0; i < CH_N; i++)
		x->ch[i].out_eof = true;
	x->refs++;
	exec_settle(x);
	if (x->op) {
		struct operation *op = x->op;

		/* A client that does not read. */
		x->op = NULL;
		op_finish(op, x->code, x->text);
	}
	exec_unref(x);
	return 0;
}

static void timer_set(struct exec *x, struct api *a, uint64_t us, sd_event_time_handler_t fn)
{
	uint64_t now;

	x->timer = sd_event_source_disable_unref(x->timer);
	sd_event_now(a->ev, CLOCK_MONOTONIC, &now);
	sd_event_add_time(a->ev, &x->timer, CLOCK_MONOTONIC, now + us, 1000, fn, x);
}

/* Has the instance gone to another host meanwhile?  The engine leaves behind what entered from outside, and
 * it was ended together with the original. */
static bool moved_away(struct operation *op, char *text, size_t len)
{
	auto_json *row = NULL;
	const char *where = NULL;
	int own = -1;

	if (db_instance_get(op->a->db, op->instance, &row, NULL) == 0)
		own = (int)json_integer_value(json_object_get(row, "own"));
	if (own != -1 && own != OWN_HANDED)
		return false;
	for (struct operation *o = op->a->ops; o && !where; o = o->next)
		if (o->migration && o->cls == OP_WEBSOCKET && str_eq(o->instance, op->instance))
			where = o->destination ? o->destination : "another host";
	if (!where)
		return false;
	snprintf(text, len, "the instance \"%s\" has moved to %s and runs on there; this command was attached from "
		 "outside and has ended", op->instance, where);
	return true;
}

static bool on_job_ended(struct operation *op, int code, const char *text, json_t *result)
{
	struct exec *x = op->data;
	char moved[256];

	x->ended = true;
	if (moved_away(op, moved, sizeof(moved))) {
		code = 410;
		text = moved;
	}
	x->code = code;
	x->text = strdup(text ? text : "");
	x->result = json_incref(result);
	timer_set(x, op->a, DRAIN_US, on_drain_over);
	x->refs++;
	for (int i = 0; i < CH_N; i++)
		if (channel_is_output(x, i) && x->ch[i].fd >= 0)
			output_read(&x->ch[i]);
	exec_settle(x);
	exec_unref(x);
	return false;
}

static int exec_start(struct exec *x)
{
	struct err e = { 0 };
	int r;

	x->started = true;
	x->timer = sd_event_source_disable_unref(x->timer);
	r = op_job(x->op, "instance-exec", json_incref(x->spec), NULL, 0, &e);
	if (r < 0) {
		struct operation *op = x->op;

		x->op = NULL;
		op_finish(op, http_of_errno(r), err_text(&e));
	}
	return r;
}

static int on_connect_over(sd_event_source *s, uint64_t usec, void *arg)
{
	struct exec *x = arg;
	struct operation *op = x->op;

	if (op && !x->started) {
		x->op = NULL;
		op_finish(op, 400, "the client did not open its websockets within 10 seconds");
	}
	return 0;
}

/* ---- websockets ---- */

static void ws_opened(struct ws *w, void *arg)
{
	struct channel *c = arg;
	struct exec *x = c->x;

	c->ws = w;
	channel_watch(c);
	if (x->started || !x->op)
		return;
	for (int i = 0; i < CH_CONTROL; i++)
		if (x->ch[i].used && !x->ch[i].ws)
			return;
	exec_start(x);
}

static void control(struct exec *x, const void *data, size_t len)
{
	auto_json *m = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
	const char *command = body_str(m, "command", "");
	const json_t *args = json_object_get(m, "args");
	char number[16];

	if (strcmp(command, "window-resize") == 0 && x->ch[CH_IN].fd >= 0 && x->interactive) {
		uint64_t w, h;

		if (parse_u64(body_str(args, "width", ""), 10, &w) == 0 && w < 65536 &&
		    parse_u64(body_str(args, "height", ""), 10, &h) == 0 && h < 65536) {
			struct winsize ws = { .ws_col = (unsigned short)w, .ws_row = (unsigned short)h };

			ioctl(x->ch[CH_IN].fd, TIOCSWINSZ, &ws);
		}
	} else if (strcmp(command, "signal") == 0 && x->op && x->op->job) {
		json_int_t n = json_integer_value(json_object_get(m, "signal"));

		if (n > 0 && n < 65) {
			snprintf(number, sizeof(number), "%d", (int)n);
			job_tell(x->op->job, NULL, 0, "signal", "n", number);
		}
	}
}

static void ws_message(struct ws *w, enum ws_frame kind, const void *data, size_t len, void *arg)
{
	struct channel *c = arg;

	if (c->index == CH_CONTROL) {
		control(c->x, data, len);
		return;
	}
	if (c->index != CH_IN)
		return;
	if (kind == WS_FRAME_TEXT && len == 0) {
		c->in_eof = true;
	} else if (!c->in_eof && buf_add(&c->pending, data, len) < 0) {
		ws_end(w);
		return;
	}
	stdin_write(c);
}

static void ws_drained(struct ws *w, void *arg)
{
	struct channel *c = arg;
	struct exec *x = c->x;

	x->refs++;
	channel_watch(c);
	exec_settle(x);
	exec_unref(x);
}

/* A client that goes away takes its command with it. */
static void ws_closed(struct ws *w, void *arg)
{
	struct channel *c = arg;
	struct exec *x = c->x;

	c->ws = NULL;
	if (x->op && !x->ended) {
		if (x->interactive && c->index == CH_IN) {
			channel_close_fd(c); /* hangs up the terminal */
			c->out_eof = true;
		}
		if (c->index == CH_IN) {
			c->in_eof = true;
			stdin_write(c);
		} else if (channel_is_output(x, c->index)) {
			channel_close_fd(c);
		}
		if ((c->index == CH_CONTROL || (x->interactive && c->index == CH_IN)) && x->op->job)
			job_tell(x->op->job, NULL, 0, "signal", "n", "9");
	} else if (channel_is_output(x, c->index)) {
		c->out_eof = true;
		exec_settle(x);
	}
	exec_unref(x);
}

static void on_websocket(struct operation *op, const char *name, struct http_request *q)
{
	static const struct ws_events events = { .open = ws_opened, .message = ws_message, .drained = ws_drained,
						 .closed = ws_closed };
	struct exec *x = op->data;

	for (int i = 0; i < CH_N; i++) {
		struct channel *c = &x->ch[i];

		if (!c->used || strcmp(channel_names[i], name) != 0)
			continue;
		if (c->claimed) {
			reply_error(q, 400, "this channel is connected already");
			return;
		}
		x->refs++;
		c->claimed = true;
		if (http_respond_websocket(q, &events, c) < 0) {
			c->claimed = false;
			exec_unref(x);
			reply_error(q, 400, "this channel is a websocket");
		}
		return;
	}
	reply_error(q, 404, "there is no channel \"%s\"", name);
}

static void on_free(struct operation *op)
{
	struct exec *x = op->data;

	x->op = NULL;
	exec_unref(x);
}

static const struct op_hooks hooks = {
	.message = on_job_message, .ended = on_job_ended, .websocket = on_websocket, .free = on_free,
};

/* ---- the request ---- */

static int command_check(const json_t *body, struct err *e)
{
	const json_t *command = json_object_get(body, "command"), *env = json_object_get(body, "environment");
	const char *key;
	json_t *one;
	size_t i;

	if (!json_array_size(command))
		return err_set(e, -EINVAL, "no command was given");
	json_array_foreach((json_t *)command, i, one)
		if (!json_is_string(one))
			return err_set(e, -EINVAL, "the command is not a list of strings");
	if (env && !json_is_null(env) && !json_is_object(env))
		return err_set(e, -EINVAL, "\"environment\" is not an object");
	json_object_foreach((json_t *)env, key, one)
		if (!json_is_string(one))
			return err_set(e, -EINVAL, "the value of the variable %s is not a string", key);
	if (json_is_true(json_object_get(body, "record-output")))
		return err_set(e, -EINVAL, "recording the output is not supported yet");
	return 0;
}

static json_t *spec_make(const json_t *body, const char *name, bool detached)
{
	const json_t *env = json_object_get(body, "environment");

	return json_pack("{s:s, s:O, s:o, s:I, s:I, s:s, s:b, s:I, s:I, s:b}", "name", name, "command",
			 json_object_get(body, "command"), "environment",
			 json_is_object(env) ? json_copy((json_t *)env) : json_object(), "user",
			 json_integer_value(json_object_get(body, "user")), "group",
			 json_integer_value(json_object_get(body, "group")), "cwd", body_str(body, "cwd", ""),
			 "interactive", !detached && json_is_true(json_object_get(body, "interactive")), "width",
			 json_integer_value(json_object_get(body, "width")), "height",
			 json_integer_value(json_object_get(body, "height")), "detached", detached);
}

static struct exec *exec_new(struct operation *op)
{
	struct exec *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->refs = 1;
	x->op = op;
	for (int i = 0; i < CH_N; i++)
		x->ch[i] = (struct channel){ .x = x, .index = i, .fd = -1 };
	op->data = x;
	op->hooks = &hooks;
	return x;
}

static int exec_attached(struct operation *op, struct call *c, struct err *e)
{
	struct exec *x = exec_new(op);

	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->spec = spec_make(c->body, c->arg[0], false);
	if (!x->spec)
		return err_set(e, -EINVAL, "the command is not valid text");
	x->interactive = json_is_true(json_object_get(x->spec, "interactive"));
	op->metadata = json_pack("{s:O, s:O, s:b}", "command", json_object_get(x->spec, "command"), "environment",
				 json_object_get(x->spec, "environment"), "interactive", x->interactive);
	for (int i = 0; i < CH_N; i++) {
		x->ch[i].used = i == CH_IN || i == CH_CONTROL || !x->interactive;
		if (x->ch[i].used && op_secret(op, channel_names[i], "fds") < 0)
			return err_set(e, -EIO, "no random numbers");
	}
	timer_set(x, c->a, CONNECT_US, on_connect_over);
	return 0;
}

void instance_exec(struct call *c)
{
	bool attached = json_is_true(json_object_get(c->body, "wait-for-websocket"));
	auto_json *row = NULL;
	struct operation *op = NULL;
	struct err e = { 0 };
	int r = instance_mine(c->a, c->arg[0], &row, &e);

	if (r >= 0)
		r = command_check(c->body, &e);
	if (r >= 0 && !running_is(c->a, c->arg[0]))
		r = err_set(&e, -EINVAL, "the instance \"%s\" is not running", c->arg[0]);
	if (r >= 0)
		r = op_new(c->a, attached ? OP_WEBSOCKET : OP_TASK, "Executing command", &op, &e);
	if (r >= 0)
		r = op_on_instance(op, c->arg[0], false, &e);
	if (r >= 0)
		r = attached ? exec_attached(op, c, &e) :
			       op_job(op, "instance-exec", spec_make(c->body, c->arg[0], true), NULL, 0, &e);
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	op->may_cancel = !attached;
	reply_operation(c, op);
}

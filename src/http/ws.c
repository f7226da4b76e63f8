/* Websockets of the server: MHD gives the plain socket after the upgrade, wslay frames it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "http/request.h"
#include "http/wskey.h"

#define MESSAGE_MAX (1u << 20)
#define QUEUE_MAX (64u << 20) /* a peer that does not read is cut off */

struct ws_ticket {
	struct http_server *s;
	struct ws_events ev;
	void *arg;
	bool opened;
};

struct ws {
	struct http_server *s;
	struct ws *next, **prev;
	struct MHD_UpgradeResponseHandle *urh;
	int fd;
	sd_event_source *io, *later;
	wslay_event_context_ptr ctx;
	struct buf early;
	struct ws_events ev;
	void *arg;
	bool paused, dead, ending, busy;
};

bool http_request_is_websocket(struct http_request *q)
{
	const char *up = http_request_header(q, "Upgrade");

	return up && strcasecmp(up, "websocket") == 0 && http_request_header(q, "Sec-WebSocket-Key");
}

static void ws_destroy(struct ws *w)
{
	if (w->ev.closed)
		w->ev.closed(w, w->arg);
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	sd_event_source_disable_unref(w->io);
	sd_event_source_disable_unref(w->later);
	wslay_event_context_free(w->ctx);
	/* MHD owns the socket. */
	MHD_upgrade_action(w->urh, MHD_UPGRADE_ACTION_CLOSE);
	server_kick(w->s);
	buf_done(&w->early);
	free(w);
}

/* What to wait for next; or that it is over (freed from the loop, never below a caller's feet). */
static void ws_settle(struct ws *w)
{
	uint32_t want = 0;

	if (wslay_event_get_close_received(w->ctx) && !wslay_event_want_write(w->ctx))
		w->dead = true;
	if (w->ending && wslay_event_get_close_sent(w->ctx) && !wslay_event_want_write(w->ctx))
		w->dead = true;
	if (w->dead) {
		sd_event_source_set_enabled(w->io, SD_EVENT_OFF);
		sd_event_source_set_enabled(w->later, SD_EVENT_ONESHOT);
		return;
	}
	if (wslay_event_want_read(w->ctx) && !w->paused)
		want |= EPOLLIN;
	if (wslay_event_want_write(w->ctx))
		want |= EPOLLOUT;
	sd_event_source_set_io_events(w->io, want);
	sd_event_source_set_enabled(w->later, w->early.len && !w->paused ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *w = arg;
	ssize_t n;

	if (w->paused) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (w->early.len) {
		n = (ssize_t)(len < w->early.len ? len : w->early.len);
		memcpy(buf, w->early.data, (size_t)n);
		buf_drop(&w->early, (size_t)n);
		return n;
	}
	do
		n = recv(w->fd, buf, len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n < 0 && errno == EAGAIN) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	w->dead = true;
	wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *w = arg;
	ssize_t n;

	do
		n = send(w->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == EAGAIN) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	w->dead = true;
	wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	struct ws *w = arg;

	if (m->opcode != WSLAY_TEXT_FRAME && m->opcode != WSLAY_BINARY_FRAME)
		return;
	if (w->ev.message && !w->ending)
		w->ev.message(w, m->opcode == WSLAY_TEXT_FRAME ? WS_FRAME_TEXT : WS_FRAME_BINARY, m->msg,
			      m->msg_length, w->arg);
}

static void ws_work(struct ws *w, bool in)
{
	bool had = wslay_event_want_write(w->ctx);

	w->busy = true;
	if (in && !w->dead && wslay_event_recv(w->ctx) != 0)
		w->dead = true;
	if (!w->dead && wslay_event_want_write(w->ctx) && wslay_event_send(w->ctx) != 0)
		w->dead = true;
	w->busy = false;
	if (had && !w->dead && !w->ending && !wslay_event_want_write(w->ctx) && w->ev.drained)
		w->ev.drained(w, w->arg);
	ws_settle(w);
}

static int on_io(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	struct ws *w = arg;

	if (revents & EPOLLERR)
		w->dead = true;
	/* A peer that is gone while we do not read it shows as a hang-up. */
	if ((revents & EPOLLHUP) && w->paused)
		w->dead = true;
	ws_work(w, revents & (EPOLLIN | EPOLLHUP));
	return 0;
}

static int on_later(sd_event_source *src, void *arg)
{
	struct ws *w = arg;

	if (w->dead)
		ws_destroy(w);
	else
		ws_work(w, true);
	return 0;
}

int ws_send(struct ws *w, enum ws_frame kind, const void *data, size_t len)
{
	struct wslay_event_msg m = { .opcode = kind == WS_FRAME_TEXT ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
				     .msg = data, .msg_length = len };

	if (w->dead || w->ending)
		return -EPIPE;
	if (wslay_event_get_queued_msg_length(w->ctx) > QUEUE_MAX) {
		w->dead = true;
		ws_settle(w);
		return -ENOBUFS;
	}
	if (wslay_event_queue_msg(w->ctx, &m) != 0)
		return -EPIPE;
	if (!w->busy) {
		if (wslay_event_send(w->ctx) != 0)
			w->dead = true;
		ws_settle(w);
	}
	return 0;
}

size_t ws_queued(struct ws *w)
{
	return wslay_event_get_queued_msg_length(w->ctx);
}

void ws_pause(struct ws *w, bool pause)
{
	w->paused = pause;
	if (!w->busy)
		ws_settle(w);
}

void ws_end(struct ws *w)
{
	if (w->ending || w->dead)
		return;
	w->ending = true;
	wslay_event_queue_close(w->ctx, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
	if (!w->busy) {
		if (wslay_event_send(w->ctx) != 0)
			w->dead = true;
		ws_settle(w);
	}
}

void ws_end_all(struct http_server *s)
{
	while (s->sockets) {
		ws_end(s->sockets);
		ws_destroy(s->sockets);
	}
}

static int ws_start(struct ws *w)
{
	static const struct wslay_event_callbacks cb = {
		.recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message,
	};
	int r;

	if (wslay_event_context_server_init(&w->ctx, &cb, w) != 0)
		return -ENOMEM;
	wslay_event_config_set_max_recv_msg_length(w->ctx, MESSAGE_MAX);
	r = fd_set_nonblock(w->fd, 1);
	if (r >= 0)
		r = sd_event_add_io(w->s->ev, &w->io, w->fd, EPOLLIN, on_io, w);
	if (r >= 0)
		r = sd_event_add_defer(w->s->ev, &w->later, on_later, w);
	if (r < 0) {
		sd_event_source_disable_unref(w->io);
		wslay_event_context_free(w->ctx);
	}
	return r;
}

static void on_upgrade(void *arg, struct MHD_Connection *c, void *con_cls, const char *extra, size_t extra_len,
		       MHD_socket sock, struct MHD_UpgradeResponseHandle *urh)
{
	struct ws_ticket *t = arg;
	struct ws *w = calloc(1, sizeof(*w));

	if (!w || buf_add(&w->early, extra, extra_len) < 0)
		goto fail;
	w->s = t->s;
	w->urh = urh;
	w->fd = sock;
	w->ev = t->ev;
	w->arg = t->arg;
	if (ws_start(w) < 0)
		goto fail;
	w->next = w->s->sockets;
	w->prev = &w->s->sockets;
	if (w->next)
		w->next->prev = &w->next;
	w->s->sockets = w;
	t->opened = true;
	if (w->ev.open)
		w->ev.open(w, w->arg);
	ws_settle(w);
	return;
fail:
	if (w)
		buf_done(&w->early);
	free(w);
	MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
}

struct MHD_Response *ws_response(struct http_request *q, const struct ws_events *events, void *arg,
				 struct http_server *s, struct ws_ticket **ret)
{
	const char *key = http_request_header(q, "Sec-WebSocket-Key");
	const char *version = http_request_header(q, "Sec-WebSocket-Version");
	struct MHD_Response *r;
	struct ws_ticket *t;
	char accept[WSKEY_LEN + 1];

	if (!http_request_is_websocket(q) || !version || strcmp(version, "13") != 0 || wskey_accept(key, accept) < 0)
		return NULL;
	t = calloc(1, sizeof(*t));
	r = t ? MHD_create_response_for_upgrade(on_upgrade, t) : NULL;
	if (!r) {
		free(t);
		return NULL;
	}
	*t = (struct ws_ticket){ s, *events, arg, false };
	MHD_add_response_header(r, "Upgrade", "websocket");
	MHD_add_response_header(r, "Sec-WebSocket-Accept", accept);
	*ret = t;
	return r;
}

void ws_ticket_done(struct ws_ticket *t)
{
	if (t && !t->opened && t->ev.closed)
		t->ev.closed(NULL, t->arg);
	free(t);
}

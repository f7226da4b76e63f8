/* client - requests to a daemon, over its unix socket or HTTPS, and websockets (client side).
 *
 * Blocking, for the client program and for jobs (never in the daemon's loop).  The server is known by
 * its very certificate, not by a chain: what it presents must be byte for byte the one that is pinned.
 * Written by builder CLI; a static library of its own (dep_http_client) that needs base only. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct http_client;

struct http_client_options {
	const char *address;    /* "unix:PATH" or "https://HOST:PORT" */
	const char *cert_path;  /* ours, PEM files; NULL: none is presented */
	const char *key_path;
	const char *server_pem; /* what the server must present; required with https */
};

/* Connects at the first request. */
int http_client_new(const struct http_client_options *o, struct http_client **ret, struct err *e);
struct http_client *http_client_free(struct http_client *c);
const char *http_client_address(const struct http_client *c);

/* One request.  body: NULL or borrowed.  timeout_s: 0 = for ever.  0 when an answer in JSON came, whatever
 * its status says; *ret_body is the whole envelope.  -ECONNREFUSED … when none came. */
int http_client_request(struct http_client *c, const char *method, const char *path, const json_t *body,
			int timeout_s, int *ret_status, json_t **ret_body, struct err *e);

/* The same with a file as the body (from its current position) and headers "Name: value". */
typedef void (*http_progress_fn)(uint64_t done, uint64_t total, void *arg);
int http_client_upload(struct http_client *c, const char *path, const char *const *headers, size_t n_headers,
		       int fd, http_progress_fn progress, void *arg, int *ret_status, json_t **ret_body,
		       struct err *e);

struct http_ws;

/* Connects and upgrades (at most 10 s). -EACCES: the server refused; its sentence is in e. */
int http_ws_open(const struct http_client *c, const char *path, struct http_ws **ret, struct err *e);
struct http_ws *http_ws_free(struct http_ws *ws);

/* For poll(): the descriptor (non-blocking) and what to wait for. */
int http_ws_fd(const struct http_ws *ws);
short http_ws_events(const struct http_ws *ws);
/* Takes what has come and sends what is queued.  `message` is called for every whole message. 1: open,
 * 0: closed by the other side (all its messages have been delivered), negative: broken. */
typedef void (*http_ws_message_fn)(struct http_ws *ws, bool text, const void *data, size_t len, void *arg);
int http_ws_process(struct http_ws *ws, http_ws_message_fn message, void *arg);
/* Queues a message (copied); http_ws_process sends it.  */
int http_ws_send(struct http_ws *ws, bool text, const void *data, size_t len);
size_t http_ws_queued(const struct http_ws *ws); /* bytes not yet sent */
/* Says goodbye (a close frame, best effort, at most 1 s). */
void http_ws_close(struct http_ws *ws);

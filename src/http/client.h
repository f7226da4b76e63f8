/* client - requests to a godwitd (or LXD) over its unix socket or HTTPS, blocking.  Used by the client
 * program and by jobs; links nothing of the server. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct http_endpoint {
	const char *unix_path;      /* NULL: HTTPS */
	const char *host;           /* name or address, IPv6 without brackets */
	uint16_t port;
	const char *cert_file, *key_file; /* the client's own (PEM files); NULL: none offered */
	const char *pin_pem;        /* the server's certificate must be exactly this one; NULL: whichever */
	int timeout_s;              /* for connecting; 0: 10 */
};

/* "https://host:port/path", "host:port", "host", "[v6]:port" → host (malloc'd), port (8443 if not said)
 * and where the path begins (points into url; "" when there is none). */
int http_url_parse(const char *url, char **ret_host, uint16_t *ret_port, const char **ret_path, struct err *e);

struct http_client;
int http_client_new(const struct http_endpoint *ep, struct http_client **ret, struct err *e);
struct http_client *http_client_free(struct http_client *c);

/* Asked some times a second, and after every signal, while a request is under way: true ends it, with -ECANCELED.
 * NULL: nobody is asked (as at first). */
void http_client_stop_when(struct http_client *c, bool (*stop)(void *arg), void *arg);

/* One request; body NULL: none.  *ret is the whole envelope (caller's).  An envelope of type "error" is a
 * failure: the sentence is the server's, the code -ENOENT 404, -EACCES 401 and 403, -EEXIST 409,
 * -EINVAL 400, -ESTALE 412, else -EIO; -ECONNREFUSED and the like when nobody answers. */
int http_request_json(struct http_client *c, const char *method, const char *path, const json_t *body,
		      json_t **ret, struct err *e);
/* The same, giving only "metadata" of a sync answer or of an async one. */
int http_metadata(struct http_client *c, const char *method, const char *path, const json_t *body,
		  json_t **ret, struct err *e);

/* Sends a file as the body (fd from its start). headers: "Name: value", NULL-ended, may be NULL.
 * progress may be NULL; it returns non-zero to abort. */
typedef int (*http_progress)(uint64_t done, uint64_t total, void *arg);
int http_upload(struct http_client *c, const char *method, const char *path, int fd, const char *const *headers,
		http_progress progress, void *arg, json_t **ret, struct err *e);
/* Writes a raw body to fd (a JSON error envelope becomes the error). */
int http_download(struct http_client *c, const char *path, int fd, http_progress progress, void *arg,
		  struct err *e);

/* The certificate the server showed at the last request, PEM; NULL before or over a unix socket. */
const char *http_client_server_cert(const struct http_client *c);

/* Waits by GET …/wait for an operation's end (path "/1.0/operations/UUID", also with a secret's query).
 * *ret: the operation object. Its failure is an error with its sentence. timeout_s -1: for ever. */
int http_operation_wait(struct http_client *c, const char *path, int timeout_s, json_t **ret, struct err *e);

/* ---- websockets ---- */
struct ws_client;
enum ws_kind { WS_TEXT = 1, WS_BINARY = 2 };

int ws_client_open(const struct http_endpoint *ep, const char *path, struct ws_client **ret, struct err *e);
/* Says goodbye (best effort) and frees; NULL in, NULL out. */
struct ws_client *ws_client_free(struct ws_client *w);
/* Whole messages; blocks until it is written. */
int ws_client_send(struct ws_client *w, enum ws_kind kind, const void *data, size_t len, struct err *e);
/* 1: a message (*ret malloc'd, NUL behind it; an empty one has *ret_len 0); 0: the server closed;
 * -EAGAIN: nothing whole within timeout_ms (-1: for ever). Pings are answered inside. */
int ws_client_recv(struct ws_client *w, int timeout_ms, enum ws_kind *ret_kind, char **ret, size_t *ret_len,
		   struct err *e);
/* For a poll loop of the caller's: when the fd is readable, or always once after the opening, call
 * ws_client_recv with timeout 0 until it returns -EAGAIN. */
int ws_client_fd(const struct ws_client *w);

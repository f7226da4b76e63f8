/* server - HTTP on a unix socket and behind TLS, in one sd-event loop; knows nothing of containers.
 *
 * libmicrohttpd parses; TLS is terminated here by OpenSSL (shared facts: MHD's own TLS upgrade collapses
 * to tiny writes) and pumped into MHD by socket pairs.  Everything runs in the loop's thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "http/cert.h"

struct sd_event;
struct http_server;
struct http_request;

/* Who is at the other end. */
struct http_peer {
	bool local;                            /* by the unix socket: root or its group */
	char fingerprint[FINGERPRINT_LEN + 1]; /* of the certificate shown; "" when none */
	char *cert_pem;                        /* NULL when none */
	char address[64];                      /* for the log */
};

enum http_body {
	HTTP_BODY_JSON,  /* at most HTTP_JSON_MAX, an object; none at all is NULL */
	HTTP_BODY_FILES, /* to files in the folder given to http_request_files_to */
};
#define HTTP_JSON_MAX (4u << 20)

struct http_handler {
	/* The head has come.  May answer at once (then the body is ignored). */
	enum http_body (*begin)(struct http_request *q, void *arg);
	/* The body has come.  Whoever does not answer before returning answers later. */
	void (*handle)(struct http_request *q, void *arg);
	/* A connection that offered the bulk protocol: nothing is consumed of it; fd is the callee's. */
	void (*bulk)(int fd, const char *address, void *arg);
};

int http_server_new(struct sd_event *ev, const char *crt_path, const char *key_path,
		    const struct http_handler *h, void *arg, struct http_server **ret, struct err *e);
struct http_server *http_server_free(struct http_server *s);
/* Mode 0660, group `group` where there is one. Replaces a stale socket file. */
int http_server_listen_unix(struct http_server *s, const char *path, const char *group, struct err *e);
/* "ADDR:PORT", "[V6]:PORT", ":PORT", "ADDR" (8443); NULL or "": stops. The old one ends only when the new works.
 * early: the address may come later (that of a bridge which is not yet up when the daemon starts). */
int http_server_listen_tls(struct http_server *s, const char *address, bool early, struct err *e);
struct sd_event *http_server_event(struct http_server *s);

/* ---- a request ---- */
const char *http_request_method(const struct http_request *q);
const char *http_request_path(const struct http_request *q);   /* decoded by MHD, no query */
const char *http_request_query(struct http_request *q, const char *key);  /* NULL: not there */
const char *http_request_header(struct http_request *q, const char *name);
const struct http_peer *http_request_peer(const struct http_request *q);
/* NULL: there was no body. Borrowed. */
const json_t *http_request_body(const struct http_request *q);
/* A slot for the handler's own; freed by fn at the end of the request. */
void http_request_set_data(struct http_request *q, void *data, void (*fn)(void *));
void *http_request_data(const struct http_request *q);

/* In begin(): a smaller limit than HTTP_JSON_MAX. */
void http_request_limit(struct http_request *q, size_t max_bytes);
/* To be called in begin() before returning HTTP_BODY_FILES. A multipart/form-data body gives a file per
 * part (at most 2), any other body one file named "". Larger than max_bytes: 413. */
int http_request_files_to(struct http_request *q, const char *folder, uint64_t max_bytes);
/* The path of the part's file, which is from now on the caller's to remove (malloc'd); NULL: none. */
char *http_request_take_file(struct http_request *q, const char *part, char **ret_filename);

/* ---- the answer: exactly one ---- */
/* Takes body. headers: pairs, NULL-ended, may be NULL. */
void http_respond_json(struct http_request *q, unsigned status, json_t *body_taken, const char *const *headers);
/* Takes fd; sends from its start to its end. */
void http_respond_fd(struct http_request *q, unsigned status, int fd_taken, const char *const *headers);
bool http_request_answered(const struct http_request *q);

/* ---- websockets ---- */
struct ws;
enum ws_frame { WS_FRAME_TEXT = 1, WS_FRAME_BINARY = 2 };

struct ws_events {
	void (*open)(struct ws *w, void *arg);
	void (*message)(struct ws *w, enum ws_frame kind, const void *data, size_t len, void *arg);
	/* All that was queued has been written. */
	void (*drained)(struct ws *w, void *arg);
	/* Exactly once; w is freed afterwards (w NULL: it never opened). */
	void (*closed)(struct ws *w, void *arg);
};

bool http_request_is_websocket(struct http_request *q);
/* The answer is a websocket.  -EINVAL: it was not asked for in a valid way; answer something else. */
int http_respond_websocket(struct http_request *q, const struct ws_events *events, void *arg);

int ws_send(struct ws *w, enum ws_frame kind, const void *data, size_t len);
size_t ws_queued(struct ws *w);          /* messages' bytes not yet written */
void ws_pause(struct ws *w, bool pause); /* stop reading from the peer (a few KiB may still come) */
void ws_end(struct ws *w);               /* close after what is queued; `closed` follows */

/* remote - a daemon the client talks to. */
#pragma once
#include <jansson.h>

#include "base/err.h"
#include "cli/conf.h"
#include "http/client.h"

struct remote;

int remote_open(struct conf *c, const char *name, struct remote **ret, struct err *e);
struct remote *remote_free(struct remote *r);
static inline void remote_cleanup(struct remote **r)
{
	remote_free(*r);
}
#define auto_remote __attribute__((cleanup(remote_cleanup))) struct remote

const char *remote_name(const struct remote *r);
const char *remote_addr(const struct remote *r); /* "unix:PATH" or "https://HOST:PORT" */
struct http_client *remote_http(struct remote *r);
const struct http_endpoint *remote_endpoint(const struct remote *r);
/* Why nobody answered, and what to do; `code` and e are a failed request's.  Returns the code, another one maybe. */
int remote_unreached(int code, struct err *e); /* the same where no remote is there yet */
int remote_explain(const struct remote *r, int code, struct err *e);

/* One request whose path is made by printf (names in it must have been checked: conf_split).  body is
 * taken, may be NULL.  An operation that the server starts is waited for, with its progress shown; *ret
 * (may be NULL) is then its last metadata, else the answer's metadata.  Borrow nothing: *ret is owned. */
int remote_call(struct remote *r, const char *method, json_t *body_taken, json_t **ret, struct err *e,
		const char *path, ...) __attribute__((format(printf, 6, 7)));

/* The same without waiting: *ret is the operation object. */
int remote_start(struct remote *r, const char *method, json_t *body_taken, json_t **ret_op, struct err *e,
		 const char *path, ...) __attribute__((format(printf, 6, 7)));
/* Waits for its end, and shows its progress.  ^C asks for its cancelling; another one ends the waiting.  *ret (may be NULL) is the whole operation.  Its failure is an error with its sentence. */
int remote_wait(struct remote *r, const char *id, json_t **ret_op, struct err *e);
/* One look, at most timeout_s long: *ret_op as it is now.  -ECANCELED: ^C came meanwhile. */
int remote_look(struct remote *r, const char *id, int timeout_s, json_t **ret_op, struct err *e);

/* Asks for an operation's end.  -EINVAL: it is too late for that, or it ended meanwhile. */
int remote_cancel(struct remote *r, const char *id, struct err *e);

static inline void json_cleanup(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(json_cleanup))) json_t

/* The line of progress on the terminal: every "…_progress" of the metadata. Nothing when stderr is none. */
void progress_show(const json_t *metadata);
void progress_text(const char *text);
void progress_clear(void);

/* core - what the files of the API share; private to this room. */
#pragma once
#include <systemd/sd-event.h>

#include "api/api.h"
#include "base/mem.h"
#include "job/job.h"

#define API_VERSION "1.0"
#define PATH_ARGS 3

struct operation;
struct runner;
struct listener;

struct api {
	sd_event *ev;
	struct db *db;
	struct http_server *http;
	char *state_dir, *run_dir, *self, *listen_override;
	char *crt_pem, crt_fp[FINGERPRINT_LEN + 1];
	struct operation *ops;
	struct runner *runners;
	struct listener *listeners;
	sd_event_source *recover_timer;
	int networks_pending; /* at the start */
};

static inline void json_cleanup_(json_t **j)
{
	json_decref(*j);
}
#define auto_json __attribute__((cleanup(json_cleanup_))) json_t

/* One call: the request and the parts of its path that the pattern left open. */
struct call {
	struct api *a;
	struct http_request *q;
	const json_t *body; /* NULL: none */
	char *arg[PATH_ARGS];
	bool trusted;
};

enum access {
	ACCESS_TRUSTED,
	ACCESS_OPEN,   /* the handler decides what the untrusted see */
	ACCESS_SECRET, /* also whoever knows the operation's secret; the handler checks */
};

struct route {
	const char *method;
	const char *pattern; /* "*" one segment, "**" at the end: the rest */
	enum access access;
	void (*fn)(struct call *c);
};

/* Ended by an entry without method. */
extern const struct route routes_server[], routes_certificate[], routes_image[], routes_instance[],
	routes_profile[], routes_network[], routes_pool[], routes_operation[];

extern const struct http_handler api_http_handler;

/* ---- reply.c ---- */
void reply_sync(struct call *c, json_t *metadata_taken);
void reply_created(struct call *c, const char *location_fmt, ...) __attribute__((format(printf, 2, 3)));
void reply_error(struct http_request *q, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The HTTP status of an errno and the sentence of e. */
void reply_err(struct call *c, const struct err *e);
int http_of_errno(int code);
/* 202 with the operation. */
void reply_operation(struct call *c, struct operation *op);
/* 0, 1 or 2. */
int call_recursion(struct call *c);
/* A list of objects as they are (recursion), or as "PREFIX/KEY-value" strings. list taken. */
void reply_list(struct call *c, json_t *list_taken, const char *prefix, const char *key);
const char *body_str(const json_t *body, const char *key, const char *dflt);

/* ---- event.c ---- */
void event_send(struct api *a, const char *type, json_t *metadata_taken);
void event_lifecycle(struct api *a, const char *action, const char *source);
void event_done(struct api *a);
extern void event_get(struct call *c);

/* ---- small things ---- */
/* Replaces what is not UTF-8 by "?": sentences quote foreign bytes, and JSON cannot carry those. */
void text_clean(char *s);
#define UUID_LEN 36
#define SECRET_LEN 64
int uuid_make(char ret[UUID_LEN + 1]);
int secret_make(char ret[SECRET_LEN + 1]);
bool secret_equal(const char *a, const char *b);

/* api - the REST API: routes, operations, events, and what the daemon knows of running containers.
 *
 * One object per daemon, used in the event loop's thread only.  Requests are answered from the database and
 * run/; all that takes time becomes a job and an operation. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "db/db.h"
#include "http/server.h"

struct sd_event;

struct api_options {
	const char *state_dir, *run_dir;
	const char *self;      /* path of godwitd, for jobs */
	const char *listen;    /* --listen: overrides core.https_address; NULL */
	const char *crt_path, *key_path;
};

struct api;

/* Makes STATE/tmp, the server's certificate and the HTTP server (not yet listening). */
/* of: only its `bulk` is used, with the api as arg; may be NULL. */
int api_new(struct sd_event *ev, struct db *db, const struct api_options *o, const struct http_handler *of,
	    struct api **ret, struct err *e);
struct api *api_free(struct api *a);
/* Listens on the unix socket and, as configured, on HTTPS (a failure of the latter is logged, not fatal). */
int api_listen(struct api *a, const char *socket, struct err *e);

/* Takes up what is running, removes half-made instances, starts networks, then instances that are to run,
 * then what resolves unfinished migrations. Everything happens by jobs after this has returned. */
int api_recover(struct api *a, struct err *e);

struct http_server *api_http(struct api *a);
struct db *api_db(struct api *a);
struct sd_event *api_event(struct api *a);

/* A bulk connection said this hello: the job that it is for gets fd as "channel name=CHANNEL".  fd stays the
 * caller's.  -ENOENT, -EACCES (wrong secret): the sentence is for the dialler. */
int api_channel(struct api *a, const char *id, const char *channel, const char *secret, int fd, struct err *e);

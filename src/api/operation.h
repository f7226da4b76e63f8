/* operation - background work that clients can see, wait for and cancel. Lives in memory only. */
#pragma once
#include "api/core.h"

enum op_class { OP_TASK, OP_WEBSOCKET, OP_TOKEN };

enum op_status {
	OP_PENDING = 105, OP_RUNNING = 103, OP_CANCELLING = 104, OP_SUCCESS = 200, OP_FAILURE = 400,
	OP_CANCELLED = 401,
};

struct op_hooks {
	/* A message of the job that is not for every operation. */
	void (*message)(struct operation *op, struct msg *m);
	/* The job has ended (code 0: well), before the operation is settled. Returning false keeps the
	 * operation running: op_finish must be called later. */
	bool (*ended)(struct operation *op, int code, const char *text, json_t *result);
	/* A websocket with a valid secret: answers the request. */
	void (*websocket)(struct operation *op, const char *channel, struct http_request *q);
	/* DELETE: in place of cancelling the job. */
	void (*cancel)(struct operation *op);
	/* Last of all. */
	void (*free)(struct operation *op);
};

struct waiter;

struct operation {
	struct api *a;
	struct operation *next, **prev;
	char id[UUID_LEN + 1];
	enum op_class cls;
	enum op_status status;
	char *description, *err;
	int err_code; /* HTTP */
	char created_at[32], updated_at[32];
	json_t *resources, *metadata;
	json_t *secrets;     /* channel -> secret; NULL: none */
	char *instance;      /* the instance it works on, NULL: none */
	bool exclusive;      /* no other exclusive one on this instance */
	bool may_cancel;
	char *migration;     /* id of the migration it serves; NULL */
	char *destination;   /* of a move, in the words of its client; NULL */
	struct job_handle *job;
	const struct op_hooks *hooks;
	void *data;
	struct waiter *waiters;
	sd_event_source *gone; /* timer: forgotten some seconds after its end */
};

/* With no waiters and no job yet; status running. */
int op_new(struct api *a, enum op_class cls, const char *description, struct operation **ret, struct err *e);
void op_resource(struct operation *op, const char *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* -EBUSY: another exclusive operation works on it. */
int op_on_instance(struct operation *op, const char *name, bool exclusive, struct err *e);
/* spec is taken; fds stay ours. A failure leaves the operation failed (it can still be replied). */
int op_job(struct operation *op, const char *verb, json_t *spec_taken, const int *fds, size_t n_fds,
	   struct err *e);
/* Merges and tells the listeners. */
void op_metadata(struct operation *op, json_t *obj_taken);
/* code 0: success; 401: cancelled; else failed. */
void op_finish(struct operation *op, int code, const char *text);
/* Never shown to anybody: forget it. */
void op_drop(struct operation *op);
/* A new random secret for a channel, also put into metadata at "path" ("fds" or NULL for the top). */
int op_secret(struct operation *op, const char *channel, const char *inside);

json_t *op_json(const struct operation *op);
struct operation *op_find(struct api *a, const char *id);
bool op_final(const struct operation *op);
/* The exclusive operation on this instance; NULL. */
struct operation *op_busy(struct api *a, const char *instance);
void op_free_all(struct api *a);

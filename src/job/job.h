/* job - work that takes time runs in a process of its own.
 *
 * `godwitd` has one event loop and never blocks: every call into liblxc, every unpacking, rsync or
 * migration is a *job*: godwitd re-executed as `godwitd job VERB`, running ordinary blocking code.
 * A job that crashes hurts only its own operation.  Jobs open the database themselves (SQLite in WAL
 * mode, busy timeout 10 s), so that what must be durable before a step is written by who takes it.
 *
 * The daemon and a job talk by base/msg packets on descriptor 3 (JOB_FD) of the job:
 *   daemon -> job:  "begin json=…"          the first message; its descriptors are the job's
 *                   "cancel"                the operation is cancelled: undo and fail
 *                   anything verb-specific  ("signal n=15", "channel name=mem" + fd)
 *   job -> daemon:  "metadata json=…"       merged into the operation's metadata, event sent
 *                   "resource …"            verb-specific
 *                   "lifecycle action=… source=…"   a lifecycle event to send
 *                   "committed"             no "cancel" is heeded any more, also one that was on its way
 *                   "done json=…"           success; json becomes the operation's last metadata
 *                   "failed code=HTTP text=…"       the operation's error
 * A job that ends without "done" has failed.  When descriptor 3 closes, the daemon is gone: a job
 * that can be undone undoes and ends; one that must go on (a migration after COMMIT) goes on. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/msg.h"

#define JOB_FD 3

/* ---------------------------------------- inside a job ---------------------------------------- */

struct job {
	int fd;            /* JOB_FD */
	json_t *spec;      /* of "begin"; owned */
	struct msg begin;  /* with its descriptors (msg_take_fd) */
	const char *state_dir;  /* the daemon's state folder (spec "state_dir") */
	const char *self;       /* path of godwitd, to run helpers */
	struct job_inbox *inbox_; /* messages that came while something else was looked for */
};

struct job_verb {
	const char *name;
	/* The whole work.  0: success (call job_done_json before for a result).  The daemon is told of a
	 * failure by the dispatcher, with e's sentence. */
	int (*run)(struct job *j, struct err *e);
};

/* main of `godwitd job VERB`: receives "begin", runs, reports.  The exit status of the process. */
int job_main(const struct job_verb *const *verbs, size_t n, const char *verb);

int job_metadata(struct job *j, json_t *obj_taken);
/* One entry "KEY_progress" of the metadata; clients print every key that ends so. */
int job_progress(struct job *j, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int job_done_json(struct job *j, json_t *obj_taken);
int job_lifecycle(struct job *j, const char *action, const char *source);
int job_committed(struct job *j);
/* The next message of the daemon's after "begin" (to be given to msg_done): 1; 0: none within
 * timeout_ms (-1: for ever); -ECANCELED: "cancel" came, now or earlier; -EPIPE: the daemon is gone.
 * A job with a poll loop of its own polls j->fd and then calls this with 0 until it returns 0. */
int job_recv(struct job *j, struct msg *m, int timeout_ms);
/* -ECANCELED when "cancel" has come or the daemon is gone; 0 else.  Does not block. */
int job_cancelled(struct job *j);

/* Runs a program (argv[0] is a path or is sought on PATH; no shell) and waits; its stderr's last
 * lines become the sentence.  in/out: -1 is /dev/null of the daemon's own.  fds from 3 up are closed
 * but keep[0..n_keep). Kills it (SIGTERM, then SIGKILL) when the job is cancelled
 * or the daemon is gone; with j NULL it runs to its end whatever happens. */
int job_run(struct job *j, const char *const *argv, int in, int out, const int *keep, size_t n_keep,
	    struct err *e);

/* --------------------------------------- in the daemon ---------------------------------------- */

struct sd_event;
struct job_handle;

struct job_events {
	/* A message of the job's that is not one of the five below. */
	void (*message)(struct job_handle *h, struct msg *m, void *arg);
	void (*metadata)(struct job_handle *h, json_t *obj, void *arg);
	void (*lifecycle)(struct job_handle *h, const char *action, const char *source, void *arg);
	void (*committed)(struct job_handle *h, void *arg);
	/* Exactly once, last: code 0 and the result, or an HTTP code and the sentence. h is freed after. */
	void (*ended)(struct job_handle *h, int code, const char *text, json_t *result, void *arg);
};

/* Starts `self job VERB`; spec gets "state_dir" added.  fds are passed with "begin" and stay ours. */
int job_start(struct sd_event *ev, const char *self, const char *state_dir, const char *verb, json_t *spec,
	      const int *fds, size_t n_fds, const struct job_events *events, void *arg,
	      struct job_handle **ret, struct err *e);
int job_tell(struct job_handle *h, const int *fds, size_t n_fds, const char *verb, const char *key,
	     const char *value);
void job_cancel(struct job_handle *h);
pid_t job_pid(const struct job_handle *h);

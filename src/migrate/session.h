/* session - one side of a migration while it runs: its connections, its children, and waiting for any
 * of them.
 *
 * The code of a side reads from top to bottom; whenever it waits for one thing, the session watches
 * all others: what comes is queued, and what means failure (the peer gave up or fell silent, the
 * engine failed, the operation was cancelled, the daemon is gone) ends the wait with its sentence. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/msg.h"
#include "db/db.h"
#include "job/job.h"
#include "migrate/control.h"

struct session {
	struct job *job;
	struct db *db;
	char *id, *name;
	struct control ctl;
	bool detached;         /* past COMMIT: a lost daemon or a cancel no longer ends us */

	pid_t engine;          /* 0: none */
	int engine_ctl;
	bool engine_ended;
	int engine_status;
	struct msg engine_queue[64];
	size_t n_engine_queue;
	uint64_t bytes, total; /* of the engine's last progress */

	pid_t child;           /* rsync, or what waits for the disk; 0: none */
	const char *child_what;
	bool child_ended;
	int child_status;
	int child_err;         /* read end of its stderr */
	struct buf child_text;

	struct {
		char name[32];
		int fd;
	} channels[8];         /* came from the daemon, not yet taken */
	size_t n_channels;
	uint64_t progress_ms;  /* when progress was told last */
};

int session_open(struct session *s, struct job *job, struct err *e);
void session_close(struct session *s); /* kills children that are left; idempotent */

/* What has come, without waiting: a failure when it ends the side. */
int session_look(struct session *s, struct err *e);
/* Waits until the peer says `type`; *ret is the object (caller's; ret may be NULL). */
int session_expect(struct session *s, const char *type, int timeout_ms, json_t **ret, struct err *e);
/* Waits for a message of the engine's (to be given to msg_done). "failed" and "refused" are failures. */
int session_expect_engine(struct session *s, const char *verb, int timeout_ms, struct msg *ret, struct err *e);
/* Waits for the engine's end with status 0. */
int session_engine_end(struct session *s, int timeout_ms, struct err *e);
/* Takes over a child, the leader of a process group, with the read end of its stderr; `what`: who fails, a literal. */
void session_child_set(struct session *s, pid_t pid, int err_fd, const char *what);
/* Waits for the child's end with status 0 (while_running: or one that says that files came and went, disk.h); else its last
 * words are the sentence. */
int session_child_end(struct session *s, bool while_running, int timeout_ms, struct err *e);
/* Waits for a bulk connection that the daemon hands over (source). *ret is the caller's. */
int session_channel(struct session *s, const char *name, int timeout_ms, int *ret, struct err *e);

/* Starts godwit-criu MODE with --ctl-fd and --data-fd; args are added, NULL-ended. data_fd stays ours. */
int session_engine_start(struct session *s, const char *mode, int data_fd, const char *const *args, struct err *e);
/* Ends the engine if it runs: SIGTERM (it undoes), after 3 s SIGKILL. */
void session_engine_kill(struct session *s);
/* Ends the child, and what it forked: after this nothing of it writes any more. */
void session_child_kill(struct session *s);
/* Runs `godwit-criu recover` or `check` to its end; its stdout (at most 1 MiB) in *ret (may be NULL). */
int session_engine_run(struct session *s, const char *const *args, char **ret_out, int *ret_status, struct err *e);

/* Dials the source's API port for channel `name` of this migration (target). *ret is the caller's. */
int session_dial(struct session *s, const char *address, const char *pin_file, const char *channel,
		 const char *secret, int *ret, struct err *e);

/* A named moment, for tests of failures: where STATE/migrations/stop-at holds this name, the file
 * STATE/migrations/stopped is made and the side waits, watching everything as ever, until stop-at is gone.
 * Costs one failing open() otherwise. */
int session_point(struct session *s, const char *name, struct err *e);

/* side - what both sides of a migration share: the lock that makes one process at a time responsible for
 * it, and ending it. */
#pragma once
#include "migrate/session.h"
#include "runtime/container.h"

/* States of a migration's row, see ARCHITECTURE.md "Never lose a container". */
#define ST_OFFERED "offered"     /* source */
#define ST_FROZEN "frozen"
#define ST_HANDED "handed"
#define ST_RELEASED "released"
#define ST_PREPARING "preparing" /* target */
#define ST_READY "ready"
#define ST_MINE "mine"
#define ST_TAKEN "taken" /* after `mine`: it runs, the source has not said `released` */
#define ST_ABORTED "aborted"

/* Takes STATE/migrations/ID.ROLE.lock, waiting at most wait_ms; the descriptor is the lock. */
int side_lock(const char *state_dir, const char *id, const char *role, int wait_ms, struct err *e);
/* Removes the lock's file; call while holding it. */
void side_unlock_forget(const char *state_dir, const char *id, const char *role);

/* Source, any state before HANDED (state NULL: whatever the row says is before): the container runs on, as
 * if nothing had happened: engine's leftovers, port, thaw, ownership, row.  Idempotent. */
int source_roll_back(struct session *s, struct err *e);
/* Source, after the target was known to run it: the original and its row go. Idempotent. */
int source_release(struct session *s, struct err *e);
/* Source, HANDED, and the target has sworn never to run it: ours again. */
int source_take_back(struct session *s, struct err *e);

/* Target before MINE: writes down ABORTED, removes everything; the row stays as the answer for a source that
 * may be waiting (keep_row), or goes. */
int target_abort(struct session *s, bool keep_row, struct err *e);
/* Target, MINE: in the bridge, running, announced. Idempotent, but nothing for TAKEN: from there on it is a container
 * like any other, which may be stopped, or moved on, before the source is heard of. */
int target_go(struct session *s, struct err *e);
/* Tells the source the state and waits for its word; then removes the row.  -EAGAIN: not reached. */
int target_tell(struct session *s, const char *state, struct err *e);
/* Host and port to dial, of the operation's URL. */
int target_address(const char *operation_url, char **ret, struct err *e);

/* lock - one operation at a time for an instance, across jobs (and daemons' lives: it is a flock).  The
 * descriptor is the lock; it must not get into a process that outlives the job.  Its file, STATE/locks/NAME,
 * goes when the instance is gone: with the last lock on it, or at the daemon's next start. */
#pragma once
#include "base/err.h"
#include "db/db.h"

/* Waits at most wait_ms.  -EBUSY with a sentence: another job works on it. */
int instance_lock(const char *state_dir, const char *name, int wait_ms, struct err *e);
/* Gives the lock up. */
void instance_unlock(struct db *db, const char *state_dir, const char *name, int *lock);
/* For who has removed the instance without its lock. */
void instance_lock_forget(struct db *db, const char *state_dir, const char *name);
/* Of all names: what jobs that died have left. */
void instance_locks_tidy(struct db *db, const char *state_dir);

/* lock - one operation at a time for an instance, across jobs (and daemons' lives: it is a flock).  The
 * descriptor is the lock; it must not get into a process that outlives the job. */
#pragma once
#include "base/err.h"

/* -EBUSY with a sentence: another job works on it. */
int instance_lock(const char *state_dir, const char *name, struct err *e);

/* freezer - stopping everything in a cgroup (v2) and letting it go on. */
#pragma once
#include <stdbool.h>

#include "base/err.h"

/* Writes cgroup.freeze below the folder dir and waits until cgroup.events agrees.  Tasks that are
 * ptrace-stopped count as frozen.  -ETIMEDOUT: something did not stop (or go on) within timeout_ms;
 * what was written stays written. */
int freezer_set(int dir, bool frozen, int timeout_ms, struct err *e);
/* What the kernel says now: 1, 0 or -errno. */
int freezer_get(int dir);

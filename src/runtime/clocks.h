/* clocks - offsets of time namespaces.
 *
 * /proc/PID/timens_offsets and what liblxc writes there are relative to the machine's initial time
 * namespace, not to the host's own: a host that itself runs in one has to add its own offset, and a
 * clock that would be negative is ERANGE for the kernel. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"

/* Whole seconds (rounded up) of the offset with which a new namespace's `clock` shows want_ns now; 0 ns: a
 * fresh clock that begins at 0. */
int clock_offset(clockid_t clock, uint64_t want_ns, int64_t *ret_seconds, struct err *e);
/* What `clock` shows now inside process pid's time namespace, in ns. */
int clock_of(pid_t pid, clockid_t clock, uint64_t *ret_ns, struct err *e);

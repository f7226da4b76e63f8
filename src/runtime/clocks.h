/* clocks - the time namespace a container lives in.
 *
 * /proc/PID/timens_offsets is relative to the machine's initial time namespace, not to the host's own: a
 * host that itself runs in one has to add its own offset, and a clock that would be negative is ERANGE for
 * the kernel.  The namespace is made by us, not by liblxc (5.0: whole seconds only, and it cannot be given
 * one): the monitor is born in it, so that reboots inside stay in it too.
 *
 * Who reads a start time in /proc/PID/stat sees it by CLOCK_BOOTTIME of its own namespace, in ticks of 10 ms.
 * gw-hook runs in the container's and writes start times that the daemon compares with what it reads: so the
 * two offsets differ by whole ticks (a container's CLOCK_BOOTTIME may be up to 10 ms ahead of what was asked
 * for, never behind), and the hook takes the difference away.  (It cannot go back to the host's namespace:
 * /proc/1/ns/time is not ours to open where pid 1 has more capabilities than we.) */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"

struct clock_offsets {
	int64_t monotonic_ns, boottime_ns; /* relative to the machine's initial time namespace */
};

/* With which a namespace's clocks show these values now; 0: clocks that begin at 0. */
int clock_offsets_for(uint64_t monotonic_ns, uint64_t boottime_ns, struct clock_offsets *ret, struct err *e);
/* Makes a time namespace for the caller's future children (fork; the caller stays where it is). */
int clock_namespace_make(const struct clock_offsets *o, struct err *e);
/* The caller's own offset of CLOCK_BOOTTIME; 0 where the kernel has no time namespaces. */
int clock_boottime_offset(int64_t *ret_ns, struct err *e);
/* By how many ticks start times look later in a namespace with offset `here` than in one with `there`. */
int64_t clock_ticks_between(int64_t here_ns, int64_t there_ns);
/* What `clock` shows now inside process pid's time namespace, in ns. */
int clock_of(pid_t pid, clockid_t clock, uint64_t *ret_ns, struct err *e);

/* ktask - what the kernel keeps of a task and shows in no file: when an interrupted system call with a timeout
 * ends (ERESTART_RESTARTBLOCK), and by which clock a POSIX timer runs.
 *
 * BPF iterators over one task copy it out: nothing runs in the thread, nothing is changed.  They need CAP_BPF
 * and CAP_PERFMON (or CAP_SYS_ADMIN) and a kernel that describes its types (CONFIG_DEBUG_INFO_BTF, as
 * distributions' kernels do). */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct ktask;

/* Takes tens of milliseconds.  -errno with a sentence where it is not possible here. */
int ktask_open(struct ktask **ret, struct err *e);
struct ktask *ktask_free(struct ktask *k);

enum restart_kind {
	RESTART_NONE, /* the last call left nothing to go on with */
	RESTART_SLEEP,
	RESTART_CPU_SLEEP, /* clock_nanosleep on a clock of CPU time */
	RESTART_POLL,
	RESTART_FUTEX,
	RESTART_OTHER, /* sleeps of alarm clocks, and what we do not know */
};

struct restart_block {
	enum restart_kind kind;
	/* RESTART_SLEEP, _POLL, _FUTEX: by CLOCK_MONOTONIC of the kernel, that is, of its first time
	 * namespace; INT64_MAX: never.  RESTART_CPU_SLEEP: by the clock of CPU time. */
	int64_t end_ns;
	int32_t clock; /* RESTART_CPU_SLEEP */
};

/* Of a thread that stands still, by its number in our PID namespace.  -ESRCH: there is none; -errno. */
int ktask_restart(const struct ktask *k, pid_t tid, struct restart_block *ret);

/* A timer of CLOCK_REALTIME runs by that clock when it was set to an instant of it; one that was set to a
 * span of time runs by CLOCK_MONOTONIC. */
struct ktask_timer {
	int32_t id, clock;  /* as it was made */
	int64_t expires_ns; /* by the clock it runs by; of times that passed too */
	uint32_t base;      /* of the timers that run by no CPU time */
	uint32_t pad;
};
#define KTASK_TIMERS_MAX 512
#define KTASK_BASE(t) ((t)->base & 3) /* each clock has a second base, for timers of soft interrupts */
enum { KTASK_MONOTONIC, KTASK_REALTIME, KTASK_BOOTTIME, KTASK_TAI };

/* The first KTASK_TIMERS_MAX POSIX timers of a process; malloc'd. */
int ktask_timers(const struct ktask *k, pid_t pid, struct ktask_timer **ret, size_t *ret_n);

/* restart_block - when an interrupted system call with a timeout ends (ERESTART_RESTARTBLOCK).
 *
 * The kernel keeps that in the task and shows it nowhere.  A BPF iterator over one task copies it out:
 * nothing runs in the thread, nothing is changed.  Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) and
 * a kernel that describes its types (CONFIG_DEBUG_INFO_BTF, as distributions' kernels do). */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

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

struct restart_reader;

/* Takes tens of milliseconds.  -errno with a sentence where it is not possible here. */
int restart_reader_open(struct restart_reader **ret, struct err *e);
struct restart_reader *restart_reader_free(struct restart_reader *r);

/* Of a thread that stands still, by its number in our PID namespace.  -ESRCH: there is none; -errno. */
int restart_reader_get(const struct restart_reader *r, pid_t tid, struct restart_block *ret);

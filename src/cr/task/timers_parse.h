/* timers_parse - the text of /proc/PID/timers. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct timer_info {
	int id, signo, notify, clock; /* notify: SIGEV_* */
	uint64_t value;
	pid_t tid; /* with SIGEV_THREAD_ID: as the procfs counts */
};
struct timer_list {
	struct timer_info *v; /* free */
	size_t n;
};
#define TIMERS_MAX 100000u
int timers_parse(const char *text, struct timer_list *ret);

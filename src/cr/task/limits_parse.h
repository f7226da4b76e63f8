/* limits_parse - the text of /proc/PID/limits. */
#pragma once
#include <stdint.h>

#define LIMITS_MAX 16 /* RLIM_NLIMITS */
struct limit {
	uint64_t soft, hard; /* RLIM64_INFINITY: unlimited */
};
/* The number of limits, in the order of RLIMIT_*; -EPROTO. */
int limits_parse(const char *text, struct limit ret[LIMITS_MAX]);
const char *limit_name(int what);

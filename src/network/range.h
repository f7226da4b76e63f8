/* range - "10.0.0.10-10.0.0.99,10.0.0.200-10.0.0.250" as numbers in host order, both ends inclusive. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct range {
	uint32_t first, last;
};

#define RANGES_MAX 16

/* How many; -EINVAL: not that form; -E2BIG. */
int ranges_parse(const char *text, struct range *ret, size_t max);

/* parse - numbers and words out of untrusted text, with bounds. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole string as a number.  -EINVAL: not a number or something behind it; -ERANGE. */
int parse_u64(const char *s, unsigned base, uint64_t *ret);
int parse_i64(const char *s, unsigned base, int64_t *ret);
int parse_u32(const char *s, unsigned base, uint32_t *ret);
int parse_int(const char *s, int *ret);

/* A number at *p, moving *p behind it; -EINVAL: no digit there. */
int parse_u64_at(const char **p, unsigned base, uint64_t *ret);

/* "512", "64KiB", "10GB", "1.5GiB" in bytes. */
int parse_size(const char *s, uint64_t *ret);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
static inline bool str_eq(const char *a, const char *b)
{
	return a && b && __builtin_strcmp(a, b) == 0;
}

/* check - what this kernel has, and what we may do on it. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* CRIU's three categories; each includes those before it. */
enum check_level { CHECK_NEEDED, CHECK_EXTRA, CHECK_EXPERIMENTAL };

/* A table of all that is looked at, into *table (may be NULL).  -EOPNOTSUPP with what is missing first; a missing thing of
 * the first category is said as such. */
int check_kernel(enum check_level level, struct buf *table, struct err *e);

/* ---- features by their names ---- */

/* 1: the kernel has it; 0: it has not; negative: it could not be asked (-EPERM …), with the reason in e. */
typedef int (*feature_probe)(struct err *e);
struct feature {
	const char *name;
	feature_probe probe;
	const char *caps; /* what asking takes, "" nothing */
};
extern const struct feature features[];
extern const size_t features_n;
const struct feature *feature_find(const char *name);

/* filter - "?filter=FIELD eq VALUE and FIELD ne VALUE" of lists.  Fields may be "config.KEY" or
 * "expanded_config.KEY" (the rest is the key, dots and all); values compare without regard to case. */
#pragma once
#include <jansson.h>

#include "base/err.h"

/* 1: the object matches; 0: not; -EINVAL: the expression is not understood. */
int filter_match(const char *expression, const json_t *object, struct err *e);

/* snapshot - what a container looks like from outside, as lines of text: descriptors, mappings,
 * limits, credentials and numbers of each process.  Before and after a move it has to be the same. */
#pragma once
#include <sys/types.h>

#include "base/buf.h"

int snapshot_take(pid_t init, struct buf *ret);
/* Prints the lines that are not in both; their number. */
int snapshot_compare(const char *before, const char *after);

/* folder - trees of files on the host that others may have filled: nothing here follows a symbolic link
 * below the starting point, nor leaves its file system. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* As mkdir -p: missing parents get 0711 (so that a container's root can reach what is its own below), the
 * last one `mode`, also when it existed. */
int folder_make(const char *path, mode_t mode, struct err *e);
/* Removes the tree; one that is not there is success.  -EBUSY: something is mounted in it. */
int folder_remove(const char *path, struct err *e);
/* Allocated bytes, hard links counted once, and the number of entries. */
int folder_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e);

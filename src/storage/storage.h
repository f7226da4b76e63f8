/* storage - pools and the volumes in them.
 *
 * A pool is a row of the database (driver, config "source") and a folder STATE/pools/NAME; a volume of a
 * container is POOL/containers/NAME, with the root file system in rootfs/ below it.  What a kind of pool
 * does is a struct of functions in a table; "dir" (plain folders) is the first. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "db/db.h"

struct pool;

/* Opens the pool of this name; creates its folders if they are not there. */
int pool_open(struct db *db, const char *state_dir, const char *name, struct pool **ret, struct err *e);
struct pool *pool_free(struct pool *p);
const char *pool_path(const struct pool *p);

/* Space an ordinary writer has left. */
int pool_space(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e);
/* -ENOSPC with a sentence unless `bytes` more (and a reserve of 64 MiB) fit. */
int pool_check_space(struct pool *p, uint64_t bytes, uint64_t files, struct err *e);

/* Host path of the volume's rootfs, whether it exists or not; malloc'd. */
char *volume_rootfs(const struct pool *p, const char *name);
/* Makes the volume with an empty rootfs (0755), both owned by `owner`:`owner`; only that id and root can
 * enter it (0700 on the volume's folder).  -EEXIST. */
int volume_create(struct pool *p, const char *name, uid_t owner, struct err *e);
bool volume_exists(struct pool *p, const char *name);
/* Removes it with everything in it; a volume that is not there is success. */
int volume_delete(struct pool *p, const char *name, struct err *e);
int volume_rename(struct pool *p, const char *name, const char *to, struct err *e);
/* A descriptor (the caller's) to be opened before a volume is written and given to volume_sync after it: the kernel says
 * once for each descriptor, from its opening on, that something could not be written back (since Linux 5.8). */
int volume_sync_open(struct pool *p, const char *name, struct err *e);
/* Returns when all of the volume is on the disk.  Takes as long as the disk does, with whatever else waits for it. */
int volume_sync(struct pool *p, int fd, struct err *e);
/* Allocated bytes (hard links counted once) and number of files. */
int volume_usage(struct pool *p, const char *name, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e);

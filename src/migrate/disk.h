/* disk - a container's root file system, by rsync, while it runs and once more after the freeze.
 *
 * Ids: each host shifts a container's files by a base of its own.  Both rsyncs therefore run in a user
 * namespace with the container's map of their host, and speak of ids as the container sees them; a
 * hostile sender can thus give files to nobody but the container.
 *
 * What makes the second round complete.  rsync skips a file whose size and mtime agree.  That is wrong
 * for a file that was written (a) within the same clock tick after round 1 had read it, or (b) through
 * a shared mapping whose page was dirty already (no new mtime until it is written back), or (c) with
 * its mtime set back.  So before round 2 the target forgets the mtime (sets it to 1) of every file
 * changed since the start of round 1 by the source's clock (a), of every file the source found mapped
 * shared and writable at the start or at the freeze (b), and of every file whose ctime is newer than
 * the start though its mtime is not (c): rsync then compares their content. */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "migrate/session.h"
#include "storage/storage.h"

struct disk_side {
	const char *rootfs;   /* host path */
	uint32_t idmap_base;  /* 0: privileged, no map */
	uint32_t idmap_size;
};

/* rsync's status for "some files vanished", and for "some could not be read" (shortened while they were): right in
 * round 1, while the container runs; round 2 must have all. */
#define RSYNC_VANISHED 24
#define RSYNC_FILE_IO 11 /* RERR_FILEIO */
#define RSYNC_PARTIAL 23

/* Source: starts sending over `fd` (stays ours); the end comes by session_child_end. */
int disk_send_start(struct session *s, const struct disk_side *d, int fd, struct err *e);
/* Target: reads the other's list of rsync arguments, checks it against what our own rsync would send, and
 * starts receiving. */
int disk_receive_start(struct session *s, const struct disk_side *d, int fd, struct err *e);

/* Target: a child of the session's that writes the volume to the disk; `fd` as of volume_sync_open.  The end, and whether
 * all is there, comes by session_child_end.  A child, since heartbeats and cancels have to be answered meanwhile, however
 * long a slow disk takes. */
int disk_sync_start(struct session *s, struct pool *pool, int fd, struct err *e);

/* Source: paths (in the container) of regular files that tasks of this cgroup map shared and writable,
 * added to the array. */
int disk_mapped_files(const char *cgroup, json_t *array, struct err *e);
/* Source: paths with ctime >= t0 and mtime < t0, added to the array. */
int disk_set_back_files(const struct disk_side *d, uint64_t t0_ns, json_t *array, struct err *e);
/* Target: forgets mtimes as above.  Paths are the other's: they are looked up beneath the rootfs. */
int disk_forget_times(const struct disk_side *d, uint64_t t0_ns, const json_t *paths, struct err *e);

/* ghost - files without a name whose content travels in records. */
#pragma once
#include "cr/file/file.h"

/* 0; 1 when a refusal was added (too large). */
int ghost_check(struct dump *d, struct ofile *f, struct err *e);
/* Writes the ghost of f (once for each inode) and the remap record of f. */
int ghost_capture(struct dump *d, struct ofile *f, struct err *e);

/* The engine's descriptor of the ghost that file `id` is an open of; -ENOENT: it is no ghost. Made
 * on the first call, beside `name` where that is possible (`tmpfile`: by O_TMPFILE, so that it can
 * still be given a name); owned by the restore. */
int ghost_open(struct restore *r, uint32_t id, const char *name, bool tmpfile, struct err *e);
void ghosts_done(struct restore *r);

/* Data of a file, holes left out, as REC_GW_BLOBs with this id behind the record written last. */
int content_put(struct dump *d, int fd, uint64_t size, uint32_t id, struct err *e);
/* Writes the blobs that follow position pos of the image into fd. */
int content_get(struct restore *r, size_t pos, uint32_t id, int fd, uint64_t size, struct err *e);

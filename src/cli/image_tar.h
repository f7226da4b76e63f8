/* image_tar - writes a unified image tarball, everything below rootfs/ owned by root. */
#pragma once
#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct image_tar;

/* Replaces nothing until image_tar_finish: it writes to PATH.part. */
int image_tar_open(const char *path, struct image_tar **ret, struct err *e);
int image_tar_finish(struct image_tar *t, struct err *e); /* frees, also when it fails */
void image_tar_abort(struct image_tar *t);                /* frees and removes; NULL is fine */

/* Paths are relative to the tarball ("metadata.yaml", "rootfs/etc"). */
int image_tar_dir(struct image_tar *t, const char *path, mode_t mode, struct err *e);
int image_tar_file(struct image_tar *t, const char *path, mode_t mode, const void *data, size_t len, struct err *e);
int image_tar_text(struct image_tar *t, const char *path, mode_t mode, const char *text, struct err *e);
int image_tar_link(struct image_tar *t, const char *path, const char *to, struct err *e);

/* Copies what a tar stream on fd holds below rootfs/.  `wanted` says of each path ("etc/inittab") whether
 * it comes along; device nodes never do. */
int image_tar_copy(struct image_tar *t, int fd, bool (*wanted)(const char *path), struct err *e);

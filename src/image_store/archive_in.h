/* archive_in - opening an archive with only the formats we take. */
#pragma once
#include <archive.h>
#include <archive_entry.h>

#include "base/err.h"

/* NULL with a sentence; to be freed by archive_read_free.  `fd` stays the caller's. */
struct archive *archive_in_open(int fd, const char *what, struct err *e);
/* 1: *ret is the next entry; 0: the end; -EINVAL: not an archive, damaged. */
int archive_in_next(struct archive *a, struct archive_entry **ret, const char *what, struct err *e);

static inline void archive_in_cleanup(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}
#define auto_archive __attribute__((cleanup(archive_in_cleanup))) struct archive

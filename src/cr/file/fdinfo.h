/* fdinfo - parsers of the kernel's text about descriptors. Lines are given behind their key and may
 * be followed by others.  -EINVAL: not such a line. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cr/file/file.h"

/* The text behind "key:" and blanks, at the first line behind `after` (NULL: of all); NULL:
 * none. */
const char *fdinfo_line(const char *text, const char *key, const char *after);
int fdinfo_i64(const char *fdinfo, const char *key, int64_t *ret);

struct fdinfo_lock {
	enum { LOCK_OTHER, LOCK_POSIX, LOCK_OFD, LOCK_FLOCK } kind; /* OTHER: leases */
	bool write;
	int pid;	     /* who took it; -1: not told */
	unsigned major, minor; /* of the file, as the kernel names it: stat may say another device */
	uint64_t ino;
	uint64_t start, len; /* len 0: to the end */
};
/* Also a line of /proc/locks; there *ret_waits (may be NULL) says that it is not held, but waited for,
 * and the one that is held stands above it. */
int fdinfo_lock(const char *line, struct fdinfo_lock *ret, bool *ret_waits);
bool fdinfo_lock_same(const struct fdinfo_lock *a, const struct fdinfo_lock *b); /* but for who took it */

struct fdinfo_epoll {
	int fd;
	uint32_t events;
	uint64_t data, pos, ino, sdev;
};
int fdinfo_epoll(const char *line, struct fdinfo_epoll *ret);

struct fdinfo_inotify {
	int wd;
	uint64_t ino, sdev;
	uint32_t mask, ignored;
	int type;
	size_t bytes; /* 0: no handle */
	uint8_t handle[128];
};
int fdinfo_inotify(const char *line, struct fdinfo_inotify *ret);

/* ids - user and group ids between the container's user namespace and the host's.
 *
 * Records hold ids as the container sees them; the engine itself (at both ends in the host's user
 * namespace) sees the host's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define IDS_EXTENTS_MAX 340 /* the kernel's own limit of lines */
#define IDS_NOBODY 65534u

struct id_map {
	struct id_extent {
		uint32_t inside, outside, count;
	} ext[IDS_EXTENTS_MAX];
	size_t n;
};

struct ids {
	struct id_map uid, gid;
};

/* The maps of process pid; proc_fd: a /proc of the host. */
int ids_load(int proc_fd, pid_t pid, struct ids *ret, struct err *e);
/* Is its user namespace ours?  Then the map tells how our own ids look from outside of it, and what the kernel shows us are
 * the container's ids already.  proc_task: /proc/PID of a /proc in which we are. */
bool ids_are_ours(int proc_task);
int id_map_parse(const char *text, struct id_map *ret); /* /proc/PID/uid_map */
/* An id without a counterpart is IDS_NOBODY inside, -1 (as uid_t) outside. */
uint32_t id_inside(const struct id_map *m, uint32_t outside);
uint32_t id_outside(const struct id_map *m, uint32_t inside);

/* File systems that a user namespace has mounted (its tmpfs) know only ids that are mapped there:
 * whoever makes a file must have such an fsuid, else EOVERFLOW.  Between the two the engine makes
 * files as the container's root, with all its capabilities. */
int ids_fs_enter(const struct ids *ids, struct err *e);
void ids_fs_leave(void);

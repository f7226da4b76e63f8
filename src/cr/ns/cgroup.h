/* cgroup - the hierarchies and where the container stands in them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define HIERARCHIES_MAX 40

struct hierarchy {
	char *controllers; /* "": v2 */
	int fd;		   /* the container's own folder in it */
};
struct hierarchies {
	struct hierarchy list[HIERARCHIES_MAX];
	size_t n;
};

/* Opens the container's own folder of every hierarchy, as told by its init: the root of the init's
 * cgroup namespace.  v2_fd: the v2 folder, which the caller knows.  Hierarchies that are not
 * mounted where we stand are left out. */
int hierarchies_open(pid_t init, int v2_fd, struct hierarchies *ret, struct err *e);
void hierarchies_close(struct hierarchies *h);

/* Settings that travel; early: before processes can be put into the group (v1's cpuset). */
bool cgroup_setting_known(const char *name, bool *ret_early);
extern const char *const cgroup_settings[]; /* NULL-terminated */

struct restore;
int cgroup_load(struct restore *r, struct err *e);
int cgroup_build(struct restore *r, struct err *e);
int cgroup_finish(struct restore *r, struct err *e);
void cgroup_restore_done(struct restore *r);

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
	char *path;	   /* that folder's, in the hierarchy as we see it; NULL where nobody asks */
	bool made;	   /* restore: it, or what it is in, was not there */
	bool shared;	   /* dump: processes that are not of the tree are in it too */
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

/* The path in the line for these controllers ("": v2) of a /proc/PID/cgroup; malloc'd, NULL: there is none. */
char *cgroup_path_in(const char *text, const char *controllers);

/* The same for a tree that is no container of liblxc's: its own folder is the one that its first process is in. */
int hierarchies_of_tree(pid_t first, struct hierarchies *ret, struct err *e);
/* Opens, or with `make` makes, the folder at this path; no symbolic links, no "..".  What is made is told to the guard.
 * -ENODEV without a sentence: this host has no such hierarchy. */
struct guard;
int hierarchy_make(const char *controllers, const char *path, bool make, struct guard **g, struct hierarchy *ret,
		   struct err *e);
/* Is it the hierarchy that this mount shows? */
bool hierarchy_is(const char *fstype, const char *options, const char *controllers);
/* Does a caller mean this hierarchy by the name?  It is a controller's, or CGROUP_UNIFIED for v2. */
bool hierarchy_has(const char *controllers, const char *name);
#define CGROUP_UNIFIED "unified"

/* Settings that travel; early: before processes can be put into the group (v1's cpuset), or others made below it. */
bool cgroup_setting_known(const char *name, bool *ret_early);
extern const char *const cgroup_settings[]; /* NULL-terminated */
#define CGROUP_DEVICES "devices.list" /* v1's device rules, a line each; of checkpoints only */

struct restore;
/* The tree's own folder in the hierarchy that a mount shows, where that mount's root lay in it: a mount of what lies
 * there now.  -ENOENT: it is none of these. */
struct MntEntry;
int cgroup_mount_open(struct restore *r, const struct MntEntry *m);
int cgroup_load(struct restore *r, struct err *e);
int cgroup_build(struct restore *r, struct err *e);
int cgroup_finish(struct restore *r, struct err *e);
void cgroup_restore_done(struct restore *r);

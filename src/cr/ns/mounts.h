/* mounts - the mounts of a container: lists of them, and what to do about each. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cr/cr.h"
#include "cr/ns/ids.h"

struct mnt {
	int id, parent;
	unsigned major, minor;
	char *root; /* of the mount, in its file system */
	char *path; /* mount point, as the container's init sees it */
	char *opts; /* of the mount: "rw,nosuid" */
	char *fstype, *source, *sopts;
	int shared, master; /* peer groups, 0: none */
	/* restore */
	struct mnt *twin; /* the target's mount that is it, or that was made for it */
	bool taken;
};

struct mnts {
	struct mnt *list;
	size_t n, cap;
};

#define MOUNTS_MAX 100000

/* Parses a mountinfo.  -EPROTO: not one. */
int mnts_parse(const char *text, struct mnts *ret);
int mnts_read(int proc_fd, pid_t pid, struct mnts *ret, struct err *e);
void mnts_done(struct mnts *m);
const struct mnt *mnts_by_id(const struct mnts *m, int id);
/* The container's root mount. */
const struct mnt *mnts_top(const struct mnts *m);

/* In front of the key of a mount from outside that was not named but found: the host's path at the dump. */
#define MNT_AUTO "auto:"

/* What is done about a mount that the target does not have. */
enum mnt_way {
	MNT_MAKE,     /* a file system of its own that we make */
	MNT_BIND,     /* of a folder or file of another mount of the container */
	MNT_ADOPT,    /* cannot be made; liblxc has made it, or not */
	MNT_OPTIONAL, /* as ADOPT, but nobody misses it */
	MNT_REFUSE,
};
enum mnt_way mnt_way(const struct mnts *all, const struct mnt *m);
/* Path inside the container of what a bind mount shows, "" if it is none or not of the container;
 * malloc'd, NULL: no memory. */
char *mnt_bind_source(const struct mnts *all, const struct mnt *m);
bool mnt_is_tmpfs(const struct mnt *m);

/* MS_* of mount options. */
unsigned long mnt_flags(const char *opts);

/* A mount that is held ready, by the id of its record; -1: there is none.  The descriptor stays the restore's. */
int mounts_ready_fd(struct restore *r, uint32_t mnt_id);

/* ---- trees: the content of a tmpfs ---- */

/* Writes REC_GW_TREE_ENTRY records with this id.  dir: the root of the mount. */
int tree_dump(struct dump *d, uint32_t id, int dir, const struct ids *ids, struct err *e);
/* Makes the content of the mount whose root is dir that of the records: what is not in them goes.
 */
int tree_restore(struct restore *r, uint32_t id, int dir, const struct ids *ids, struct err *e);

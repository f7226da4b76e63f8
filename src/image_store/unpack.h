/* unpack - a tar archive (plain, gz, xz, zst, bz2) into the root file system of a new container.
 *
 * Kept: kinds of files, modes, owners (shifted by the id map), times, hard links, holes, user.* attributes,
 * file capabilities (rewritten for the user namespace).  Left out: device nodes where the container is
 * unprivileged (it cannot have them), sockets, other attributes.  Refused: names that climb out, owners
 * outside of the id range, more entries than ENTRIES_MAX, ACLs are left out with the attributes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define UNPACK_ENTRIES_MAX 4000000
#define UNPACK_IDS 65536u /* as many ids has an unprivileged container, from 0 on */

struct unpack {
	const char *file;    /* the archive */
	const char *below;   /* folder in it that is the root: "rootfs", or "" */
	const char *to;      /* existing folder */
	uint32_t idmap_base, idmap_size; /* size 0: no shift */
	/* Called now and then with what was read of the file (compressed bytes); < 0 ends it. */
	int (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
};

int unpack_run(const struct unpack *u, struct err *e);

struct unpack_look {
	const char *file, *below; /* as above */
	int (*cancelled)(void *arg); /* NULL: nobody is asked; < 0 ends it */
	void *arg;

	bool has_root;  /* it has a folder `below` (or anything, where that is "") */
	bool has_init;  /* something is at sbin/init in it, also through a link sbin */
	char *metadata; /* the text of metadata.yaml, the caller's; NULL: there is none */
	uint64_t bytes; /* sum of the files' sizes */
	uint64_t foreign; /* entries whose owner or group an unprivileged container has not */
	char foreign_name[128]; /* the first of them, cut */
	int64_t foreign_id;     /* and its owner or group */
};

/* Looks through an archive without writing anything: -EINVAL with a sentence for what unpack_run would refuse. */
int unpack_check(struct unpack_look *l, struct err *e);

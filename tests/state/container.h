/* container - containers made by hand, without liblxc: a source with a program in it, a target in
 * which gw-init waits.  Each has a root folder of its own; the disk is copied by rsync as in a real move
 * (same files, other inodes). */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "world.h"

struct place {
	char dir[256];  /* of this run; removed at its end */
	char root[300]; /* of the container that runs */
	char next[300]; /* of the target, while there is one */
	unsigned n_roots;
	bool userns;
	char cgroup_top[256];
	unsigned n_made;
	struct net net; /* .on: with a link to the world outside */
	/* A seccomp filter of the container's configuration at the bottom of all: 1, and at the target the
	 * same policy in other instructions: 2. */
	int policy;
	const char *via; /* command that passes the stream on from its stdin to its stdout; NULL: none */
	const char *engine; /* copied to /test/engine; NULL: it acts from outside */
	bool no_bpf; /* the engine at the source may not look into the kernel */
	const char *init, *guest; /* programs: the source's init; gw-init */
};

struct ct {
	pid_t init; /* 0: none */
	int cgroup_fd;
	char cgroup[400];
	unsigned link; /* in place.net */
};

int place_make(struct place *p, const char *program, struct err *e);
void place_remove(struct place *p);
/* Makes p->next and copies the disk for the first time; copies what changed (the source is frozen);
 * makes it the root of who runs. */
int place_next(struct place *p, struct err *e);
int place_sync(const struct place *p);
void place_moved(struct place *p);

/* argv: of the program, NULL-terminated; NULL: a target. */
int ct_start(struct place *p, char *const argv[], struct ct *ret, struct err *e);
void ct_kill(struct ct *c);

/* First id outside and number of ids of a user namespace's map. */
enum { MAP_FIRST = 100000, MAP_COUNT = 65536 };
/* The containers' clocks are ahead of ours, so that a mistake with them shows. */
enum { CLOCK_AHEAD_S = 5000 };

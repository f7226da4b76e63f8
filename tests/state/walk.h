/* walk - a dump and a restore that fail, and are killed, at every one of their moments (base/fault.h).
 *
 * After each of them the tree, and the world around it, are as they were. */
#pragma once
#include "checkpoint.h"

struct walk {
	struct checkpoint k;
	struct ct *c;
	bool all; /* the moments before single parts as well, and not only at their first time */
	unsigned dumps, restores; /* how many were tried */
	char text[2048]; /* why it failed */
};

/* The runner's own mounts and network, so that nobody else changes them. */
int walk_apart(void);
/* The program waits.  0: it waits again; what is left is its verdict. */
int walk_run(struct walk *w);

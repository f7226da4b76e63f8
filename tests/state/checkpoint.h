/* checkpoint - instead of a move: a dump of the tree into a folder, which ends it, and a restore from there. */
#pragma once
#include "container.h"
#include "move.h"

enum checkpoint_how {
	CHECKPOINT_NONE,
	CHECKPOINT_TREE, /* the whole container, from outside: the restore makes its namespaces */
	CHECKPOINT_HOST, /* the program alone, by an engine that stands in the same namespaces */
};

/* After success *c is what was restored; it runs.  A dump that was refused: ret->refused, and it runs on. */
int checkpoint_run(const struct place *p, enum checkpoint_how how, const char *engine, bool verbose, struct ct *c,
		   struct move_result *ret);

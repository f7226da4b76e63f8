/* checkpoint - instead of a move: a dump of the tree into a folder, which ends it, and a restore from there. */
#pragma once
#include "container.h"
#include "move.h"

enum checkpoint_how {
	CHECKPOINT_NONE,
	CHECKPOINT_TREE, /* the whole container, from outside: the restore makes its namespaces */
	CHECKPOINT_HOST, /* the program alone, by an engine that stands in the same namespaces */
};

/* ---- its halves ---- */

struct checkpoint {
	const struct place *place;
	enum checkpoint_how how;
	const char *engine;
	bool verbose;
	unsigned count; /* of folders */
	char here[400], images[400]; /* the present one; as the engine sees it */
	char out[400]; /* what the engine says */
};

void checkpoint_init(struct checkpoint *k, const struct place *p, enum checkpoint_how how, const char *engine,
		     bool verbose);
int checkpoint_folder(struct checkpoint *k); /* a new one */
/* Exit statuses; fault: of GODWIT_FAULT (base/fault.h); NULL: none. */
int checkpoint_dump(const struct checkpoint *k, const struct ct *c, bool leave_running, const char *fault);
int checkpoint_restore(const struct checkpoint *k, const struct ct *c, const char *fault);
/* After a dump that ended it, after a restore. */
int checkpoint_ended(const struct checkpoint *k, struct ct *c);
int checkpoint_begun(const struct checkpoint *k, struct ct *c);

/* ---- both ---- */

/* After success *c is what was restored; it runs.  A dump that was refused: ret->refused, and it runs on. */
int checkpoint_run(const struct place *p, enum checkpoint_how how, const char *engine, bool verbose, struct ct *c,
		   struct move_result *ret);

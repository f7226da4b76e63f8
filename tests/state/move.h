/* move - the daemon's part in a move: two engines, a pipe between them, their messages answered. */
#pragma once
#include "container.h"

struct move_result {
	bool refused;
	char text[4096];    /* why it was refused or failed */
	char numbers[1024]; /* of `done` and `ready` */
};

/* Something bad at some moment: a signal for one engine or both. */
struct move_fault {
	int sig;             /* 0: none */
	bool dump, restore;  /* whom it hits */
	unsigned delay_us;   /* after both were started */
};

/* 0: the target stands, frozen; the source is frozen.  -1: failed or refused. */
int move_run(const struct place *p, const char *engine, bool verbose, const struct ct *from, const struct ct *to,
	     const struct move_fault *fault, struct move_result *ret);
/* `recover` for a container whose engine has died. */
int move_recover(const char *engine, const struct ct *c);

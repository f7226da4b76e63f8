/* move - unfinished migrations; private to this room. */
#pragma once
#include "api/core.h"

/* Starts a job for each migration that is unfinished and that no job works on; how many are unfinished. */
int move_resolve_all(struct api *a, int *ret_pending);
/* A job of ours is at this migration. */
bool move_worked_on(struct api *a, const char *id);
/* Of an instance that moves: {state "moving"|"arriving"|"in doubt"|"arrived"|"aborted", id, peer, text (a sentence)};
 * NULL: it does not.  *ret_live: it moves running. */
json_t *move_view(struct api *a, const json_t *row, bool *ret_live);

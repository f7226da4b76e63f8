/* move - unfinished migrations; private to this room. */
#pragma once
#include "api/core.h"

/* Starts a job for each migration that is unfinished and that no job works on; how many are unfinished. */
int move_resolve_all(struct api *a, int *ret_pending);

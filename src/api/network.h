/* network - bringing networks up at the daemon's start; private to this room. */
#pragma once
#include "api/core.h"

/* Calls then(a) when the network is up, or is known not to come up (which is logged). */
int network_boot(struct api *a, const char *name, void (*then)(struct api *a), struct err *e);

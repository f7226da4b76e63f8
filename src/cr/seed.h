/* seed - the first process of a restore on its own: what gw-init is in a container that liblxc has
 * started.  Made by the engine with the number, and in the namespaces, that the tree's first process had; it
 * waits to be taken over. */
#pragma once
#include "cr/cr.h"

/* r->tasks and r->ns are loaded.  *ret_pid: as we count; a child of ours, or of our parent's where the options
 * say so.  Killed by the caller after a failure of what follows. */
int seed_make(struct restore *r, pid_t *ret_pid, struct err *e);

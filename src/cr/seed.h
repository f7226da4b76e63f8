/* seed - the first process of a restore on its own: what gw-init is in a container that liblxc has
 * started.  Made by the engine with the number, and in the namespaces, that the tree's first process had; it
 * waits to be taken over. */
#pragma once
#include "cr/cr.h"

/* r->tasks and r->ns are loaded.  Sets r->init_pid (as we count): a child of ours, or of our parent's where the options
 * say so; and moves what is given from outside from r->ns to r->joined_ns.  After a failure of this and of what
 * follows the caller kills it. */
int seed_make(struct restore *r, struct err *e);

/* guard - what has to be undone when a dump or restore fails, and who undoes it when we are killed.
 *
 * Whatever would outlive us (a cgroup, a frozen cgroup, a node in a file system) is told to a list before it is made.
 * The first of them forks a guardian, a small process that holds nothing of ours but the other end of a socket; when
 * that closes without the word that all is well, it undoes the list from its end. A failure undoes the same list by
 * ourselves. A dump or restore without such things has no guardian and costs nothing. What the kernel takes back by
 * itself (traced processes, agents, namespaces, tables of nftables with an owner) needs no entry.
 *
 * The guardian stands in the namespaces we were in when the list began, and has its own session, so that neither
 * a terminal's ^C nor a kill of our process group ends it. If it is killed as well, `recover` is left. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct guard; /* NULL: an empty list */

/* Kinds, with their text and the descriptor that goes along (-1: none):
 *   "cgroups" "N PATH"   a cgroup hierarchy's root folder: the last N folders of PATH (relative to it), with those below,
 *                        are removed once they hold no process
 *   "socket"  NAME       a folder: the node NAME in it, if it is a socket
 *   "link"    NAME       a folder: the name NAME in it, if it is no folder
 *   "freezer" 0|1        a v2 cgroup's folder: cgroup.freeze is set to this
 *   "recover" PID        what a dump of this tree may have left in it: as `recover --tree PID`
 *   "tasks"   PID…       they are killed
 * The last two are for the guardian alone: we ourselves have better means. A new kind is a line in guard.c.
 * fd stays the caller's. */
int guard_add(struct guard **g, const char *kind, const char *text, int fd, struct err *e);

/* Is an entry of this kind in it? */
bool guard_knows(const struct guard *g, const char *kind);
/* Another process of the entry "tasks" that is being put together in *text; the last call with pid 0 adds the rest. */
struct buf;
int guard_add_task(struct guard **g, struct buf *text, pid_t pid, struct err *e);

/* Success: nothing is to be undone any more. Frees the list, ends the guardian. */
void guard_done(struct guard **g);
/* Failure: undoes it now; what cannot be undone is a line in the log. */
void guard_undo(struct guard **g);

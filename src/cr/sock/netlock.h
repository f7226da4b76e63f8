/* netlock - nothing of a tree's TCP connections gets in or out while it stands for a checkpoint, and, where it is
 * ended after it, until it is restored: their far ends see silence, not a FIN or a reset (lock_table.h).
 *
 * Dump.  The table is the kernel's to take away with our socket, so that a killed engine leaves none.  Just before the
 * tree is ended one takes its place that stays (netlock_keep), under a name made of the tree's first process, which the
 * image tells.
 * Restore.  One more table, again the kernel's to take away, from before the network is built until everything stands;
 * then both go.  A restore that fails leaves what the dump has left.
 *
 * Not of a live migration, where a bridge port is shut, and not with --network-lock skip. */
#pragma once
#include "cr/cr.h"

struct netlock;
struct netlock *netlock_free(struct netlock *l); /* the lock goes with it, unless it was kept */

/* Locks; called again: what has come to light since. */
int netlock_dump(struct dump *d, struct err *e);
/* From now on it stays when part "sock" is done. */
int netlock_keep(struct dump *d, struct err *e);
void netlock_unkeep(struct dump *d);
/* Undoes it.  What is left of it is freed when the tree runs, since that takes milliseconds; may be NULL. */
struct netlock *netlock_lift(struct dump *d);
/* What is recorded of it. */
int netlock_identity(const struct dump *d, uint32_t *ret_pid, uint64_t *ret_start, struct err *e);
/* Removes what an engine has left that was killed after netlock_keep. */
int netlock_recover(struct dump *d, struct err *e);

/* The engine stands in the tree's network namespace. */
int netlock_restore(struct restore *r, struct err *e);
int netlock_unlock(struct restore *r, struct err *e);

/* checkpoint - dump of a process tree into a folder, and restore from it: what `godwit-criu dump` and
 * `restore` are behind their options.  (live.h is the same engine between two hosts.) */
#pragma once
#include "cr/opts.h"
#include "cr/refusal.h"

/* Writes the images (image/folder.h) and leaves the tree as o->after says.  Any failure leaves it running
 * as it was, with what was written of the images gone.  -EOPNOTSUPP with refusals in *ret_refusals
 * (caller's, refusals_done): nothing was touched. */
int checkpoint_dump(const struct cr_opts *o, struct refusals *ret_refusals, struct cr_stats *ret,
		    struct err *e);

/* Makes the tree; it runs (or is stopped, where it was dumped so) when this returns.  *ret_pid: the init as
 * the caller counts pids; its child, or with o->sibling its parent's.  After a failure nothing of it is left. */
int checkpoint_restore(const struct cr_opts *o, pid_t *ret_pid, struct cr_stats *ret, struct err *e);

/* Only the checks of a dump; o->images_fd is not used. */
int checkpoint_check(const struct cr_opts *o, struct refusals *ret_refusals, struct err *e);

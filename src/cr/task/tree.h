/* tree - the processes and threads of a container, collected for a dump. */
#pragma once
#include "cr/cr.h"

extern const struct cr_part cr_part_tree;

/* Fills d->tasks (in the order in which a restore makes them) with everything that descends from
 * d->root_pid.  While the tree runs, what ends meanwhile is left out. */
int tree_collect(struct dump *d, struct err *e);
void tree_release(struct dump *d);

/* What status says of a thread and does not change while it stands: ids, capabilities, mode of seccomp.  Pending
 * signals and counts do change: those are read anew. */
int task_status(const struct task *t, const struct thread *th, struct proc_status *ret, struct err *e);
/* The cgroups of a process, read once; the task's own. */
int task_cgroups(struct task *t, const char **ret);

/* Writes the records of tasks and threads that parts have filled. */
int tree_put(struct dump *d, struct err *e);

/* Ends all of it, which stands by ptrace, for good. */
int tree_kill(struct dump *d, struct err *e);

/* task_state of a core, as CRIU numbers them. */
enum { TASK_STATE_ALIVE = 1, TASK_STATE_DEAD = 2, TASK_STATE_STOPPED = 3 };

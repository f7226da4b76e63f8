/* hold - what makes a tree stand while it is dumped.
 *
 * By its cgroup (v2 freezer), where it has one of its own: the whole of it, with one write.  Else by
 * ptrace: every thread is seized and interrupted, again and again until no new one is found.  A killed
 * engine leaves the first frozen (the caller, or `recover`, thaws) and the second running.
 *
 * Both together (--freeze-cgroup): nothing forks while the threads are looked for, so that one round finds
 * them, and they stop all at once when the cgroup is thawed again, without an instruction of their own.  A cgroup that
 * was frozen already is frozen again when the tree goes on. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct hold;

/* cgroup_fd: the caller's, stays open as long as the hold; -1: by ptrace. */
int hold_new(pid_t root, int cgroup_fd, struct hold **ret, struct err *e);
/* Of a hold by ptrace: the freezer in this cgroup helps, if it is a v2 one (else nothing changes).  g: is told. */
struct guard;
int hold_by_freezer(struct hold *h, const char *path, struct guard **g, struct err *e);
struct hold *hold_free(struct hold *h); /* lets go */

/* Everything stands when this returns 0.  -ETIMEDOUT: not all of it obeyed. */
int hold_stop(struct hold *h, int timeout_ms, struct err *e);
/* It runs on.  Harmless where it does not stand. */
int hold_go(struct hold *h, int timeout_ms, struct err *e);

/* By ptrace: threads are traced by us while they stand, and stay so. */
bool hold_traces(const struct hold *h);
/* Has this thread, which stands by ptrace, a job-control stop of its own? */
bool hold_group_stopped(const struct hold *h, pid_t tid);
/* One that the tree does not consist of any more (it ended, or was killed by us). */
void hold_forget_all(struct hold *h);

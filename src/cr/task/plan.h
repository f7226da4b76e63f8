/* plan - who forks whom, so that every task gets the parent and the session it had.
 *
 * A session is inherited at fork or made by setsid(); nothing else enters one.  So a task whose
 * session is not its parent's was either forked before its parent's setsid(), or came to this parent
 * by reparenting, when the one that forked it died.  The same plan is made at the dump (order of the
 * tasks in the image; memory may share copy-on-write pages only between a task and a parent that
 * itself forks it) and at the restore.
 *
 * Not covered: a session whose living members descend from different subreapers none of which is
 * above the other, and whose leader is dead: -EOPNOTSUPP with a sentence. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

enum plan_how {
	PLAN_INIT,   /* the first one; exists already */
	PLAN_PARENT, /* forked by its parent */
	PLAN_EARLY,  /* forked by its parent before that one's setsid() */
	PLAN_ORPHAN, /* a helper forked by `via` forks it and exits */
	PLAN_HELPER, /* its parent forks a helper with the pid of the dead session leader, which forks
	              * the task with CLONE_PARENT */
};

struct plan_node {
	pid_t pid, ppid, sid; /* in: of the container; sid 0 (from outside): that of the first node */
	size_t parent;        /* out: index */
	enum plan_how how;
	pid_t birth;          /* session in which it is forked */
	ssize_t via;          /* PLAN_ORPHAN: index of a task of that session; -1: the session's helper */
	bool late_setsid;     /* calls setsid() only after its PLAN_EARLY children exist */
};

/* nodes[0] is the init.  ret_order: n indices, each behind those that it needs. */
int plan_tree(struct plan_node *nodes, size_t n, size_t *ret_order, struct err *e);

/* True where the parent itself forks it, with memory as it is then. */
static inline bool plan_by_parent(const struct plan_node *p)
{
	return p->how == PLAN_PARENT || p->how == PLAN_EARLY;
}

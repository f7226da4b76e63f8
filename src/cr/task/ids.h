/* ids - what CRIU's images say beside the state itself: numbers of kernel objects, sets of cgroups, the inventory. */
#pragma once
#include "cr/cr.h"

int ids_put(struct dump *d, const struct task *t, struct err *e);
int inventory_put(struct dump *d, struct err *e);

struct cg_sets { /* texts of /proc/PID/cgroup; the first is ours */
	char **v;
	size_t n, cap;
};
/* Says in the core of the process in which set it is. */
int cg_set_note(struct cg_sets *s, struct task *t, struct err *e);
int cg_sets_put(struct dump *d, struct cg_sets *s, struct err *e); /* the texts are used up */
void cg_sets_done(struct cg_sets *s);

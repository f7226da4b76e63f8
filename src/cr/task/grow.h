/* grow - making the processes of a restore, in the order and by the ways of cr/task/plan.h. */
#pragma once
#include "cr/cr.h"

struct grow;

/* Checks the tree of the image and plans it; nothing is touched. */
int grow_new(struct restore *r, struct grow **ret, struct err *e);
struct grow *grow_free(struct grow *g);

/* The init has its agent: makes it what children inherit from. */
int grow_begin(struct grow *g, struct err *e);
/* Makes every task that can be made by now; `begin` is called with each as soon as it exists. */
typedef int (*grow_begin_fn)(struct restore *r, struct rtask *t, struct err *e);
int grow_some(struct grow *g, grow_begin_fn begin, struct err *e);
/* Its memory is filled: children that share it copy-on-write can be made. */
void grow_filled(struct grow *g, const struct rtask *t);
/* All tasks must exist now; process groups, the end of helpers and zombies. */
int grow_finish(struct grow *g, struct err *e);
int grow_threads(struct grow *g, struct err *e);

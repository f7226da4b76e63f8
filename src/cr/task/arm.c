/* The last part of all: what would go off while the tree is still being built. */
#include "cr/task/attr.h"

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	return signals_queue_private(t, th, e);
}

static int task_end(struct restore *r, struct rtask *t, struct err *e)
{
	int ret = signals_queue_shared(t, e);

	return ret < 0 ? ret : timers_arm(r, t, e);
}

const struct cr_part cr_part_arm = {
	.name = "arm",
	.thread_end = thread_end,
	.task_end = task_end,
};

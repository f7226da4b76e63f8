/* One program for all attributes of a thread, instead of one for each (attr.h). */
#include "base/mem.h"
#include "cr/task/attr.h"

static const struct attr_part *const attr_parts[] = {
	&attr_mem,  &attr_rseq,	 &attr_signals, &attr_timers,
	&attr_sched, &attr_creds, &attr_misc,	 &attr_rlimits,
};

static int ask_thread(struct task *t, struct thread *th, struct err *e)
{
	struct attr_slots slots[array_len(attr_parts)] = { 0 };
	struct aprog *p = aprog_new();
	int r;

	if (!p || !attr_thread_core(th) || !attr_task_core(&t->threads[0])) {
		aprog_free(p);
		return err_set(e, -ENOMEM, "no memory");
	}
	for (size_t i = 0; i < array_len(attr_parts); i++)
		if (attr_parts[i]->ask)
			attr_parts[i]->ask(t, th, p, &slots[i]);
	r = agent_run(th->agent, p, e);
	for (size_t i = 0; i < array_len(attr_parts) && r >= 0; i++) {
		r = attr_parts[i]->take ? attr_parts[i]->take(t, th, p, &slots[i], e) : 0;
		if (r < 0)
			err_context(e, r, "%s", attr_parts[i]->name);
	}
	aprog_free(p);
	return r < 0 ? err_context(e, r, "thread %d", (int)th->nstid) : 0;
}

static int inside(struct dump *d, struct task *t, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < t->n_threads && r >= 0; i++)
		r = ask_thread(t, &t->threads[i], e);
	return r;
}

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	struct aprog *p = aprog_new();
	int ret = p ? 0 : err_set(e, -ENOMEM, "no memory");

	for (size_t i = 0; i < array_len(attr_parts) && ret >= 0; i++) {
		ret = attr_parts[i]->give ? attr_parts[i]->give(r, t, th, p, e) : 0;
		if (ret < 0)
			err_context(e, ret, "%s", attr_parts[i]->name);
	}
	if (ret >= 0)
		ret = agent_run(th->agent, p, e);
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

static int task_end(struct restore *r, struct rtask *t, struct err *e)
{
	struct aprog *p = aprog_new();
	int ret = p ? 0 : err_set(e, -ENOMEM, "no memory");

	for (size_t i = 0; i < array_len(attr_parts) && ret >= 0; i++) {
		ret = attr_parts[i]->give_task ? attr_parts[i]->give_task(r, t, p, e) : 0;
		if (ret < 0)
			err_context(e, ret, "%s", attr_parts[i]->name);
	}
	if (ret >= 0)
		ret = agent_run(t->agent, p, e);
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

const struct cr_part cr_part_attrs = {
	.name = "attributes",
	.inside = inside,
	.thread_end = thread_end,
	.task_end = task_end,
};

/* The memory part of a dump: what the spine calls, and the records. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cr/mem/priv.h"
#include "cr/task/attr.h"

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	if (th != &t->threads[0])
		return;
	s->op[0] = APROG_CALL(p, 0, SYS_brk, aarg_imm(0));
	s->op[1] = APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_THP_DISABLE), aarg_imm(0), aarg_imm(0),
			      aarg_imm(0), aarg_imm(0));
	s->op[2] = APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_DUMPABLE), aarg_imm(0), aarg_imm(0),
			      aarg_imm(0), aarg_imm(0));
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	struct mem *m = mem_of(t);

	if (!m)
		return err_set(e, -ENOMEM, "no memory");
	if (th != &t->threads[0])
		return 0;
	m->brk = (uint64_t)aprog_result(p, s->op[0]);
	m->thp_disabled = aprog_result(p, s->op[1]) != 0;
	m->dumpable = (int)aprog_result(p, s->op[2]);
	return 0;
}

const struct attr_part attr_mem = { .name = "mem", .ask = ask, .take = take };

int mem_plan(struct dump *d, struct err *e)
{
	struct mem_all *all = calloc(1, sizeof(*all));
	int r = 0;

	if (!all || !mem_of(d->tasks[0])) {
		free(all);
		return err_set(e, -ENOMEM, "no memory");
	}
	d->tasks[0]->mem->all = all;
	for (size_t i = 0; i < d->n_tasks && r >= 0; i++) {
		struct task *t = d->tasks[i];

		if (t->zombie)
			continue;
		if (!mem_of(t))
			return err_set(e, -ENOMEM, "no memory");
		r = mem_plan_task(d, all, t, e);
		if (r >= 0)
			r = mem_plan_cow(t, e);
		if (r < 0)
			return err_context(e, r, "process %d", (int)t->nspid);
		all->pages += t->mem->pages.pages;
	}
	return mem_plan_shms(all, e);
}

uint64_t mem_pages(const struct dump *d)
{
	return d->tasks[0]->mem && d->tasks[0]->mem->all ? d->tasks[0]->mem->all->pages : 0;
}

static int frozen(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		int r;

		if (t->zombie)
			continue;
		if (!t->mem || !t->mem->mm)
			return err_set(e, -EINVAL, "process %d: memory was not planned", (int)t->nspid);
		r = sink_put(d->sink, REC_MM, (uint32_t)t->nspid, &t->mem->mm->base, e);
		if (r >= 0)
			r = sink_put(d->sink, REC_GW_MEM, (uint32_t)t->nspid, &t->mem->gw->base, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static void all_free(struct mem_all *all)
{
	for (size_t i = 0; all && i < all->n_shms; i++) {
		close(all->shms[i].fd);
		ranges_done(&all->shms[i].pages);
	}
	for (size_t i = 0; all && i < all->n_files; i++)
		free(all->files[i].path);
	if (all) {
		free(all->shms);
		free(all->files);
	}
	free(all);
}

static void done(struct dump *d)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct mem *m = d->tasks[i]->mem;

		if (!m)
			continue;
		vma_list_done(&m->vmas);
		if (m->mm)
			mm_entry__free_unpacked(m->mm, NULL);
		if (m->gw)
			gw_mem__free_unpacked(m->gw, NULL);
		ranges_done(&m->pages);
		all_free(m->all);
		free(m);
		d->tasks[i]->mem = NULL;
	}
}

const struct cr_part cr_part_mem = {
	.name = "mem",
	.check = mem_check,
	.frozen = frozen,
	.done = done,
	.load = mem_load,
	.restore_done = mem_restore_done,
};

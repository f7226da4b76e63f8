/* The memory part of a dump: what the spine calls, and the records. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/parse.h"
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

struct mem_counts mem_counts(const struct dump *d)
{
	const struct mem_all *all = d->n_tasks && d->tasks[0]->mem ? d->tasks[0]->mem->all : NULL;
	struct mem_counts c = { 0 };

	if (!all)
		return c;
	for (size_t i = 0; i < all->n_shms; i++)
		c.shm_pages += all->shms[i].pages.pages;
	c.pages = all->pages - c.shm_pages;
	c.written = all->written;
	c.shm_written = all->shm_written;
	return c;
}

/* The kernel's own areas, for other readers: no page of them is in the images, and a restore here does
 * without (mem_load). */
static uint32_t kernel_area(const struct vma *v)
{
	if (str_eq(v->path, "[vsyscall]"))
		return MS_VSYSCALL;
	if (!vdso_is_part(v->path))
		return 0;
	return MS_REGULAR | MS_ANON_PRIVATE | (str_eq(v->path, "[vdso]") ? MS_VDSO : MS_VVAR);
}

static int mm_put(struct dump *d, const struct task *t, struct err *e)
{
	const struct vma_list *l = &t->mem->vmas;
	MmEntry mm = *t->mem->mm;
	auto_free VmaEntry **all = calloc(l->n + 1, sizeof(*all));
	auto_free VmaEntry *extra = calloc(l->n + 1, sizeof(*extra));
	size_t k = 0, n_extra = 0;

	if (!all || !extra)
		return err_set(e, -ENOMEM, "no memory");
	mm.n_vmas = 0;
	for (size_t i = 0; i < l->n; i++) {
		VmaEntry *va = &extra[n_extra];

		if (k < t->mem->mm->n_vmas && t->mem->mm->vmas[k]->start == l->v[i].start) {
			all[mm.n_vmas++] = t->mem->mm->vmas[k++];
			continue;
		}
		vma_entry__init(va);
		va->status = kernel_area(&l->v[i]);
		if (!va->status)
			continue;
		va->start = l->v[i].start;
		va->end = l->v[i].end;
		va->prot = (uint32_t)l->v[i].prot;
		va->flags = MAP_PRIVATE | MAP_ANONYMOUS;
		va->fd = -1;
		all[mm.n_vmas++] = va;
		n_extra++;
	}
	mm.vmas = all;
	return sink_put(d->sink, REC_MM, (uint32_t)t->nspid, &mm.base, e);
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
		r = mm_put(d, t, e);
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

/* Copy-on-write sharing of a process with its parent.
 *
 * Private memory that a fork left shared is one frame in both page tables, at the same address.  Such
 * pages are sent with the parent only; at the restore the child is forked from the parent once that
 * one is filled, keeps the areas that both have, drops what is not its own (MADV_DONTNEED) and
 * receives the rest over it.  So the target shares what the source shared.
 *
 * Not covered: sharing with anyone but the living parent that also forks it at the restore (cousins,
 * children whose parent is gone): those pages travel once for each process. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cr/mem/priv.h"

#define ALIKE_FLAGS (VMF(GD) | VMF(NR) | VMF(HG) | VMF(NH) | VMF(DP) | VMF(WF) | VMF(DC) | VMF(SL))

bool mem_areas_alike(const VmaEntry *a, const GwVmaExtra *ax, const VmaEntry *b, const GwVmaExtra *bx)
{
	if (!(a->status & (MS_ANON_PRIVATE | MS_FILE_PRIVATE)))
		return false;
	if ((a->status ^ b->status) & MS_KIND || (ax->vmflags ^ bx->vmflags) & ALIKE_FLAGS)
		return false;
	/* What is left out at a fork, or emptied, was never shared by one; and a sealed area could not
	 * be changed in the child. */
	if (ax->vmflags & (VMF(WF) | VMF(DC) | VMF(SL) | VMF(DP)))
		return false;
	if (ax->name.len != bx->name.len ||
	    (ax->name.len && memcmp(ax->name.data, bx->name.data, ax->name.len)))
		return false;
	if (a->status & MS_ANON_PRIVATE)
		return true;
	return a->shmid == b->shmid && a->pgoff - a->start == b->pgoff - b->start;
}

struct compare {
	int child_fd, parent_fd;
	struct ranges own, inherited;
};

/* Splits one run of the child's pages, all within an area alike, by whose they are. */
static int compare_run(struct compare *c, uint64_t at, uint64_t n_pages)
{
	uint64_t mine[1024], theirs[1024];
	const uint64_t frame = PAGEMAP_E_PRESENT | PAGEMAP_E_PFN;

	while (n_pages) {
		size_t n = n_pages < array_len(mine) ? (size_t)n_pages : array_len(mine);
		int r = pagemap_entries(c->child_fd, at, mine, n);

		if (r == 0)
			r = pagemap_entries(c->parent_fd, at, theirs, n);
		for (size_t i = 0; i < n && r == 0; i++) {
			/* Frame number 0 is what a reader without CAP_SYS_ADMIN sees. */
			bool same = (mine[i] & PAGEMAP_E_PRESENT) && (mine[i] & PAGEMAP_E_PFN) &&
				    (mine[i] & frame) == (theirs[i] & frame);

			r = ranges_add(same ? &c->inherited : &c->own, at + i * PAGE, 1);
		}
		if (r < 0)
			return r;
		at += n * PAGE;
		n_pages -= n;
	}
	return 0;
}

/* The next stretch of [at, end) that has one answer to "does the parent have a like area here". */
static uint64_t stretch(const struct mem *m, const struct mem *pm, size_t *ci, size_t *pi, uint64_t at,
			uint64_t end, bool *ret_alike)
{
	const VmaEntry *c, *p;

	while (m->mm->vmas[*ci]->end <= at)
		(*ci)++;
	while (*pi < pm->mm->n_vmas && pm->mm->vmas[*pi]->end <= at)
		(*pi)++;
	c = m->mm->vmas[*ci];
	end = c->end < end ? c->end : end;
	*ret_alike = false;
	if (*pi == pm->mm->n_vmas)
		return end;
	p = pm->mm->vmas[*pi];
	if (p->start > at)
		return p->start < end ? p->start : end;
	*ret_alike = mem_areas_alike(c, m->gw->vmas[*ci], p, pm->gw->vmas[*pi]);
	return p->end < end ? p->end : end;
}

static int compare_all(struct compare *c, const struct mem *m, const struct mem *pm)
{
	size_t ci = 0, pi = 0;

	for (size_t i = 0; i < m->pages.n; i++) {
		uint64_t at = m->pages.v[i].vaddr, end = at + m->pages.v[i].n_pages * PAGE;

		while (at < end) {
			bool alike;
			uint64_t to = stretch(m, pm, &ci, &pi, at, end, &alike);
			int r = alike ? compare_run(c, at, (to - at) / PAGE)
				      : ranges_add(&c->own, at, (to - at) / PAGE);

			if (r < 0)
				return r;
			at = to;
		}
	}
	return 0;
}

int mem_plan_cow(struct task *t, struct err *e)
{
	struct task *parent = t->parent;
	struct compare c = { .child_fd = -1, .parent_fd = -1 };
	struct mem *m = t->mem;
	int r = 0;

	if (!parent || parent->zombie || !parent->mem || !parent->mem->mm || !m->pages.n)
		return 0;
	if (t->extra && t->extra->has_created_by && t->extra->created_by != parent->nspid)
		return 0;
	c.child_fd = openat(t->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	c.parent_fd = openat(parent->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	if (c.child_fd < 0 || c.parent_fd < 0)
		r = -errno;
	if (r == 0)
		r = compare_all(&c, m, parent->mem);
	if (r == 0 && c.inherited.n) {
		struct ranges old = m->pages;

		r = ranges_to_pb(&c.inherited, &m->gw->inherited);
		m->gw->has_cow_parent = true;
		m->gw->cow_parent = parent->nspid;
		m->pages = c.own;
		c.own = old;
	}
	ranges_done(&c.own);
	ranges_done(&c.inherited);
	fd_close(&c.child_fd);
	fd_close(&c.parent_fd);
	return r < 0 ? err_sys(e, r, "comparing the pages of process %d with its parent's", (int)t->nspid) : 0;
}

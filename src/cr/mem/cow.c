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

/* The entries of one page table of a process: what a fork shares is in many small pieces, side by side. */
#define WINDOW 512
struct window {
	int fd;
	uint64_t start; /* of the first; 0: nothing was read */
	uint64_t v[WINDOW];
};

/* Entries of [at, at + n pages), at most to the end of a window.  The count, or -errno. */
static int window_get(struct window *w, uint64_t at, uint64_t n, const uint64_t **ret)
{
	uint64_t start = at & ~(WINDOW * PAGE - 1), end = start + WINDOW * PAGE;
	size_t skip = (size_t)((at - start) / PAGE);

	if (!w->start || w->start != start) {
		int r = pagemap_entries(w->fd, start, w->v, (size_t)(((end < MEM_TASK_END ? end : MEM_TASK_END) - start) / PAGE));

		w->start = 0;
		if (r < 0)
			return r;
		w->start = start;
	}
	*ret = w->v + skip;
	return n < WINDOW - skip ? (int)n : (int)(WINDOW - skip);
}

struct compare {
	struct window child, parent;
	struct ranges own, inherited;
};

/* Splits one run of the child's pages, all within an area alike, by whose they are. */
static int compare_run(struct compare *c, uint64_t at, uint64_t n_pages)
{
	const uint64_t *mine, *theirs;
	const uint64_t frame = PAGEMAP_E_PRESENT | PAGEMAP_E_PFN;

	while (n_pages) {
		int r = window_get(&c->child, at, n_pages, &mine);
		size_t n = r < 0 ? 0 : (size_t)r;

		if (r >= 0)
			r = window_get(&c->parent, at, n_pages, &theirs);
		for (size_t i = 0; i < n && r >= 0; i++) {
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
	struct compare c = { .child.fd = -1, .parent.fd = -1 };
	struct mem *m = t->mem;
	int r = 0;

	if (!parent || parent->zombie || !parent->mem || !parent->mem->mm || !m->pages.n)
		return 0;
	if (t->extra && t->extra->has_created_by && t->extra->created_by != parent->nspid)
		return 0;
	c.child.fd = openat(t->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	c.parent.fd = openat(parent->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	if (c.child.fd < 0 || c.parent.fd < 0)
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
	fd_close(&c.child.fd);
	fd_close(&c.parent.fd);
	return r < 0 ? err_sys(e, r, "comparing the pages of process %d with its parent's", (int)t->nspid) : 0;
}

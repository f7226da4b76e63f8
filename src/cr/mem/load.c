/* The plan of a restore: records checked, and a place for the agent.  Everything here may be hostile. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/mem/priv.h"
#include "sys/procfs.h"


static int bad(struct err *e, const struct rtask *t, uint64_t at, const char *what)
{
	return err_set(e, -EPROTO, "process %d, mapping at %llx: the record %s", (int)t->nspid,
		       (unsigned long long)at, what);
}

static int load_shm(struct rmem_all *all, const struct rtask *t, const VmaEntry *va,
		    const GwVmaExtra *x, struct err *e)
{
	int r;

	if (!x->has_shm || !x->has_shm_size || x->shm > all->n_shms)
		return bad(e, t, va->start, "names no shared object");
	if (!x->shm_size || x->shm_size % PAGE || x->shm_size > MEM_SHM_MAX)
		return bad(e, t, va->start, "gives a shared object an impossible size");
	/* Indices come in the order of first use. */
	if (x->shm == all->n_shms) {
		r = array_grow(all->shms, all->n_shms, all->cap_shms);
		if (r < 0)
			return err_set(e, r, "no memory");
		all->shms[all->n_shms++] = (struct rshm){ x->shm_size, -1 };
	}
	if (all->shms[x->shm].size != x->shm_size)
		return bad(e, t, va->start, "contradicts another one on the size of a shared object");
	return 0;
}

static int load_area(struct restore *r, struct rmem_all *all, const struct rtask *t, size_t i,
		     struct err *e)
{
	const MmEntry *mm = t->rmem->mm;
	const VmaEntry *va = mm->vmas[i];
	const GwVmaExtra *x = t->rmem->gw->vmas[i];
	uint64_t before = i ? mm->vmas[i - 1]->end : PAGE;
	uint32_t kind = va->status & MS_KIND;

	if (va->start % PAGE || va->end % PAGE || va->start < before || va->end <= va->start ||
	    va->end > MEM_TASK_END || va->pgoff % PAGE)
		return bad(e, t, va->start, "has impossible addresses");
	if (!x->has_start || x->start != va->start || va->prot > 7)
		return bad(e, t, va->start, "contradicts itself");
	if (x->vmflags & (VMF(HT) | VMF(PF) | VMF(IO) | VMF(SS) | VMF(UM) | VMF(UW) | VMF(UI)))
		return bad(e, t, va->start, "describes memory that cannot be made");
	switch (kind) {
	case MS_ANON_PRIVATE:
		return 0;
	case MS_ANON_SHARED:
		return load_shm(all, t, va, x, e);
	case MS_FILE_PRIVATE:
	case MS_FILE_SHARED:
		if (!va->shmid || va->shmid > UINT32_MAX || !restore_file(r, (uint32_t)va->shmid))
			return bad(e, t, va->start, "refers to a file that is not there");
		return 0;
	default:
		return bad(e, t, va->start, "has an unknown kind of mapping");
	}
}

static int load_cow(struct rtask *t, struct err *e)
{
	struct rmem *m = t->rmem;
	struct piece_walk w = { 0 };
	struct piece pc;
	size_t k = 0;
	uint64_t at = 0;

	if (!m->gw->has_cow_parent || !m->gw->cow_parent)
		return m->inherited.n ? err_set(e, -EPROTO, "process %d shares pages with nobody",
						(int)t->nspid)
				      : 0;
	if (!t->parent || t->parent->nspid != m->gw->cow_parent || !t->parent->rmem || t->parent->zombie)
		return err_set(e, -EPROTO, "process %d shares pages with %d, which is not its parent",
			       (int)t->nspid, (int)m->gw->cow_parent);
	m->cow_parent = t->parent;
	/* Every inherited page must lie in an area that the fork brings along. */
	while (k < m->inherited.n && piece_next(m, &w, &pc)) {
		if (!pc.kept)
			continue;
		while (k < m->inherited.n) {
			uint64_t start = m->inherited.v[k].vaddr;
			uint64_t end = start + m->inherited.v[k].n_pages * PAGE;

			at = at > start ? at : start;
			if (at < pc.start)
				return bad(e, t, at, "inherits what its parent does not have");
			if (at >= pc.end)
				break;
			at = end < pc.end ? end : pc.end;
			if (at < end)
				break;
			k++;
		}
	}
	return k < m->inherited.n ? bad(e, t, at, "inherits what its parent does not have") : 0;
}

/* Takes the kernel's own areas out of the record, which is the image's: gw_mem says where the vdso was. */
static void drop_kernel_areas(MmEntry *mm)
{
	size_t n = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		if (mm->vmas[i]->status & (MS_VDSO | MS_VVAR | MS_VSYSCALL))
			vma_entry__free_unpacked(mm->vmas[i], NULL);
		else
			mm->vmas[n++] = mm->vmas[i];
	}
	mm->n_vmas = n;
}

static int load_task(struct restore *r, struct rmem_all *all, struct rtask *t, struct err *e)
{
	const struct record *mm = image_find(r->image, REC_MM, (uint32_t)t->nspid, NULL);
	const struct record *gw = image_find(r->image, REC_GW_MEM, (uint32_t)t->nspid, NULL);
	struct rmem *m = t->rmem;
	int ret;

	if (!mm || !gw)
		return err_set(e, -EPROTO, "process %d: the stream has no record of its memory",
			       (int)t->nspid);
	drop_kernel_areas((MmEntry *)mm->msg);
	m->mm = (const MmEntry *)mm->msg;
	m->gw = (const GwMem *)gw->msg;
	if (m->mm->n_vmas != m->gw->n_vmas || m->mm->n_vmas > MEM_VMAS_MAX)
		return err_set(e, -EPROTO, "process %d: its records of memory contradict each other",
			       (int)t->nspid);
	if (!m->mm->exe_file_id || !restore_file(r, m->mm->exe_file_id))
		return err_set(e, -EPROTO, "process %d: its program is not among the files", (int)t->nspid);
	if (m->mm->n_mm_saved_auxv > 128)
		return err_set(e, -EPROTO, "process %d: its auxiliary vector is too long", (int)t->nspid);
	for (size_t i = 0; i < m->mm->n_vmas; i++) {
		ret = load_area(r, all, t, i, e);
		if (ret < 0)
			return ret;
	}
	if (ranges_from_pb(m->gw->guards, MEM_TASK_END, &m->guards) < 0 ||
	    ranges_from_pb(m->gw->inherited, MEM_TASK_END, &m->inherited) < 0)
		return err_set(e, -EPROTO, "process %d: its list of pages is not one", (int)t->nspid);
	return load_cow(t, e);
}

/* All tasks come from one kernel: one vdso, and it has to be ours. */
static int load_vdso(struct restore *r, const GwHeader *h, struct err *e)
{
	auto_fd int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct vma_list l = { 0 };
	struct vdso_block own;
	uint8_t hash[MEM_HASH_LEN];
	int ret;

	if (self < 0)
		return err_sys(e, -errno, "opening /proc/self");
	ret = vma_read_plain(self, &l, e);
	if (ret < 0)
		return ret;
	ret = vdso_find(&l, &own);
	vma_list_done(&l);
	if (ret < 0)
		return err_set(e, ret, "the parts of the vdso have been moved apart");
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rmem *m = r->tasks[i]->rmem;

		if (!m || !m->gw->vdso_size)
			continue;
		if (m->gw->vdso_start % PAGE || m->gw->vdso_start > MEM_TASK_END - m->gw->vdso_size)
			return bad(e, r->tasks[i], m->gw->vdso_start, "puts the vdso nowhere");
		ret = mem_vdso_hash(hash, e);
		if (ret < 0)
			return ret;
		if (m->gw->vdso_size != own.size || !h || h->vdso_sha256.len != MEM_HASH_LEN ||
		    memcmp(h->vdso_sha256.data, hash, MEM_HASH_LEN))
			return err_set(e, -EXDEV, "the source runs another kernel%s%s: its vdso (code of "
				       "the kernel in every process) differs from this host's; both hosts "
				       "need the same kernel", h && h->kernel ? ", " : "",
				       h && h->kernel ? h->kernel : "");
	}
	return 0;
}

static bool huge_on_request(void)
{
	auto_free char *text = NULL;

	return fd_read_file_at(AT_FDCWD, "/sys/kernel/mm/transparent_hugepage/enabled", 256, &text, NULL) >= 0 &&
	       strstr(text, "[madvise]");
}

int mem_load(struct restore *r, struct err *e)
{
	const struct record *hr = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = hr ? (const GwHeader *)hr->msg : NULL;
	struct rmem_all *all = calloc(1, sizeof(*all));
	int ret = 0;

	if (!all)
		return err_set(e, -ENOMEM, "no memory");
	if (h && __builtin_mul_overflow(h->pages, PAGE, &all->total))
		all->total = 0;
	all->huge_on_request = huge_on_request();
	for (size_t i = 0; i < r->n_tasks && ret >= 0; i++) {
		struct rtask *t = r->tasks[i];

		if (t->zombie)
			continue;
		t->rmem = calloc(1, sizeof(*t->rmem));
		if (!t->rmem)
			ret = err_set(e, -ENOMEM, "no memory");
		else if (all && i == 0)
			t->rmem->all = all;
		if (ret >= 0)
			ret = load_task(r, all, t, e);
	}
	if (!r->n_tasks || !r->tasks[0]->rmem) {
		free(all);
		return ret < 0 ? ret : err_set(e, -EPROTO, "the stream has no first process");
	}
	return ret < 0 ? ret : load_vdso(r, h, e);
}

void mem_restore_done(struct restore *r)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rmem *m = r->tasks[i]->rmem;

		if (!m)
			continue;
		ranges_done(&m->guards);
		ranges_done(&m->inherited);
		for (size_t k = 0; m->all && k < m->all->n_shms; k++)
			fd_close(&m->all->shms[k].fd);
		if (m->all)
			free(m->all->shms);
		free(m->all);
		free(m);
		r->tasks[i]->rmem = NULL;
	}
}

int mem_cow_of_parent(const struct restore *r, const struct rtask *t)
{
	return t->rmem && t->rmem->cow_parent;
}

/* ---- a place for the agent ---- */

struct span {
	uint64_t start, end;
};

static int span_order(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Above 4 GiB, where nothing asks for its place (MAP_32BIT, old programs). */
#define AGENT_LOWEST (1ull << 32)

static int find_hole(struct span *s, size_t n, uint64_t len, uint64_t *ret)
{
	uint64_t at = AGENT_LOWEST;

	qsort(s, n, sizeof(*s), span_order);
	for (size_t i = 0; i < n; i++) {
		if (s[i].start >= at && s[i].start - at >= len)
			break;
		at = s[i].end > at ? s[i].end : at;
	}
	if (at > MEM_TASK_END || MEM_TASK_END - at < len)
		return -ENOSPC;
	*ret = at;
	return 0;
}

int mem_agent_address(const struct restore *r, pid_t pid, uint64_t *ret_addr, struct err *e)
{
	auto_fd int dir = proc_open(r->proc_fd, pid);
	auto_free struct span *s = NULL;
	struct vma_list now = { 0 };
	size_t n = 0, cap;
	int ret;

	if (dir < 0)
		return err_sys(e, dir, "opening /proc/%d", (int)pid);
	ret = vma_read_plain(dir, &now, e);
	if (ret < 0)
		return ret;
	cap = now.n;
	for (size_t i = 0; i < r->n_tasks; i++)
		cap += r->tasks[i]->rmem ? r->tasks[i]->rmem->mm->n_vmas + 1 : 0;
	s = calloc(cap, sizeof(*s));
	for (size_t i = 0; s && i < now.n; i++)
		s[n++] = (struct span){ now.v[i].start, now.v[i].end };
	vma_list_done(&now);
	for (size_t i = 0; s && i < r->n_tasks; i++) {
		const struct rmem *m = r->tasks[i]->rmem;

		for (size_t k = 0; m && k < m->mm->n_vmas; k++)
			s[n++] = (struct span){ m->mm->vmas[k]->start, m->mm->vmas[k]->end };
		if (m)
			s[n++] = (struct span){ m->gw->vdso_start, m->gw->vdso_start + m->gw->vdso_size };
	}
	if (!s)
		return err_set(e, -ENOMEM, "no memory");
	/* Agent, an unmapped page, vdso; and a page before and behind all. */
	ret = find_hole(s, n, AGENT_SPAN + VDSO_PARK_SPAN + 4 * PAGE, ret_addr);
	if (ret < 0)
		return err_set(e, ret, "no address is free in the memory of all processes");
	*ret_addr += PAGE;
	return 0;
}

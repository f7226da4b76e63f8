/* Mappings of a restored process, made by the process itself (its agent) at their final addresses.
 *
 * Order: everything old goes (prepare), all areas are mapped, those that will receive pages writable
 * (map), pages arrive (receive.c), then protections, advice, locks, names, guard pages, the marks of
 * mm_struct and the program's link (final).  The vdso waits behind the agent in between. */
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/mem/priv.h"
#include "sys/procfs.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif
#define ADV_GUARD_INSTALL 102 /* MADV_GUARD_INSTALL, Linux 6.13 */
#define NR_mseal 462 /* Linux 6.10 */
#define PR_SET_VMA_ 0x53564d41

bool piece_next(const struct rmem *m, struct piece_walk *w, struct piece *ret)
{
	const struct rmem *pm = m->cow_parent ? m->cow_parent->rmem : NULL;
	const VmaEntry *c, *p;

	while (w->area < m->mm->n_vmas && m->mm->vmas[w->area]->end <= w->at)
		w->area++;
	if (w->area == m->mm->n_vmas)
		return false;
	c = m->mm->vmas[w->area];
	*ret = (struct piece){ w->at > c->start ? w->at : c->start, c->end, w->area, false, 0 };
	while (pm && w->parent_area < pm->mm->n_vmas && pm->mm->vmas[w->parent_area]->end <= ret->start)
		w->parent_area++;
	if (pm && w->parent_area < pm->mm->n_vmas) {
		p = pm->mm->vmas[w->parent_area];
		if (p->start > ret->start) {
			ret->end = p->start < ret->end ? p->start : ret->end;
		} else {
			ret->end = p->end < ret->end ? p->end : ret->end;
			ret->parent_area = w->parent_area;
			ret->kept = mem_areas_alike(c, m->gw->vmas[w->area], p,
						    pm->gw->vmas[w->parent_area]);
		}
	}
	w->at = ret->end;
	return true;
}

int area_fill_prot(const struct rmem *m, size_t area)
{
	int prot = (int)m->mm->vmas[area]->prot;

	/* A mapping that was ever writable is accounted differently: only where pages will come. */
	return m->gw->vmas[area]->has_pages ? prot | PROT_READ | PROT_WRITE : prot;
}

static int read_now(struct restore *r, const struct rtask *t, struct vma_list *ret, struct err *e)
{
	auto_fd int dir = proc_open(r->proc_fd, t->pid);

	if (dir < 0)
		return err_sys(e, dir, "opening /proc/%d", (int)t->pid);
	return vma_read_plain(dir, ret, e);
}

/* ---- prepare ---- */

struct keeper {
	struct batch b;
	uint64_t at; /* below it all is decided */
	struct span {
		uint64_t start, end;
	} zone[2]; /* agent and park, ascending */
};

static int unmap(struct keeper *k, uint64_t to, struct err *e)
{
	uint64_t at = k->at;

	if (at >= to)
		return 0;
	k->at = to;
	return BATCH(&k->b, 0, e, SYS_munmap, aarg_imm(at), aarg_imm(to - at));
}

static int unmap_to(struct keeper *k, uint64_t to, struct err *e)
{
	for (int i = 0; i < 2; i++) {
		int ret = unmap(k, k->zone[i].start < to ? k->zone[i].start : to, e);

		if (ret < 0)
			return ret;
		if (k->at >= k->zone[i].start && k->at < k->zone[i].end)
			k->at = k->zone[i].end;
	}
	return unmap(k, to, e);
}

/* Drops what the parent has in a kept piece and the child has not. */
static int drop_foreign(struct keeper *k, const struct rmem *m, const struct piece *pc, size_t *ri,
			struct err *e)
{
	uint64_t at = pc->start;

	while (at < pc->end) {
		const struct page_range *in = *ri < m->inherited.n ? &m->inherited.v[*ri] : NULL;
		uint64_t in_end = in ? in->vaddr + in->n_pages * PAGE : 0;
		uint64_t to = in && in->vaddr < pc->end ? in->vaddr : pc->end;
		int ret;

		if (in && in_end <= at) {
			(*ri)++;
			continue;
		}
		if (at < to) {
			ret = BATCH(&k->b, 0, e, SYS_madvise, aarg_imm(at), aarg_imm(to - at),
				    aarg_imm(MADV_DONTNEED));
			if (ret < 0)
				return ret;
		}
		at = in && in->vaddr < pc->end ? in_end : pc->end;
	}
	return 0;
}

int mem_prepare(struct restore *r, struct rtask *t, struct err *e)
{
	struct keeper k = { .b.a = t->agent };
	struct vma_list now = { 0 };
	uint64_t agent_start, agent_end, park = mem_scratch(t->agent);
	struct piece_walk w = { 0 };
	struct piece pc;
	size_t ri = 0;
	int ret;

	agent_range(t->agent, &agent_start, &agent_end);
	k.zone[0] = (struct span){ agent_start, agent_end };
	k.zone[1] = (struct span){ park, park + VDSO_PARK_SPAN };
	ret = read_now(r, t, &now, e);
	if (ret >= 0)
		ret = vdso_move(t->agent, &now, park, e);
	vma_list_done(&now);
	while (ret >= 0 && t->rmem->cow_parent && piece_next(t->rmem, &w, &pc)) {
		if (!pc.kept)
			continue;
		ret = unmap_to(&k, pc.start, e);
		if (ret >= 0)
			ret = drop_foreign(&k, t->rmem, &pc, &ri, e);
		k.at = pc.end;
	}
	if (ret >= 0)
		ret = unmap_to(&k, MEM_TASK_END, e);
	if (ret >= 0)
		ret = batch_flush(&k.b, e);
	batch_done(&k.b);
	return ret < 0 ? err_context(e, ret, "process %d: clearing its memory", (int)t->nspid) : 0;
}

/* ---- map ---- */

#define OPEN_FILES 32

struct mapper {
	struct batch b;
	struct restore *r;
	struct rtask *t;
	struct {
		uint64_t key;
		int number;
	} file[OPEN_FILES];
	size_t n_files;
};

static int close_files(struct mapper *m, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; i < m->n_files && ret >= 0; i++)
		ret = BATCH(&m->b, 0, e, SYS_close, aarg_imm((uint64_t)m->file[i].number));
	m->n_files = 0;
	return ret < 0 ? ret : batch_flush(&m->b, e);
}

#define KEY_SHM (1ull << 32)

/* The number of a file or shared object in the task. */
static int file_number(struct mapper *m, uint64_t key, int *ret_number, struct err *e)
{
	int fd, ret;

	for (size_t i = 0; i < m->n_files; i++)
		if (m->file[i].key == key) {
			*ret_number = m->file[i].number;
			return 0;
		}
	if (m->n_files == OPEN_FILES) {
		ret = close_files(m, e);
		if (ret < 0)
			return ret;
	}
	if (key & KEY_SHM) {
		ret = rshm_open(m->r, (uint32_t)key, &fd, e);
		if (ret < 0)
			return ret;
	} else {
		fd = restore_file(m->r, (uint32_t)key)->fd;
		if (fd < 0)
			return err_set(e, -EBADF, "mapped file %u has not been opened", (uint32_t)key);
	}
	ret = agent_put_fd(m->t->agent, fd, ret_number, e);
	if (ret < 0)
		return ret;
	m->file[m->n_files].key = key;
	m->file[m->n_files++].number = *ret_number;
	return 0;
}

static int map_piece(struct mapper *m, const struct piece *pc, struct err *e)
{
	const struct rmem *rm = m->t->rmem;
	const VmaEntry *va = rm->mm->vmas[pc->area];
	const GwVmaExtra *x = rm->gw->vmas[pc->area];
	uint32_t kind = va->status & MS_KIND;
	int prot = area_fill_prot(rm, pc->area), number = -1, ret = 0;
	uint64_t flags = MAP_FIXED_NOREPLACE, len = pc->end - pc->start;

	flags |= kind == MS_ANON_PRIVATE || kind == MS_FILE_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	if (kind == MS_ANON_PRIVATE)
		flags |= MAP_ANONYMOUS;
	if (x->vmflags & VMF(GD))
		flags |= MAP_GROWSDOWN;
	if (x->vmflags & VMF(NR))
		flags |= MAP_NORESERVE;
	if (kind == MS_ANON_PRIVATE && x->vmflags & VMF(DP))
		flags = MAP_FIXED_NOREPLACE | MAP_ANONYMOUS | MAP_DROPPABLE;
	if (kind == MS_ANON_SHARED)
		ret = file_number(m, KEY_SHM | x->shm, &number, e);
	else if (kind != MS_ANON_PRIVATE)
		ret = file_number(m, va->shmid, &number, e);
	if (ret >= 0)
		ret = BATCH(&m->b, 0, e, SYS_mmap, aarg_imm(pc->start), aarg_imm(len),
			    aarg_imm((uint64_t)prot), aarg_imm(flags), aarg_imm((uint64_t)(int64_t)number),
			    aarg_imm(kind == MS_ANON_PRIVATE ? 0 : va->pgoff + (pc->start - va->start)));
	/* Huge pages are decided when memory is touched. */
	if (ret >= 0 && x->vmflags & (VMF(HG) | VMF(NH)))
		ret = BATCH(&m->b, AOP_MAY_FAIL, e, SYS_madvise, aarg_imm(pc->start), aarg_imm(len),
			    aarg_imm(x->vmflags & VMF(HG) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
	return ret;
}

static int keep_piece(struct mapper *m, const struct piece *pc, struct err *e)
{
	int now = area_fill_prot(m->t->rmem->cow_parent->rmem, pc->parent_area);
	int want = area_fill_prot(m->t->rmem, pc->area);

	if (now == want)
		return 0;
	return BATCH(&m->b, 0, e, SYS_mprotect, aarg_imm(pc->start), aarg_imm(pc->end - pc->start),
		     aarg_imm((uint64_t)want));
}

int mem_map(struct restore *r, struct rtask *t, struct err *e)
{
	struct mapper m = { .b.a = t->agent, .r = r, .t = t };
	struct piece_walk w = { 0 };
	struct piece pc;
	int ret = 0;

	while (ret >= 0 && piece_next(t->rmem, &w, &pc))
		ret = pc.kept ? keep_piece(&m, &pc, e) : map_piece(&m, &pc, e);
	if (ret >= 0)
		ret = close_files(&m, e);
	batch_done(&m.b);
	if (ret >= 0) {
		struct vma_list now = { 0 };

		struct vdso_block block;

		ret = read_now(r, t, &now, e);
		if (ret >= 0 && t->rmem->gw->vdso_size && (vdso_find(&now, &block) < 0 || !block.size))
			ret = err_set(e, -ENOENT, "no vdso came with its parent");
		else if (ret >= 0 && t->rmem->gw->vdso_size)
			ret = vdso_move(t->agent, &now, t->rmem->gw->vdso_start, e);
		else if (ret >= 0)
			ret = AGENT_CALL(t->agent, NULL, e, SYS_munmap, mem_scratch(t->agent),
					 VDSO_PARK_SPAN, 0, 0, 0, 0);
		vma_list_done(&now);
	}
	return ret < 0 ? err_context(e, ret, "process %d: mapping its memory", (int)t->nspid) : 0;
}

/* ---- final ---- */

static int final_advice(struct batch *b, const VmaEntry *va, const GwVmaExtra *x, struct err *e)
{
	static const struct {
		uint64_t flag;
		int advice;
		unsigned may_fail; /* a kernel built without it has nothing to lose */
	} map[] = {
		{ VMF(SR), MADV_SEQUENTIAL, 0 }, { VMF(RR), MADV_RANDOM, 0 },
		{ VMF(DC), MADV_DONTFORK, 0 },   { VMF(DD), MADV_DONTDUMP, 0 },
		{ VMF(MG), MADV_MERGEABLE, AOP_MAY_FAIL }, { VMF(WF), MADV_WIPEONFORK, 0 },
	};
	uint64_t len = va->end - va->start;
	int ret = 0;

	for (size_t i = 0; i < array_len(map) && ret >= 0; i++)
		if (x->vmflags & map[i].flag && !(x->vmflags & VMF(DP)))
			ret = BATCH(b, map[i].may_fail, e, SYS_madvise, aarg_imm(va->start), aarg_imm(len),
				    aarg_imm((uint64_t)map[i].advice));
	return ret;
}

static int final_name(struct batch *b, const VmaEntry *va, const GwVmaExtra *x, struct err *e)
{
	char name[96];

	if (!x->name.len || x->name.len >= sizeof(name))
		return 0;
	memcpy(name, x->name.data, x->name.len);
	name[x->name.len] = '\0';
	if (!batch_prog(b))
		return err_set(e, -ENOMEM, "no memory");
	return BATCH(b, AOP_MAY_FAIL, e, SYS_prctl, aarg_imm(PR_SET_VMA_), aarg_imm(0),
		     aarg_imm(va->start), aarg_imm(va->end - va->start), aprog_str(b->p, name));
}

static int final_area(struct batch *b, const struct rmem *m, size_t i, struct err *e)
{
	const VmaEntry *va = m->mm->vmas[i];
	const GwVmaExtra *x = m->gw->vmas[i];
	uint64_t len = va->end - va->start;
	int ret = 0;

	if (area_fill_prot(m, i) != (int)va->prot)
		ret = BATCH(b, 0, e, SYS_mprotect, aarg_imm(va->start), aarg_imm(len), aarg_imm(va->prot));
	if (ret >= 0)
		ret = final_advice(b, va, x, e);
	if (ret >= 0)
		ret = final_name(b, va, x, e);
	if (ret >= 0 && x->vmflags & VMF(LO))
		ret = BATCH(b, 0, e, SYS_mlock2, aarg_imm(va->start), aarg_imm(len),
			    aarg_imm(x->vmflags & VMF(LF) ? MLOCK_ONFAULT : 0));
	return ret;
}

static int final_marks(struct restore *r, struct rtask *t, struct err *e)
{
	const MmEntry *mm = t->rmem->mm;
	int exe = restore_file(r, mm->exe_file_id)->fd, number, ret;
	struct batch b = { .a = t->agent };
	uint64_t at = mem_scratch(t->agent); /* free again; the pointer to auxv needs a known address */
	struct {
		struct prctl_mm_map map;
		uint64_t auxv[130];
	} m = { .map = {
			.start_code = mm->mm_start_code, .end_code = mm->mm_end_code,
			.start_data = mm->mm_start_data, .end_data = mm->mm_end_data,
			.start_brk = mm->mm_start_brk, .brk = mm->mm_brk,
			.start_stack = mm->mm_start_stack,
			.arg_start = mm->mm_arg_start, .arg_end = mm->mm_arg_end,
			.env_start = mm->mm_env_start, .env_end = mm->mm_env_end,
			.auxv_size = (uint32_t)(mm->n_mm_saved_auxv * sizeof(uint64_t)),
		} };

	if (exe < 0)
		return err_set(e, -EBADF, "the program has not been opened");
	ret = agent_put_fd(t->agent, exe, &number, e);
	if (ret < 0)
		return ret;
	memcpy(m.auxv, mm->mm_saved_auxv, m.map.auxv_size);
	m.map.auxv = (void *)(uintptr_t)(at + offsetof(__typeof__(m), auxv));
	m.map.exe_fd = (uint32_t)number;
	ret = BATCH(&b, 0, e, SYS_mmap, aarg_imm(at), aarg_imm(PAGE), aarg_imm(PROT_READ | PROT_WRITE),
		    aarg_imm(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE), aarg_imm(~0ull),
		    aarg_imm(0));
	if (ret >= 0) {
		aprog_poke(b.p, at, &m, sizeof(m));
		ret = BATCH(&b, 0, e, SYS_prctl, aarg_imm(PR_SET_MM), aarg_imm(PR_SET_MM_MAP),
			    aarg_imm(at), aarg_imm(sizeof(m.map)), aarg_imm(0));
	}
	if (ret >= 0)
		ret = BATCH(&b, 0, e, SYS_munmap, aarg_imm(at), aarg_imm(PAGE));
	if (ret >= 0)
		ret = BATCH(&b, 0, e, SYS_close, aarg_imm((uint64_t)number));
	if (ret >= 0 && mm->has_thp_disabled && mm->thp_disabled)
		ret = BATCH(&b, 0, e, SYS_prctl, aarg_imm(PR_SET_THP_DISABLE), aarg_imm(1), aarg_imm(0),
			    aarg_imm(0), aarg_imm(0));
	if (ret >= 0)
		ret = batch_flush(&b, e);
	batch_done(&b);
	return ret < 0 ? err_context(e, ret, "its marks (PR_SET_MM_MAP)") : 0;
}

int mem_protect_final(struct restore *r, struct rtask *t, struct err *e)
{
	const struct rmem *m = t->rmem;
	struct batch b = { .a = t->agent };
	int ret = 0;

	for (size_t i = 0; i < m->mm->n_vmas && ret >= 0; i++)
		ret = final_area(&b, m, i, e);
	for (size_t i = 0; i < m->guards.n && ret >= 0; i++)
		ret = BATCH(&b, 0, e, SYS_madvise, aarg_imm(m->guards.v[i].vaddr),
			    aarg_imm(m->guards.v[i].n_pages * PAGE), aarg_imm(ADV_GUARD_INSTALL));
	for (size_t i = 0; i < m->mm->n_vmas && ret >= 0; i++)
		if (m->gw->vmas[i]->vmflags & VMF(SL))
			ret = BATCH(&b, 0, e, NR_mseal, aarg_imm(m->mm->vmas[i]->start),
				    aarg_imm(m->mm->vmas[i]->end - m->mm->vmas[i]->start), aarg_imm(0));
	if (ret >= 0)
		ret = batch_flush(&b, e);
	batch_done(&b);
	if (ret >= 0)
		ret = final_marks(r, t, e);
	return ret < 0 ? err_context(e, ret, "process %d: finishing its memory", (int)t->nspid) : 0;
}

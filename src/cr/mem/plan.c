/* The plan of a dump: mappings as records, and which pages travel.
 *
 * Kernel state: VMAs (/proc/PID/smaps), mapped files (/proc/PID/map_files), brk and the other marks
 * of mm_struct (/proc/PID/stat, brk(0) by the agent), auxv.  Pages come from pagemap. */
#include <fcntl.h>
#include <linux/mman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/mem/priv.h"
#include "sys/procfs.h"

struct mem *mem_of(struct task *t)
{
	if (!t->mem)
		t->mem = calloc(1, sizeof(*t->mem));
	return t->mem;
}

/* The id of a mapped file, one for each file, path and way of access. */
static int file_id(struct dump *d, struct mem_all *all, struct task *t, const struct vma *v,
		   uint32_t *ret_id, int *ret_access, struct err *e)
{
	/* A shared mapping may write if the file was open for it; MAP_PRIVATE needs reading only. */
	int access = v->shared && (v->flags & VMF(MW)) ? O_RDWR : O_RDONLY;
	auto_fd int fd = -1;
	struct ofile *of;
	char *path;
	int r;

	*ret_access = access;
	for (size_t i = 0; i < all->n_files; i++) {
		const struct mapped_file *f = &all->files[i];

		if (f->ino == v->ino && f->major == v->major && f->minor == v->minor &&
		    f->access == access && strcmp(f->path, v->path) == 0) {
			*ret_id = f->id;
			return 0;
		}
	}
	fd = vma_open(t->proc_fd, v, access);
	if (fd < 0)
		return err_sys(e, fd, "opening the mapped file %s", v->path);
	r = dump_ofile_of(d, t, fd_take(&fd), &of, e);
	if (r < 0)
		return err_context(e, r, "mapped file %s", v->path);
	if (array_grow(all->files, all->n_files, all->cap_files) < 0 || !(path = strdup(v->path)))
		return err_set(e, -ENOMEM, "no memory");
	all->files[all->n_files++] = (struct mapped_file){ .major = v->major, .minor = v->minor,
		.id = of->id, .ino = v->ino, .access = access, .path = path };
	*ret_id = of->id;
	return 0;
}

/* The index of the shared anonymous object behind a mapping. */
static int shm_index(struct mem_all *all, struct task *t, const struct vma *v, uint32_t *ret,
		     struct err *e)
{
	struct stat st;
	int fd;

	for (size_t i = 0; i < all->n_shms; i++) {
		const struct shm *s = &all->shms[i];

		if (s->ino == v->ino && s->major == v->major && s->minor == v->minor) {
			*ret = (uint32_t)i;
			return 0;
		}
	}
	fd = vma_open(t->proc_fd, v, O_RDONLY);
	if (fd < 0)
		return err_sys(e, fd, "opening shared memory");
	if (fstat(fd, &st) < 0 || array_grow(all->shms, all->n_shms, all->cap_shms) < 0) {
		int r = err_sys(e, errno ? -errno : -ENOMEM, "shared memory");

		close(fd);
		return r;
	}
	all->shms[all->n_shms] = (struct shm){ .major = v->major, .minor = v->minor, .ino = v->ino,
		.size = ((uint64_t)st.st_size + PAGE - 1) & ~(PAGE - 1), .fd = fd };
	*ret = (uint32_t)all->n_shms++;
	return 0;
}

static uint64_t advice(uint64_t f)
{
	static const struct {
		uint64_t flag;
		int advice;
	} map[] = {
		{ VMF(SR), MADV_SEQUENTIAL }, { VMF(RR), MADV_RANDOM }, { VMF(DC), MADV_DONTFORK },
		{ VMF(HG), MADV_HUGEPAGE }, { VMF(NH), MADV_NOHUGEPAGE }, { VMF(DD), MADV_DONTDUMP },
		{ VMF(MG), MADV_MERGEABLE }, { VMF(WF), MADV_WIPEONFORK },
	};
	uint64_t bits = 0;

	for (size_t i = 0; i < array_len(map); i++)
		if (f & map[i].flag)
			bits |= 1ull << map[i].advice;
	return bits;
}

static uint32_t map_flags(const struct vma *v, enum mem_kind kind)
{
	uint32_t f = v->shared ? MAP_SHARED : MAP_PRIVATE;

	if (kind != MK_FILE)
		f |= MAP_ANONYMOUS;
	if (v->flags & VMF(GD))
		f |= MAP_GROWSDOWN;
	if (v->flags & VMF(NR))
		f |= MAP_NORESERVE;
	if (v->flags & VMF(LO))
		f |= MAP_LOCKED;
	return f;
}

static int add_area(struct dump *d, struct mem_all *all, struct task *t, const struct vma *v,
		    enum mem_kind kind, struct err *e)
{
	struct mem *m = t->mem;
	VmaEntry *va = malloc(sizeof(*va));
	GwVmaExtra *x = malloc(sizeof(*x));
	uint32_t id = 0;
	int access = O_RDONLY, r;

	if (!va || !x) {
		free(va);
		free(x);
		return err_set(e, -ENOMEM, "no memory");
	}
	vma_entry__init(va);
	gw_vma_extra__init(x);
	m->mm->vmas[m->mm->n_vmas++] = va;
	m->gw->vmas[m->gw->n_vmas++] = x;
	va->start = x->start = v->start;
	va->end = v->end;
	va->prot = (uint32_t)v->prot;
	va->flags = map_flags(v, kind);
	va->fd = -1;
	va->status = MS_REGULAR;
	va->madv = advice(v->flags);
	va->has_madv = va->madv != 0;
	x->has_start = x->has_vmflags = true;
	x->vmflags = v->flags;
	if (kind == MK_ANON) {
		va->status |= MS_ANON_PRIVATE;
		if (str_eq(v->path, "[stack]"))
			va->status |= MS_STACK;
		else if (str_eq(v->path, "[heap]"))
			va->status |= MS_HEAP;
	} else if (kind == MK_SHM) {
		r = shm_index(all, t, v, &id, e);
		if (r < 0)
			return r;
		va->status |= MS_ANON_SHARED;
		va->pgoff = v->pgoff;
		va->shmid = (uint64_t)id + 1;
		x->shm = id;
		x->shm_size = all->shms[id].size;
		x->has_shm = x->has_shm_size = true;
	} else {
		r = file_id(d, all, t, v, &id, &access, e);
		if (r < 0)
			return r;
		va->status |= v->shared ? MS_FILE_SHARED : MS_FILE_PRIVATE;
		va->pgoff = v->pgoff;
		va->shmid = x->file_id = id;
		x->has_file_id = true;
		va->has_fdflags = true;
		va->fdflags = (uint32_t)access;
	}
	if (str_starts(v->path, "[anon:") && str_ends(v->path, "]")) {
		size_t len = strlen(v->path) - 7;

		x->name.data = malloc(len + 1);
		if (!x->name.data)
			return err_set(e, -ENOMEM, "no memory");
		memcpy(x->name.data, v->path + 6, len);
		x->name.len = len;
		x->has_name = true;
	}
	return 0;
}

/* ---- pages ---- */

struct collect {
	struct ranges *rs;
};

static int collect_run(void *arg, uint64_t from, uint64_t to)
{
	return ranges_add(((struct collect *)arg)->rs, from, (to - from) / PAGE);
}

/* Kernels before 6.7: every entry of pagemap.  Bit 61 says file page or shared anonymous; the zero
 * page cannot be told from others and is sent. */
static int scan_entries(int fd, uint64_t start, uint64_t end, struct ranges *rs)
{
	uint64_t entry[2048];

	for (uint64_t at = start; at < end;) {
		size_t n = (size_t)((end - at) / PAGE);
		int r;

		n = n < array_len(entry) ? n : array_len(entry);
		r = pagemap_entries(fd, at, entry, n);
		for (size_t i = 0; i < n && r == 0; i++)
			if ((entry[i] & (PAGEMAP_E_PRESENT | PAGEMAP_E_SWAPPED)) && !(entry[i] >> 61 & 1))
				r = ranges_add(rs, at + i * PAGE, 1);
		if (r < 0)
			return r;
		at += n * PAGE;
	}
	return 0;
}

/* Pages of private memory that exist and are not merely those of the file, nor the zero page. */
static int scan_private(int fd, uint64_t start, uint64_t end, struct ranges *rs)
{
	static const struct pagemap_query own = { .none = PMC_FILE | PMC_PFNZERO,
						  .any = PMC_PRESENT | PMC_SWAPPED };
	/* A guard page looks like a swapped one (a marker in the page table). */
	static const struct pagemap_query no_guard = { .none = PMC_FILE | PMC_PFNZERO | PMC_GUARD,
						       .any = PMC_PRESENT | PMC_SWAPPED };
	struct collect c = { rs };
	int r = pagemap_scan(fd, start, end, &no_guard, collect_run, &c);

	if (r == -EINVAL)
		r = pagemap_scan(fd, start, end, &own, collect_run, &c);
	return r == -ENOTTY ? scan_entries(fd, start, end, rs) : r;
}

static int scan_guards(int fd, uint64_t start, uint64_t end, struct ranges *rs)
{
	static const struct pagemap_query guard = { .all = PMC_GUARD };
	struct collect c = { rs };
	int r = pagemap_scan(fd, start, end, &guard, collect_run, &c);

	/* A kernel without the category (before 6.15) may well have guard pages (6.13), but says
	 * nowhere where they are; no C library uses them on such kernels. */
	return r == -EINVAL || r == -ENOTTY ? 0 : r;
}

static bool is_private(const VmaEntry *va)
{
	return va->status & (MS_ANON_PRIVATE | MS_FILE_PRIVATE);
}

static int plan_pages(struct task *t, struct err *e)
{
	auto_fd int fd = openat(t->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	struct mem *m = t->mem;
	struct ranges guards = { 0 };
	int r = 0;

	if (fd < 0)
		return err_sys(e, -errno, "opening pagemap");
	/* Adjacent private areas are scanned as one: a library has five, and a scan is a system call. */
	for (size_t i = 0; i < m->mm->n_vmas && r >= 0; i++) {
		size_t first = i;

		if (!is_private(m->mm->vmas[i]))
			continue;
		while (i + 1 < m->mm->n_vmas && is_private(m->mm->vmas[i + 1]) &&
		       m->mm->vmas[i + 1]->start == m->mm->vmas[i]->end)
			i++;
		r = scan_private(fd, m->mm->vmas[first]->start, m->mm->vmas[i]->end, &m->pages);
	}
	if (r >= 0 && m->mm->n_vmas)
		r = scan_guards(fd, m->mm->vmas[0]->start, m->mm->vmas[m->mm->n_vmas - 1]->end, &guards);
	if (r >= 0 && guards.n)
		r = ranges_to_pb(&guards, &m->gw->guards);
	ranges_done(&guards);
	return r < 0 ? err_sys(e, r, "scanning pagemap") : 0;
}

static void mark_areas_with_pages(struct mem *m)
{
	size_t k = 0;

	for (size_t i = 0; i < m->mm->n_vmas; i++) {
		while (k < m->pages.n &&
		       m->pages.v[k].vaddr + m->pages.v[k].n_pages * PAGE <= m->mm->vmas[i]->start)
			k++;
		if (k < m->pages.n && m->pages.v[k].vaddr < m->mm->vmas[i]->end &&
		    is_private(m->mm->vmas[i]))
			m->gw->vmas[i]->has_pages = m->gw->vmas[i]->has_has_pages = true;
	}
}

/* ---- marks of the mm ---- */

static int plan_marks(struct dump *d, struct mem_all *all, struct task *t, struct err *e)
{
	struct mem *m = t->mem;
	MmEntry *mm = m->mm;
	struct proc_stat st;
	auto_free char *auxv = NULL;
	size_t len;
	int r;

	r = proc_stat_read(t->proc_fd, &st, e);
	if (r < 0)
		return r;
	mm->mm_start_code = st.start_code;
	mm->mm_end_code = st.end_code;
	mm->mm_start_data = st.start_data;
	mm->mm_end_data = st.end_data;
	mm->mm_start_stack = st.start_stack;
	mm->mm_start_brk = st.start_brk;
	mm->mm_brk = m->brk;
	mm->mm_arg_start = st.arg_start;
	mm->mm_arg_end = st.arg_end;
	mm->mm_env_start = st.env_start;
	mm->mm_env_end = st.env_end;
	mm->has_dumpable = true;
	mm->dumpable = m->dumpable;
	mm->has_thp_disabled = true;
	mm->thp_disabled = m->thp_disabled;
	r = fd_read_piece_at(t->proc_fd, "auxv", 8192, &auxv, &len);
	if (r < 0)
		return err_sys(e, r, "reading auxv");
	mm->mm_saved_auxv = malloc(len + 8);
	if (!mm->mm_saved_auxv)
		return err_set(e, -ENOMEM, "no memory");
	mm->n_mm_saved_auxv = len / sizeof(uint64_t);
	memcpy(mm->mm_saved_auxv, auxv, mm->n_mm_saved_auxv * sizeof(uint64_t));
	return 0;
}

/* The file that the process executes; mostly mapped as well, but an open file of its own where the
 * mapping is gone (a packed program). */
static int plan_exe(struct dump *d, struct mem_all *all, struct task *t, struct err *e)
{
	auto_fd int fd = -1;
	auto_free char *link = NULL;
	struct vma v = { 0 };
	struct ofile *of;
	struct stat st;
	char *path;
	int r;

	if (fstatat(t->proc_fd, "exe", &st, 0) < 0)
		return err_sys(e, -errno, "looking at the program");
	r = proc_readlink(t->proc_fd, "exe", &link, e);
	if (r < 0)
		return r;
	/* Same file as a mapping with its number and path: devices of stat and maps may differ (btrfs). */
	for (size_t i = 0; i < t->mem->vmas.n; i++)
		if (t->mem->vmas.v[i].ino == st.st_ino && !t->mem->vmas.v[i].shared &&
		    strcmp(t->mem->vmas.v[i].path, link) == 0)
			return file_id(d, all, t, &t->mem->vmas.v[i], &t->mem->mm->exe_file_id, &r, e);
	v.ino = st.st_ino;
	v.major = UINT32_MAX;
	for (size_t i = 0; i < all->n_files; i++)
		if (all->files[i].major == v.major && all->files[i].ino == v.ino &&
		    strcmp(all->files[i].path, link) == 0) {
			t->mem->mm->exe_file_id = all->files[i].id;
			return 0;
		}
	fd = openat(t->proc_fd, "exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "opening the program");
	r = dump_ofile_of(d, t, fd_take(&fd), &of, e);
	if (r < 0)
		return err_context(e, r, "the program %s", link);
	if (array_grow(all->files, all->n_files, all->cap_files) < 0 || !(path = strdup(link)))
		return err_set(e, -ENOMEM, "no memory");
	all->files[all->n_files++] = (struct mapped_file){ .major = v.major, .id = of->id, .ino = v.ino,
		.access = O_RDONLY, .path = path };
	t->mem->mm->exe_file_id = of->id;
	return 0;
}

/* The mappings as they are now; those of the check with their flags where nothing has changed. */
static int read_areas(struct task *t, struct mem *m, struct err *e)
{
	struct vma_list now = { 0 };
	bool same;
	int r;

	if (!m->vmas.n)
		return vma_read(t->proc_fd, &m->vmas, e);
	r = vma_read_plain(t->proc_fd, &now, e);
	if (r < 0)
		return r;
	same = now.n == m->vmas.n;
	for (size_t i = 0; i < now.n && same; i++)
		same = now.v[i].start == m->vmas.v[i].start && now.v[i].end == m->vmas.v[i].end &&
		       now.v[i].prot == m->vmas.v[i].prot && now.v[i].ino == m->vmas.v[i].ino &&
		       now.v[i].pgoff == m->vmas.v[i].pgoff;
	vma_list_done(&now);
	if (same)
		return 0;
	vma_list_done(&m->vmas);
	return vma_read(t->proc_fd, &m->vmas, e);
}

int mem_plan_task(struct dump *d, struct mem_all *all, struct task *t, struct err *e)
{
	struct mem *m = t->mem;
	struct vdso_block block;
	int r;

	r = read_areas(t, m, e);
	if (r < 0)
		return r;
	m->mm = malloc(sizeof(*m->mm));
	m->gw = malloc(sizeof(*m->gw));
	if (m->mm)
		mm_entry__init(m->mm);
	if (m->gw)
		gw_mem__init(m->gw);
	if (m->mm && m->gw) {
		m->mm->vmas = calloc(m->vmas.n + 1, sizeof(*m->mm->vmas));
		m->gw->vmas = calloc(m->vmas.n + 1, sizeof(*m->gw->vmas));
	}
	if (!m->mm || !m->gw || !m->mm->vmas || !m->gw->vmas)
		return err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; i < m->vmas.n; i++) {
		const struct vma *v = &m->vmas.v[i];
		const char *what, *why;
		enum mem_kind kind;

		what = NULL;
		if (v->carried)
			kind = (enum mem_kind)(v->carried - 1);
		else
			r = mem_classify(t->proc_fd, v, &kind, &what, &why, e);
		if (r == 0 && what)
			r = err_set(e, -ENOTSUP, "mapping %llx-%llx (%s): %s: %s",
				    (unsigned long long)v->start, (unsigned long long)v->end, v->path,
				    what, why);
		if (r == 0 && kind != MK_LEFT_OUT && kind != MK_VDSO && kind != MK_VVAR)
			r = add_area(d, all, t, v, kind, e);
		if (r < 0)
			return r;
	}
	r = vdso_find(&m->vmas, &block);
	if (r < 0)
		return err_set(e, r, "the parts of the vdso have been moved apart");
	m->gw->has_vdso_start = m->gw->has_vdso_size = true;
	m->gw->vdso_start = block.start;
	m->gw->vdso_size = block.size;
	r = plan_marks(d, all, t, e);
	if (r == 0)
		r = plan_exe(d, all, t, e);
	if (r == 0)
		r = plan_pages(t, e);
	if (r == 0)
		mark_areas_with_pages(m);
	return r;
}

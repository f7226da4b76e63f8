/* Pages from the image (a stream, or the files of a folder) into the processes.
 *
 * Each process reads its own pages, from a copy of the image's descriptor straight into place: four
 * times faster than writing into it from outside (shared/kernel.md 3), and charged to its cgroup.
 * Anonymous shared objects are filled by the first process through a mapping for the time being. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/mem/priv.h"
#include "image/folder.h"

int rshm_open(struct restore *r, uint32_t index, int *ret_fd, struct err *e)
{
	struct rshm *s = &r->tasks[0]->rmem->all->shms[index];
	char link[80];
	void *p;

	if (s->fd >= 0) {
		*ret_fd = s->fd;
		return 0;
	}
	/* The object is made by a mapping of ours that nobody touches (so nothing is charged to us) and
	 * lives on by the descriptor. */
	p = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "making shared memory of %llu bytes", (unsigned long long)s->size);
	snprintf(link, sizeof(link), "self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + (unsigned long)s->size);
	s->fd = openat(r->proc_fd, link, O_RDWR | O_CLOEXEC);
	if (s->fd < 0) {
		int ret = err_sys(e, -errno, "opening new shared memory");

		munmap(p, s->size);
		return ret;
	}
	munmap(p, s->size);
	*ret_fd = s->fd;
	return 0;
}

struct frame {
	bool more;
	uint32_t id;
	struct page_range *v;
	size_t n;
};

struct receiver {
	struct restore *r;
	const struct mem_receiver *rc;
	struct frame f;
	uint64_t received;
};

static int next_frame(struct receiver *rv, struct err *e)
{
	int ret;

	free(rv->f.v);
	rv->f.v = NULL;
	ret = image_next_pages(rv->r->image, rv->r->data_fd, &rv->f.id, &rv->f.v, &rv->f.n, e);
	rv->f.more = ret > 0;
	return ret < 0 ? ret : 0;
}

static int report(struct receiver *rv, struct err *e)
{
	if (rv->rc->progress &&
	    rv->rc->progress(rv->rc->arg, rv->received, rv->r->tasks[0]->rmem->all->total) < 0)
		return err_set(e, -ECANCELED, "the transfer of memory was given up");
	return 0;
}

/* Reads len bytes to addr: now, or with the next ones. */
static int read_plain(struct receiver *rv, struct batch *b, int number, uint64_t addr, uint64_t len,
		      struct err *e)
{
	int ret = 0;

	while (len && ret >= 0) {
		uint64_t take = READ_BYTES - b->bytes < len ? READ_BYTES - b->bytes : len;

		if (!batch_prog(b))
			return err_set(e, -ENOMEM, "no memory");
		aprog_read_full(b->p, number, addr, take);
		b->n++;
		b->bytes += take;
		addr += take;
		len -= take;
		rv->received += take;
		if (b->bytes == READ_BYTES || b->n == 128)
			ret = batch_flush(b, e);
	}
	return ret;
}

/* Reads the pages of the present frame into their places. */
static int read_frame(struct receiver *rv, struct filler *f, struct err *e)
{
	struct batch b = { .a = f->t->agent };
	int ret = 0;

	for (size_t i = 0; i < rv->f.n && ret >= 0; i++) {
		uint64_t at = rv->f.v[i].vaddr, left = rv->f.v[i].n_pages * PAGE;

		while (left && ret >= 0) {
			/* Up to the next place where a huge page could lie. */
			uint64_t take = at % HUGE ? HUGE - at % HUGE : left;
			uint64_t huge = huge_length(f, at, left);

			if (huge) {
				ret = batch_flush(&b, e);
				ret = ret < 0 ? ret : huge_read(f, at, huge, e);
				if (ret > 0) {
					rv->received += huge;
					at += huge;
					left -= huge;
					continue;
				}
			}
			take = take < left ? take : left;
			if (ret >= 0)
				ret = read_plain(rv, &b, f->data, at, take, e);
			at += take;
			left -= take;
		}
	}
	if (ret >= 0)
		ret = batch_flush(&b, e);
	batch_done(&b);
	return ret < 0 ? ret : report(rv, e);
}

/* The same at an offset, for a shared object that is mapped at base. */
static int read_frame_at(struct receiver *rv, struct agent *a, int number, uint64_t base, struct err *e)
{
	struct batch b = { .a = a };
	int ret = 0;

	for (size_t i = 0; i < rv->f.n && ret >= 0; i++)
		ret = read_plain(rv, &b, number, base + rv->f.v[i].vaddr, rv->f.v[i].n_pages * PAGE, e);
	if (ret >= 0)
		ret = batch_flush(&b, e);
	batch_done(&b);
	return ret < 0 ? ret : report(rv, e);
}

/* ---- shared objects ---- */

static int receive_shm(struct receiver *rv, struct err *e)
{
	struct rmem_all *all = rv->r->tasks[0]->rmem->all;
	struct agent *a = rv->r->tasks[0]->agent;
	uint32_t index = rv->f.id & ~REC_SHM_ID(0);
	int fd, number, data, ret;
	long base;

	if (index >= all->n_shms)
		return err_set(e, -EPROTO, "the stream has pages of an unknown shared object");
	ret = rshm_open(rv->r, index, &fd, e);
	if (ret >= 0)
		ret = agent_put_fd(a, fd, &number, e);
	if (ret >= 0)
		ret = AGENT_CALL(a, &base, e, SYS_mmap, 0, all->shms[index].size, PROT_READ | PROT_WRITE,
				 MAP_SHARED, (uint64_t)number, 0);
	if (ret >= 0)
		ret = agent_put_fd(a, image_data_fd(rv->r->image), &data, e);
	if (ret < 0)
		return ret;
	while (rv->f.more && rv->f.id == REC_SHM_ID(index) && ret >= 0) {
		for (size_t i = 0; i < rv->f.n; i++)
			if (rv->f.v[i].vaddr % PAGE || rv->f.v[i].vaddr > all->shms[index].size ||
			    rv->f.v[i].n_pages > (all->shms[index].size - rv->f.v[i].vaddr) / PAGE)
				return err_set(e, -EPROTO, "pages beyond the end of a shared object");
		ret = read_frame_at(rv, a, data, (uint64_t)base, e);
		if (ret >= 0)
			ret = next_frame(rv, e);
	}
	if (ret >= 0)
		ret = AGENT_CALL(a, NULL, e, SYS_munmap, (uint64_t)base, all->shms[index].size, 0, 0, 0, 0);
	if (ret >= 0)
		ret = AGENT_CALL(a, NULL, e, SYS_close, (uint64_t)data, 0, 0, 0, 0, 0);
	if (ret >= 0)
		ret = AGENT_CALL(a, NULL, e, SYS_close, (uint64_t)number, 0, 0, 0, 0, 0);
	return ret;
}

/* ---- processes ---- */

size_t area_find(const struct rmem *m, uint64_t at)
{
	size_t lo = 0, hi = m->mm->n_vmas;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (m->mm->vmas[mid]->end <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Whether these pages are private memory that was mapped to receive them. */
static bool takes_pages(const struct rmem *m, uint64_t at, uint64_t n_pages)
{
	uint64_t end;

	if (at % PAGE || __builtin_mul_overflow(n_pages, PAGE, &end) ||
	    __builtin_add_overflow(end, at, &end) || !n_pages)
		return false;
	for (size_t i = area_find(m, at); i < m->mm->n_vmas && at < end; i++) {
		const VmaEntry *va = m->mm->vmas[i];

		if (va->start > at || !m->gw->vmas[i]->has_pages ||
		    !(va->status & (MS_ANON_PRIVATE | MS_FILE_PRIVATE)))
			return false;
		at = va->end;
	}
	return at >= end;
}

static int receive_task(struct receiver *rv, struct rtask *t, struct err *e)
{
	struct filler f = { .all = rv->r->tasks[0]->rmem->all, .t = t, .data = -1, .uffd = -1 };
	int ret = 0;

	if (!t->agent)
		return err_set(e, -EINVAL, "its pages come before it was made");
	while (rv->f.more && rv->f.id == (uint32_t)t->nspid && ret >= 0) {
		for (size_t i = 0; i < rv->f.n; i++)
			if (!takes_pages(t->rmem, rv->f.v[i].vaddr, rv->f.v[i].n_pages))
				return err_set(e, -EPROTO, "pages at %llx, where none can be",
					       (unsigned long long)rv->f.v[i].vaddr);
		if (f.data < 0)
			ret = agent_put_fd(t->agent, image_data_fd(rv->r->image), &f.data, e);
		if (ret >= 0)
			ret = read_frame(rv, &f, e);
		if (ret >= 0)
			ret = next_frame(rv, e);
	}
	if (ret >= 0)
		ret = huge_done(&f, e);
	if (ret >= 0 && f.data >= 0)
		ret = AGENT_CALL(t->agent, NULL, e, SYS_close, (uint64_t)f.data, 0, 0, 0, 0, 0);
	return ret;
}

int mem_receive(struct restore *r, const struct mem_receiver *rc, struct err *e)
{
	struct receiver rv = { .r = r, .rc = rc };
	int ret = next_frame(&rv, e);

	while (ret >= 0 && rv.f.more && rv.f.id & REC_SHM_ID(0))
		ret = receive_shm(&rv, e);
	for (size_t i = 0; i < r->n_tasks && ret >= 0; i++) {
		struct rtask *t = r->tasks[i];

		if (t->zombie)
			continue;
		ret = receive_task(&rv, t, e);
		if (ret < 0)
			ret = err_context(e, ret, "process %d: its memory", (int)t->nspid);
		else
			ret = rc->filled(r, t, rc->arg, e);
	}
	if (ret >= 0 && rv.f.more)
		ret = err_set(e, -EPROTO, "the stream has pages of process %u, which is unknown or out of "
			      "its turn", rv.f.id);
	free(rv.f.v);
	return ret < 0 ? ret : 0;
}

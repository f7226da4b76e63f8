/* Dense memory by way of huge pages.
 *
 * Filling fresh memory costs a fault and an emptied page for every 4 KiB, which is most of a restore's
 * time; with huge pages it is three times faster (shared/kernel.md 3).  Where the host gives them to all
 * ("always") the kernel does so by itself.  Where one has to ask ("madvise"), asking would leave a mark on
 * the process' mapping for ever; so 2 MiB pieces that are sent whole are read into a staging area that
 * asks, and moved to their place by UFFDIO_MOVE (Linux 6.8), which moves page tables.  What it needs of the
 * kernel is tried once for each process; without it pages are read into place as ever.
 * The place is registered for write protection, which is never switched on: a fault there waits for
 * nobody. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cr/mem/priv.h"
#include "sys/abi.h"

/* Slower than small pages (ns for 2 MiB, with room for a busy machine): the memory is in pieces and the
 * kernel compacts it for us, which can cost ten times as much.  A few such, and we go without. */
#define SLOW_NS 1500000ull
#define SLOW_MAX 3u

/* A range of one piece is not worth the three calls that prepare it. */
#define WORTH (4 * HUGE)
#define TRIES 1000

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static bool area_can(const struct rmem *m, size_t i)
{
	const VmaEntry *va = m->mm->vmas[i];
	const GwVmaExtra *x = m->gw->vmas[i];

	/* Staging and place have to agree in protection and locks; those that ask have huge pages anyway. */
	return va->status & MS_ANON_PRIVATE && x->has_pages && !(va->prot & PROT_EXEC) &&
	       !(x->vmflags & (VMF(HG) | VMF(NH) | VMF(GD) | VMF(DP)));
}

uint64_t huge_length(struct filler *f, uint64_t at, uint64_t len)
{
	const struct rmem *m = f->t->rmem;
	size_t i;

	if (f->refused || at % HUGE || len < (f->staging ? HUGE : WORTH) || m->cow_parent ||
	    !f->all->huge_on_request || (m->mm->has_thp_disabled && m->mm->thp_disabled))
		return 0;
	i = area_find(m, at);
	if (i == m->mm->n_vmas || m->mm->vmas[i]->start > at || !area_can(m, i))
		return 0;
	if (m->mm->vmas[i]->end - at < len)
		len = m->mm->vmas[i]->end - at;
	if (len > READ_BYTES)
		len = READ_BYTES;
	return len & ~(HUGE - 1);
}

/* 1, or 0 where it cannot be had. */
static int prepare(struct filler *f, struct err *e)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct agent *a = f->t->agent;
	struct aprog *p;
	size_t fd, ok;
	long at;
	int ret;

	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	fd = APROG_CALL(p, AOP_MAY_FAIL, SYS_userfaultfd, aarg_imm(O_CLOEXEC | UFFD_USER_MODE_ONLY));
	ok = APROG_CALL(p, AOP_MAY_FAIL, SYS_ioctl, aarg_result(fd), aarg_imm(UFFDIO_API),
			aprog_in(p, &api, sizeof(api)));
	ret = agent_run(a, p, e);
	if (ret >= 0 && aprog_result(p, fd) >= 0)
		f->uffd = (int)aprog_result(p, fd);
	ret = ret < 0 ? ret : aprog_result(p, fd) >= 0 && aprog_result(p, ok) >= 0;
	aprog_free(p);
	if (ret <= 0)
		return ret;
	ret = AGENT_CALL(a, &at, e, SYS_mmap, 0, READ_BYTES + HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
	if (ret < 0)
		return ret;
	f->staging = (uint64_t)at;
	return AGENT_CALL(a, NULL, NULL, SYS_madvise, f->staging, READ_BYTES + HUGE, MADV_HUGEPAGE, 0, 0,
			  0) >= 0;
}

static int enlist(struct filler *f, uint64_t at, struct err *e)
{
	size_t i = area_find(f->t->rmem, at);
	const VmaEntry *va = f->t->rmem->mm->vmas[i];
	struct uffdio_register reg = { .range = { va->start, va->end - va->start },
				       .mode = UFFDIO_REGISTER_MODE_WP };
	struct aprog *p;
	int ret;

	if (f->registered == i + 1)
		return 1;
	p = aprog_new();
	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	APROG_CALL(p, AOP_MAY_FAIL, SYS_ioctl, aarg_imm((uint64_t)f->uffd), aarg_imm(UFFDIO_REGISTER),
		   aprog_in(p, &reg, sizeof(reg)));
	ret = agent_run(f->t->agent, p, e);
	ret = ret < 0 ? ret : aprog_result(p, 0) >= 0;
	aprog_free(p);
	if (ret > 0)
		f->registered = i + 1;
	return ret;
}

/* Reads (the first time) and moves; *mv says afterwards what is left.  -EAGAIN: once more. */
static int read_move(struct filler *f, bool read, struct uffdio_move *mv, struct err *e)
{
	struct aprog *p = aprog_new();
	struct aarg io;
	size_t op;
	int ret;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	if (read)
		aprog_read_full(p, f->data, mv->src, mv->len);
	io = aprog_in(p, mv, sizeof(*mv));
	op = APROG_CALL(p, AOP_MAY_FAIL, SYS_ioctl, aarg_imm((uint64_t)f->uffd), aarg_imm(UFFDIO_MOVE), io);
	ret = agent_run(f->t->agent, p, e);
	if (ret >= 0 && aprog_result(p, op) < 0) {
		const struct uffdio_move *out = aprog_out_data(p, io);
		uint64_t moved = out->move > 0 ? (uint64_t)out->move : 0;

		ret = (int)aprog_result(p, op);
		mv->dst += moved;
		mv->src += moved;
		mv->len -= moved <= mv->len ? moved : mv->len;
		if (ret != -EAGAIN)
			ret = err_sys(e, ret, "moving pages to %llx", (unsigned long long)mv->dst);
	}
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Has the staging area filled with fresh pages, apart from reading so that it can be timed. */
static int populate(struct filler *f, uint64_t at, uint64_t len, struct err *e)
{
	struct rmem_all *all = f->all;
	uint64_t start = now_ns();
	int ret = AGENT_CALL(f->t->agent, NULL, e, SYS_madvise, at, len, MADV_POPULATE_WRITE, 0, 0, 0);

	if (now_ns() - start <= SLOW_NS * (len / HUGE))
		all->huge_slow = 0;
	else if (++all->huge_slow >= SLOW_MAX)
		all->huge_on_request = false;
	return ret < 0 ? ret : 1;
}

int huge_read(struct filler *f, uint64_t at, uint64_t len, struct err *e)
{
	struct uffdio_move mv = { .dst = at, .len = len };
	int ret = f->staging ? 1 : prepare(f, e);

	if (ret > 0)
		ret = enlist(f, at, e);
	if (ret > 0)
		ret = populate(f, (f->staging + HUGE - 1) & ~(HUGE - 1), len, e);
	if (ret <= 0) {
		f->refused = true;
		return ret;
	}
	mv.src = (f->staging + HUGE - 1) & ~(HUGE - 1);
	ret = read_move(f, true, &mv, e);
	/* Somebody holds one of the pages for a moment (compaction, for one). */
	for (int i = 0; ret == -EAGAIN && mv.len && i < TRIES; i++)
		ret = read_move(f, false, &mv, e);
	if (ret == -EAGAIN && mv.len)
		return err_set(e, -EAGAIN, "moving pages to %llx: they stay busy", (unsigned long long)mv.dst);
	return ret < 0 && ret != -EAGAIN ? ret : 1;
}

int huge_done(struct filler *f, struct err *e)
{
	int ret = 0;

	/* Ends the registrations too. */
	if (f->uffd >= 0)
		ret = AGENT_CALL(f->t->agent, NULL, e, SYS_close, (uint64_t)f->uffd, 0, 0, 0, 0, 0);
	if (ret >= 0 && f->staging)
		ret = AGENT_CALL(f->t->agent, NULL, e, SYS_munmap, f->staging, READ_BYTES + HUGE, 0, 0, 0, 0);
	f->uffd = -1;
	f->staging = 0;
	return ret;
}

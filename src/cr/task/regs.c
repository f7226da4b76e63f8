/* General registers, extended state (x87, SSE, AVX, AVX-512, PKRU …), signal mask.
 *
 * Read: PTRACE_GETREGS, PTRACE_GETREGSET NT_X86_XSTATE, PTRACE_GETSIGMASK while stopped.  Of the extended
 * state core_entry has the x87/SSE part, and gw_thread.xstate_parts what else is not zero: most of it is
 * in its initial state in most threads.
 * Put back: agent_finish, after everything else.
 * System calls that the stop interrupted keep their orig_ax and their -512, -513 or -514: the kernel
 * that resumes the thread restarts them.  -516 (ERESTART_RESTARTBLOCK: nanosleep, poll, futex with a
 * relative time) refers to memory of the old kernel: see cr/task/restart.c.
 * Not covered: 32-bit tasks, refused by `check` here. */
#include "cr/task/regs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/mem.h"
#include "cr/ns/ns.h"
#include "cr/task/restart.h"

/* Of the x87/SSE area at the start of an XSAVE image (Intel SDM vol. 1, 10.5.1). */
struct fxsave {
	uint16_t cwd, swd, twd, fop;
	uint64_t rip, rdp;
	uint32_t mxcsr, mxcsr_mask;
	uint32_t st_space[32], xmm_space[64];
	uint32_t padding[24];
};
_Static_assert(sizeof(struct fxsave) == 512, "the legacy area has 512 bytes");
#define XSAVE_MIN 576 /* with the header behind it */
#define XSAVE_MAX 65536
#define LEGACY_LEN offsetof(struct fxsave, padding) /* which is in fpregs */
#define BLOCK 32u /* what is zero is left out by these */
_Static_assert(LEGACY_LEN % BLOCK == 0, "blocks begin where fpregs end");

#define NS 1000000000ll
#define USER_CS 0x33 /* 64-bit code, privilege 3; 0x23 is 32-bit */

/* `repeated uint32`, allocated as protobuf-c frees it. */
static int repeat(uint32_t **ret, size_t *ret_n, const uint32_t *from, size_t n)
{
	*ret = malloc(n * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, from, n * sizeof(**ret));
	*ret_n = n;
	return 0;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int part_add(GwThread *x, size_t at, const uint8_t *data, size_t len)
{
	GwExtent **v = realloc(x->xstate_parts, (x->n_xstate_parts + 1) * sizeof(*v)), *p;

	if (!v)
		return -ENOMEM;
	x->xstate_parts = v;
	p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	gw_extent__init(p);
	v[x->n_xstate_parts++] = p;
	p->has_offset = p->has_data = true;
	p->offset = at;
	p->data.data = malloc(len);
	if (!p->data.data)
		return -ENOMEM;
	memcpy(p->data.data, data, len);
	p->data.len = len;
	return 0;
}

static int xstate_fill(GwThread *x, const uint8_t *data, size_t len)
{
	size_t at = LEGACY_LEN;
	int r = 0;

	x->has_xstate_len = true;
	x->xstate_len = (uint32_t)len;
	while (at < len && r >= 0) {
		size_t end = at;

		while (end < len && !is_zero(data + end, len - end < BLOCK ? len - end : BLOCK))
			end = len - end < BLOCK ? len : end + BLOCK;
		if (end > at)
			r = part_add(x, at, data + at, end - at);
		at = end < len ? end + BLOCK : len;
	}
	return r;
}

static int fpregs_fill(UserX86FpregsEntry *f, const struct thread_regs *r)
{
	struct fxsave x = { 0 };

	if (r->xstate && r->xstate_len >= sizeof(x))
		memcpy(&x, r->xstate, sizeof(x));
	f->cwd = x.cwd;
	f->swd = x.swd;
	f->twd = x.twd;
	f->fop = x.fop;
	f->rip = x.rip;
	f->rdp = x.rdp;
	f->mxcsr = x.mxcsr;
	f->mxcsr_mask = x.mxcsr_mask;
	if (repeat(&f->st_space, &f->n_st_space, x.st_space, array_len(x.st_space)) < 0 ||
	    repeat(&f->xmm_space, &f->n_xmm_space, x.xmm_space, array_len(x.xmm_space)) < 0)
		return -ENOMEM;
	return 0;
}

static const struct {
	size_t record, kernel;
} gp_map[] = {
#define GP(rec, ker) { offsetof(UserX86RegsEntry, rec), offsetof(struct user_regs_struct, ker) }
	GP(r15, r15), GP(r14, r14), GP(r13, r13), GP(r12, r12), GP(bp, rbp), GP(bx, rbx),
	GP(r11, r11), GP(r10, r10), GP(r9, r9), GP(r8, r8), GP(ax, rax), GP(cx, rcx), GP(dx, rdx),
	GP(si, rsi), GP(di, rdi), GP(orig_ax, orig_rax), GP(ip, rip), GP(cs, cs), GP(flags, eflags),
	GP(sp, rsp), GP(ss, ss), GP(fs_base, fs_base), GP(gs_base, gs_base), GP(ds, ds), GP(es, es),
	GP(fs, fs), GP(gs, gs),
#undef GP
};

static ThreadInfoX86 *info_new(void)
{
	ThreadInfoX86 *ti = malloc(sizeof(*ti));
	UserX86RegsEntry *gp = malloc(sizeof(*gp));
	UserX86FpregsEntry *fp = malloc(sizeof(*fp));

	if (!ti || !gp || !fp) {
		free(ti);
		free(gp);
		free(fp);
		return NULL;
	}
	thread_info_x86__init(ti);
	user_x86_regs_entry__init(gp);
	user_x86_fpregs_entry__init(fp);
	ti->gpregs = gp;
	ti->fpregs = fp;
	return ti;
}

static int thread_record(struct thread *th)
{
	ThreadInfoX86 *ti = th->core->thread_info;

	if (!ti) {
		ti = info_new();
		if (!ti)
			return -ENOMEM;
		th->core->thread_info = ti;
	}
	for (size_t i = 0; i < array_len(gp_map); i++) {
		unsigned long long v;

		memcpy(&v, (char *)&th->regs.gp + gp_map[i].kernel, sizeof(v));
		memcpy((char *)ti->gpregs + gp_map[i].record, &v, sizeof(v));
	}
	ti->gpregs->has_mode = true;
	ti->gpregs->mode = USER_X86_REGS_MODE__NATIVE;
	th->extra->has_sigmask = true;
	th->extra->sigmask = th->regs.sigmask;
	if (th->regs.xstate && th->regs.xstate_len >= XSAVE_MIN &&
	    xstate_fill(th->extra, th->regs.xstate, th->regs.xstate_len) < 0)
		return -ENOMEM;
	return fpregs_fill(ti->fpregs, &th->regs);
}

static int regs_stopped(struct dump *d, struct task *t, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		struct thread *th = &t->threads[i];
		int r;

		if (th->regs.gp.cs != USER_CS)
			return err_set(e, -EOPNOTSUPP, "thread %d of process %d runs 32-bit code",
				       (int)th->nstid, (int)t->nspid);
		r = restart_note(d, t, th, e);
		if (r < 0)
			return r;
		if (thread_record(th) < 0)
			return err_sys(e, -ENOMEM, "recording registers");
	}
	return 0;
}

static int legacy_of_record(const UserX86FpregsEntry *f, struct fxsave *ret)
{
	if (f->n_st_space != array_len(ret->st_space) || f->n_xmm_space != array_len(ret->xmm_space))
		return -EPROTO;
	ret->cwd = (uint16_t)f->cwd;
	ret->swd = (uint16_t)f->swd;
	ret->twd = (uint16_t)f->twd;
	ret->fop = (uint16_t)f->fop;
	ret->rip = f->rip;
	ret->rdp = f->rdp;
	ret->mxcsr = f->mxcsr;
	ret->mxcsr_mask = f->mxcsr_mask;
	memcpy(ret->st_space, f->st_space, sizeof(ret->st_space));
	memcpy(ret->xmm_space, f->xmm_space, sizeof(ret->xmm_space));
	return 0;
}

static int xstate_of_record(const CoreEntry *core, const GwThread *x, struct thread_regs *ret, struct err *e)
{
	struct fxsave legacy = { 0 };
	uint8_t *data;

	if (x->xstate_len < XSAVE_MIN || x->xstate_len > XSAVE_MAX ||
	    legacy_of_record(core->thread_info->fpregs, &legacy) < 0)
		return err_set(e, -EPROTO, "a thread's extended state makes no sense");
	for (size_t i = 0; i < x->n_xstate_parts; i++)
		if (x->xstate_parts[i]->offset < LEGACY_LEN || x->xstate_parts[i]->offset > x->xstate_len ||
		    x->xstate_parts[i]->data.len > x->xstate_len - x->xstate_parts[i]->offset)
			return err_set(e, -EPROTO, "a thread's extended state goes beyond its end");
	data = calloc(1, x->xstate_len);
	if (!data)
		return err_sys(e, -ENOMEM, "reading registers");
	memcpy(data, &legacy, LEGACY_LEN);
	for (size_t i = 0; i < x->n_xstate_parts; i++)
		if (x->xstate_parts[i]->data.len)
			memcpy(data + x->xstate_parts[i]->offset, x->xstate_parts[i]->data.data,
			       x->xstate_parts[i]->data.len);
	ret->xstate = data;
	ret->xstate_len = x->xstate_len;
	return 0;
}

int regs_of_record(const CoreEntry *core, const GwThread *extra, struct thread_regs *ret, struct err *e)
{
	struct thread_regs out = { 0 };

	if (core->mtype != CORE_ENTRY__MARCH__X86_64 || !core->thread_info)
		return err_set(e, -EOPNOTSUPP, "the image has a thread of another architecture");
	for (size_t i = 0; i < array_len(gp_map); i++) {
		unsigned long long v;

		memcpy(&v, (const char *)core->thread_info->gpregs + gp_map[i].record, sizeof(v));
		memcpy((char *)&out.gp + gp_map[i].kernel, &v, sizeof(v));
	}
	if (out.gp.cs != USER_CS)
		return err_set(e, -EOPNOTSUPP, "the image has a thread that runs 32-bit code");
	if (extra && extra->has_sigmask)
		out.sigmask = extra->sigmask;
	else if (core->tc)
		out.sigmask = core->tc->blk_sigset;
	out.restart_left_ns = extra && extra->has_restart_left_ns ? extra->restart_left_ns : -1;
	if (extra && extra->has_xstate_len) {
		int r = xstate_of_record(core, extra, &out, e);

		if (r < 0)
			return r;
	} else if (extra && extra->has_xstate) {
		if (extra->xstate.len < XSAVE_MIN || extra->xstate.len > XSAVE_MAX)
			return err_set(e, -EPROTO, "a thread's extended state has %zu bytes",
				       extra->xstate.len);
		out.xstate = malloc(extra->xstate.len);
		if (!out.xstate)
			return err_sys(e, -ENOMEM, "reading registers");
		memcpy(out.xstate, extra->xstate.data, extra->xstate.len);
		out.xstate_len = extra->xstate.len;
	}
	*ret = out;
	return 0;
}

static int regs_load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rtask *t = r->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++) {
			int x = regs_of_record(t->threads[k].core, t->threads[k].extra,
					       &t->threads[k].regs, e);

			if (x < 0)
				return err_context(e, x, "thread %d", (int)t->threads[k].nstid);
		}
	}
	return 0;
}

/* As the kernel itself would write it when it is interrupted (select: a timeval). */
static int rest_write(struct rtask *t, struct rthread *th, uint64_t at, struct err *e)
{
	int64_t unit = th->regs.gp.orig_rax == SYS_select ? 1000 : 1, left, v[2];
	struct iovec here = { v, sizeof(v) }, there = { (void *)at, sizeof(v) };
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = th->regs.restart_end_ns - now.tv_sec * NS - now.tv_nsec;
	left = left > 0 ? left + unit - 1 : 0;
	v[0] = left / NS;
	v[1] = left % NS / unit;
	if (process_vm_writev(t->pid, &here, 1, &there, 1, 0) != (ssize_t)sizeof(v))
		return err_sys(e, -errno, "the time left of thread %d of process %d", (int)th->nstid,
			       (int)t->nspid);
	return 0;
}

/* The container's monotonic clock went on during the move, and so do its sleeps. */
static int regs_finish(struct restore *r, struct err *e)
{
	int64_t to_ours = clock_ours(r, CLOCK_MONOTONIC, 0);

	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rtask *t = r->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++) {
			const GwThread *extra = t->threads[k].extra;
			int x = 0;

			if (extra && extra->has_restart_end_ns)
				t->threads[k].regs.restart_end_ns = extra->restart_end_ns + to_ours;
			if (extra && extra->has_restart_end_ns && extra->has_restart_rest_at)
				x = rest_write(t, &t->threads[k], extra->restart_rest_at, e);
			if (x < 0)
				return x;
		}
	}
	return 0;
}

const struct cr_part cr_part_regs = {
	.name = "regs",
	.stopped = regs_stopped,
	.load = regs_load,
	.finish = regs_finish,
};

/* Seccomp filters of threads.
 *
 * Kernel state: a chain of BPF programs per thread (PTRACE_SECCOMP_GET_FILTER, with its flags from
 * PTRACE_SECCOMP_GET_METADATA), or strict mode.  Put back by seccomp(2) in each thread, the oldest first,
 * while the thread is seized with PTRACE_O_SUSPEND_SECCOMP, so that no filter judges the agent.
 *
 * At the bottom of every chain may lie filters of the container's configuration.  Those that gw-init
 * has here take the place of the source's: of every thread as many are left out as gw-init has, provided
 * that these are the same in gw-init and in the thread, or the same in all threads of the source (another
 * library may compile the same policy into other instructions).
 * Not covered: filters with a user-space listener (its descriptor is refused by the file kinds). */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/task/attr.h"
#include "cr/task/seccomp_image.h"
#include "cr/task/tree.h"
#include "sys/procfs.h"

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#ifndef PTRACE_SECCOMP_GET_METADATA
#define PTRACE_SECCOMP_GET_METADATA 0x420d
#endif

#define FILTERS_MAX 512
#define INSNS_MAX 4096 /* BPF_MAXINSNS */

/* ---- a chain, oldest first ---- */
struct chain {
	ProtobufCBinaryData *v;
	uint32_t *flags;
	size_t n;
};

static void chain_done(struct chain *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i].data);
	free(c->v);
	free(c->flags);
	memset(c, 0, sizeof(*c));
}

/* Filter `index` of a stopped thread, 0 being the oldest (the manual says otherwise).  1: there is none. */
static int read_filter(pid_t tid, size_t index, ProtobufCBinaryData *ret, uint32_t *ret_flags)
{
	struct {
		uint64_t filter_off, flags;
	} meta = { index, 0 };
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, NULL);

	if (n < 0)
		return errno == ENOENT || errno == EINVAL ? 1 : -errno;
	if (n > INSNS_MAX)
		return -E2BIG;
	ret->len = (size_t)n * sizeof(struct sock_filter);
	ret->data = malloc(ret->len + 1);
	if (!ret->data)
		return -ENOMEM;
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, ret->data) != n) {
		free(ret->data);
		return -EIO;
	}
	*ret_flags = ptrace(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(meta), &meta) >= 0 ?
			     (uint32_t)meta.flags : 0;
	return 0;
}

static int chain_read(pid_t tid, struct chain *ret, struct err *e)
{
	struct chain c = { 0 };
	int r = 0;

	c.v = calloc(FILTERS_MAX, sizeof(*c.v));
	c.flags = calloc(FILTERS_MAX, sizeof(*c.flags));
	if (!c.v || !c.flags)
		r = -ENOMEM;
	while (r == 0) {
		ProtobufCBinaryData one;
		uint32_t flags = 0;

		r = c.n < FILTERS_MAX ? read_filter(tid, c.n, &one, &flags) : -E2BIG;
		if (r == 0) {
			c.v[c.n] = one;
			c.flags[c.n++] = flags;
		}
	}
	if (r < 0) {
		chain_done(&c);
		if (r == -EACCES)
			return err_set(e, r, "reading the seccomp filters of thread %d needs CAP_SYS_ADMIN in the first user "
				       "namespace, and no filter on ourselves", (int)tid);
		return err_sys(e, r, "reading the seccomp filters of thread %d", (int)tid);
	}
	*ret = c;
	return 0;
}

/* ---- dump ---- */

static int stopped(struct dump *d, struct task *t, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		struct thread *th = &t->threads[i];
		ThreadCoreEntry *tc = attr_thread_core(th);
		struct chain c = { 0 };
		struct proc_status st;
		int r = tc ? task_status(t, th, &st, e) : err_sys(e, -ENOMEM, "thread %d", (int)th->nstid);

		if (r >= 0 && st.seccomp == SECCOMP_MODE_FILTER)
			r = chain_read(th->tid, &c, e);
		if (r < 0)
			return r;
		tc->has_seccomp_mode = true;
		tc->seccomp_mode = (SeccompMode)st.seccomp;
		th->extra->n_seccomp = th->extra->n_seccomp_flags = c.n;
		th->extra->seccomp = c.v;
		th->extra->seccomp_flags = c.flags;
	}
	return 0;
}

/* ---- restore ---- */

static bool same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* What gw-init has; kept for the time of the restore, which is a process' only one. */
static struct chain *base_of(const struct restore *r)
{
	return r->part_data[attr_part_index(&cr_part_seccomp)];
}

/* True where the bottom n filters are those of one single list in all threads. */
static bool shared_by_all(const struct restore *r, size_t n)
{
	const GwThread *first = r->tasks[0]->threads[0].extra;

	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++) {
			const GwThread *x = t->threads[k].extra;

			if (!x || !first || x->n_seccomp < n || first->n_seccomp < n)
				return false;
			for (size_t f = 0; f < n; f++)
				if (!same(&x->seccomp[f], &first->seccomp[f]))
					return false;
		}
	}
	return true;
}

static size_t skip_of(const struct restore *r, const GwThread *x)
{
	const struct chain *base = base_of(r);
	size_t n = base ? base->n : 0;
	bool alike = x->n_seccomp >= n;

	for (size_t i = 0; i < n && alike; i++)
		alike = same(&x->seccomp[i], &base->v[i]);
	return alike || shared_by_all(r, n) ? n : 0;
}

static int load(struct restore *r, struct err *e)
{
	int ret = filters_give(r, FILTERS_MAX, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < r->n_tasks; i++)
		for (size_t k = 0; k < r->tasks[i]->n_threads; k++) {
			const GwThread *x = r->tasks[i]->threads[k].extra;

			if (x && (x->n_seccomp > FILTERS_MAX || x->n_seccomp_flags != x->n_seccomp))
				return err_set(e, -EPROTO, "thread %d: its seccomp filters are not ones",
					       (int)r->tasks[i]->threads[k].nstid);
			for (size_t f = 0; x && f < x->n_seccomp; f++)
				if (!x->seccomp[f].len || x->seccomp[f].len % sizeof(struct sock_filter) ||
				    x->seccomp[f].len > INSNS_MAX * sizeof(struct sock_filter))
					return err_set(e, -EPROTO, "thread %d: a seccomp filter is not one",
						       (int)r->tasks[i]->threads[k].nstid);
		}
	return 0;
}

/* Reads gw-init's own chain, while its agent waits for work: a stop goes unnoticed by it. */
static int build(struct restore *r, struct err *e)
{
	struct rtask *init = r->tasks[0];
	struct chain *c = calloc(1, sizeof(*c));
	pid_t tid = agent_host_tid(init->agent);
	struct proc_status st;
	auto_fd int dir = -1;
	int ret, status;

	if (!c)
		return err_set(e, -ENOMEM, "no memory");
	r->part_data[attr_part_index(&cr_part_seccomp)] = c;
	/* Without a filter there is nothing to be read, for which not everybody has the right. */
	dir = proc_open(r->proc_fd, tid);
	ret = dir < 0 ? err_sys(e, dir, "gw-init") : proc_status_read(dir, &st, e);
	if (ret >= 0)
		ret = agent_seize(init->agent, e);
	if (ret < 0 || st.seccomp != SECCOMP_MODE_FILTER)
		return ret;
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || waitpid(tid, &status, __WALL) < 0)
		return err_sys(e, -errno, "stopping gw-init");
	if (!WIFSTOPPED(status))
		return err_set(e, -ESRCH, "gw-init ended");
	ret = chain_read(tid, c, e);
	if (ptrace(PTRACE_CONT, tid, 0, 0) < 0 && ret >= 0)
		ret = err_sys(e, -errno, "continuing gw-init");
	return ret;
}

static int install(struct rtask *t, struct rthread *th, const ProtobufCBinaryData *f, uint32_t flags,
		   struct err *e)
{
	struct sock_fprog prog = { .len = (unsigned short)(f->len / sizeof(struct sock_filter)) };
	struct scratch s;
	struct aprog *p;
	int ret = scratch_map(t, sizeof(prog) + f->len, &s, e);

	if (ret < 0)
		return ret;
	prog.filter = (struct sock_filter *)(uintptr_t)(s.addr + sizeof(prog));
	p = aprog_new();
	if (!p) {
		(void)scratch_unmap(&s, NULL);
		return err_set(e, -ENOMEM, "no memory");
	}
	aprog_poke(p, s.addr, &prog, sizeof(prog));
	aprog_poke(p, s.addr + sizeof(prog), f->data, f->len);
	ret = agent_run(t->agent, p, e);
	aprog_free(p);
	if (ret >= 0)
		ret = AGENT_CALL(th->agent, NULL, e, SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, s.addr, 0, 0,
				 0);
	if (ret >= 0)
		ret = scratch_unmap(&s, e);
	return ret;
}

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	const GwThread *x = th->extra;
	int ret;

	if (!x || !tc || tc->seccomp_mode == SECCOMP_MODE_DISABLED)
		return 0;
	ret = agent_seize(th->agent, e);
	/* A thread without CAP_SYS_ADMIN may install filters only so; it is set in the end anyway. */
	if (ret >= 0 && x->no_new_privs)
		ret = AGENT_CALL(th->agent, NULL, e, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	for (size_t i = ret >= 0 ? skip_of(r, x) : 0; i < x->n_seccomp && ret >= 0; i++)
		ret = install(t, th, &x->seccomp[i], x->seccomp_flags[i], e);
	if (ret >= 0 && tc->seccomp_mode == SECCOMP_MODE_STRICT)
		ret = AGENT_CALL(th->agent, NULL, e, SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0, 0, 0, 0);
	return ret < 0 ? err_context(e, ret, "seccomp filters") : 0;
}

static void restore_done(struct restore *r)
{
	struct chain *c = base_of(r);

	if (!c)
		return;
	chain_done(c);
	free(c);
	r->part_data[attr_part_index(&cr_part_seccomp)] = NULL;
}

const struct cr_part cr_part_seccomp = {
	.name = "seccomp",
	.stopped = stopped,
	.load = load,
	.build = build,
	.thread_end = thread_end,
	.restore_done = restore_done,
};

/* Signals of a process.
 *
 * Kernel state: dispositions (rt_sigaction, read and set inside), alternative stacks (sigaltstack, per
 * thread), pending signals with their siginfo, private and shared (PTRACE_PEEKSIGINFO from outside; put
 * back by rt_tgsigqueueinfo and rt_sigqueueinfo of the thread to itself, the only sender that may use
 * any si_code).  Signal masks belong to the registers (regs.c).
 * Pending signals are read when the tree is frozen for good, the last moment one can arrive from
 * within.  A group stop belongs to the spine (thread.group_stopped).
 * Not covered: nothing known. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "cr/hold.h"
#include "cr/task/attr.h"
#include "sys/procfs.h"

#define SIGNALS 64
#define PENDING_MAX 65536 /* RLIMIT_SIGPENDING of a large machine */

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static bool can_be_set(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP;
}

/* A piece of a larger room for answers. */
static struct aarg within(struct aarg room, size_t offset)
{
	room.value += offset;
	return room;
}

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	s->v[0] = aprog_out(p, sizeof(stack_t));
	APROG_CALL(p, 0, SYS_sigaltstack, aarg_imm(0), s->v[0]);
	if (th != &t->threads[0])
		return;
	s->v[1] = aprog_out(p, (SIGNALS + 1) * sizeof(struct kernel_sigaction));
	for (size_t sig = 1; sig <= SIGNALS; sig++)
		if (can_be_set((int)sig))
			APROG_CALL(p, 0, SYS_rt_sigaction, aarg_imm(sig), aarg_imm(0),
				   within(s->v[1], sig * sizeof(struct kernel_sigaction)), aarg_imm(8));
}

static int take_actions(TaskCoreEntry *tc, const struct kernel_sigaction *k, struct err *e)
{
	tc->sigactions = calloc(SIGNALS, sizeof(*tc->sigactions));
	for (int sig = 1; sig <= SIGNALS; sig++) {
		SaEntry *sa;

		if (!can_be_set(sig))
			continue;
		sa = tc->sigactions ? ATTR_NEW(SaEntry, sa_entry) : NULL;
		if (!sa)
			return err_set(e, -ENOMEM, "no memory");
		sa->sigaction = k[sig].handler;
		sa->flags = k[sig].flags;
		sa->restorer = k[sig].restorer;
		sa->mask = k[sig].mask;
		tc->sigactions[tc->n_sigactions++] = sa;
	}
	return 0;
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	const stack_t *ss = aprog_out_data(p, s->v[0]);
	ThreadSasEntry *sas = ATTR_NEW(ThreadSasEntry, thread_sas_entry);

	if (!sas)
		return err_set(e, -ENOMEM, "no memory");
	th->core->thread_core->sas = sas;
	sas->ss_sp = (uint64_t)(uintptr_t)ss->ss_sp;
	sas->ss_size = ss->ss_size;
	sas->ss_flags = (uint32_t)ss->ss_flags;
	return th == &t->threads[0] ? take_actions(th->core->tc, aprog_out_data(p, s->v[1]), e) : 0;
}

/* ---- pending ---- */

#ifndef PTRACE_PEEKSIGINFO_SHARED
#define PTRACE_PEEKSIGINFO_SHARED 1
#endif

static int peek(pid_t tid, bool shared, SignalQueueEntry **ret, struct err *e)
{
	SignalQueueEntry *q = *ret ? *ret : ATTR_NEW(SignalQueueEntry, signal_queue_entry);
	siginfo_t info[32];
	size_t cap = q ? q->n_signals : 0;

	*ret = q;
	for (;;) {
		struct __ptrace_peeksiginfo_args a = { .off = q ? q->n_signals : 0,
			.flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = (int)array_len(info) };
		long n = q ? ptrace(PTRACE_PEEKSIGINFO, tid, &a, info) : -1;

		if (n < 0)
			return err_sys(e, q ? -errno : -ENOMEM, "reading pending signals of thread %d", tid);
		if (!n)
			return 0;
		for (long i = 0; i < n; i++) {
			SiginfoEntry *s;

			if (q->n_signals >= PENDING_MAX)
				return err_set(e, -E2BIG, "thread %d has too many pending signals", tid);
			if (array_grow(q->signals, q->n_signals, cap) < 0 ||
			    !(s = ATTR_NEW(SiginfoEntry, siginfo_entry)))
				return err_set(e, -ENOMEM, "no memory");
			q->signals[q->n_signals++] = s;
			s->siginfo.data = malloc(sizeof(info[i]));
			if (!s->siginfo.data)
				return err_set(e, -ENOMEM, "no memory");
			memcpy(s->siginfo.data, &info[i], sizeof(info[i]));
			s->siginfo.len = sizeof(info[i]);
		}
	}
}

static int read_pending(struct dump *d, struct task *t, struct thread *th, struct err *e)
{
	bool leader = th == &t->threads[0];
	struct proc_status st;
	char path[32];
	int dir, r;

	snprintf(path, sizeof(path), "task/%d", (int)th->tid);
	dir = openat(t->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, -errno, "opening thread %d", (int)th->nstid);
	r = proc_status_read(dir, &st, e);
	close(dir);
	if (r < 0)
		return r;
	if (!st.sig_pending && !(leader && st.sig_shared))
		return 0;
	/* A frozen thread can be seized, and stays frozen when it is let go; one that stands by ptrace is ours already. */
	if (!hold_traces(d->hold)) {
		r = seize_start(th->tid, e);
		if (r >= 0)
			r = seize_wait(th->tid, NULL, e);
		if (r < 0)
			return r;
	}
	if (st.sig_pending)
		r = attr_thread_core(th) ? peek(th->tid, false, &th->core->thread_core->signals_p, e)
					 : err_set(e, -ENOMEM, "no memory");
	if (r >= 0 && leader && st.sig_shared)
		r = attr_task_core(th) ? peek(th->tid, true, &th->core->tc->signals_s, e)
				       : err_set(e, -ENOMEM, "no memory");
	if (hold_traces(d->hold))
		return r;
	if (r >= 0)
		return seize_detach(th->tid, e);
	(void)seize_detach(th->tid, NULL);
	return r;
}

static int frozen(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++) {
			int r = read_pending(d, t, &t->threads[k], e);

			if (r < 0)
				return err_context(e, r, "process %d", (int)t->nspid);
		}
	}
	return 0;
}

/* ---- restore ---- */

static int check_queue(const SignalQueueEntry *q, struct err *e)
{
	for (size_t i = 0; q && i < q->n_signals; i++) {
		siginfo_t s;

		if (q->signals[i]->siginfo.len != sizeof(s))
			return err_set(e, -EPROTO, "a pending signal has %zu bytes",
				       q->signals[i]->siginfo.len);
		memcpy(&s, q->signals[i]->siginfo.data, sizeof(s));
		if (s.si_signo < 1 || s.si_signo > SIGNALS)
			return err_set(e, -EPROTO, "there is no signal %d", s.si_signo);
	}
	return 0;
}

static int load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];
		int ret = 0;

		if (t->zombie)
			continue;
		if (!t->core || !t->core->tc || t->core->tc->n_sigactions != SIGNALS - 2)
			return err_set(e, -EPROTO, "process %d: its signal actions are missing",
				       (int)t->nspid);
		ret = check_queue(t->core->tc->signals_s, e);
		for (size_t k = 0; k < t->n_threads && ret >= 0; k++)
			if (t->threads[k].core->thread_core)
				ret = check_queue(t->threads[k].core->thread_core->signals_p, e);
		if (ret < 0)
			return err_context(e, ret, "process %d", (int)t->nspid);
	}
	return 0;
}

static void give_actions(const TaskCoreEntry *tc, struct aprog *p)
{
	size_t n = 0;

	for (int sig = 1; sig <= SIGNALS; sig++) {
		const SaEntry *sa;
		struct kernel_sigaction k;

		if (!can_be_set(sig))
			continue;
		sa = tc->sigactions[n++];
		k = (struct kernel_sigaction){ sa->sigaction, sa->flags, sa->restorer, sa->mask };
		APROG_CALL(p, 0, SYS_rt_sigaction, aarg_imm((uint64_t)sig), aprog_in(p, &k, sizeof(k)),
			   aarg_imm(0), aarg_imm(8));
	}
}

static int give(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e)
{
	const ThreadSasEntry *sas = th->core->thread_core ? th->core->thread_core->sas : NULL;
	stack_t ss = { 0 };

	if (th == &t->threads[0])
		give_actions(t->core->tc, p);
	if (!sas)
		return 0;
	ss.ss_sp = (void *)(uintptr_t)sas->ss_sp;
	ss.ss_size = sas->ss_size;
	ss.ss_flags = (int)(sas->ss_flags & ~(uint32_t)SS_ONSTACK);
	APROG_CALL(p, 0, SYS_sigaltstack, aprog_in(p, &ss, sizeof(ss)), aarg_imm(0));
	return 0;
}

const struct attr_part attr_signals = { .name = "signals", .ask = ask, .take = take, .give = give };

/* Queues to the thread itself, or to its process. */
static int queue(struct agent *a, const SignalQueueEntry *q, pid_t nspid, pid_t nstid, bool shared,
		 struct err *e)
{
	for (size_t i = 0; q && i < q->n_signals;) {
		struct aprog *p = aprog_new();
		int ret = 0, calls = 0;

		if (!p)
			return err_set(e, -ENOMEM, "no memory");
		for (int k = 0; k < 32 && i < q->n_signals; k++, i++) {
			struct aarg info;
			siginfo_t s;

			memcpy(&s, q->signals[i]->siginfo.data, sizeof(s));
			/* It would stop the agent, now.  The spine stops the process at the end. */
			if (s.si_signo == SIGSTOP)
				continue;
			calls++;
			info = aprog_in(p, q->signals[i]->siginfo.data, sizeof(siginfo_t));
			if (shared)
				APROG_CALL(p, 0, SYS_rt_sigqueueinfo, aarg_imm((uint64_t)nspid),
					   aarg_imm((uint64_t)s.si_signo), info);
			else
				APROG_CALL(p, 0, SYS_rt_tgsigqueueinfo, aarg_imm((uint64_t)nspid),
					   aarg_imm((uint64_t)nstid), aarg_imm((uint64_t)s.si_signo),
					   info);
		}
		if (calls)
			ret = agent_run(a, p, e);
		aprog_free(p);
		if (ret < 0)
			return err_context(e, ret, "queueing pending signals");
	}
	return 0;
}

int signals_queue_private(struct rtask *t, struct rthread *th, struct err *e)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	return tc ? queue(th->agent, tc->signals_p, t->nspid, th->nstid, false, e) : 0;
}

int signals_queue_shared(struct rtask *t, struct err *e)
{
	return queue(t->agent, t->core->tc->signals_s, t->nspid, t->nspid, true, e);
}

const struct cr_part cr_part_signals = {
	.name = "signals",
	.frozen = frozen,
	.load = load,
};

/* Scheduling of threads.
 *
 * Kernel state: policy, priority, nice value and deadline parameters (sched_getattr), CPU affinity,
 * I/O priority, timer slack.  All but the last can be read and set from outside, with the engine's rights:
 * a container's own root may not give itself a real-time policy.
 * An affinity that covers all CPUs of the source is no wish and not carried; one that names CPUs which the
 * target does not have is reported and left out.
 * Not covered: uclamp values beyond those in sched_attr, core scheduling cookies, autogroups. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cr/task/attr.h"

#define IOPRIO_WHO_PROCESS 1

struct kernel_sched_attr { /* SCHED_ATTR_SIZE_VER1 */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};
#define AFFINITY_BYTES 1024 /* 8192 CPUs, the most that x86-64 kernels are built for */

static int put_bytes(ProtobufCBinaryData *to, protobuf_c_boolean *has, const void *data, size_t len)
{
	to->data = malloc(len ? len : 1);
	if (!to->data)
		return -ENOMEM;
	memcpy(to->data, data, len);
	to->len = len;
	*has = true;
	return 0;
}

/* Whether every CPU that is online is in the mask. */
static bool covers_all(const uint8_t *mask, size_t len)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN), have = 0;

	for (size_t i = 0; i < len; i++)
		have += __builtin_popcount(mask[i]);
	return have >= n;
}

static int read_thread(struct thread *th, struct err *e)
{
	ThreadCoreEntry *tc = attr_thread_core(th);
	struct kernel_sched_attr a = { 0 };
	uint8_t mask[AFFINITY_BYTES];
	long n;

	if (!tc)
		return err_set(e, -ENOMEM, "no memory");
	if (syscall(SYS_sched_getattr, th->tid, &a, sizeof(a), 0) < 0)
		return err_sys(e, -errno, "scheduling of thread %d", (int)th->nstid);
	tc->has_sched_nice = tc->has_sched_policy = tc->has_sched_prio = true;
	tc->sched_nice = a.nice;
	tc->sched_policy = a.policy;
	tc->sched_prio = a.priority;
	if (put_bytes(&th->extra->sched_attr, &th->extra->has_sched_attr, &a, sizeof(a)) < 0)
		return err_set(e, -ENOMEM, "no memory");
	n = syscall(SYS_sched_getaffinity, th->tid, sizeof(mask), mask);
	if (n < 0)
		return err_sys(e, -errno, "affinity of thread %d", (int)th->nstid);
	if (!covers_all(mask, (size_t)n) &&
	    put_bytes(&th->extra->affinity, &th->extra->has_affinity, mask, (size_t)n) < 0)
		return err_set(e, -ENOMEM, "no memory");
	n = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, th->tid);
	if (n >= 0) {
		th->extra->has_ioprio = true;
		th->extra->ioprio = (uint32_t)n;
	}
	return 0;
}

static int stopped(struct dump *d, struct task *t, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		int r = read_thread(&t->threads[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	s->op[0] = APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_TIMERSLACK), aarg_imm(0), aarg_imm(0),
			      aarg_imm(0), aarg_imm(0));
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	th->extra->has_timer_slack_ns = true;
	th->extra->timer_slack_ns = (uint64_t)aprog_result(p, s->op[0]);
	return 0;
}

static int give(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e)
{
	/* 0 would mean the default. */
	if (th->extra && th->extra->has_timer_slack_ns && th->extra->timer_slack_ns)
		APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_SET_TIMERSLACK), aarg_imm(th->extra->timer_slack_ns),
			   aarg_imm(0), aarg_imm(0), aarg_imm(0));
	return 0;
}

const struct attr_part attr_sched = { .name = "sched", .ask = ask, .take = take, .give = give };

/* ---- restore ---- */

static int load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++)
		for (size_t k = 0; k < r->tasks[i]->n_threads; k++) {
			const GwThread *x = r->tasks[i]->threads[k].extra;

			if (x && ((x->has_sched_attr &&
				   x->sched_attr.len != sizeof(struct kernel_sched_attr)) ||
				  (x->has_affinity && x->affinity.len > AFFINITY_BYTES)))
				return err_set(e, -EPROTO, "thread %d: its scheduling is not one",
					       (int)r->tasks[i]->threads[k].nstid);
		}
	return 0;
}

static int set_attr(struct rthread *th, const GwThread *x, struct err *e)
{
	struct kernel_sched_attr now = { 0 }, want;

	if (!x->has_sched_attr)
		return 0;
	memcpy(&want, x->sched_attr.data, sizeof(want));
	want.size = sizeof(want);
	/* Only what differs is set: a host may lack the right even for what is there already. */
	if (syscall(SYS_sched_getattr, th->tid, &now, sizeof(now), 0) == 0 && now.policy == want.policy &&
	    now.nice == want.nice && now.priority == want.priority && now.flags == want.flags &&
	    now.runtime == want.runtime && now.deadline == want.deadline && now.period == want.period)
		return 0;
	/* Clamps were only reported; a container's cgroup has its own. */
	want.flags &= 0x07; /* reset on fork, reclaim, overrun */
	want.size = 48;
	if (syscall(SYS_sched_setattr, th->tid, &want, 0) < 0)
		return err_sys(e, -errno, "scheduling policy %u, priority %u, nice %d", want.policy,
			       want.priority, want.nice);
	return 0;
}

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	const GwThread *x = th->extra;
	int ret = 0;

	if (!x)
		return 0;
	ret = set_attr(th, x, e);
	if (ret >= 0 && x->has_affinity &&
	    syscall(SYS_sched_setaffinity, th->tid, x->affinity.len, x->affinity.data) < 0)
		log_warn("thread %d: the CPUs it was bound to are not here; it may use all",
			 (int)th->nstid);
	/* 0 is what a thread has that never asked. */
	if (ret >= 0 && x->has_ioprio && x->ioprio &&
	    syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, th->tid) != (long)x->ioprio &&
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, th->tid, x->ioprio) < 0)
		ret = err_sys(e, -errno, "I/O priority %x", x->ioprio);
	return ret < 0 ? ret : 0;
}

const struct cr_part cr_part_sched = {
	.name = "sched",
	.stopped = stopped,
	.load = load,
	.thread_end = thread_end,
};

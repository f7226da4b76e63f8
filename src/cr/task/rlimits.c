/* Resource limits of a process.
 *
 * Kernel state: soft and hard value of 16 resources, read from /proc/PID/limits (prlimit on a task of
 * another user wants CAP_SYS_RESOURCE, which not every root has).  Set by the process itself; a hard limit
 * above what gw-init got from its daemon only with CAP_SYS_RESOURCE of the first user namespace, so the
 * engine tries that from outside, and a limit that cannot be raised is an error.
 * Not covered: nothing known. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/task/attr.h"
#include "cr/task/limits_parse.h"

static int frozen(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		auto_free char *text = NULL;
		struct limit v[LIMITS_MAX];
		TaskRlimitsEntry *rl;
		TaskCoreEntry *tc;
		int n;

		if (t->zombie)
			continue;
		n = fd_read_piece_at(t->proc_fd, "limits", 65536, &text, NULL);
		if (n >= 0)
			n = limits_parse(text, v);
		if (n < 0)
			return err_sys(e, n, "reading the limits of process %d", (int)t->nspid);
		tc = attr_task_core(&t->threads[0]);
		rl = tc ? ATTR_NEW(TaskRlimitsEntry, task_rlimits_entry) : NULL;
		if (!rl)
			return err_set(e, -ENOMEM, "no memory");
		tc->rlimits = rl;
		rl->rlimits = calloc(LIMITS_MAX, sizeof(*rl->rlimits));
		for (int k = 0; k < n; k++) {
			RlimitEntry *l = rl->rlimits ? ATTR_NEW(RlimitEntry, rlimit_entry) : NULL;

			if (!l)
				return err_set(e, -ENOMEM, "no memory");
			l->cur = v[k].soft;
			l->max = v[k].hard;
			rl->rlimits[rl->n_rlimits++] = l;
		}
	}
	return 0;
}

/* ---- restore ---- */

/* By the process itself, else by the engine. */
static int set_limit(struct rtask *t, int what, const struct rlimit64 *want, struct err *e)
{
	struct aprog *p = aprog_new();
	size_t op;
	long got;
	int ret;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	op = APROG_CALL(p, AOP_MAY_FAIL, SYS_prlimit64, aarg_imm(0), aarg_imm((uint64_t)what),
			aprog_in(p, want, sizeof(*want)), aarg_imm(0));
	ret = agent_run(t->agent, p, e);
	got = aprog_result(p, op);
	aprog_free(p);
	if (ret < 0)
		return ret;
	if (got < 0 && got != -EPERM)
		return err_sys(e, (int)got, "limit \"%s\"", limit_name(what));
	if (got >= 0 || syscall(SYS_prlimit64, t->pid, what, want, NULL) == 0)
		return 0;
	return err_set(e, -EPERM, "the hard limit \"%s\" cannot be raised to %llu: this host's engine lacks "
		       "CAP_SYS_RESOURCE; raise the limit of its daemon", limit_name(what),
		       (unsigned long long)want->rlim_max);
}

/* Everything is built under the widest limits that any process will have: memory is locked, and
 * descriptors are placed, before a process gets its own.  Soft limits go up to the hard ones here, and hard
 * ones to what is needed, in the first process; the others inherit. */
static int build(struct restore *r, struct err *e)
{
	struct rtask *init = r->tasks[0];

	for (int what = 0; what < LIMITS_MAX; what++) {
		struct rlimit64 now, want;

		if (syscall(SYS_prlimit64, init->pid, what, NULL, &now) < 0) {
			/* Of a task in another user namespace only it may ask (no CAP_SYS_RESOURCE here). */
			struct aprog *p = aprog_new();
			struct aarg out;
			int ret;

			if (!p)
				return err_set(e, -ENOMEM, "no memory");
			out = aprog_out(p, sizeof(now));
			APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm((uint64_t)what), aarg_imm(0),
				   out);
			ret = agent_run(init->agent, p, e);
			if (ret >= 0)
				memcpy(&now, aprog_out_data(p, out), sizeof(now));
			aprog_free(p);
			if (ret < 0)
				return ret;
		}
		want = (struct rlimit64){ now.rlim_max, now.rlim_max };
		for (size_t i = 0; i < r->n_tasks; i++) {
			const struct rtask *t = r->tasks[i];
			const TaskRlimitsEntry *rl = t->zombie || !t->core->tc ? NULL : t->core->tc->rlimits;

			if (rl && (size_t)what < rl->n_rlimits && rl->rlimits[what]->max > want.rlim_max)
				want.rlim_max = rl->rlimits[what]->max;
		}
		/* A CPU limit is no obstacle, and counts what was used. */
		if (what != RLIMIT_CPU && (want.rlim_cur != now.rlim_cur || want.rlim_max != now.rlim_max)) {
			int ret = set_limit(init, what, &want, e);

			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

static int give_task(struct restore *r, struct rtask *t, struct aprog *p, struct err *e)
{
	const TaskRlimitsEntry *rl = t->core->tc->rlimits;

	for (size_t i = 0; rl && i < rl->n_rlimits && i < LIMITS_MAX; i++) {
		struct rlimit64 v = { rl->rlimits[i]->cur, rl->rlimits[i]->max };

		APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(i), aprog_in(p, &v, sizeof(v)),
			   aarg_imm(0));
	}
	return 0;
}

const struct attr_part attr_rlimits = { .name = "rlimits", .give_task = give_task };

const struct cr_part cr_part_rlimits = {
	.name = "rlimits",
	.frozen = frozen,
	.build = build,
};

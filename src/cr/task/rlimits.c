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
		n = fd_read_file_at(t->proc_fd, "limits", 65536, &text, NULL);
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

static int raise_limit(struct rtask *t, int what, const struct rlimit64 *want, struct err *e)
{
	struct rlimit64 now;

	if (syscall(SYS_prlimit64, t->pid, what, want, NULL) == 0)
		return 0;
	if (errno != EPERM)
		return err_sys(e, -errno, "limit %d (%s)", what, limit_name(what));
	memset(&now, 0, sizeof(now));
	(void)syscall(SYS_prlimit64, t->pid, what, NULL, &now);
	return err_set(e, -EPERM, "the hard limit \"%s\" is %llu here and cannot be raised to %llu: this "
		       "host's engine lacks CAP_SYS_RESOURCE; raise the limit of its daemon",
		       limit_name(what), (unsigned long long)now.rlim_max,
		       (unsigned long long)want->rlim_max);
}

static int task_end(struct restore *r, struct rtask *t, struct err *e)
{
	const TaskRlimitsEntry *rl = t->core->tc->rlimits;
	struct aprog *p = aprog_new();
	size_t op[LIMITS_MAX];
	int ret;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; rl && i < rl->n_rlimits && i < LIMITS_MAX; i++) {
		struct rlimit64 v = { rl->rlimits[i]->cur, rl->rlimits[i]->max };

		op[i] = APROG_CALL(p, AOP_MAY_FAIL, SYS_prlimit64, aarg_imm(0), aarg_imm(i),
				   aprog_in(p, &v, sizeof(v)), aarg_imm(0));
	}
	ret = agent_run(t->agent, p, e);
	for (size_t i = 0; rl && i < rl->n_rlimits && i < LIMITS_MAX && ret >= 0; i++) {
		struct rlimit64 v = { rl->rlimits[i]->cur, rl->rlimits[i]->max };
		long got = aprog_result(p, op[i]);

		if (got == -EPERM)
			ret = raise_limit(t, (int)i, &v, e);
		else if (got < 0)
			ret = err_sys(e, (int)got, "limit \"%s\"", limit_name((int)i));
	}
	aprog_free(p);
	return ret < 0 ? ret : 0;
}

const struct cr_part cr_part_rlimits = {
	.name = "rlimits",
	.frozen = frozen,
	.task_end = task_end,
};

/* Credentials of threads.
 *
 * Kernel state (each thread has its own): user and group ids, supplementary groups, capability sets,
 * securebits, no_new_privs.  Ids are read inside (getresuid ...), so they are those of the container's
 * user namespace on both sides; sets come from /proc/PID/task/TID/status.
 * Rights come from the target's configuration: its bounding set limits what is given back; what the
 * source had dropped from its own is dropped as well.
 * Not covered: keyrings; labels of a security module (the target's profile applies). */
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/task/attr.h"
#include "cr/task/tree.h"
#include "sys/procfs.h"

/* What fits into the data of a thread's agent with room to spare. */
#define GROUPS_MAX 1000

static int status_of(const struct task *t, const struct thread *th, struct proc_status *ret, struct err *e)
{
	return task_status(t, th, ret, e);
}

static int split_caps(uint64_t v, size_t *ret_n, uint32_t **ret)
{
	uint32_t *p = malloc(2 * sizeof(*p));

	if (!p)
		return -ENOMEM;
	p[0] = (uint32_t)v;
	p[1] = (uint32_t)(v >> 32);
	*ret = p;
	*ret_n = 2;
	return 0;
}

static int fill_caps(CredsEntry *c, struct thread *th, const struct proc_status *st)
{
	th->extra->has_cap_amb = th->extra->has_no_new_privs = true;
	th->extra->cap_amb = st->cap_amb;
	th->extra->no_new_privs = st->no_new_privs;
	if (split_caps(st->cap_inh, &c->n_cap_inh, &c->cap_inh) < 0 ||
	    split_caps(st->cap_prm, &c->n_cap_prm, &c->cap_prm) < 0 ||
	    split_caps(st->cap_eff, &c->n_cap_eff, &c->cap_eff) < 0 ||
	    split_caps(st->cap_bnd, &c->n_cap_bnd, &c->cap_bnd) < 0)
		return -ENOMEM;
	return 0;
}

static struct aarg within(struct aarg room, size_t offset)
{
	room.value += offset;
	return room;
}

static void ask(struct task *t, struct thread *th, struct aprog *p, struct attr_slots *s)
{
	s->v[0] = aprog_out(p, 12);
	s->v[1] = aprog_out(p, 12);
	s->v[2] = aprog_out(p, GROUPS_MAX * sizeof(uint32_t));
	APROG_CALL(p, 0, SYS_getresuid, s->v[0], within(s->v[0], 4), within(s->v[0], 8));
	APROG_CALL(p, 0, SYS_getresgid, s->v[1], within(s->v[1], 4), within(s->v[1], 8));
	/* An impossible id changes nothing and tells the present one. */
	s->op[0] = APROG_CALL(p, AOP_MAY_FAIL, SYS_setfsuid, aarg_imm(UINT32_MAX));
	s->op[1] = APROG_CALL(p, AOP_MAY_FAIL, SYS_setfsgid, aarg_imm(UINT32_MAX));
	s->op[2] = APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_SECUREBITS), aarg_imm(0), aarg_imm(0),
			      aarg_imm(0), aarg_imm(0));
	s->op[3] = APROG_CALL(p, 0, SYS_getgroups, aarg_imm(GROUPS_MAX), s->v[2]);
}

static int take(struct task *t, struct thread *th, struct aprog *p, const struct attr_slots *s,
		struct err *e)
{
	CredsEntry *c = ATTR_NEW(CredsEntry, creds_entry);
	const uint32_t *uid = aprog_out_data(p, s->v[0]), *gid = aprog_out_data(p, s->v[1]);
	struct proc_status st;
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "no memory");
	th->core->thread_core->creds = c;
	c->uid = uid[0];
	c->euid = uid[1];
	c->suid = uid[2];
	c->gid = gid[0];
	c->egid = gid[1];
	c->sgid = gid[2];
	c->fsuid = (uint32_t)aprog_result(p, s->op[0]);
	c->fsgid = (uint32_t)aprog_result(p, s->op[1]);
	c->secbits = (uint32_t)aprog_result(p, s->op[2]);
	c->groups = malloc((size_t)(aprog_result(p, s->op[3]) + 1) * sizeof(*c->groups));
	if (!c->groups)
		return err_set(e, -ENOMEM, "no memory");
	c->n_groups = (size_t)aprog_result(p, s->op[3]);
	memcpy(c->groups, aprog_out_data(p, s->v[2]), c->n_groups * sizeof(*c->groups));
	r = status_of(t, th, &st, e);
	if (r >= 0 && fill_caps(c, th, &st) < 0)
		r = err_set(e, -ENOMEM, "no memory");
	return r < 0 ? r : 0;
}

/* ---- restore ---- */

static uint64_t join_caps(size_t n, const uint32_t *v)
{
	return n == 2 ? v[0] | (uint64_t)v[1] << 32 : 0;
}

static int load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];

		for (size_t k = 0; k < t->n_threads && !t->zombie; k++) {
			const ThreadCoreEntry *tc = t->threads[k].core->thread_core;

			if (!tc || !tc->creds || tc->creds->n_cap_prm != 2 || tc->creds->n_cap_bnd != 2)
				return err_set(e, -EPROTO, "thread %d: its credentials are missing",
					       (int)t->threads[k].nstid);
			if (tc->creds->n_groups > GROUPS_MAX)
				return err_set(e, -E2BIG, "thread %d is in %zu groups",
					       (int)t->threads[k].nstid, tc->creds->n_groups);
		}
	}
	return 0;
}

static void prctl_call(struct aprog *p, uint64_t a, uint64_t b, uint64_t c)
{
	APROG_CALL(p, 0, SYS_prctl, aarg_imm(a), aarg_imm(b), aarg_imm(c), aarg_imm(0), aarg_imm(0));
}

/* The user ids change without a change of capabilities (SECBIT_NO_SETUID_FIXUP), so that the thread still
 * may do what comes behind. */
static void append_ids(struct aprog *p, const CredsEntry *c)
{
	prctl_call(p, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0);
	APROG_CALL(p, 0, SYS_setgroups, aarg_imm(c->n_groups),
		   c->n_groups ? aprog_in(p, c->groups, c->n_groups * sizeof(*c->groups)) : aarg_imm(0));
	APROG_CALL(p, 0, SYS_setresgid, aarg_imm(c->gid), aarg_imm(c->egid), aarg_imm(c->sgid));
	APROG_CALL(p, 0, SYS_setfsgid, aarg_imm(c->fsgid));
	APROG_CALL(p, 0, SYS_setresuid, aarg_imm(c->uid), aarg_imm(c->euid), aarg_imm(c->suid));
	APROG_CALL(p, 0, SYS_setfsuid, aarg_imm(c->fsuid));
}

static void append_capset(struct aprog *p, uint64_t prm, uint64_t eff, uint64_t inh)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
		{ (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
	};

	APROG_CALL(p, 0, SYS_capset, aprog_in(p, &h, sizeof(h)), aprog_in(p, d, sizeof(d)));
}

/* What gw-init may, and with it every task until it gets its own: the most that is given back. */
struct base {
	uint64_t prm, bnd;
};

static int build(struct restore *r, struct err *e)
{
	auto_fd int dir = proc_open(r->proc_fd, r->init_pid);
	struct base *b = calloc(1, sizeof(*b));
	struct proc_status st;
	int ret;

	if (dir < 0 || !b) {
		free(b);
		return err_sys(e, dir < 0 ? dir : -ENOMEM, "opening gw-init");
	}
	r->part_data[attr_part_index(&cr_part_creds)] = b;
	ret = proc_status_read(dir, &st, e);
	if (ret < 0)
		return ret;
	b->prm = st.cap_prm;
	b->bnd = st.cap_bnd;
	return 0;
}

static void restore_done(struct restore *r)
{
	size_t i = attr_part_index(&cr_part_creds);

	free(r->part_data[i]);
	r->part_data[i] = NULL;
}

/* Ids, bounding set, securebits, sets, ambient set, no_new_privs. */
static int give(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e)
{
	const struct base *base = r->part_data[attr_part_index(&cr_part_creds)];
	const CredsEntry *c = th->core->thread_core->creds;
	uint64_t bnd = join_caps(c->n_cap_bnd, c->cap_bnd);
	uint64_t prm = join_caps(c->n_cap_prm, c->cap_prm) & base->prm;
	uint64_t eff = join_caps(c->n_cap_eff, c->cap_eff) & prm;
	uint64_t inh = join_caps(c->n_cap_inh, c->cap_inh) & base->prm;
	uint64_t amb = th->extra && th->extra->has_cap_amb ? th->extra->cap_amb & base->prm : 0;

	append_ids(p, c);
	/* What is not in the bounding set can stay inheritable, but not become so. */
	append_capset(p, base->prm, base->prm, inh);
	for (unsigned cap = 0; cap < 64; cap++)
		if (base->bnd >> cap & 1 && !(bnd >> cap & 1))
			prctl_call(p, PR_CAPBSET_DROP, cap, 0);
	prctl_call(p, PR_SET_SECUREBITS, c->secbits, 0);
	append_capset(p, prm, eff, inh);
	for (unsigned cap = 0; cap < 64; cap++)
		if (amb >> cap & 1)
			prctl_call(p, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
	if (th->extra && th->extra->no_new_privs)
		prctl_call(p, PR_SET_NO_NEW_PRIVS, 1, 0);
	return 0;
}

const struct attr_part attr_creds = { .name = "creds", .ask = ask, .take = take, .give = give };

const struct cr_part cr_part_creds = {
	.name = "creds",
	.load = load,
	.build = build,
	.restore_done = restore_done,
};

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
#include "sys/procfs.h"

/* What fits into the data of a thread's agent with room to spare. */
#define GROUPS_MAX 2000

static int status_of(const struct task *t, const struct thread *th, struct proc_status *ret, struct err *e)
{
	char path[32];
	auto_fd int dir = -1;

	snprintf(path, sizeof(path), "task/%d", (int)th->tid);
	dir = openat(t->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, -errno, "opening thread %d", (int)th->nstid);
	return proc_status_read(dir, ret, e);
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

static int read_thread(struct task *t, struct thread *th, struct err *e)
{
	ThreadCoreEntry *tc = attr_thread_core(th);
	struct aprog *p = aprog_new();
	struct proc_status st;
	struct aarg uid, gid, list;
	size_t fsuid, fsgid, groups, bits;
	const uint32_t *v;
	CredsEntry *c;
	int r;

	if (!tc || !p || !(c = ATTR_NEW(CredsEntry, creds_entry))) {
		aprog_free(p);
		return err_set(e, -ENOMEM, "no memory");
	}
	creds_entry__free_unpacked(tc->creds, NULL);
	tc->creds = c;
	uid = aprog_out(p, 12);
	gid = aprog_out(p, 12);
	list = aprog_out(p, GROUPS_MAX * sizeof(uint32_t));
	APROG_CALL(p, 0, SYS_getresuid, uid, (struct aarg){ AARG_DATA, uid.value + 4 },
		   (struct aarg){ AARG_DATA, uid.value + 8 });
	APROG_CALL(p, 0, SYS_getresgid, gid, (struct aarg){ AARG_DATA, gid.value + 4 },
		   (struct aarg){ AARG_DATA, gid.value + 8 });
	/* An impossible id changes nothing and tells the present one. */
	fsuid = APROG_CALL(p, AOP_MAY_FAIL, SYS_setfsuid, aarg_imm(UINT32_MAX));
	fsgid = APROG_CALL(p, AOP_MAY_FAIL, SYS_setfsgid, aarg_imm(UINT32_MAX));
	bits = APROG_CALL(p, 0, SYS_prctl, aarg_imm(PR_GET_SECUREBITS), aarg_imm(0), aarg_imm(0),
			  aarg_imm(0), aarg_imm(0));
	groups = APROG_CALL(p, 0, SYS_getgroups, aarg_imm(GROUPS_MAX), list);
	r = agent_run(th->agent, p, e);
	if (r >= 0) {
		v = aprog_out_data(p, uid);
		c->uid = v[0];
		c->euid = v[1];
		c->suid = v[2];
		v = aprog_out_data(p, gid);
		c->gid = v[0];
		c->egid = v[1];
		c->sgid = v[2];
		c->fsuid = (uint32_t)aprog_result(p, fsuid);
		c->fsgid = (uint32_t)aprog_result(p, fsgid);
		c->secbits = (uint32_t)aprog_result(p, bits);
		c->n_groups = (size_t)aprog_result(p, groups);
		c->groups = malloc((c->n_groups + 1) * sizeof(*c->groups));
		if (!c->groups)
			c->n_groups = 0, r = err_set(e, -ENOMEM, "no memory");
		else
			memcpy(c->groups, aprog_out_data(p, list), c->n_groups * sizeof(*c->groups));
	}
	aprog_free(p);
	if (r >= 0)
		r = status_of(t, th, &st, e);
	if (r >= 0 && fill_caps(c, th, &st) < 0)
		r = err_set(e, -ENOMEM, "no memory");
	return r < 0 ? err_context(e, r, "credentials of thread %d", (int)th->nstid) : 0;
}

static int inside(struct dump *d, struct task *t, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		int r = read_thread(t, &t->threads[i], e);

		if (r < 0)
			return r;
	}
	return 0;
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

static int prctl_call(struct aprog *p, unsigned flags, uint64_t a, uint64_t b, uint64_t c)
{
	APROG_CALL(p, flags, SYS_prctl, aarg_imm(a), aarg_imm(b), aarg_imm(c), aarg_imm(0), aarg_imm(0));
	return 0;
}

/* First program: ids.  The user ids change without a change of capabilities (SECBIT_NO_SETUID_FIXUP),
 * so that the second one still may do what it has to. */
static int set_ids(struct rthread *th, const CredsEntry *c, struct err *e)
{
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	prctl_call(p, 0, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0);
	APROG_CALL(p, 0, SYS_setgroups, aarg_imm(c->n_groups),
		   c->n_groups ? aprog_in(p, c->groups, c->n_groups * sizeof(*c->groups)) : aarg_imm(0));
	APROG_CALL(p, 0, SYS_setresgid, aarg_imm(c->gid), aarg_imm(c->egid), aarg_imm(c->sgid));
	APROG_CALL(p, 0, SYS_setfsgid, aarg_imm(c->fsgid));
	APROG_CALL(p, 0, SYS_setresuid, aarg_imm(c->uid), aarg_imm(c->euid), aarg_imm(c->suid));
	APROG_CALL(p, 0, SYS_setfsuid, aarg_imm(c->fsuid));
	r = agent_run(th->agent, p, e);
	aprog_free(p);
	return r < 0 ? err_context(e, r, "user and group ids") : 0;
}

static void append_caps(struct aprog *p, const CredsEntry *c, uint64_t may)
{
	uint64_t prm = join_caps(c->n_cap_prm, c->cap_prm) & may;
	uint64_t eff = join_caps(c->n_cap_eff, c->cap_eff) & prm;
	uint64_t inh = join_caps(c->n_cap_inh, c->cap_inh) & may;
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
		{ (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
	};

	APROG_CALL(p, 0, SYS_capset, aprog_in(p, &h, sizeof(h)), aprog_in(p, d, sizeof(d)));
}

/* Second program: bounding set, securebits, sets, ambient set, no_new_privs. */
static int set_rights(struct rthread *th, const CredsEntry *c, uint64_t prm_now, uint64_t bnd_now,
		      struct err *e)
{
	uint64_t bnd = join_caps(c->n_cap_bnd, c->cap_bnd);
	uint64_t amb = th->extra && th->extra->has_cap_amb ? th->extra->cap_amb & prm_now : 0;
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	for (unsigned cap = 0; cap < 64; cap++)
		if (bnd_now >> cap & 1 && !(bnd >> cap & 1))
			prctl_call(p, 0, PR_CAPBSET_DROP, cap, 0);
	prctl_call(p, 0, PR_SET_SECUREBITS, c->secbits, 0);
	append_caps(p, c, prm_now);
	for (unsigned cap = 0; cap < 64; cap++)
		if (amb >> cap & 1)
			prctl_call(p, 0, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
	if (th->extra && th->extra->no_new_privs)
		prctl_call(p, 0, PR_SET_NO_NEW_PRIVS, 1, 0);
	r = agent_run(th->agent, p, e);
	aprog_free(p);
	return r < 0 ? err_context(e, r, "capabilities") : 0;
}

static int thread_end(struct restore *r, struct rtask *t, struct rthread *th, struct err *e)
{
	const CredsEntry *c = th->core->thread_core->creds;
	auto_fd int dir = proc_open(r->proc_fd, th->tid);
	struct proc_status st;
	int ret;

	/* What gw-init had; /proc/TID is a thread's own, though no listing shows it. */
	if (dir < 0)
		return err_sys(e, dir, "opening /proc/%d", (int)th->tid);
	ret = proc_status_read(dir, &st, e);
	if (ret >= 0)
		ret = set_ids(th, c, e);
	if (ret >= 0)
		ret = set_rights(th, c, st.cap_prm, st.cap_bnd, e);
	return ret;
}

const struct cr_part cr_part_creds = {
	.name = "creds",
	.inside = inside,
	.load = load,
	.thread_end = thread_end,
};

/* Processes, sessions, process groups, zombies and threads of a restore.
 *
 * Sessions and parents: see plan.h.  Process groups whose leader is dead get a helper with its pid
 * for as long as it takes the members to join.  Helpers and zombies leave SIGCHLD pending with their
 * parents, which is taken back before the signals of the image are put in place. */
#include "cr/task/grow.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cr/file/tty.h"
#include "cr/mem/mem.h"
#include "cr/task/plan.h"
#include "sys/procfs.h"

struct grow_helper {
	pid_t nspid;
	struct agent *agent;
	struct rtask *parent;
};

struct grow {
	struct restore *r;
	struct plan_node *nodes;
	size_t n, *order;
	bool *filled, *setsid_done;
	struct grow_helper *helpers; /* leaders of sessions that are dead in the image */
	size_t n_helpers, cap_helpers;
	pid_t *numbers;              /* of all threads of the image, sorted */
	size_t n_numbers;
	pid_t next_free;
	bool any_ended; /* somebody may have heard of it by SIGCHLD */
};

static int made_exit(struct grow *g, struct agent *a, int status, struct err *e)
{
	g->any_ended = true;
	return agent_exit(a, status, e);
}

struct grow *grow_free(struct grow *g)
{
	if (!g)
		return NULL;
	for (size_t i = 0; i < g->n_helpers; i++)
		agent_free(g->helpers[i].agent);
	free(g->nodes);
	free(g->order);
	free(g->filled);
	free(g->setsid_done);
	free(g->helpers);
	free(g->numbers);
	free(g);
	return NULL;
}
AUTO_OF_DEFINE(grow)

static int pid_cmp(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

static int numbers_collect(struct grow *g, struct err *e)
{
	struct restore *r = g->r;
	size_t n = 0;

	for (size_t i = 0; i < r->n_tasks; i++)
		n += r->tasks[i]->n_threads + 2;
	g->numbers = calloc(n, sizeof(*g->numbers));
	if (!g->numbers)
		return err_sys(e, -ENOMEM, "planning processes");
	for (size_t i = 0; i < r->n_tasks; i++)
		for (size_t k = 0; k < r->tasks[i]->n_threads; k++)
			g->numbers[g->n_numbers++] = r->tasks[i]->threads[k].nstid;
	qsort(g->numbers, g->n_numbers, sizeof(*g->numbers), pid_cmp);
	for (size_t i = 1; i < g->n_numbers; i++)
		if (g->numbers[i - 1] == g->numbers[i])
			return err_set(e, -EPROTO, "the thread id %d is there twice", (int)g->numbers[i]);
	/* Dead leaders' numbers are taken by helpers with a purpose. */
	for (size_t i = 0; i < r->n_tasks; i++) {
		g->numbers[g->n_numbers++] = r->tasks[i]->nssid;
		g->numbers[g->n_numbers++] = r->tasks[i]->nspgid;
	}
	qsort(g->numbers, g->n_numbers, sizeof(*g->numbers), pid_cmp);
	return 0;
}

int grow_new(struct restore *r, struct grow **ret, struct err *e)
{
	auto_of(grow) *g = calloc(1, sizeof(*g));
	int x;

	if (!g)
		return err_sys(e, -ENOMEM, "planning processes");
	g->r = r;
	g->n = r->n_tasks;
	g->next_free = 300;
	g->nodes = calloc(g->n, sizeof(*g->nodes));
	g->order = calloc(g->n, sizeof(*g->order));
	g->filled = calloc(g->n, sizeof(*g->filled));
	g->setsid_done = calloc(g->n, sizeof(*g->setsid_done));
	if (!g->nodes || !g->order || !g->filled || !g->setsid_done)
		return err_sys(e, -ENOMEM, "planning processes");
	for (size_t i = 0; i < g->n; i++) {
		const struct rtask *t = r->tasks[i];

		g->nodes[i] = (struct plan_node){ .pid = t->nspid, .ppid = t->nsppid, .sid = t->nssid };
		if (i && t->nspid == 1)
			return err_set(e, -EPROTO, "the image's first process is not its init");
	}
	x = plan_tree(g->nodes, g->n, g->order, e);
	if (x < 0)
		return x;
	x = numbers_collect(g, e);
	if (x < 0)
		return x;
	*ret = ptr_take(g);
	return 0;
}

/* A pid that nothing of the image has. */
static int number_free(struct grow *g, pid_t *ret, struct err *e)
{
	for (; g->next_free < 32768; g->next_free++) {
		if (bsearch(&g->next_free, g->numbers, g->n_numbers, sizeof(*g->numbers), pid_cmp))
			continue;
		*ret = g->next_free++;
		return 0;
	}
	return err_set(e, -EAGAIN, "no free pid is left for a helper");
}

static int session_begin(struct agent *a, struct err *e)
{
	return AGENT_CALL(a, NULL, e, SYS_setsid, 0);
}

int grow_begin(struct grow *g, struct err *e)
{
	struct rtask *init = g->r->tasks[0];
	struct kernel_sigaction {
		uint64_t handler, flags, restorer, mask;
	} dfl = { 0 };
	struct aprog *p = aprog_new();
	struct proc_status st;
	int dir, r;

	/* An ignored SIGCHLD, inherited from whoever started the container, would reap zombies. */
	if (!p)
		return err_sys(e, -ENOMEM, "preparing the init");
	APROG_CALL(p, 0, SYS_rt_sigaction, aarg_imm(SIGCHLD), aprog_in(p, &dfl, sizeof(dfl)), aarg_imm(0),
		   aarg_imm(8));
	r = agent_run(init->agent, p, e);
	aprog_free(p);
	if (r < 0)
		return r;
	dir = proc_open(g->r->proc_fd, init->pid);
	r = dir < 0 ? err_sys(e, dir, "opening the init") : proc_status_read(dir, &st, e);
	if (dir >= 0)
		close(dir);
	if (r < 0)
		return r;
	if (init->nssid == init->nspid && st.ns_sid != init->nspid)
		r = session_begin(init->agent, e);
	g->setsid_done[0] = true;
	init->exists = true;
	return r;
}

void grow_filled(struct grow *g, const struct rtask *t)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->r->tasks[i] == t)
			g->filled[i] = true;
}

/* Reaps a child of the agent's that is known to end. */
static int reap(struct agent *a, pid_t nspid, struct err *e)
{
	return AGENT_CALL(a, NULL, e, SYS_wait4, (uint64_t)nspid, 0, 0, 0);
}

/* ---- by helpers ---- */

static int session_helper(struct grow *g, size_t i, struct agent **ret, struct err *e)
{
	struct rtask *parent = g->r->tasks[g->nodes[i].parent];
	pid_t sid = g->nodes[i].birth;
	struct grow_helper *h;
	int r;

	for (size_t k = 0; k < g->n_helpers; k++) {
		if (g->helpers[k].nspid == sid) {
			*ret = g->helpers[k].agent;
			return 0;
		}
	}
	if (array_grow(g->helpers, g->n_helpers, g->cap_helpers) < 0)
		return err_sys(e, -ENOMEM, "making a helper");
	h = &g->helpers[g->n_helpers];
	*h = (struct grow_helper){ .nspid = sid, .parent = parent };
	r = agent_fork(parent->agent, sid, 0, &h->agent, e);
	if (r < 0)
		return err_context(e, r, "a helper for session %d", (int)sid);
	g->n_helpers++;
	r = session_begin(h->agent, e);
	if (r < 0)
		return err_context(e, r, "a helper for session %d", (int)sid);
	*ret = h->agent;
	return 0;
}

/* `via` forks a helper, which forks the task and exits: the task falls to its parent. */
static int fork_orphan(struct grow *g, size_t i, struct agent *via, struct agent **ret, struct err *e)
{
	struct rtask *parent = g->r->tasks[g->nodes[i].parent];
	struct agent *helper = NULL;
	pid_t number = 0;
	int r = number_free(g, &number, e);

	if (r >= 0 && g->nodes[i].parent != 0)
		r = AGENT_CALL(parent->agent, NULL, e, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
	if (r >= 0)
		r = agent_fork(via, number, 0, &helper, e);
	if (r >= 0)
		r = agent_fork(helper, g->nodes[i].pid, 0, ret, e);
	if (helper) {
		int x = made_exit(g, helper, 0, r < 0 ? NULL : e);

		if (x >= 0)
			x = reap(via, number, r < 0 ? NULL : e);
		r = r < 0 ? r : x;
	}
	if (r >= 0 && g->nodes[i].parent != 0)
		r = AGENT_CALL(parent->agent, NULL, e, SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
	return r;
}

static int fork_node(struct grow *g, size_t i, struct agent **ret, struct err *e)
{
	const struct plan_node *x = &g->nodes[i];
	struct rtask *parent = g->r->tasks[x->parent];
	struct agent *via;
	int r;

	switch (x->how) {
	case PLAN_PARENT:
	case PLAN_EARLY:
		return agent_fork(parent->agent, x->pid, 0, ret, e);
	case PLAN_ORPHAN:
		if (x->via >= 0)
			via = g->r->tasks[x->via]->agent;
		else if ((r = session_helper(g, i, &via, e)) < 0)
			return r;
		return fork_orphan(g, i, via, ret, e);
	case PLAN_HELPER:
		r = session_helper(g, i, &via, e);
		return r < 0 ? r : agent_fork(via, x->pid, CLONE_PARENT, ret, e);
	default:
		return err_set(e, -EINVAL, "the init is made by nobody");
	}
}

/* Can it be made now?  Those it needs, by order, by session and by memory. */
static bool is_possible(const struct grow *g, size_t i)
{
	const struct plan_node *x = &g->nodes[i];
	size_t p = x->parent;

	if (!g->r->tasks[p]->exists || (x->how == PLAN_ORPHAN && x->via >= 0 && !g->r->tasks[x->via]->exists))
		return false;
	/* A late setsid() separates the early children from all that follow. */
	if (x->how != PLAN_EARLY && g->nodes[p].late_setsid && !g->setsid_done[p])
		return false;
	if (x->how == PLAN_ORPHAN && x->via >= 0 && g->nodes[x->via].late_setsid && !g->setsid_done[x->via])
		return false;
	return g->filled[p] || !mem_cow_of_parent(g->r, g->r->tasks[i]);
}

static bool early_children_missing(const struct grow *g, size_t i)
{
	for (size_t k = 1; k < g->n; k++)
		if (g->nodes[k].parent == i && g->nodes[k].how == PLAN_EARLY && !g->r->tasks[k]->exists)
			return true;
	return false;
}

static int make(struct grow *g, size_t i, grow_begin_fn begin, struct err *e)
{
	struct rtask *t = g->r->tasks[i];
	size_t p = g->nodes[i].parent;
	struct agent *a = NULL;
	int r = fork_node(g, i, &a, e);

	if (r < 0)
		return err_context(e, r, "making process %d", (int)t->nspid);
	t->agent = t->threads[0].agent = a;
	t->pid = t->threads[0].tid = agent_host_pid(a);
	t->exists = true;
	if (g->nodes[i].sid == g->nodes[i].pid && !g->nodes[i].late_setsid) {
		r = session_begin(a, e);
		g->setsid_done[i] = true;
	}
	if (r >= 0 && g->nodes[p].late_setsid && !g->setsid_done[p] && !early_children_missing(g, p)) {
		r = session_begin(g->r->tasks[p]->agent, e);
		g->setsid_done[p] = true;
		if (r >= 0)
			r = tty_session_begun(g->r, g->r->tasks[p], e);
	}
	if (r >= 0 && !t->zombie)
		r = begin(g->r, t, e);
	return r < 0 ? err_context(e, r, "process %d", (int)t->nspid) : 0;
}

int grow_some(struct grow *g, grow_begin_fn begin, struct err *e)
{
	bool any = true;

	while (any) {
		any = false;
		for (size_t k = 0; k < g->n; k++) {
			size_t i = g->order[k];
			int r;

			if (g->r->tasks[i]->exists || !is_possible(g, i))
				continue;
			r = make(g, i, begin, e);
			if (r < 0)
				return r;
			any = true;
		}
	}
	return 0;
}

/* ---- process groups ---- */

static int group_join(struct rtask *t, pid_t group, struct err *e)
{
	int r = AGENT_CALL(t->agent, NULL, e, SYS_setpgid, 0, (uint64_t)group);

	return r < 0 ? err_context(e, r, "process %d, group %d", (int)t->nspid, (int)group) : 0;
}

static bool in_own_group(const struct grow *g, const struct rtask *t)
{
	return t->nspgid == t->nspid;
}

static bool group_led(const struct grow *g, pid_t group)
{
	if (restore_task(g->r, group))
		return true;
	for (size_t k = 0; k < g->n_helpers; k++)
		if (g->helpers[k].nspid == group)
			return true;
	return false;
}

/* All members of a group whose leader is dead, from position `first` on. */
static int group_helped(struct grow *g, size_t first, struct err *e)
{
	struct rtask *one = g->r->tasks[first];
	pid_t group = one->nspgid;
	struct agent *helper;
	int r = agent_fork(one->agent, group, 0, &helper, e), x;

	if (r < 0)
		return err_context(e, r, "a helper for process group %d", (int)group);
	r = AGENT_CALL(helper, NULL, e, SYS_setpgid, 0, 0);
	for (size_t i = first; i < g->n && r >= 0; i++)
		if (g->r->tasks[i]->nspgid == group)
			r = group_join(g->r->tasks[i], group, e);
	x = made_exit(g, helper, 0, r < 0 ? NULL : e);
	if (x >= 0)
		x = reap(one->agent, group, r < 0 ? NULL : e);
	return r < 0 ? r : x;
}

static int groups_make(struct grow *g, struct err *e)
{
	auto_free pid_t *done = calloc(g->n, sizeof(*done));
	size_t n_done = 0;
	int r = 0;

	if (!done)
		return err_sys(e, -ENOMEM, "making process groups");
	for (size_t i = 0; i < g->n && r >= 0; i++) {
		struct rtask *t = g->r->tasks[i];

		if (in_own_group(g, t) && g->nodes[i].sid != t->nspid)
			r = group_join(t, 0, e);
	}
	for (size_t i = 0; i < g->n && r >= 0; i++) {
		struct rtask *t = g->r->tasks[i];
		bool seen = false;

		/* 0: the group's leader is outside of the container; the parent's group has to do. */
		if (in_own_group(g, t) || t->nspgid == 0)
			continue;
		for (size_t k = 0; k < n_done; k++)
			seen |= done[k] == t->nspgid;
		if (seen)
			continue;
		if (group_led(g, t->nspgid)) {
			r = group_join(t, t->nspgid, e);
		} else {
			r = group_helped(g, i, e);
			done[n_done++] = t->nspgid;
		}
	}
	return r;
}

/* ---- the end ---- */

static int helpers_end(struct grow *g, struct err *e)
{
	while (g->n_helpers > 0) {
		struct grow_helper *h = &g->helpers[g->n_helpers - 1];
		int r = made_exit(g, ptr_take(h->agent), 0, e);

		if (r >= 0)
			r = reap(h->parent->agent, h->nspid, e);
		if (r < 0)
			return err_context(e, r, "the helper for session %d", (int)h->nspid);
		g->n_helpers--;
	}
	return 0;
}

static int zombies_end(struct grow *g, struct err *e)
{
	for (size_t i = 0; i < g->n; i++) {
		struct rtask *t = g->r->tasks[i];
		int r;

		if (!t->zombie)
			continue;
		r = made_exit(g, ptr_take(t->agent), (int)t->core->tc->exit_code, e);
		t->threads[0].agent = NULL;
		if (r < 0)
			return err_context(e, r, "zombie %d", (int)t->nspid);
	}
	return 0;
}

/* SIGCHLD of helpers and zombies; those of the image are queued later by the part "signals". */
static int signals_take_back(struct grow *g, struct err *e)
{
	uint64_t child = 1ull << (SIGCHLD - 1);
	struct timespec none = { 0, 0 };

	for (size_t i = 0; i < g->n; i++) {
		struct aprog *p;
		int r;

		if (g->r->tasks[i]->zombie || !g->any_ended)
			continue;
		p = aprog_new();
		if (!p)
			return err_sys(e, -ENOMEM, "taking signals back");
		APROG_CALL(p, AOP_MAY_FAIL, SYS_rt_sigtimedwait, aprog_in(p, &child, sizeof(child)),
			   aarg_imm(0), aprog_in(p, &none, sizeof(none)), aarg_imm(sizeof(child)));
		r = agent_run(g->r->tasks[i]->agent, p, e);
		aprog_free(p);
		if (r < 0)
			return r;
	}
	return 0;
}

int grow_finish(struct grow *g, struct err *e)
{
	int r;

	for (size_t i = 0; i < g->n; i++)
		if (!g->r->tasks[i]->exists)
			return err_set(e, -EPROTO, "process %d could not be made: what it needs of "
				       "others never came", (int)g->r->tasks[i]->nspid);
	r = groups_make(g, e);
	if (r >= 0)
		r = helpers_end(g, e);
	if (r >= 0)
		r = zombies_end(g, e);
	return r < 0 ? r : signals_take_back(g, e);
}

int grow_threads(struct grow *g, struct err *e)
{
	for (size_t i = 0; i < g->n; i++) {
		struct rtask *t = g->r->tasks[i];

		for (size_t k = 1; k < t->n_threads && !t->zombie; k++) {
			int r = agent_thread(t->agent, t->threads[k].nstid, &t->threads[k].agent, e);

			if (r < 0)
				return err_context(e, r, "thread %d of process %d",
						   (int)t->threads[k].nstid, (int)t->nspid);
			t->threads[k].tid = agent_host_tid(t->threads[k].agent);
		}
	}
	return 0;
}

#include "cr/task/plan.h"

#include <stdlib.h>

#include "base/mem.h"

struct state {
	struct plan_node *nodes;
	size_t n, *order, n_order;
	bool *exists;
	pid_t *want;      /* session it has to be forked in; 0: any */
	size_t *n_early;  /* children still to be forked before setsid() */
	struct helper {
		pid_t sid;
		size_t parent;
	} *helpers;
	size_t n_helpers;
	size_t *by_pid;   /* indices sorted by pid, for look-ups */
};

static ssize_t node_of(const struct state *s, pid_t pid)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->nodes[s->by_pid[mid]].pid < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < s->n && s->nodes[s->by_pid[lo]].pid == pid)
		return (ssize_t)s->by_pid[lo];
	return -1;
}

static int pid_cmp(const void *pa, const void *pb, void *arg)
{
	const struct plan_node *nodes = arg;
	pid_t a = nodes[*(const size_t *)pa].pid, b = nodes[*(const size_t *)pb].pid;

	return a < b ? -1 : a > b;
}

static bool is_leader(const struct plan_node *x)
{
	return x->sid == x->pid;
}

/* Would this child have to be forked before its parent's setsid()? */
static bool is_early(const struct state *s, size_t child)
{
	size_t parent = s->nodes[child].parent;
	const struct plan_node *p = &s->nodes[parent];

	return parent != 0 && is_leader(p) && s->want[child] && s->want[child] != p->sid &&
	       s->want[child] == p->birth;
}

/* A leader whose children are in another session had them before its setsid(), in the session that it
 * was itself forked in; that may go on upwards. */
static void wants(struct state *s)
{
	bool changed = true;

	for (size_t i = 0; i < s->n; i++)
		s->want[i] = is_leader(&s->nodes[i]) ? 0 : s->nodes[i].sid;
	while (changed) {
		changed = false;
		for (size_t i = 1; i < s->n; i++) {
			size_t p = s->nodes[i].parent;

			if (p == 0 || s->want[p] || !s->want[i] || s->want[i] == s->nodes[p].sid)
				continue;
			s->want[p] = s->want[i];
			changed = true;
		}
	}
}

static void create(struct state *s, size_t i, enum plan_how how, pid_t birth)
{
	s->nodes[i].how = how;
	s->nodes[i].birth = birth;
	s->exists[i] = true;
	s->order[s->n_order++] = i;
	for (size_t k = 0; k < s->n; k++)
		if (!s->exists[k] && s->nodes[k].parent == i && is_early(s, k))
			s->n_early[i]++;
	s->nodes[i].late_setsid = s->n_early[i] > 0;
}

/* Forks of parents, as many as there are.  True: at least one. */
static bool pass_by_parent(struct state *s)
{
	bool any = false;

	for (size_t i = 1; i < s->n; i++) {
		struct plan_node *x = &s->nodes[i], *p = &s->nodes[x->parent];

		if (s->exists[i] || !s->exists[x->parent])
			continue;
		if (is_early(s, i)) {
			s->n_early[x->parent]--;
			create(s, i, PLAN_EARLY, p->birth);
		} else if (s->n_early[x->parent] == 0 && (!s->want[i] || s->want[i] == p->sid)) {
			create(s, i, PLAN_PARENT, p->sid);
		} else {
			continue;
		}
		any = true;
	}
	return any;
}

static bool descends(const struct state *s, size_t i, size_t from)
{
	while (i != from && i != 0)
		i = s->nodes[i].parent;
	return i == from;
}

static bool orphan(struct state *s, size_t i)
{
	struct plan_node *x = &s->nodes[i];

	for (size_t v = 0; v < s->n; v++) {
		if (!s->exists[v] || s->nodes[v].sid != s->want[i] || s->n_early[v] > 0 ||
		    !descends(s, v, x->parent))
			continue;
		x->via = (ssize_t)v;
		create(s, i, PLAN_ORPHAN, s->want[i]);
		return true;
	}
	for (size_t h = 0; h < s->n_helpers; h++) {
		if (s->helpers[h].sid != s->want[i])
			continue;
		if (s->helpers[h].parent == x->parent) {
			create(s, i, PLAN_HELPER, s->want[i]);
			return true;
		}
		if (descends(s, s->helpers[h].parent, x->parent)) {
			x->via = -1;
			create(s, i, PLAN_ORPHAN, s->want[i]);
			return true;
		}
	}
	return false;
}

static bool helper(struct state *s, size_t i)
{
	const struct plan_node *x = &s->nodes[i];

	if (node_of(s, s->want[i]) >= 0) /* the leader lives: it will come */
		return false;
	for (size_t h = 0; h < s->n_helpers; h++)
		if (s->helpers[h].sid == s->want[i])
			return false;
	s->helpers[s->n_helpers++] = (struct helper){ s->want[i], x->parent };
	create(s, i, PLAN_HELPER, s->want[i]);
	return true;
}

/* One task that its parent cannot fork; helpers only where no living member of the session serves. */
static bool one_by_others(struct state *s)
{
	bool (*const ways[])(struct state *, size_t) = { orphan, helper };

	for (size_t w = 0; w < array_len(ways); w++)
		for (size_t i = 1; i < s->n; i++)
			if (!s->exists[i] && s->want[i] && s->exists[s->nodes[i].parent] &&
			    s->n_early[s->nodes[i].parent] == 0 && ways[w](s, i))
				return true;
	return false;
}

static int nodes_check(struct state *s, struct err *e)
{
	for (size_t i = 0; i < s->n; i++)
		s->by_pid[i] = i;
	qsort_r(s->by_pid, s->n, sizeof(*s->by_pid), pid_cmp, s->nodes);
	for (size_t i = 0; i < s->n; i++) {
		struct plan_node *x = &s->nodes[i];
		ssize_t p;

		if (x->pid <= 0 || x->sid < 0)
			return err_set(e, -EPROTO, "a process has the impossible pid %d or session %d",
				       (int)x->pid, (int)x->sid);
		if (i && s->nodes[s->by_pid[i]].pid == s->nodes[s->by_pid[i - 1]].pid)
			return err_set(e, -EPROTO, "the pid %d is there twice",
				       (int)s->nodes[s->by_pid[i]].pid);
		if (x->sid == 0)
			x->sid = s->nodes[0].sid;
		x->via = -1;
		x->late_setsid = false;
		if (i == 0)
			continue;
		p = node_of(s, x->ppid);
		if (p < 0 || (size_t)p == i)
			return err_set(e, -EPROTO, "process %d has the parent %d, which is not there",
				       (int)x->pid, (int)x->ppid);
		x->parent = (size_t)p;
	}
	return 0;
}

int plan_tree(struct plan_node *nodes, size_t n, size_t *ret_order, struct err *e)
{
	auto_free bool *exists = calloc(n, sizeof(*exists));
	auto_free pid_t *want = calloc(n, sizeof(*want));
	auto_free size_t *n_early = calloc(n, sizeof(*n_early));
	auto_free struct helper *helpers = calloc(n, sizeof(*helpers));
	auto_free size_t *by_pid = calloc(n, sizeof(*by_pid));
	struct state s = { nodes, n, ret_order, 0, exists, want, n_early, helpers, 0, by_pid };
	int r;

	if (n == 0)
		return err_set(e, -EPROTO, "there are no processes");
	if (!exists || !want || !n_early || !helpers || !by_pid)
		return err_sys(e, -ENOMEM, "planning %zu processes", n);
	r = nodes_check(&s, e);
	if (r < 0)
		return r;
	nodes[0].parent = 0;
	wants(&s);
	create(&s, 0, PLAN_INIT, nodes[0].sid);
	while (pass_by_parent(&s) || one_by_others(&s))
		;
	for (size_t i = 0; i < n; i++)
		if (!exists[i])
			return err_set(e, -EOPNOTSUPP,
				       "process %d (parent %d) is in session %d, into which nothing "
				       "that can be rebuilt would lead it",
				       (int)nodes[i].pid, (int)nodes[i].ppid, (int)nodes[i].sid);
	return 0;
}

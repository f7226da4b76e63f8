/* Who forks whom: families as they occur, and those that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cr/task/plan.h"

#define MAX 64

/* Carries the plan out on paper: parents and sessions that come out are those that were asked for. */
static void play(const struct plan_node *nodes, size_t n, const size_t *order)
{
	pid_t session[MAX] = { 0 };
	bool exists[MAX] = { false };

	for (size_t k = 0; k < n; k++) {
		size_t i = order[k];
		const struct plan_node *x = &nodes[i], *p = &nodes[x->parent];

		assert_false(exists[i]);
		exists[i] = true;
		if (i == 0) {
			session[0] = x->sid;
			continue;
		}
		assert_true(exists[x->parent]);
		assert_int_equal(p->pid, x->ppid);
		switch (x->how) {
		case PLAN_EARLY:
			assert_true(p->late_setsid && session[x->parent] != p->pid);
			session[i] = session[x->parent];
			break;
		case PLAN_PARENT:
			/* The late setsid() of the parent happens when its early ones are there. */
			if (p->late_setsid)
				session[x->parent] = p->pid;
			session[i] = session[x->parent];
			break;
		case PLAN_ORPHAN:
			if (x->via >= 0) {
				size_t up = (size_t)x->via;

				assert_true(exists[x->via]);
				session[i] = nodes[x->via].late_setsid ? nodes[x->via].pid : session[x->via];
				while (up != x->parent && up != 0)
					up = nodes[up].parent;
				assert_int_equal(up, x->parent);
			} else {
				session[i] = x->birth;
			}
			break;
		case PLAN_HELPER:
			/* Its leader's number must be free. */
			for (size_t m = 0; m < n; m++)
				assert_int_not_equal(nodes[m].pid, x->birth);
			session[i] = x->birth;
			break;
		default:
			fail();
		}
		assert_int_equal(session[i], x->birth);
		if (x->sid == x->pid && !x->late_setsid)
			session[i] = x->pid;
	}
	for (size_t i = 0; i < n; i++) {
		if (nodes[i].late_setsid)
			session[i] = nodes[i].pid;
		assert_int_equal(session[i], nodes[i].sid);
	}
}

static int plan(struct plan_node *nodes, size_t n)
{
	size_t order[MAX];
	struct err e = { 0 };
	int r = plan_tree(nodes, n, order, &e);

	if (r < 0)
		assert_true(e.text[0]);
	else
		play(nodes, n, order);
	return r;
}

#define PLAN(...)                                                                        \
	({                                                                               \
		struct plan_node nodes_[] = { __VA_ARGS__ };                             \
		plan(nodes_, sizeof(nodes_) / sizeof(nodes_[0]));                        \
	})
#define N(p, pp, s) { .pid = p, .ppid = pp, .sid = s }

static void test_plain(void **state)
{
	assert_int_equal(PLAN(N(1, 0, 1)), 0);
	assert_int_equal(PLAN(N(1, 0, 1), N(2, 1, 1), N(3, 2, 1), N(4, 1, 4), N(5, 4, 4)), 0);
	/* Children may be listed before their parents. */
	assert_int_equal(PLAN(N(1, 0, 1), N(5, 4, 4), N(4, 1, 4)), 0);
	/* The init has a session from outside. */
	assert_int_equal(PLAN(N(1, 0, 0), N(2, 1, 0), N(3, 2, 3), N(4, 1, 0)), 0);
}

static void test_early(void **state)
{
	assert_int_equal(PLAN(N(1, 0, 1), N(2, 1, 2), N(3, 2, 1), N(4, 2, 2)), 0);
	/* Down several steps, each with its setsid() after a fork. */
	assert_int_equal(PLAN(N(1, 0, 1), N(2, 1, 2), N(3, 2, 3), N(4, 3, 2), N(5, 2, 1), N(6, 3, 3)), 0);
}

static void test_orphans(void **state)
{
	/* The leader lives elsewhere. */
	assert_int_equal(PLAN(N(1, 0, 1), N(2, 1, 2), N(3, 1, 2)), 0);
	/* It is dead. */
	assert_int_equal(PLAN(N(1, 0, 1), N(3, 1, 2), N(4, 1, 2), N(5, 4, 2)), 0);
	/* It is dead and its members have different parents. */
	assert_int_equal(PLAN(N(1, 0, 1), N(10, 1, 1), N(3, 10, 2), N(4, 1, 2)), 0);
	/* Fallen to a subreaper. */
	assert_int_equal(PLAN(N(1, 0, 1), N(10, 1, 1), N(11, 10, 11), N(12, 10, 11)), 0);
}

static void test_impossible(void **state)
{
	assert_true(PLAN(N(1, 0, 1), N(2, 3, 1)) < 0);
	assert_true(PLAN(N(1, 0, 1), N(2, 2, 1)) < 0);
	assert_true(PLAN(N(1, 0, 1), N(2, 3, 1), N(3, 2, 1)) < 0);
	assert_true(PLAN(N(1, 0, 1), N(2, 1, 1), N(2, 1, 1)) < 0);
	assert_true(PLAN(N(1, 0, 1), N(-2, 1, 1)) < 0);
	assert_true(PLAN(N(1, 0, 1), N(2, 1, -7)) < 0);
	/* The leader is the member's own child. */
	assert_true(PLAN(N(1, 0, 1), N(2, 1, 3), N(3, 2, 3)) < 0);
}

/* Families that really can come about, by playing fork, setsid and exit at random; all must be
 * plannable, since nobody but init adopts. */
static void test_random(void **state)
{
	srand(7);
	for (int round = 0; round < 3000; round++) {
		struct {
			pid_t pid, ppid, sid;
			bool dead;
		} t[40] = { { 1, 0, 1, false } };
		struct plan_node nodes[MAX];
		int n = 1;
		size_t m = 0;

		for (int step = 0; step < 60 && n < 40; step++) {
			int i = rand() % n;

			if (t[i].dead)
				continue;
			switch (rand() % 4) {
			case 0:
			case 1:
				t[n].pid = n + 1;
				t[n].ppid = t[i].pid;
				t[n].sid = t[i].sid;
				t[n].dead = false;
				n++;
				break;
			case 2:
				t[i].sid = t[i].pid;
				break;
			default:
				if (i == 0)
					break;
				t[i].dead = true;
				for (int k = 0; k < n; k++)
					if (t[k].ppid == t[i].pid)
						t[k].ppid = 1;
			}
		}
		for (int i = 0; i < n; i++)
			if (!t[i].dead)
				nodes[m++] = (struct plan_node)N(t[i].pid, t[i].ppid, t[i].sid);
		if (plan(nodes, m) < 0) {
			for (size_t i = 0; i < m; i++)
				print_message("N(%d, %d, %d), ", nodes[i].pid, nodes[i].ppid, nodes[i].sid);
			fail_msg("round %d: a family that came about cannot be planned", round);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	   cmocka_unit_test(test_early),  cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_impossible), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

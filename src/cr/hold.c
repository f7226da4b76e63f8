#include "cr/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/guard.h"
#include "inject/seize.h"
#include "sys/freezer.h"
#include "sys/procfs.h"

/* Of a wait in which the processor is given up, and not slept. */
#define YIELD_US 500
/* Rounds over a tree that forks faster than it is found. */
#define ROUNDS_MAX 1000
#define THREADS_MAX 1000000
#define GO_WAIT_MS 100
/* How long a thread may take to stop before it is thought to wait for a child. */
#define VFORK_MS 5

struct held {
	pid_t tid;
	bool stands, group_stopped;
};

struct hold {
	pid_t root;
	int cgroup_fd;
	int freezer; /* -1: none, or none that helps */
	bool was_frozen;
	struct guard **guard; /* may be NULL */
	struct timespec until;
	struct held *list; /* sorted by tid between rounds */
	size_t n, cap, n_sorted;
};

int hold_new(pid_t root, int cgroup_fd, struct hold **ret, struct err *e)
{
	struct hold *h = calloc(1, sizeof(*h));

	if (!h)
		return err_sys(e, -ENOMEM, "stopping the tree");
	h->root = root;
	h->cgroup_fd = cgroup_fd;
	h->freezer = -1;
	*ret = h;
	return 0;
}

int hold_by_freezer(struct hold *h, const char *path, struct guard **g, struct err *e)
{
	auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int now;

	if (dir < 0)
		return err_sys(e, -errno, "opening the cgroup to freeze, %s", path);
	now = freezer_get(dir);
	/* A v1 freezer's tasks do not come to a stop for a tracer. */
	if (now < 0 || faccessat(dir, "cgroup.freeze", W_OK, AT_EACCESS) < 0) {
		log_debug("%s has no v2 freezer; the tree is stopped by ptrace alone", path);
		return 0;
	}
	h->was_frozen = now;
	h->freezer = fd_take(&dir);
	h->guard = g;
	/* What a guardian has to do inside of the tree comes between this and the thaw that traced_stop adds. */
	return g && now && !guard_knows(*g, "freezer") ? guard_add(g, "freezer", "1", h->freezer, e) : 0;
}

struct hold *hold_free(struct hold *h)
{
	if (!h)
		return NULL;
	if (hold_traces(h))
		hold_go(h, 0, NULL);
	fd_close(&h->freezer);
	free(h->list);
	free(h);
	return NULL;
}

bool hold_traces(const struct hold *h)
{
	return h && h->cgroup_fd < 0;
}

static int held_cmp(const void *pa, const void *pb)
{
	const struct held *a = pa, *b = pb;

	return a->tid < b->tid ? -1 : a->tid > b->tid;
}

static struct held *held_find(const struct hold *h, pid_t tid)
{
	struct held key = { .tid = tid };

	return h->n_sorted ? bsearch(&key, h->list, h->n_sorted, sizeof(key), held_cmp) : NULL;
}

bool hold_group_stopped(const struct hold *h, pid_t tid)
{
	const struct held *x = h ? held_find(h, tid) : NULL;

	return x && x->group_stopped;
}

void hold_forget_all(struct hold *h)
{
	h->n = h->n_sorted = 0;
}

/* ---- by ptrace ---- */

struct pids {
	pid_t *v;
	size_t n, cap;
};

/* Zombies and what ends under our eyes need no stopping. */
static int seize_one(struct hold *h, pid_t tid, struct err *e)
{
	int r;

	if (held_find(h, tid))
		return 0;
	if (h->n >= THREADS_MAX || array_grow(h->list, h->n, h->cap) < 0)
		return err_sys(e, -ENOMEM, "stopping the tree");
	r = seize_start(tid, e);
	if (r == -ESRCH || r == -EPERM) {
		struct proc_status st;
		auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
		auto_fd int dir = proc_open(proc, tid);

		if (dir < 0 || proc_status_read(dir, &st, NULL) < 0 || st.state == 'Z' || st.state == 'X')
			return 0;
	}
	if (r < 0)
		return r;
	h->list[h->n++] = (struct held){ .tid = tid };
	return 1;
}

/* All processes below the root as of now, breadth first. */
static int round_seize(struct hold *h, struct err *e)
{
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pids all = { 0 };
	int r = 0, found = 0;

	if (proc < 0)
		return err_sys(e, -errno, "opening /proc");
	if (array_grow(all.v, all.n, all.cap) < 0)
		return err_sys(e, -ENOMEM, "stopping the tree");
	all.v[all.n++] = h->root;
	for (size_t i = 0; i < all.n && r >= 0; i++) {
		auto_fd int dir = proc_open(proc, all.v[i]);
		auto_free pid_t *tids = NULL, *kids = NULL;
		size_t n_tids = 0, n_kids = 0;

		if (dir < 0 || proc_threads(dir, all.v[i], &tids, &n_tids, NULL) < 0)
			continue;
		for (size_t k = 0; k < n_tids && r >= 0; k++) {
			r = seize_one(h, tids[k], e);
			found += r > 0;
		}
		if (r < 0 || proc_children_of(dir, tids, n_tids, &kids, &n_kids, NULL) < 0)
			continue;
		for (size_t k = 0; k < n_kids && r >= 0; k++) {
			if (array_grow(all.v, all.n, all.cap) < 0)
				r = err_sys(e, -ENOMEM, "stopping the tree");
			else
				all.v[all.n++] = kids[k];
		}
	}
	free(all.v);
	return r < 0 ? r : found;
}

static uint64_t us_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Whether there is something to be heard of a thread, within the time.  It takes some 40 us where a processor is
 * free: less than a sleep of ours would. */
static bool comes(pid_t tid, unsigned ms)
{
	uint64_t begun = us_now(), passed;

	for (;;) {
		siginfo_t info = { 0 };

		if (waitid(P_PID, (id_t)tid, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0 || info.si_pid)
			return true;
		passed = us_now() - begun;
		if (passed >= ms * 1000u)
			return false;
		if (passed < YIELD_US)
			sched_yield();
		else
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
}

/* A thread within vfork() does not stop before its child has executed something: a child of its that stands
 * already is let go again, and found by the next round. */
static void vfork_release(struct hold *h, pid_t tid)
{
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), dir = proc_open(proc, tid);
	auto_free pid_t *kids = NULL;
	size_t n = 0;

	if (dir < 0 || proc_children(dir, tid, &kids, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < h->n; i++)
		for (size_t k = 0; k < n; k++)
			if (h->list[i].tid == kids[k] && h->list[i].stands) {
				seize_detach(kids[k], NULL);
				h->list[i].tid = -1;
			}
}

static int ms_left(const struct hold *h)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (h->until.tv_sec - now.tv_sec) * 1000 + (h->until.tv_nsec - now.tv_nsec) / 1000000;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static int held_wait(struct hold *h, size_t i, struct err *e)
{
	pid_t tid = h->list[i].tid;

	while (!comes(tid, VFORK_MS)) {
		if (!ms_left(h))
			return err_set(e, -ETIMEDOUT, "thread %d does not stop (it may wait for a device or a file server)",
				       (int)tid);
		/* Those that were asked after it, too. */
		for (size_t k = i + 1; k < h->n; k++)
			if (!h->list[k].stands && comes(h->list[k].tid, 0) &&
			    seize_wait(h->list[k].tid, &h->list[k].group_stopped, NULL) >= 0)
				h->list[k].stands = true;
		vfork_release(h, tid);
	}
	return seize_wait(tid, &h->list[i].group_stopped, e);
}

static int round_wait(struct hold *h, struct err *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < h->n; i++) {
		int r = h->list[i].stands || h->list[i].tid < 0 ? 0 : held_wait(h, i, e);

		if (r < 0 && r != -ESRCH)
			return r;
		h->list[i].stands = true;
		if (r < 0)
			h->list[i].tid = -1;
	}
	for (size_t i = 0; i < h->n; i++)
		if (h->list[i].tid > 0)
			h->list[kept++] = h->list[i];
	h->n = h->n_sorted = kept;
	if (kept)
		qsort(h->list, kept, sizeof(*h->list), held_cmp);
	return 0;
}

static int freezer_write(const struct hold *h, bool frozen, struct err *e)
{
	int r = fd_write_file_at(h->freezer, "cgroup.freeze", frozen ? "1" : "0");

	return r < 0 ? err_sys(e, r, "%s the tree's cgroup", frozen ? "freezing" : "thawing") : 0;
}

static void traced_go(struct hold *h)
{
	/* As it was; what we trace runs into it as soon as it is let go. */
	if (h->freezer >= 0)
		(void)freezer_write(h, h->was_frozen, NULL);
	for (size_t i = 0; i < h->n; i++)
		if (h->list[i].stands)
			seize_detach(h->list[i].tid, NULL);
	/* One that was only asked to stop must have done so before it can be let go; it may wait for one above.  What
	 * does not obey is let go when we end. */
	for (size_t i = 0; i < h->n; i++)
		if (!h->list[i].stands && seize_wait_ms(h->list[i].tid, GO_WAIT_MS, NULL, NULL) >= 0)
			seize_detach(h->list[i].tid, NULL);
	hold_forget_all(h);
}

static int rounds(struct hold *h, struct err *e)
{
	for (int i = 0; i < ROUNDS_MAX; i++) {
		int found = round_seize(h, e);
		int r = found < 0 ? found : fault_at("hold", "seized", NULL, e);

		/* What is frozen stops when it is thawed. */
		if (r >= 0 && i == 0 && h->freezer >= 0)
			r = freezer_write(h, false, e);
		if (r >= 0)
			r = round_wait(h, e);
		if (r < 0)
			return r;
		if (!found)
			return h->n ? 0 : err_set(e, -ESRCH, "there is no process %d", (int)h->root);
	}
	return err_set(e, -ETIMEDOUT, "the tree forks faster than it can be stopped");
}

/* The processes of a cgroup need not be the tree's, nor those of the tree its: the rounds see to that. */
static int traced_stop(struct hold *h, struct err *e)
{
	int r = 0;

	if (h->freezer >= 0 && h->guard)
		r = guard_add(h->guard, "freezer", "0", h->freezer, e);
	if (r >= 0 && h->freezer >= 0)
		r = freezer_set(h->freezer, true, ms_left(h), e);
	if (r >= 0)
		r = fault_at("hold", "frozen", NULL, e);
	if (r >= 0)
		r = rounds(h, e);
	if (r < 0)
		traced_go(h);
	return r;
}

/* ---- either way ---- */

int hold_stop(struct hold *h, int timeout_ms, struct err *e)
{
	clock_gettime(CLOCK_MONOTONIC, &h->until);
	h->until.tv_sec += timeout_ms / 1000;
	return h->cgroup_fd >= 0 ? freezer_set(h->cgroup_fd, true, timeout_ms, e) : traced_stop(h, e);
}

int hold_go(struct hold *h, int timeout_ms, struct err *e)
{
	if (h->cgroup_fd >= 0)
		return freezer_set(h->cgroup_fd, false, timeout_ms, e);
	traced_go(h);
	return 0;
}

/* Processes, zombies and threads; parents, process groups and sessions.
 *
 * Read: /proc/PID/task/TID/children from the init on (it knows zombies and leaves out what entered
 * from outside and is still attached), status of each thread for the numbers in the container.
 * Put back: cr/task/grow.c.
 * Not covered, refused here by name: nested PID namespaces, processes outside of the container's
 * cgroup (the freezer would not hold them), traced threads, a dead leader of living threads, tables shared between
 * processes (CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND without CLONE_THREAD). */
#include "cr/task/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/hold.h"
#include "cr/ns/ns.h"
#include "cr/task/ids.h"
#include "cr/task/plan.h"
#include "cr/task/seccomp_image.h"
#include "sys/procfs.h"

#define TASKS_MAX 100000

struct collect {
	struct dump *d;
	int proc_fd;
	size_t levels; /* PID namespaces down to the container's */
	struct task **list;
	size_t n, cap;
};

static void thread_done(struct thread *th)
{
	thread_regs_done(&th->regs);
	agent_free(th->agent);
	free(th->status);
	if (th->core)
		core_entry__free_unpacked(th->core, NULL);
	if (th->extra)
		gw_thread__free_unpacked(th->extra, NULL);
}

static struct task *task_free(struct task *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_threads; i++)
		thread_done(&t->threads[i]);
	free(t->threads);
	free(t->cgroups);
	if (t->extra)
		gw_task__free_unpacked(t->extra, NULL);
	fd_close(&t->pidfd);
	fd_close(&t->proc_fd);
	free(t);
	return NULL;
}
AUTO_OF_DEFINE(task)

void tree_release(struct dump *d)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		task_free(d->tasks[i]);
	free(d->tasks);
	d->tasks = NULL;
	d->n_tasks = 0;
}

/* Records are freed by protobuf-c, so they are made with malloc. */
#define RECORD_NEW(T, lower)                             \
	({                                               \
		T *rec_ = malloc(sizeof(*rec_));         \
		if (rec_)                                \
			lower##__init(rec_);             \
		rec_;                                    \
	})

static int thread_init(struct thread *th, pid_t tid, pid_t nstid)
{
	*th = (struct thread){ .tid = tid, .nstid = nstid };
	th->core = RECORD_NEW(CoreEntry, core_entry);
	th->extra = RECORD_NEW(GwThread, gw_thread);
	if (!th->core || !th->extra)
		return -ENOMEM;
	th->core->mtype = CORE_ENTRY__MARCH__X86_64;
	return 0;
}

/* Of a tree that stands. */
static int status_keep(const struct collect *c, struct thread *th, const struct proc_status *st)
{
	if (c->d->check_only)
		return 0;
	th->status = malloc(sizeof(*st));
	if (!th->status)
		return -ENOMEM;
	*th->status = *st;
	return 0;
}

int task_status(const struct task *t, const struct thread *th, struct proc_status *ret, struct err *e)
{
	auto_fd int dir = -1;

	if (th->status) {
		*ret = *th->status;
		return 0;
	}
	dir = proc_open_thread(t->proc_fd, th->tid);
	if (dir < 0)
		return err_sys(e, dir, "opening thread %d", (int)th->nstid);
	return proc_status_read(dir, ret, e);
}

int task_cgroups(struct task *t, const char **ret)
{
	int r = t->cgroups ? 0 : fd_read_piece_at(t->proc_fd, "cgroup", 65536, &t->cgroups, NULL);

	if (r < 0)
		return r;
	*ret = t->cgroups;
	return 0;
}

static int tid_cmp(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

static int traced_refuse(struct collect *c, pid_t nspid, const struct proc_status *st)
{
	char where[32];

	if (!st->tracer || st->tracer == getpid())
		return 0;
	snprintf(where, sizeof(where), "thread %d", (int)st->ns_pid);
	return refusals_add(&c->d->refusals, nspid, where, "ptrace", "a debugger (process %d of this host) has it",
			    (int)st->tracer);
}

static int threads_collect(struct collect *c, struct task *t, const struct proc_status *leader, struct err *e)
{
	auto_free pid_t *tids = NULL;
	size_t n;
	int r = proc_threads(t->proc_fd, t->pid, &tids, &n, e);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	t->threads = calloc(n + 1, sizeof(*t->threads));
	if (!t->threads)
		return err_sys(e, -ENOMEM, "collecting threads");
	qsort(tids, n, sizeof(*tids), tid_cmp);
	r = thread_init(&t->threads[0], t->pid, t->nspid);
	if (r >= 0)
		r = status_keep(c, &t->threads[0], leader);
	t->n_threads = 1;
	for (size_t i = 0; i < n && r >= 0; i++) {
		struct proc_status st;
		auto_fd int dir = -1;

		if (tids[i] == t->pid)
			continue;
		dir = proc_open_thread(t->proc_fd, tids[i]);
		if (dir == -ENOENT || dir == -ESRCH || (dir >= 0 && proc_status_read(dir, &st, NULL) < 0))
			continue;
		if (dir < 0)
			return err_sys(e, dir, "opening thread %d", (int)tids[i]);
		if (st.state == 'X' || st.state == 'Z')
			continue;
		if (traced_refuse(c, t->nspid, &st) < 0)
			return err_sys(e, -ENOMEM, "collecting threads");
		r = thread_init(&t->threads[t->n_threads], tids[i], st.ns_pid);
		if (r >= 0)
			r = status_keep(c, &t->threads[t->n_threads], &st);
		t->n_threads++;
	}
	return r < 0 ? err_sys(e, r, "collecting threads") : 0;
}

static int nested_refuse(struct collect *c, const struct proc_status *st)
{
	return refusals_add(&c->d->refusals, st->ns_pids[c->levels - 1], "", "nested PID namespace",
			    "it runs in a PID namespace of its own (a container within the container)");
}

/* 1: collected, 0: it is gone or left out. */
static int task_collect(struct collect *c, pid_t pid, struct task *parent, struct task **ret, struct err *e)
{
	auto_of(task) *t = calloc(1, sizeof(*t));
	struct proc_status st;
	int r;

	if (!t)
		return err_sys(e, -ENOMEM, "collecting processes");
	t->pidfd = -1;
	t->pid = pid;
	t->parent = parent;
	t->proc_fd = proc_open(c->proc_fd, pid);
	if (t->proc_fd < 0 || proc_status_read(t->proc_fd, &st, NULL) < 0)
		return 0;
	if (!parent)
		c->levels = st.levels;
	if (st.levels < c->levels)
		return 0;
	if (st.levels > c->levels) {
		r = nested_refuse(c, &st);
		return r < 0 ? r : 0;
	}
	t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (t->pidfd < 0)
		return 0;
	t->nspid = st.ns_pid;
	t->nsppid = parent ? parent->nspid : 0;
	t->nspgid = st.ns_pgid;
	t->nssid = st.ns_sid;
	t->extra = RECORD_NEW(GwTask, gw_task);
	if (!t->extra)
		return err_sys(e, -ENOMEM, "collecting processes");
	if (st.state == 'Z' || st.state == 'X') {
		struct proc_stat ps;

		if (proc_stat_read(t->proc_fd, &ps, NULL) < 0)
			return 0;
		t->zombie = true;
		t->exit_status = ps.exit_code;
		t->threads = calloc(1, sizeof(*t->threads));
		if (!t->threads || thread_init(&t->threads[0], pid, t->nspid) < 0)
			return err_sys(e, -ENOMEM, "collecting processes");
		t->n_threads = 1;
		if (st.threads > 1 &&
		    refusals_add(&c->d->refusals, t->nspid, "", "dead thread group leader",
				 "its main thread has ended while others go on") < 0)
			return err_sys(e, -ENOMEM, "collecting processes");
	} else {
		if (traced_refuse(c, t->nspid, &st) < 0)
			return err_sys(e, -ENOMEM, "collecting processes");
		r = threads_collect(c, t, &st, e);
		if (r < 0)
			return r == -ESRCH ? 0 : r;
	}
	if (array_grow(c->list, c->n, c->cap) < 0)
		return err_sys(e, -ENOMEM, "collecting processes");
	*ret = t;
	c->list[c->n++] = ptr_take(t);
	return 1;
}

static int descend(struct collect *c, struct err *e)
{
	/* Breadth first over the growing list: a parent always stands before its children. */
	for (size_t i = 0; i < c->n; i++) {
		auto_free pid_t *kids = NULL;
		struct task *t = c->list[i], *unused;
		size_t n_kids = 0;

		if (t->zombie || proc_children(t->proc_fd, t->pid, &kids, &n_kids, NULL) < 0)
			continue;
		if (n_kids)
			qsort(kids, n_kids, sizeof(*kids), tid_cmp);
		for (size_t k = 0; k < n_kids; k++) {
			int r;

			if (c->n >= TASKS_MAX)
				return err_set(e, -E2BIG, "the container has more than %d processes",
					       TASKS_MAX);
			r = task_collect(c, kids[k], t, &unused, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Orders d->tasks as a restore will make them, and notes who forks whom. */
static int order_make(struct dump *d, struct err *e)
{
	auto_free struct plan_node *nodes = calloc(d->n_tasks, sizeof(*nodes));
	auto_free size_t *order = calloc(d->n_tasks, sizeof(*order));
	struct task **sorted = calloc(d->n_tasks, sizeof(*sorted));
	struct err why = { 0 };
	int r;

	if (!nodes || !order || !sorted) {
		free(sorted);
		return err_sys(e, -ENOMEM, "collecting processes");
	}
	for (size_t i = 0; i < d->n_tasks; i++)
		nodes[i] = (struct plan_node){ .pid = d->tasks[i]->nspid, .ppid = d->tasks[i]->nsppid,
					       .sid = d->tasks[i]->nssid };
	r = plan_tree(nodes, d->n_tasks, order, &why);
	if (r < 0) {
		free(sorted);
		/* A tree that runs may have been seen half way; one that stands may not. */
		if (r == -ENOMEM || refusals_add(&d->refusals, 0, "", "process tree", "%s",
						 err_text(&why)) < 0)
			return err_sys(e, -ENOMEM, "collecting processes");
		return 0;
	}
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct plan_node *x = &nodes[order[i]];
		GwTask *g = d->tasks[order[i]]->extra;

		sorted[i] = d->tasks[order[i]];
		g->has_created_by = true;
		if (plan_by_parent(x))
			g->created_by = x->ppid;
		else
			g->created_by = x->how == PLAN_ORPHAN && x->via >= 0 ? nodes[x->via].pid : 0;
	}
	free(d->tasks);
	d->tasks = sorted;
	return 0;
}

int tree_collect(struct dump *d, struct err *e)
{
	struct collect c = { .d = d };
	auto_fd int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct task *init;
	int r;

	if (proc_fd < 0)
		return err_sys(e, -errno, "opening /proc");
	c.proc_fd = proc_fd;
	r = task_collect(&c, d->root_pid, NULL, &init, e);
	if (r == 0)
		r = err_set(e, -ESRCH, "there is no process %d", (int)d->root_pid);
	if (r > 0 && !d->opts && init->nspid != 1)
		r = err_set(e, -EINVAL, "process %d is not the init of a PID namespace", (int)d->root_pid);
	if (r > 0 && d->opts && d->ns & CLONE_NEWPID && init->nspid != 1)
		r = err_set(e, -EINVAL, "process %d lives in a PID namespace that is not ours without being its "
			    "init: give the init, or run within that namespace", (int)d->root_pid);
	if (r > 0 && init->zombie)
		r = err_set(e, -ESRCH, "the container's init has ended");
	if (r >= 0)
		r = descend(&c, e);
	tree_release(d);
	d->tasks = c.list;
	d->n_tasks = c.n;
	return r < 0 ? r : order_make(d, e);
}

/* ---- refusals ---- */

static long kcmp(pid_t a, pid_t b, int type)
{
	return syscall(SYS_kcmp, a, b, type, 0, 0);
}

/* The kernel orders objects, so that what is shared ends up side by side. */
static int kcmp_order(const void *pa, const void *pb, void *arg)
{
	const struct task *a = *(struct task *const *)pa, *b = *(struct task *const *)pb;
	long r = kcmp(a->pid, b->pid, *(int *)arg);

	return r == 1 ? -1 : r == 2 ? 1 : r == 0 ? 0 : a->pid - b->pid;
}

/* A child that has its parent's memory until it executes something, while its parent waits. */
static bool is_vfork(const struct task *a, const struct task *b, int type)
{
	return type == KCMP_VM && (a->parent == b || b->parent == a);
}

static int shared_refuse(struct dump *d, struct task **list, size_t n, int type, const char *what, bool *ret_any)
{
	qsort_r(list, n, sizeof(*list), kcmp_order, &type);
	for (size_t i = 1; i < n; i++) {
		if (kcmp(list[i - 1]->pid, list[i]->pid, type) != 0)
			continue;
		*ret_any = true;
		d->n_passing += is_vfork(list[i - 1], list[i], type);
		if (refusals_add(&d->refusals, list[i]->nspid, "", what,
				 "it shares this with process %d without being a thread of it",
				 (int)list[i - 1]->nspid) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int shared_check(struct dump *d, struct err *e)
{
	static const struct {
		int type;
		const char *what;
	} types[] = { { KCMP_VM, "shared memory (CLONE_VM, vfork)" },
		      { KCMP_FILES, "shared descriptor table (CLONE_FILES)" },
		      { KCMP_FS, "shared working directory (CLONE_FS)" },
		      { KCMP_SIGHAND, "shared signal handlers (CLONE_SIGHAND)" } };
	auto_free struct task **list = calloc(d->n_tasks, sizeof(*list));
	bool any_vm = false, any;
	size_t n = 0;

	if (!list)
		return err_sys(e, -ENOMEM, "comparing processes");
	for (size_t i = 0; i < d->n_tasks; i++)
		if (!d->tasks[i]->zombie)
			list[n++] = d->tasks[i];
	for (size_t k = 0; k < array_len(types); k++) {
		/* Handlers are shared with the memory they are in, or not at all. */
		if (types[k].type == KCMP_SIGHAND && !any_vm)
			continue;
		if (shared_refuse(d, list, n, types[k].type, types[k].what,
				  types[k].type == KCMP_VM ? &any_vm : &any) < 0)
			return err_sys(e, -ENOMEM, "comparing processes");
	}
	return 0;
}

/* All pids of a cgroup and those below it, as the freezer will find them. */
struct pid_list {
	pid_t *pids;
	size_t n, cap;
};

static int cgroup_pids(int dir, unsigned depth, struct pid_list *out)
{
	auto_free char *text = NULL;
	struct dirent *de;
	const char *p;
	uint64_t v;
	DIR *ds;
	int fd, r;

	if (depth > 64)
		return -ELOOP;
	r = fd_read_file_at(dir, "cgroup.procs", PROC_FILE_MAX, &text, NULL);
	if (r < 0)
		return r == -EOPNOTSUPP ? 0 : r;
	for (p = text; parse_u64_at(&p, 10, &v) >= 0; p += *p == '\n') {
		if (array_grow(out->pids, out->n, out->cap) < 0)
			return -ENOMEM;
		out->pids[out->n++] = (pid_t)v;
	}
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ds = fd < 0 ? NULL : fdopendir(fd);
	if (!ds)
		return -errno;
	while (r >= 0 && (de = readdir(ds))) {
		auto_fd int sub = -1;

		/* Not all that begin with a dot: liblxc puts what is attached into `.lxc`. */
		if (de->d_type != DT_DIR || strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		sub = openat(dir, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0)
			r = cgroup_pids(sub, depth + 1, out);
	}
	closedir(ds);
	return r < 0 ? r : 0;
}

/* The lists of tasks and of the cgroup were made one after the other, while the tree may have run: what was
 * born or has died between them is asked for again. */
static bool member_really(struct dump *d, const struct task *t)
{
	struct pid_list in = { 0 };
	int r = cgroup_pids(d->cgroup_fd, 0, &in);
	auto_free pid_t *own = in.pids;

	for (size_t i = 0; r >= 0 && i < in.n; i++)
		if (own[i] == t->pid)
			return true;
	return kill(t->pid, 0) < 0 && errno == ESRCH;
}

static int members_check(struct dump *d, struct err *e)
{
	struct pid_list in = { 0 };
	int r = cgroup_pids(d->cgroup_fd, 0, &in);
	auto_free pid_t *own = in.pids;
	auto_free bool *seen = calloc(in.n + 1, sizeof(*seen));

	if (r >= 0 && !seen)
		r = -ENOMEM;
	if (r < 0)
		return err_sys(e, r, "listing the processes of cgroup %s", d->cgroup);
	if (in.n)
		qsort(own, in.n, sizeof(*own), tid_cmp);
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct task *t = d->tasks[i];
		pid_t *at = in.n ? bsearch(&t->pid, own, in.n, sizeof(*own), tid_cmp) : NULL;

		if (at)
			seen[at - own] = true;
		else if (!t->zombie && !member_really(d, t) &&
			 refusals_add(&d->refusals, t->nspid, "", "cgroup",
				      "it is outside of the container's cgroup, where nothing would "
				      "stop it") < 0)
			return err_sys(e, -ENOMEM, "listing processes");
	}
	for (size_t i = 0; i < in.n; i++)
		if (!seen[i] && !d->check_only)
			log_info("process %d entered the container from outside and stays behind",
				 (int)in.pids[i]);
	return 0;
}

static bool tree_has(const struct dump *d, pid_t nspid)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (d->tasks[i]->nspid == nspid)
			return true;
	return false;
}

/* Of a tree that begins somewhere below: its root's session and group may be led from above, where a
 * restore finds nobody. */
static int outside_check(struct dump *d, struct err *e)
{
	const struct task *t = d->tasks[0];
	int r = 0;

	if (!d->opts || d->opts->shell_job || t->nspid == 1)
		return 0;
	if (t->nssid != t->nspid && !tree_has(d, t->nssid))
		r = refusals_add(&d->refusals, t->nspid, "", "session",
				 "it belongs to session %d, whose leader is not in the tree; --shell-job gives it "
				 "the session of whoever restores it", (int)t->nssid);
	else if (t->nspgid != t->nspid && !tree_has(d, t->nspgid))
		r = refusals_add(&d->refusals, t->nspid, "", "process group",
				 "it belongs to group %d, whose leader is not in the tree; --shell-job gives it the "
				 "group of whoever restores it", (int)t->nspgid);
	return r < 0 ? err_sys(e, r, "checking sessions") : 0;
}

static int tree_check(struct dump *d, struct err *e)
{
	int r = shared_check(d, e);

	if (r >= 0)
		r = outside_check(d, e);
	return r < 0 || d->cgroup_fd < 0 ? r : members_check(d, e);
}

/* ---- the end ---- */

int tree_kill(struct dump *d, struct err *e)
{
	/* Children first would tell their parents; a parent that is dead already hears nothing. */
	for (size_t i = 0; i < d->n_tasks; i++)
		if (!d->tasks[i]->zombie &&
		    syscall(SYS_pidfd_send_signal, d->tasks[i]->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
			return err_sys(e, -errno, "ending process %d", (int)d->tasks[i]->nspid);
	fault_kill_at("dump", "ended", NULL);
	/* Our tracees: not gone for their parents before we have heard of it.  An init's end waits for that of all the
	 * others, a leader's for that of its threads. */
	for (size_t i = d->n_tasks; i-- > 0;) {
		const struct task *t = d->tasks[i];
		int status;

		for (size_t k = t->n_threads; !t->zombie && k-- > 0;)
			while (waitpid(t->threads[k].tid, &status, __WALL) >= 0 || errno == EINTR)
				if (WIFEXITED(status) || WIFSIGNALED(status))
					break;
	}
	hold_forget_all(d->hold);
	return 0;
}

/* ---- records ---- */

static int task_put(struct dump *d, const struct task *t, struct err *e)
{
	PstreeEntry p = PSTREE_ENTRY__INIT;
	auto_free uint32_t *tids = calloc(t->n_threads, sizeof(*tids));

	if (!tids)
		return err_sys(e, -ENOMEM, "writing processes");
	for (size_t i = 0; i < t->n_threads; i++)
		tids[i] = (uint32_t)t->threads[i].nstid;
	p.pid = (uint32_t)t->nspid;
	p.ppid = (uint32_t)t->nsppid;
	p.pgid = (uint32_t)t->nspgid;
	p.sid = (uint32_t)t->nssid;
	p.n_threads = t->n_threads;
	p.threads = tids;
	return sink_put(d->sink, REC_PSTREE, (uint32_t)t->nspid, &p.base, e);
}

static int tree_frozen(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		int r = task_put(d, d->tasks[i], e);

		if (r >= 0)
			r = ids_put(d, d->tasks[i], e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What is required of a core and no part has said. */
static int core_complete(const struct task *t, struct thread *th)
{
	struct proc_status st = { 0 };
	CoreEntry *c = th->core;

	if (th != &t->threads[0])
		return 0;
	if (!c->tc) {
		c->tc = RECORD_NEW(TaskCoreEntry, task_core_entry);
		if (!c->tc)
			return -ENOMEM;
	}
	/* A SIGSTOP on its way, which the freeze came before, is as good as a stop. */
	if (proc_status_read(t->proc_fd, &st, NULL) >= 0 &&
	    (st.sig_shared | st.sig_pending) & 1ull << (SIGSTOP - 1))
		th->group_stopped = true;
	if (!c->tc->comm || !*c->tc->comm) {
		char *comm = strdup(st.comm);

		if (!comm)
			return -ENOMEM;
		c->tc->comm = comm;
	}
	c->tc->task_state = t->zombie			     ? TASK_STATE_DEAD :
			    t->threads[0].group_stopped ? TASK_STATE_STOPPED :
							  TASK_STATE_ALIVE;
	c->tc->exit_code = (uint32_t)t->exit_status;
	c->tc->blk_sigset = th->regs.sigmask;
	return 0;
}

static int threads_put(struct dump *d, struct task *t, struct cg_sets *sets, struct filters *filters,
		       struct err *e)
{
	int r = sink_put(d->sink, REC_GW_TASK, (uint32_t)t->nspid, &t->extra->base, e);

	for (size_t k = 0; k < t->n_threads && r >= 0; k++) {
		struct thread *th = &t->threads[k];

		if (core_complete(t, th) < 0 || filters_take(filters, th) < 0)
			return err_sys(e, -ENOMEM, "writing processes");
		r = k ? 0 : cg_set_note(sets, t, e);
		if (r >= 0)
			r = sink_put(d->sink, REC_CORE, (uint32_t)th->nstid, &th->core->base, e);
		if (r >= 0 && !t->zombie)
			r = sink_put(d->sink, REC_GW_THREAD, (uint32_t)th->nstid, &th->extra->base, e);
	}
	return r;
}

int tree_put(struct dump *d, struct err *e)
{
	struct cg_sets sets = { 0 };
	struct filters filters = { 0 };
	int r = 0;

	for (size_t i = 0; i < d->n_tasks && r >= 0; i++)
		r = threads_put(d, d->tasks[i], &sets, &filters, e);
	if (r >= 0)
		r = cg_sets_put(d, &sets, e);
	if (r >= 0)
		r = filters_put(d, &filters, e);
	filters_done(&filters);
	cg_sets_done(&sets);
	return r;
}

const struct cr_part cr_part_tree = {
	.name = "tree",
	.check = tree_check,
	.frozen = tree_frozen,
};

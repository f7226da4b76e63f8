#include "cr/restore.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/guard.h"
#include "cr/ns/home.h"
#include "cr/ns/ids.h"
#include "cr/ns/ns.h"
#include "cr/seed.h"
#include "cr/sock/netlock.h"
#include "cr/sock/sock.h"
#include "cr/task/grow.h"
#include "cr/task/regs.h"
#include "cr/task/tree.h"
#include "image/folder.h"
#include "sys/freezer.h"
#include "sys/procfs.h"

#define FREEZE_TIMEOUT_MS 10000
#define THREADS_MAX 100000
#define GUEST_DIR "/.godwit"

struct run {
	const struct restore_opts *o;
	struct restore r;
	struct home home; /* of a checkpoint: where the engine came from */
	struct ids ids; /* of the container's user namespace */
	struct grow *grow;
	struct timespec start;
	struct restore_times times;
	uint64_t pages;
};

static uint64_t us_lap(struct timespec *start)
{
	struct timespec now;
	uint64_t us;

	clock_gettime(CLOCK_MONOTONIC, &now);
	us = (uint64_t)((now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000);
	*start = now;
	return us;
}

/* ---- the plan, from the records ---- */

struct rtask *restore_task(struct restore *r, pid_t nspid)
{
	for (size_t i = 0; i < r->n_tasks; i++)
		if (r->tasks[i]->nspid == nspid)
			return r->tasks[i];
	return NULL;
}

/* Sorted by id when loaded. */
struct rfile *restore_file(struct restore *r, uint32_t id)
{
	size_t lo = 0, hi = r->n_files;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->files[mid]->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->n_files && r->files[lo]->id == id ? r->files[lo] : NULL;
}

static const void *message_of(const struct restore *r, enum rec_kind kind, pid_t id)
{
	const struct record *rec = image_find(r->image, kind, (uint32_t)id, NULL);

	return rec ? rec->msg : NULL;
}

static struct rtask *rtask_free(struct rtask *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_threads; i++) {
		agent_free(t->threads[i].agent);
		thread_regs_done(&t->threads[i].regs);
	}
	free(t->threads);
	free(t);
	return NULL;
}
AUTO_OF_DEFINE(rtask)

static int threads_load(struct restore *r, struct rtask *t, const PstreeEntry *p, struct err *e)
{
	if (p->n_threads == 0 || p->n_threads > THREADS_MAX || p->threads[0] != p->pid)
		return err_set(e, -EPROTO, "process %d has an impossible list of threads", (int)t->nspid);
	t->threads = calloc(p->n_threads, sizeof(*t->threads));
	if (!t->threads)
		return err_sys(e, -ENOMEM, "reading processes");
	t->n_threads = p->n_threads;
	for (size_t i = 0; i < p->n_threads; i++) {
		struct rthread *th = &t->threads[i];

		if (p->threads[i] == 0 || p->threads[i] > 1u << 22)
			return err_set(e, -EPROTO, "process %d has an impossible thread", (int)t->nspid);
		th->nstid = (pid_t)p->threads[i];
		th->core = message_of(r, REC_CORE, th->nstid);
		th->extra = message_of(r, REC_GW_THREAD, th->nstid);
		if (!th->core)
			return err_set(e, -EPROTO, "the image lacks the core of thread %d", (int)th->nstid);
	}
	return 0;
}

static int task_load(struct restore *r, const PstreeEntry *p, struct rtask **ret, struct err *e)
{
	auto_of(rtask) *t = calloc(1, sizeof(*t));
	int x;

	if (!t)
		return err_sys(e, -ENOMEM, "reading processes");
	if (p->pid == 0 || p->pid > 1u << 22 || p->ppid > 1u << 22 || p->sid > 1u << 22 || p->pgid > 1u << 22)
		return err_set(e, -EPROTO, "the image has a process with an impossible pid");
	t->nspid = (pid_t)p->pid;
	t->nsppid = (pid_t)p->ppid;
	t->nspgid = (pid_t)p->pgid;
	t->nssid = (pid_t)p->sid;
	x = threads_load(r, t, p, e);
	if (x < 0)
		return x;
	t->core = t->threads[0].core;
	if (!t->core->tc)
		return err_set(e, -EPROTO, "the core of process %d is incomplete", (int)t->nspid);
	t->zombie = t->core->tc->task_state == TASK_STATE_DEAD;
	t->mm = message_of(r, REC_MM, t->nspid);
	t->extra = message_of(r, REC_GW_TASK, t->nspid);
	*ret = ptr_take(t);
	return 0;
}

/* Sessions and groups that are led from outside of the tree become those of whoever restores it. */
static void outside_forget(struct restore *r)
{
	pid_t sid = r->tasks[0]->nssid, pgid = r->tasks[0]->nspgid;
	bool sid_in = restore_task(r, sid), pgid_in = restore_task(r, pgid);

	for (size_t i = 0; i < r->n_tasks && r->opts && r->opts->shell_job; i++) {
		struct rtask *t = r->tasks[i];

		if (!sid_in && t->nssid == sid)
			t->nssid = 0;
		if (!pgid_in && t->nspgid == pgid)
			t->nspgid = 0;
	}
}

static int tasks_load(struct restore *r, struct err *e)
{
	const struct record *rec;
	size_t pos = 0, cap = 0;

	while ((rec = image_find(r->image, REC_PSTREE, REC_ANY, &pos))) {
		struct rtask *t = NULL;
		int x = task_load(r, (const PstreeEntry *)rec->msg, &t, e);

		if (x < 0)
			return x;
		if (array_grow(r->tasks, r->n_tasks, cap) < 0) {
			rtask_free(t);
			return err_sys(e, -ENOMEM, "reading processes");
		}
		r->tasks[r->n_tasks++] = t;
	}
	if (r->n_tasks == 0 || r->tasks[0]->zombie || (r->ns & CLONE_NEWPID && r->tasks[0]->nspid != 1))
		return err_set(e, -EPROTO, "the image does not begin with a living %s",
			       r->ns & CLONE_NEWPID ? "init" : "process");
	outside_forget(r);
	for (size_t i = 1; i < r->n_tasks; i++)
		r->tasks[i]->parent = restore_task(r, r->tasks[i]->nsppid);
	return 0;
}

static int file_cmp(const void *pa, const void *pb)
{
	const struct rfile *a = *(struct rfile *const *)pa, *b = *(struct rfile *const *)pb;

	return a->id < b->id ? -1 : a->id > b->id;
}

static int files_load(struct restore *r, struct err *e)
{
	const struct record *rec;
	size_t pos = 0, cap = 0;

	while ((rec = image_find(r->image, REC_FILES, REC_ANY, &pos))) {
		struct rfile *f = calloc(1, sizeof(*f));

		if (!f || array_grow(r->files, r->n_files, cap) < 0) {
			free(f);
			return err_sys(e, -ENOMEM, "reading files");
		}
		f->fe = (const FileEntry *)rec->msg;
		f->id = f->fe->id;
		f->fd = -1;
		r->files[r->n_files++] = f;
	}
	if (r->n_files)
		qsort(r->files, r->n_files, sizeof(*r->files), file_cmp);
	for (size_t i = 1; i < r->n_files; i++)
		if (r->files[i - 1]->id == r->files[i]->id)
			return err_set(e, -EPROTO, "the file %u is there twice", (unsigned)r->files[i]->id);
	return 0;
}

static void run_done(struct run *run)
{
	struct restore *r = &run->r;

	for (size_t i = cr_parts_n; i-- > 0;)
		if (cr_parts[i]->restore_done)
			cr_parts[i]->restore_done(r);
	run->grow = grow_free(run->grow);
	for (size_t i = 0; i < r->n_tasks; i++)
		rtask_free(r->tasks[i]);
	free(r->tasks);
	for (size_t i = 0; i < r->n_files; i++) {
		fd_close(&r->files[i]->fd);
		free(r->files[i]);
	}
	free(r->files);
	fd_close(&r->proc_fd);
	fd_close(&r->root_fd);
	fd_close(&r->cgroup_fd);
	fd_close(&r->seed_fd);
	r->image = image_free(r->image);
}

static bool part_has(const struct restore *r, const struct cr_part *p, const void *phase)
{
	return phase && (!p->ns || p->ns & r->ns & ~(r->opts ? r->opts->empty_ns : 0));
}

/* ---- stages ---- */

#define EACH_TASK(r, t)                                      \
	for (size_t ti_ = 0; ti_ < (r)->n_tasks; ti_++)      \
		for (struct rtask *t = (r)->tasks[ti_]; t && !t->zombie; t = NULL)

static int stage_load(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	const struct record *rec;
	int x = r->opts ? image_read_folder(r->opts->images_fd, &r->image, e) :
			  image_read_stream(run->o->data_fd, &r->image, e);

	if (x < 0)
		return x;
	clock_gettime(CLOCK_MONOTONIC, &run->start);
	rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	if (!rec)
		return err_set(e, -EPROTO, "the image has no header");
	run->pages = ((const GwHeader *)rec->msg)->pages;
	r->ns = r->opts ? ((const GwHeader *)rec->msg)->namespaces & NS_ALL : NS_ALL;
	x = tasks_load(r, e);
	if (x >= 0)
		x = files_load(r, e);
	if (x >= 0)
		x = grow_new(r, &run->grow, e);
	for (size_t i = 0; i < cr_parts_n && x >= 0; i++) {
		if (!part_has(r, cr_parts[i], cr_parts[i]->load))
			continue;
		x = fault_at("restore.load", cr_parts[i]->name, NULL, e);
		if (x >= 0)
			x = cr_parts[i]->load(r, e);
		if (x < 0)
			return err_context(e, x, "%s", cr_parts[i]->name);
	}
	if (x < 0)
		return x;
	return run->o->on_plan ? run->o->on_plan(run->o->arg, r->n_tasks, run->pages, e) : 0;
}

static int user_ns_differs(struct restore *r, bool *ret, struct err *e)
{
	auto_free char *theirs = NULL, *ours = NULL;
	int dir = proc_open(r->proc_fd, r->init_pid);
	int x = dir < 0 ? err_sys(e, dir, "opening gw-init") : proc_readlink(dir, "ns/user", &theirs, e);

	if (dir >= 0)
		close(dir);
	if (x >= 0)
		x = proc_readlink(r->proc_fd, "self/ns/user", &ours, e);
	if (x >= 0)
		*ret = strcmp(theirs, ours) != 0;
	return x;
}

static int stage_enter(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	const unsigned enter = (r->ns | r->joined_ns) &
			       (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP);
	struct rtask *init = r->tasks[0];
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, r->init_pid, 0);
	uint64_t addr;
	int x;

	if (pidfd < 0)
		return err_sys(e, -errno, "there is no process %d", (int)r->init_pid);
	r->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r->cgroup = run->o->cgroup;
	r->cgroup_fd = r->cgroup ? open(r->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r->proc_fd < 0 || (r->cgroup && r->cgroup_fd < 0))
		return err_sys(e, -errno, "opening %s", r->proc_fd < 0 ? "/proc" : r->cgroup);
	x = user_ns_differs(r, &r->user_ns, e);
	if (x >= 0)
		x = ids_load(r->proc_fd, r->init_pid, &run->ids, e);
	if (x >= 0)
		x = seize_start(r->init_pid, e);
	if (x >= 0)
		x = seize_wait(r->init_pid, NULL, e);
	if (x >= 0)
		x = seize_bind(r->init_pid, e);
	if (x >= 0)
		x = mem_agent_address(r, r->init_pid, &addr, e);
	if (x >= 0)
		x = agent_take_over(r->init_pid, r->init_pid, addr, &init->agent, e);
	if (x < 0)
		return err_context(e, x, "taking over the first process");
	init->threads[0].agent = init->agent;
	fd_close(&r->seed_fd);
	init->pid = init->threads[0].tid = r->init_pid;
	for (size_t i = 0; i < NS_KINDS && r->opts; i++)
		if (enter & ns_flags[i] && (x = home_note(&run->home, ns_flags[i], e)) < 0)
			return x;
	if (enter && setns(pidfd, (int)enter) < 0)
		return err_sys(e, -errno, "entering the container's namespaces");
	r->root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->root_fd < 0)
		return err_sys(e, -errno, "opening the container's root");
	return grow_begin(run->grow, e);
}

static int stage_disk(struct run *run, struct err *e)
{
	return run->o->wait_disk ? run->o->wait_disk(run->o->arg, e) : 0;
}

static int task_begin(struct restore *r, struct rtask *t, struct err *e)
{
	int x = 0;

	for (size_t i = 0; i < cr_parts_n && x >= 0; i++) {
		if (!cr_parts[i]->task_begin)
			continue;
		x = fault_at("restore.begin", cr_parts[i]->name, NULL, e);
		if (x < 0 || (x = cr_parts[i]->task_begin(r, t, e)) < 0)
			return err_context(e, x, "%s", cr_parts[i]->name);
	}
	x = mem_prepare(r, t, e);
	return x < 0 ? x : mem_map(r, t, e);
}

/* Files that parts make (bound sockets, deleted files) are the container's root's, and a tmpfs of its
 * user namespace takes none of anybody unmapped (EOVERFLOW).  Parts may leave that state themselves,
 * so it is entered for each. */
static int maker_enter(struct run *run, struct err *e)
{
	return run->r.user_ns ? ids_fs_enter(&run->ids, e) : 0;
}

static void maker_leave(struct run *run)
{
	if (run->r.user_ns)
		ids_fs_leave();
}

static int stage_build(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	struct timespec lap;
	int x = r->opts && r->opts->empty_ns & r->ns & CLONE_NEWNET ? net_loopback_up(e) : 0;

	for (size_t i = 0; i < cr_parts_n && x >= 0; i++) {
		x = maker_enter(run, e);
		if (x < 0)
			return x;
		clock_gettime(CLOCK_MONOTONIC, &lap);
		if (part_has(r, cr_parts[i], cr_parts[i]->build) &&
		    ((x = fault_at("restore.build", cr_parts[i]->name, NULL, e)) < 0 ||
		     (x = cr_parts[i]->build(r, e)) < 0))
			return err_context(e, x, "%s", cr_parts[i]->name);
		log_debug("restore: %s built in %llu us", cr_parts[i]->name, (unsigned long long)us_lap(&lap));
	}
	maker_leave(run);
	if (x >= 0)
		x = task_begin(r, r->tasks[0], e);
	if (x >= 0)
		x = grow_some(run->grow, task_begin, e);
	run->times.build_us = us_lap(&run->start);
	return x;
}

static int filled(struct restore *r, struct rtask *t, void *arg, struct err *e)
{
	struct run *run = arg;

	grow_filled(run->grow, t);
	return grow_some(run->grow, task_begin, e);
}

static int progress(void *arg, uint64_t bytes, uint64_t total)
{
	struct run *run = arg;

	return run->o->progress ? run->o->progress(run->o->arg, bytes, total) : 0;
}

static int stage_pages(struct run *run, struct err *e)
{
	struct mem_receiver rc = { .filled = filled, .progress = progress, .arg = run };
	int x;

	run->r.data_fd = run->o->data_fd;
	x = mem_receive(&run->r, &rc, e);
	run->times.pages_us = us_lap(&run->start);
	return x;
}

static int stage_files(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	int x = grow_finish(run->grow, e);

	if (x < 0)
		return x;
	EACH_TASK(r, t)
		for (size_t i = 0; i < cr_parts_n; i++)
			if (cr_parts[i]->task_filled &&
			    ((x = fault_at("restore.filled", cr_parts[i]->name, NULL, e)) < 0 ||
			     (x = cr_parts[i]->task_filled(r, t, e)) < 0))
				return err_context(e, x, "process %d: %s", (int)t->nspid,
						   cr_parts[i]->name);
	return 0;
}

static int task_complete(struct restore *r, struct rtask *t, struct err *e)
{
	int x;

	for (size_t k = 0; k < t->n_threads; k++)
		for (size_t i = 0; i < cr_parts_n; i++)
			if (cr_parts[i]->thread_end &&
			    ((x = fault_at("restore.thread", cr_parts[i]->name, NULL, e)) < 0 ||
			     (x = cr_parts[i]->thread_end(r, t, &t->threads[k], e)) < 0))
				return err_context(e, x, "thread %d: %s", (int)t->threads[k].nstid,
						   cr_parts[i]->name);
	for (size_t i = 0; i < cr_parts_n; i++)
		if (cr_parts[i]->task_end && ((x = fault_at("restore.end", cr_parts[i]->name, NULL, e)) < 0 ||
					      (x = cr_parts[i]->task_end(r, t, e)) < 0))
			return err_context(e, x, "%s", cr_parts[i]->name);
	return 0;
}

static int stage_threads(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	struct timespec lap;
	int x = grow_threads(run->grow, e);

	if (x < 0)
		return x;
	EACH_TASK(r, t)
	{
		x = mem_protect_final(r, t, e);
		if (x >= 0)
			x = task_complete(r, t, e);
		if (x < 0)
			return err_context(e, x, "process %d", (int)t->nspid);
	}
	for (size_t i = 0; i < cr_parts_n; i++) {
		x = maker_enter(run, e);
		if (x < 0)
			return x;
		clock_gettime(CLOCK_MONOTONIC, &lap);
		if (part_has(r, cr_parts[i], cr_parts[i]->finish) &&
		    ((x = fault_at("restore.finish", cr_parts[i]->name, NULL, e)) < 0 ||
		     (x = cr_parts[i]->finish(r, e)) < 0))
			return err_context(e, x, "%s", cr_parts[i]->name);
		log_debug("restore: %s finished in %llu us", cr_parts[i]->name,
			  (unsigned long long)us_lap(&lap));
	}
	maker_leave(run);
	return 0;
}

/* gw-init's folder; nothing executes it any more.  It is not there where the container was started
 * without it, which the tests do. */
static void guest_dir_remove(void)
{
	if (umount2(GUEST_DIR, MNT_DETACH) < 0 && errno != ENOENT && errno != EINVAL)
		log_warn("unmounting %s: %s", GUEST_DIR, strerror(errno));
	if (rmdir(GUEST_DIR) < 0 && errno != ENOENT)
		log_warn("removing %s: %s", GUEST_DIR, strerror(errno));
}

static int task_release(struct restore *r, struct rtask *t, struct err *e)
{
	auto_free struct agent **agents = calloc(t->n_threads, sizeof(*agents));
	auto_free struct thread_regs *regs = calloc(t->n_threads, sizeof(*regs));

	if (!agents || !regs)
		return err_sys(e, -ENOMEM, "leaving process %d", (int)t->nspid);
	for (size_t i = 0; i < t->n_threads; i++) {
		agents[i] = ptr_take(t->threads[i].agent);
		regs[i] = t->threads[i].regs; /* a view; they stay the thread's */
	}
	t->agent = NULL;
	return agent_finish(agents, regs, t->n_threads, e);
}

static int task_detach(struct rtask *t, struct err *e)
{
	/* A stop by job control: taken when it is let go (or its cgroup thawed). */
	if (t->core->tc->task_state == TASK_STATE_STOPPED && kill(t->pid, SIGSTOP) < 0)
		return err_sys(e, -errno, "stopping process %d", (int)t->nspid);
	for (size_t k = 0; k < t->n_threads; k++) {
		int x = seize_detach(t->threads[k].tid, e);

		if (x < 0)
			return err_context(e, x, "leaving process %d", (int)t->nspid);
	}
	return 0;
}

/* The first process last: up to then our end is its own, and an init's is everybody's. */
static int detach_all(struct restore *r, struct err *e)
{
	for (size_t i = r->n_tasks; i-- > 0;) {
		int x = r->tasks[i]->zombie ? 0 : task_detach(r->tasks[i], e);

		if (x < 0)
			return x;
		if (i)
			fault_kill_at("restore", "detached", NULL);
	}
	return 0;
}

/* They stay where they are, without a tracer: each wakes once to enter the freezer's own trap. */
static int detach_frozen(struct run *run, struct err *e)
{
	int x = freezer_set(run->r.cgroup_fd, true, FREEZE_TIMEOUT_MS, e);

	if (x >= 0)
		x = detach_all(&run->r, e);
	if (x >= 0)
		x = freezer_set(run->r.cgroup_fd, true, FREEZE_TIMEOUT_MS, e);
	run->times.finish_us = us_lap(&run->start);
	return x;
}

static int stage_leave(struct run *run, struct err *e)
{
	struct restore *r = &run->r;
	int x;

	if (!r->opts)
		guest_dir_remove();
	EACH_TASK(r, t)
	{
		x = fault_at("restore", "release", NULL, e);
		if (x >= 0)
			x = task_release(r, t, e);
		if (x < 0)
			return err_context(e, x, "leaving process %d", (int)t->nspid);
	}
	/* What follows, scripts among it, is the host's affair. */
	return r->opts ? home_return(&run->home, e) : detach_frozen(run, e);
}

/* ---- from a folder ---- */

static int act(struct run *run, enum cr_act what, struct err *e)
{
	const struct cr_opts *o = run->r.opts;

	return o->act ? o->act(o->arg, what, run->r.init_pid, -1, e) : 0;
}

static int stage_pre_restore(struct run *run, struct err *e)
{
	return act(run, CR_ACT_PRE_RESTORE, e);
}

static int stage_seed(struct run *run, struct err *e)
{
	int x = seed_make(&run->r, e);

	/* Its cgroups are among what is mounted. */
	if (x >= 0 && run->r.ns & CLONE_NEWNS)
		x = mounts_outside_open(&run->r, e);
	if (x >= 0 && run->r.ns & CLONE_NEWNET)
		x = net_links_make(&run->r, e);
	if (x >= 0)
		x = act(run, CR_ACT_SETUP_NAMESPACES, e);
	return x < 0 ? x : act(run, CR_ACT_POST_SETUP_NAMESPACES, e);
}

/* Before links and addresses are there, so that no packet comes for a connection that is not there yet. */
static int stage_lock(struct run *run, struct err *e)
{
	return netlock_restore(&run->r, e);
}

/* Everything stands, traced and without agents; up to the last of these a failure takes it away. */
static int stage_post_restore(struct run *run, struct err *e)
{
	return act(run, CR_ACT_POST_RESTORE, e);
}

static int stage_unlock(struct run *run, struct err *e)
{
	int x = act(run, CR_ACT_NETWORK_UNLOCK, e);

	return x < 0 ? x : netlock_unlock(&run->r, e);
}

static int stage_pre_resume(struct run *run, struct err *e)
{
	return act(run, CR_ACT_PRE_RESUME, e);
}

/* Who is let go of is not killed any more when we are; an init's end is everybody's, and it is the last. */
static int resume_guard(struct restore *r, struct err *e)
{
	auto_buf text = BUF_INIT;
	int x = 0;

	if (r->n_tasks < 2 || r->ns & CLONE_NEWPID)
		return 0;
	for (size_t i = 0; i < r->n_tasks && x >= 0; i++)
		x = r->tasks[i]->zombie ? 0 : guard_add_task(&r->guard, &text, r->tasks[i]->pid, e);
	return x < 0 ? x : guard_add_task(&r->guard, &text, 0, e);
}

static int stage_resume(struct run *run, struct err *e)
{
	int x = resume_guard(&run->r, e);
	struct err mine = { 0 };

	if (x >= 0)
		x = detach_all(&run->r, e);
	if (x >= 0)
		guard_done(&run->r.guard);

	run->times.finish_us = us_lap(&run->start);
	run->r.complete = x >= 0;
	/* It runs: what a script thinks of it changes nothing any more. */
	if (x >= 0 && act(run, CR_ACT_POST_RESUME, &mine) < 0)
		log_warn("post-resume: %s", err_text(&mine));
	return x;
}

/* Whatever exists of the tree, by what keeps it from being anybody else: agents end with their channels. */
static void end_wait(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) >= 0 || errno == EINTR)
		if (WIFEXITED(status) || WIFSIGNALED(status))
			return;
}

static void tree_remove(struct run *run)
{
	struct restore *r = &run->r;

	inet_restore_silence(r);
	if (r->init_pid <= 0)
		return;
	for (size_t i = r->n_tasks; i-- > 1;)
		if (r->tasks[i]->exists && r->tasks[i]->pid > 0 && !r->tasks[i]->zombie)
			kill(r->tasks[i]->pid, SIGKILL);
	kill(r->init_pid, SIGKILL);
	/* An init ends when all others have, and those that we trace have when we have heard of it. */
	for (size_t i = r->n_tasks; i-- > 1;)
		for (size_t k = r->tasks[i]->n_threads; k-- > 0;)
			if (r->tasks[i]->threads[k].tid > 0)
				end_wait(r->tasks[i]->threads[k].tid);
	end_wait(r->init_pid);
}

struct stage {
	const char *name;
	int (*run)(struct run *run, struct err *e);
};

static const struct stage live_stages[] = {
	{ "reading records", stage_load },
	{ "entering", stage_enter },
	{ "disk", stage_disk },
	{ "building", stage_build },
	{ "memory", stage_pages },
	{ "files", stage_files },
	{ "threads", stage_threads },
	{ "leaving", stage_leave },
	{ NULL, NULL },
};

static const struct stage folder_stages[] = {
	{ "reading records", stage_load },
	{ "pre-restore", stage_pre_restore },
	{ "first process", stage_seed },
	{ "entering", stage_enter },
	{ "network-lock", stage_lock },
	{ "building", stage_build },
	{ "memory", stage_pages },
	{ "files", stage_files },
	{ "threads", stage_threads },
	{ "leaving", stage_leave },
	{ "post-restore", stage_post_restore },
	{ "network-unlock", stage_unlock },
	{ "pre-resume", stage_pre_resume },
	{ "resuming", stage_resume },
	{ NULL, NULL },
};

int restore_run(const struct restore_opts *o, struct restore_times *ret, pid_t *ret_pid, struct err *e)
{
	const struct stage *stages = o->opts ? folder_stages : live_stages;
	struct run run = { .o = o,
			   .home = HOME_INIT,
			   .r = { .init_pid = o->init, .opts = o->opts, .cgroup = o->cgroup, .proc_fd = -1,
				  .root_fd = -1, .cgroup_fd = -1, .data_fd = -1, .seed_fd = -1 } };
	int x = 0;

	for (size_t i = 0; stages[i].name && x >= 0; i++) {
		x = fault_at("restore", stages[i].name, "before", e);
		if (x >= 0)
			x = stages[i].run(&run, e);
		if (x >= 0 && stages[i + 1].name)
			x = fault_at("restore", stages[i].name, "after", e);
		if (x < 0)
			err_context(e, x, "restore, %s", stages[i].name);
		else
			log_debug("restore: %s done", stages[i].name);
	}
	if (x < 0 && o->opts) {
		struct err mine = { 0 };

		maker_leave(&run);
		tree_remove(&run);
		if (home_return(&run.home, &mine) < 0)
			log_error("%s", err_text(&mine));
		guard_undo(&run.r.guard);
	}
	guard_done(&run.r.guard);
	if (ret_pid)
		*ret_pid = run.r.init_pid;
	run_done(&run);
	*ret = run.times;
	return x;
}

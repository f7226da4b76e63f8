#include "cr/dump.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/guard.h"
#include "cr/hold.h"
#include "cr/ns/ns.h"
#include "cr/ns/outside.h"
#include "cr/sock/netlock.h"
#include "cr/sock/sock.h"
#include "cr/task/ids.h"
#include "cr/task/restart.h"
#include "cr/task/tree.h"
#include "image/folder.h"
#include "sys/procfs.h"

#define STREAM_VERSION 1
/* Of a freeze, where what stands against it comes and goes. */
#define TRIES 30
#define TRY_STEP_NS 5000000

struct run {
	const struct dump_opts *o;
	struct dump d;
	bool seized;     /* threads of d.tasks are traced */
	struct refusals refused;
	struct waits *waits;
	struct dump_subject subject;
	struct guard *guard; /* of a checkpoint; subject leads to it */
	uint64_t bytes;
	struct timespec start;
	struct dump_times times;
};

static uint64_t us_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)((now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000);
}

/* ---- the dump as an object ---- */

int dump_open(struct dump *d, const struct dump_subject *s, bool check_only, struct err *e)
{
	char path[64];
	int r;

	*d = (struct dump){ .root_pid = s->pid, .cgroup = s->cgroup, .opts = s->opts, .guard = s->guard, .next_file_id = 1,
			    .check_only = check_only, .cgroup_fd = -1, .root_fd = -1 };
	if (s->cgroup) {
		d->cgroup_fd = open(s->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d->cgroup_fd < 0)
			return err_sys(e, -errno, "opening the cgroup %s", s->cgroup);
	}
	snprintf(path, sizeof(path), "/proc/%d/root", (int)s->pid);
	d->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (d->root_fd < 0)
		return err_sys(e, -errno, "opening the root of process %d", (int)s->pid);
	r = ns_own(s->pid, &d->ns, e);
	if (r >= 0 && s->opts)
		r = outside_namespaces(s->opts, s->pid, d->ns, &d->named_ns, e);
	d->ns &= ~d->named_ns;
	if (!s->opts) /* a container, whatever it shares with us */
		d->ns = NS_ALL;
	if (r >= 0)
		r = hold_new(s->pid, d->cgroup_fd, &d->hold, e);
	return r >= 0 && s->opts && s->opts->freeze_cgroup ? hold_by_freezer(d->hold, s->opts->freeze_cgroup, s->guard, e) : r;
}

void dump_close(struct dump *d)
{
	tree_release(d);
	d->hold = hold_free(d->hold);
	fd_close(&d->cgroup_fd);
	fd_close(&d->root_fd);
	d->sink = sink_free(d->sink);
	refusals_done(&d->refusals);
}

static bool part_has(const struct dump *d, const struct cr_part *p, const void *phase)
{
	/* A namespace that shall come back empty has no state. */
	return phase && (!p->ns || p->ns & d->ns & ~(d->opts ? d->opts->empty_ns : 0));
}

/* What parts left outside of our memory is undone before anything runs on. */
void dump_parts_done(struct dump *d)
{
	for (size_t i = cr_parts_n; i-- > 0;)
		if (cr_parts[i]->done)
			cr_parts[i]->done(d);
}

/* Moves the refusals out. */
static void refusals_move(struct dump *d, struct refusals *ret)
{
	refusals_done(ret);
	*ret = d->refusals;
	d->refusals = (struct refusals)REFUSALS_INIT;
}

static int checks_run(struct dump *d, struct err *e)
{
	int r = tree_collect(d, e);
	struct timespec lap;

	for (size_t i = 0; i < cr_parts_n && r >= 0; i++) {
		if (!part_has(d, cr_parts[i], cr_parts[i]->check))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &lap);
		r = fault_at("dump.check", cr_parts[i]->name, NULL, e);
		if (r >= 0)
			r = cr_parts[i]->check(d, e);
		log_debug("dump: %s checked in %" PRIu64 " us", cr_parts[i]->name, us_since(&lap));
		if (r < 0)
			return err_context(e, r, "checking %s", cr_parts[i]->name);
	}
	return r < 0 ? r : 0;
}

/* A killed engine may leave in it what the tree itself does not take away: states of sockets, and of threads the mapping
 * that the last agent ran in (recover.c). */
static bool risky(const struct dump *d)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (d->tasks[i]->n_threads > 1)
			return true;
	for (size_t i = 0; i < d->n_ofiles; i++)
		if (S_ISSOCK(d->ofiles[i]->st.st_mode))
			return true;
	return false;
}

/* Who asks for a live migration has means of its own. */
static int recover_guard(const struct dump_subject *s, struct err *e)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)s->pid);
	return s->guard && !guard_knows(*s->guard, "recover") ? guard_add(s->guard, "recover", pid, -1, e) : 0;
}

/* Looks at the tree as it runs.  Half of what is seen may be gone already, so that only a content
 * result counts. */
static int check_running(const struct dump_subject *s, struct waits **ret_waits, bool *ret_content, bool *ret_risky,
			 struct err *e)
{
	struct err ignored;
	struct dump d;
	int r = dump_open(&d, s, true, e);

	if (r >= 0)
		r = tree_collect(&d, e);
	if (r >= 0 && ret_waits)
		r = waits_take(&d, ret_waits, e);
	/* A tree that is stopped by ptrace is looked at once, when it stands: the look at all of it would cost as much
	 * again, and the stop spares nobody more than a SIGSTOP does. */
	if (s->opts && ret_waits)
		*ret_content = r >= 0;
	else
		*ret_content = r >= 0 && checks_run(&d, &ignored) >= 0 && d.refusals.n == 0;
	*ret_risky = !*ret_content || risky(&d);
	dump_parts_done(&d);
	dump_close(&d);
	return r;
}

/* Worth another try in a moment? */
static bool all_pass(const struct dump *d)
{
	return d->refusals.n && d->n_passing == d->refusals.n;
}

static int settled(struct dump *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < cr_parts_n && r >= 0; i++)
		if (cr_parts[i]->settled)
			r = cr_parts[i]->settled(d, e);
	return r;
}

static int64_t now_of(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int freeze_timeout_ms(const struct dump *d)
{
	unsigned s = d->opts ? d->opts->timeout_s : 0;

	return !s ? FREEZE_TIMEOUT_MS : s > INT_MAX / 1000 ? INT_MAX : (int)s * 1000;
}

/* -EAGAIN: something that passes by itself stands against it. */
static int freeze_once(struct dump *d, bool last, struct err *e)
{
	int r = hold_stop(d->hold, freeze_timeout_ms(d), e);

	d->frozen_ns = now_of(CLOCK_MONOTONIC);
	if (r >= 0)
		r = settled(d, e);
	if (r == -EAGAIN && last) {
		log_info("%s still; it is not waited for any longer", err_text(e));
		r = 0;
	}
	if (r >= 0)
		r = checks_run(d, e);
	return r >= 0 && !last && all_pass(d) ? -EAGAIN : r;
}

static void thaw(struct dump *d)
{
	struct err e = { 0 };

	if (d->hold && hold_go(d->hold, FREEZE_TIMEOUT_MS, &e) < 0)
		log_error("%s", err_text(&e));
}

/* Freezes and checks; d is open afterwards, and the tree frozen, whatever the result. */
static int freeze_and_check(struct dump *d, const struct dump_subject *s, bool check_only,
			    struct waits *waits, struct timespec *ret_start, struct err *e)
{
	for (int i = 0;; i++) {
		int r = dump_open(d, s, check_only, e);

		d->waits = waits;
		clock_gettime(CLOCK_MONOTONIC, ret_start);
		if (r >= 0)
			r = freeze_once(d, i == TRIES, e);
		if (r != -EAGAIN)
			return r;
		dump_parts_done(d);
		thaw(d);
		dump_close(d);
		nanosleep(&(struct timespec){ 0, TRY_STEP_NS }, NULL);
	}
}

static int check(const struct dump_subject *s, struct refusals *ret_refusals, struct waits **ret_waits,
		 struct err *e)
{
	struct timespec start;
	struct dump d;
	bool content, risk;
	int r = check_running(s, ret_waits, &content, &risk, e);

	if (r >= 0 && risk)
		r = recover_guard(s, e);
	if (r < 0 || content)
		return r;
	/* The word of a tree that stands, for a moment, is what counts. */
	r = freeze_and_check(&d, s, true, NULL, &start, e);
	refusals_move(&d, ret_refusals);
	dump_parts_done(&d);
	thaw(&d);
	dump_close(&d);
	return r;
}

int dump_check(const struct dump_subject *s, struct refusals *ret_refusals, struct err *e)
{
	struct guard *guard = NULL;
	struct dump_subject mine = *s;
	int r;

	mine.guard = s->opts ? &guard : NULL;
	r = check(&mine, ret_refusals, NULL, e);
	guard_done(&guard);
	return r;
}

static int refused(struct run *run, struct err *e)
{
	return run->refused.n ? err_set(e, -EOPNOTSUPP, "the container cannot be carried (%zu reasons)",
					run->refused.n) :
				0;
}

/* ---- stages ---- */

static int stage_check(struct run *run, struct err *e)
{
	int r = check(&run->subject, &run->refused, &run->waits, e);

	return r < 0 ? r : refused(run, e);
}

/* What appeared since the check on the running tree refuses too, if it does not pass by itself. */
static int stage_freeze(struct run *run, struct err *e)
{
	int r = freeze_and_check(&run->d, &run->subject, false, run->waits, &run->start, e);

	if (r >= 0 && risky(&run->d))
		r = recover_guard(&run->subject, e);
	if (r < 0)
		return r;
	refusals_move(&run->d, &run->refused);
	return refused(run, e);
}

static void undo_freeze(struct run *run)
{
	thaw(&run->d);
}

static int stage_stream(struct run *run, struct err *e)
{
	return sink_stream_new(run->o->data_fd, &run->d.sink, e);
}

#define EACH_THREAD(d, t, th)                                                       \
	for (size_t ti_ = 0; ti_ < (d)->n_tasks; ti_++)                             \
		for (struct task *t = (d)->tasks[ti_]; t && !t->zombie; t = NULL)   \
			for (struct thread *th = t->threads; th < t->threads + t->n_threads; th++)

static int all_stand(struct run *run, struct err *e)
{
	run->times.freeze_us = us_since(&run->start);
	return run->o->on_frozen ? run->o->on_frozen(run->o->arg, e) : 0;
}

/* Frozen tasks can be seized and asked to stop; they do when the cgroup is thawed, without having
 * run an instruction of their own. */
static int stage_seize(struct run *run, struct err *e)
{
	int r;

	run->seized = true;
	if (hold_traces(run->d.hold)) {
		EACH_THREAD(&run->d, t, th)
			th->group_stopped = hold_group_stopped(run->d.hold, th->tid);
		return all_stand(run, e);
	}
	EACH_THREAD(&run->d, t, th)
	{
		r = seize_start(th->tid, e);
		if (r < 0)
			return err_context(e, r, "thread %d of process %d", (int)th->nstid, (int)t->nspid);
	}
	r = hold_go(run->d.hold, FREEZE_TIMEOUT_MS, e);
	/* Traced tasks count as frozen, so that `frozen 0` may never be said. */
	if (r < 0 && r != -ETIMEDOUT)
		return r;
	EACH_THREAD(&run->d, t, th)
	{
		r = seize_wait(th->tid, &th->group_stopped, e);
		if (r < 0)
			return err_context(e, r, "thread %d of process %d", (int)th->nstid, (int)t->nspid);
	}
	return all_stand(run, e);
}

static void undo_seize(struct run *run)
{
	if (!run->seized)
		return;
	EACH_THREAD(&run->d, t, th)
	{
		struct err e = { 0 };

		if (th->agent && agent_cure(ptr_take(th->agent), &e) < 0)
			log_error("process %d: %s", (int)t->nspid, err_text(&e));
		if (!hold_traces(run->d.hold))
			seize_detach(th->tid, NULL);
	}
	run->seized = false;
}

static int stage_stopped(struct run *run, struct err *e)
{
	int r;

	EACH_THREAD(&run->d, t, th)
	{
		r = seize_get_regs(th->tid, &th->regs, e);
		if (r < 0)
			return err_context(e, r, "thread %d of process %d", (int)th->nstid, (int)t->nspid);
	}
	for (size_t i = 0; i < run->d.n_tasks; i++) {
		struct task *t = run->d.tasks[i];

		for (size_t k = 0; k < cr_parts_n && !t->zombie; k++) {
			if (!part_has(&run->d, cr_parts[k], cr_parts[k]->stopped))
				continue;
			r = fault_at("dump.registers", cr_parts[k]->name, NULL, e);
			if (r >= 0)
				r = cr_parts[k]->stopped(&run->d, t, e);
			if (r < 0)
				return err_context(e, r, "process %d: %s", (int)t->nspid,
						   cr_parts[k]->name);
		}
	}
	return 0;
}

static int task_inject(struct task *t, struct err *e)
{
	int r = agent_inject(t->pid, t->pid, &t->threads[0].agent, e);

	for (size_t i = 1; i < t->n_threads && r >= 0; i++)
		r = agent_inject_thread(t->threads[0].agent, t->threads[i].tid, &t->threads[i].agent, e);
	return r;
}

/* The leader's last: it owns the mapping. */
static int task_cure(struct task *t, struct err *e)
{
	int r = 0;

	for (size_t i = t->n_threads; i-- > 0;) {
		struct err mine = { 0 };
		int x = t->threads[i].agent ? agent_cure(ptr_take(t->threads[i].agent), &mine) : 0;

		if (x < 0 && r >= 0)
			r = err_set(e, x, "leaving thread %d: %s", (int)t->threads[i].nstid,
				    err_text(&mine));
	}
	return r;
}

static int task_inside(struct run *run, struct task *t, struct err *e)
{
	struct err mine = { 0 };
	int r = task_inject(t, &mine), cured;

	for (size_t k = 0; k < cr_parts_n && r >= 0; k++) {
		if (!part_has(&run->d, cr_parts[k], cr_parts[k]->inside))
			continue;
		r = fault_at("dump.inside", cr_parts[k]->name, NULL, &mine);
		if (r >= 0)
			r = cr_parts[k]->inside(&run->d, t, &mine);
		if (r < 0)
			err_context(&mine, r, "%s", cr_parts[k]->name);
	}
	cured = task_cure(t, e);
	if (r < 0)
		return err_set(e, r, "process %d: %s", (int)t->nspid, err_text(&mine));
	return cured < 0 ? err_context(e, cured, "process %d", (int)t->nspid) : 0;
}

static int stage_inside(struct run *run, struct err *e)
{
	for (size_t i = 0; i < run->d.n_tasks; i++) {
		struct task *t = run->d.tasks[i];
		int r = t->zombie ? 0 : task_inside(run, t, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* From here on the tasks are pristine and merely frozen: whoever dies, a thaw is all it takes. */
static int stage_leave(struct run *run, struct err *e)
{
	int r = hold_stop(run->d.hold, FREEZE_TIMEOUT_MS, e);

	if (r < 0)
		return r;
	EACH_THREAD(&run->d, t, th)
	{
		r = seize_detach(th->tid, e);
		if (r < 0)
			return err_context(e, r, "thread %d of process %d", (int)th->nstid, (int)t->nspid);
	}
	run->seized = false;
	/* Each wakes once to enter the freezer's own trap. */
	return hold_stop(run->d.hold, FREEZE_TIMEOUT_MS, e);
}

static int stage_go(struct run *run, struct err *e)
{
	return run->o->wait_go ? run->o->wait_go(run->o->arg, e) : 0;
}

static uint64_t xfeatures(void)
{
	uint32_t lo, hi;

	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static size_t named_fill(const struct dump *d, GwNamedNs *ns, GwNamedNs **list)
{
	size_t n = 0;

	for (size_t i = 0; i < NS_KINDS; i++) {
		if (!(d->named_ns & ns_flags[i]))
			continue;
		gw_named_ns__init(&ns[n]);
		ns[n].has_flag = true;
		ns[n].flag = ns_flags[i];
		ns[n].name = (char *)outside_namespace_name(d->opts, d->root_pid, ns_flags[i]);
		list[n] = &ns[n];
		n++;
	}
	return n;
}

static int header_put(struct dump *d, struct err *e)
{
	GwNamedNs named[NS_KINDS], *named_list[NS_KINDS];
	GwHeader h = GW_HEADER__INIT;
	uint8_t vdso[MEM_HASH_LEN];
	struct utsname u;
	int r;

	r = mem_vdso_hash(vdso, e);
	if (r < 0)
		return r;
	uname(&u);
	h.has_version = h.has_namespaces = h.has_monotonic_ns = h.has_boottime_ns = h.has_realtime_ns = true;
	h.has_xfeatures = h.has_pages = h.has_vdso_sha256 = true;
	h.version = STREAM_VERSION;
	h.namespaces = d->ns;
	h.named_ns = named_list;
	h.n_named_ns = named_fill(d, named, named_list);
	if (d->opts && d->opts->network_lock != CR_LOCK_SKIP) {
		h.has_lock_pid = h.has_lock_start = true;
		r = netlock_identity(d, &h.lock_pid, &h.lock_start, e);
		if (r < 0)
			return r;
	}
	h.kernel = u.release;
	d->header_ns = now_of(CLOCK_MONOTONIC);
	h.monotonic_ns = (uint64_t)clock_theirs(d, CLOCK_MONOTONIC, d->header_ns);
	h.boottime_ns = (uint64_t)clock_theirs(d, CLOCK_BOOTTIME, now_of(CLOCK_BOOTTIME));
	h.realtime_ns = (uint64_t)now_of(CLOCK_REALTIME);
	h.xfeatures = xfeatures();
	h.pages = mem_pages(d);
	h.vdso_sha256.data = vdso;
	h.vdso_sha256.len = sizeof(vdso);
	r = sink_put(d->sink, REC_GW_HEADER, 0, &h.base, e);
	if (r < 0)
		return r;
	return inventory_put(d, e);
}

static int stage_capture(struct run *run, struct err *e)
{
	struct dump *d = &run->d;
	struct timespec lap;
	int r = mem_plan(d, e);

	log_debug("dump: memory planned %" PRIu64 " us after the freeze", us_since(&run->start));
	if (r >= 0)
		r = header_put(d, e);
	for (size_t k = 0; k < cr_parts_n && r >= 0; k++) {
		if (!part_has(d, cr_parts[k], cr_parts[k]->frozen))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &lap);
		r = fault_at("dump.capture", cr_parts[k]->name, NULL, e);
		if (r >= 0)
			r = cr_parts[k]->frozen(d, e);
		log_debug("dump: %s captured in %" PRIu64 " us", cr_parts[k]->name, us_since(&lap));
		if (r < 0)
			return err_context(e, r, "%s", cr_parts[k]->name);
	}
	if (r >= 0)
		r = tree_put(d, e);
	if (r < 0)
		return r;
	run->times.capture_us = us_since(&run->start) - run->times.freeze_us;
	return run->o->on_captured ? run->o->on_captured(run->o->arg, mem_pages(d), e) : 0;
}

static int stage_pages(struct run *run, struct err *e)
{
	struct timespec start;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &start);
	r = mem_send_pages(&run->d, run->o->progress, run->o->arg, e);
	if (r >= 0)
		r = sink_end(run->d.sink, e);
	if (r < 0)
		return r;
	run->times.mem = mem_counts(&run->d);
	run->bytes = sink_bytes(run->d.sink) + (run->times.mem.written + run->times.mem.shm_written) * 4096;
	run->times.pages_us = us_since(&start);
	return 0;
}

/* ---- of a checkpoint only ---- */

static int act(struct run *run, enum cr_act what, struct err *e)
{
	const struct cr_opts *o = run->o->subject.opts;

	return o->act ? o->act(o->arg, what, run->o->subject.pid, -1, e) : 0;
}

static int stage_pre_dump(struct run *run, struct err *e)
{
	return act(run, CR_ACT_PRE_DUMP, e);
}

static int stage_folder(struct run *run, struct err *e)
{
	const struct cr_opts *o = run->o->subject.opts;
	int r = sink_folder_new(o->images_fd, &run->d.sink, e);

	if (r >= 0 && o->page_sock > 0)
		sink_folder_pages_to(run->d.sink, o->page_sock);
	return r;
}

static void undo_folder(struct run *run)
{
	if (run->d.sink)
		sink_folder_remove(run->d.sink);
}

static int stage_lock(struct run *run, struct err *e)
{
	int r = act(run, CR_ACT_NETWORK_LOCK, e);

	return r < 0 ? r : netlock_dump(&run->d, e);
}

/* The lock itself is part "sock"'s, which has let go of it by now. */
static void undo_lock(struct run *run)
{
	struct err e = { 0 };

	if (act(run, CR_ACT_NETWORK_UNLOCK, &e) < 0)
		log_warn("network-unlock: %s", err_text(&e));
}

static int stage_post_dump(struct run *run, struct err *e)
{
	return act(run, CR_ACT_POST_DUMP, e);
}

/* The images are whole, and from here on the tree ends even if we do; what was to be undone in it is not any more. */
static int end_guard(struct run *run, struct err *e)
{
	struct dump *d = &run->d;
	auto_buf text = BUF_INIT;
	bool partly = run->guard || (d->n_tasks > 1 && !(d->ns & CLONE_NEWPID));
	int r = 0;

	guard_done(&run->guard);
	for (size_t i = 0; i < d->n_tasks && partly && r >= 0; i++)
		r = d->tasks[i]->zombie ? 0 : guard_add_task(&run->guard, &text, d->tasks[i]->pid, e);
	return r < 0 ? r : guard_add_task(&run->guard, &text, 0, e);
}

/* Nobody hears of it: its connections are the restore's. */
static int end_silently(struct run *run, struct err *e)
{
	int r = end_guard(run, e);

	if (r >= 0)
		r = inet_silence(&run->d, e);
	if (r >= 0)
		r = netlock_keep(&run->d, e);
	if (r >= 0)
		r = tree_kill(&run->d, e);
	if (r < 0) {
		netlock_unkeep(&run->d);
		inet_unsilence(&run->d);
	}
	return r;
}

static int tasks_stop(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (!d->tasks[i]->zombie && kill(d->tasks[i]->pid, SIGSTOP) < 0)
			return err_sys(e, -errno, "stopping process %d", (int)d->tasks[i]->nspid);
	return 0;
}

/* The last one, and the only one that cannot be undone.  Parts let go of the tree first, while it stands. */
static int stage_after(struct run *run, struct err *e)
{
	enum cr_after after = run->o->subject.opts->after;
	struct netlock *lifted;
	int r;

	run->times.frozen_us = us_since(&run->start);
	run->d.replaced = after != CR_AFTER_RUN;
	if (after == CR_AFTER_KILL)
		return end_silently(run, e);
	lifted = netlock_lift(&run->d);
	dump_parts_done(&run->d);
	undo_lock(run);
	r = after == CR_AFTER_STOP ? tasks_stop(&run->d, e) : 0;
	if (r >= 0)
		r = hold_go(run->d.hold, FREEZE_TIMEOUT_MS, e);
	netlock_free(lifted); /* takes its time */
	return r;
}

struct stage {
	const char *name;
	int (*run)(struct run *run, struct err *e);
	void (*undo)(struct run *run);
};

static const struct stage live_stages[] = {
	{ "check", stage_check, NULL },
	{ "freeze", stage_freeze, undo_freeze },
	{ "stream", stage_stream, NULL },
	{ "seize", stage_seize, undo_seize },
	{ "registers", stage_stopped, NULL },
	{ "inside", stage_inside, NULL },
	{ "leave", stage_leave, NULL },
	{ "go", stage_go, NULL },
	{ "capture", stage_capture, NULL },
	{ "pages", stage_pages, NULL },
	{ NULL, NULL, NULL },
};

/* By ptrace: the tasks are pristine after `inside` as well, but they stand because they are traced. */
static const struct stage folder_stages[] = {
	{ "check", stage_check, NULL },
	{ "pre-dump", stage_pre_dump, NULL },
	{ "freeze", stage_freeze, undo_freeze },
	{ "network-lock", stage_lock, undo_lock },
	{ "folder", stage_folder, undo_folder },
	{ "seize", stage_seize, undo_seize },
	{ "registers", stage_stopped, NULL },
	{ "inside", stage_inside, NULL },
	{ "capture", stage_capture, NULL },
	{ "pages", stage_pages, NULL },
	{ "post-dump", stage_post_dump, NULL },
	{ "after", stage_after, NULL },
	{ NULL, NULL, NULL },
};

int dump_run(const struct dump_opts *o, struct refusals *ret_refusals, uint64_t *ret_bytes,
	     struct dump_times *ret_times, struct err *e)
{
	const struct stage *stages = o->subject.opts ? folder_stages : live_stages;
	struct run run = { .o = o, .subject = o->subject, .d = { .cgroup_fd = -1, .root_fd = -1 } };
	size_t i;
	int r = 0;

	if (o->subject.opts)
		run.subject.guard = &run.guard;
	for (i = 0; stages[i].name && r >= 0; i++) {
		r = fault_at("dump", stages[i].name, "before", e);
		if (r >= 0)
			r = stages[i].run(&run, e);
		/* Behind the last one is success, and no way back. */
		if (r >= 0 && stages[i + 1].name)
			r = fault_at("dump", stages[i].name, "after", e);
		if (r >= 0)
			log_debug("dump: %s done", stages[i].name);
	}
	if (r < 0 && !run.refused.n)
		err_context(e, r, "dump, %s", stages[i - 1].name);
	dump_parts_done(&run.d);
	if (r < 0)
		while (i-- > 0)
			if (stages[i].undo)
				stages[i].undo(&run);
	dump_close(&run.d);
	guard_done(&run.guard);
	waits_free(run.waits);
	*ret_refusals = run.refused;
	*ret_bytes = run.bytes;
	*ret_times = run.times;
	return r;
}

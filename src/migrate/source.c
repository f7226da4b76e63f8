/* source - the side that gives a container away (job move-source).
 *
 * States: offered, frozen, handed, released; each is written before the step it allows.  Up to `frozen`
 * every failure ends in source_roll_back.  From `handed` on this side does nothing to the container until
 * the target has said what became of it. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/disk.h"
#include "migrate/offer.h"
#include "migrate/side.h"
#include "migrate/verbs.h"
#include "network/link.h"
#include "runtime/lock.h"

#define STEP_MS 120000
#define COME_MS 30000 /* for the target to dial */
#define LONG_MS (24 * 3600 * 1000)
#define T0_MARGIN_NS 50000000ull /* file times have the clock tick's grain, 4 or 10 ms */

struct source {
	struct session s;
	struct container *c;
	json_t *row, *mapped;
	struct disk_side disk;
	bool live, dry_run, handed, released;
	uint64_t t0_ns;     /* CLOCK_REALTIME at the start of round 1, less a margin */
	int mem_fd;
	/* figures, µs */
	uint64_t start, frozen, running, freeze_us, disk1_us, disk2_us, capture_us, pages_us, bytes;
	uint64_t restore_us, finish_us;
};

static uint64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static int own_take(struct source *m, struct err *e)
{
	const char *secret = json_string_value(json_object_get(json_object_get(m->s.job->spec, "secrets"), "control"));
	/* No start or stop of before is on its way while the row changes hands. */
	auto_fd int lock = instance_lock(m->s.job->state_dir, m->s.name, 0, e);
	json_t *row;
	int r;

	if (lock < 0)
		return lock;
	if (m->live != (container_init_pid(m->c) > 0))
		return err_set(e, -EBUSY, "%s has just been %s; try again", m->s.name, m->live ? "stopped" : "started");
	r = db_instance_set_own(m->s.db, m->s.name, OWN_MINE, OWN_OUTGOING, e);
	if (r == -EBUSY)
		return err_set(e, r, "%s is just being created, moved or deleted", m->s.name);
	if (r < 0)
		return r;
	row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:b, s:O*}}", "id", m->s.id, "role", "source", "instance",
			m->s.name, "state", ST_OFFERED, "secret", secret ? secret : "", "data", "live", m->live,
			"destination", json_object_get(m->s.job->spec, "destination"));
	r = db_migration_create(m->s.db, row, e);
	json_decref(row);
	if (r < 0)
		db_instance_set_own(m->s.db, m->s.name, OWN_OUTGOING, OWN_MINE, NULL);
	return r;
}

static int disk_round(struct source *m, uint64_t *ret_us, struct err *e)
{
	uint64_t t = now_us();
	auto_fd int fd = -1;
	int r;

	r = session_channel(&m->s, "disk", STEP_MS, &fd, e);
	if (r == 0)
		r = disk_send_start(&m->s, &m->disk, fd, e);
	fd_close(&fd);
	if (r == 0)
		r = session_child_end(&m->s, m->live && !m->frozen, LONG_MS, e);
	/* The first time it waits for its disk too, which may be a slow one. */
	if (r == 0)
		r = session_expect(&m->s, "disk-ok", LONG_MS, NULL, e);
	*ret_us = now_us() - t;
	return r;
}

/* 1: go on, 0: a dry run is over. */
static int agree(struct source *m, struct err *e)
{
	json_t *offer = NULL, *answer = NULL;
	int fd, r;

	r = session_channel(&m->s, "control", COME_MS, &fd, e);
	if (r == 0)
		r = control_open(&m->s.ctl, fd, e);
	if (r == 0)
		r = session_expect(&m->s, "hello", STEP_MS, NULL, e);
	if (r == 0)
		r = offer_make(&m->s, m->c, m->row, &offer, e);
	if (r == 0)
		r = control_send(&m->s.ctl, "offer", offer, e);
	if (r == 0)
		r = session_expect(&m->s, "answer", STEP_MS, &answer, e);
	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(answer, "accepted"))) {
		auto_free char *why = offer_reasons_text(json_object_get(answer, "reasons"));

		r = err_set(e, -EOPNOTSUPP, "%s cannot be moved:\n%s", m->s.name, why ? why : "?");
	} else {
		r = !m->dry_run;
	}
	json_decref(answer);
	return r;
}

static int first_round(struct source *m, struct err *e)
{
	int r;

	m->t0_ns = realtime_ns() - T0_MARGIN_NS;
	m->mapped = json_array();
	if (!m->mapped)
		return err_set(e, -ENOMEM, "out of memory");
	r = m->live ? disk_mapped_files(container_cgroup(m->c), m->mapped, e) : 0;
	if (r < 0)
		return r;
	r = session_point(&m->s, "source.disk1", e);
	if (r == 0)
		r = control_send(&m->s.ctl, "disk1", json_pack("{s:I}", "t0_ns", (json_int_t)m->t0_ns), e);
	job_progress(m->s.job, "disk", "disk: first round");
	return r < 0 ? r : disk_round(m, &m->disk1_us, e);
}

/* The target starts the container with clocks that go on from ours. */
static int clocks_tell(struct source *m, struct err *e)
{
	uint64_t mono, boot;
	int r;

	r = session_expect(&m->s, "clocks?", STEP_MS, NULL, e);
	if (r == 0)
		r = container_clocks(m->c, &mono, &boot, e);
	if (r == 0)
		r = control_send(&m->s.ctl, "clocks",
				 json_pack("{s:I, s:I}", "monotonic_ns", (json_int_t)mono, "boottime_ns",
					   (json_int_t)boot), e);
	if (r == 0)
		r = session_channel(&m->s, "mem", STEP_MS, &m->mem_fd, e);
	if (r == 0)
		r = session_expect(&m->s, "prepared", STEP_MS, NULL, e);
	return r;
}

static int freeze(struct source *m, struct err *e)
{
	char pid[16];
	const char *args[] = { "--tree", pid, "--cgroup", container_cgroup(m->c), NULL };
	const char *link = container_host_link(m->c);
	struct msg msg;
	int r;

	snprintf(pid, sizeof(pid), "%d", (int)container_init_pid(m->c));
	r = db_migration_set(m->s.db, m->s.id, "source", ST_OFFERED, ST_FROZEN, NULL, e);
	if (r == 0)
		r = session_engine_start(&m->s, "live-dump", m->mem_fd, args, e);
	fd_close(&m->mem_fd);
	if (r == 0)
		r = session_expect_engine(&m->s, "frozen", STEP_MS, &msg, e);
	if (r < 0)
		return r;
	m->frozen = now_us();
	msg_done(&msg);
	if (link) {
		r = link_port_set(link, false, e);
		if (r < 0)
			return r;
	}
	r = session_point(&m->s, "source.frozen", e);
	if (r < 0)
		return r;
	r = msg_send(m->s.engine_ctl, NULL, 0, "go", NULL);
	return r < 0 ? err_sys(e, r, "the engine is gone") : 0;
}

static int second_round(struct source *m, struct err *e)
{
	json_t *paths = m->mapped;
	int r;

	r = disk_mapped_files(container_cgroup(m->c), paths, e);
	if (r == 0)
		r = disk_set_back_files(&m->disk, m->t0_ns, paths, e);
	if (r == 0)
		r = control_send(&m->s.ctl, "disk2", json_pack("{s:O}", "forget", paths), e);
	return r < 0 ? r : disk_round(m, &m->disk2_us, e);
}

static int engine_through(struct source *m, struct err *e)
{
	struct msg msg;
	int r;

	r = session_expect_engine(&m->s, "done", LONG_MS, &msg, e);
	if (r < 0)
		return r;
	msg_get_u64(&msg, "freeze_us", &m->freeze_us);
	msg_get_u64(&msg, "capture_us", &m->capture_us);
	msg_get_u64(&msg, "pages_us", &m->pages_us);
	msg_get_u64(&msg, "bytes", &m->bytes);
	msg_done(&msg);
	r = session_engine_end(&m->s, STEP_MS, e);
	return r < 0 ? r : session_point(&m->s, "source.sent", e);
}

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static int hand_over(struct source *m, struct err *e)
{
	json_t *o = NULL;
	int r;

	r = session_expect(&m->s, "READY", LONG_MS, &o, e);
	if (r < 0)
		return r;
	m->restore_us = number(o, "build_us");
	m->finish_us = number(o, "finish_us");
	json_decref(o);
	r = session_point(&m->s, "source.ready", e);
	if (r == 0)
		r = session_look(&m->s, e); /* a cancel may have come together with READY */
	if (r < 0)
		return r;
	r = db_migration_commit(m->s.db, m->s.id, "source", m->live ? ST_FROZEN : ST_OFFERED, ST_HANDED, m->s.name,
				OWN_OUTGOING, OWN_HANDED, e);
	if (r < 0)
		return r;
	/* No way back from here on but by the target's word. */
	m->handed = m->s.detached = true;
	job_committed(m->s.job);
	r = session_point(&m->s, "source.handed", e);
	if (r == 0)
		r = control_send(&m->s.ctl, "COMMIT", NULL, e);
	if (r == 0)
		r = session_point(&m->s, "source.committed", e);
	if (r == 0)
		r = session_expect(&m->s, "RUNNING", STEP_MS, NULL, e);
	if (r < 0)
		return err_context(e, r, "%s was handed over, but the target has not confirmed; it stays frozen here "
				   "until the target is heard of again", m->s.name);
	m->running = now_us();
	m->released = true;
	return session_point(&m->s, "source.running", e);
}

static int figures_report(struct source *m)
{
	uint64_t total = now_us() - m->start;
	json_t *o = json_object();

	json_object_set_new(o, "live", json_boolean(m->live));
	json_object_set_new(o, "total_us", json_integer((json_int_t)total));
	json_object_set_new(o, "disk1_us", json_integer((json_int_t)m->disk1_us));
	if (m->live) {
		json_object_set_new(o, "pause_us",
				    json_integer((json_int_t)(m->running - m->frozen + m->freeze_us)));
		json_object_set_new(o, "freeze_us", json_integer((json_int_t)m->freeze_us));
		json_object_set_new(o, "disk2_us", json_integer((json_int_t)m->disk2_us));
		json_object_set_new(o, "capture_us", json_integer((json_int_t)m->capture_us));
		json_object_set_new(o, "pages_us", json_integer((json_int_t)m->pages_us));
		json_object_set_new(o, "restore_us", json_integer((json_int_t)m->restore_us));
		json_object_set_new(o, "finish_us", json_integer((json_int_t)m->finish_us));
		json_object_set_new(o, "bytes", json_integer((json_int_t)m->bytes));
	}
	return job_done_json(m->s.job, json_pack("{s:o}", "move", o));
}

static int live_steps(struct source *m, struct err *e)
{
	int r = clocks_tell(m, e);

	if (r == 0)
		r = freeze(m, e);
	if (r == 0)
		r = second_round(m, e);
	return r < 0 ? r : engine_through(m, e);
}

static int steps(struct source *m, struct err *e)
{
	int r = agree(m, e);

	if (r <= 0)
		return r;
	r = own_take(m, e);
	if (r < 0)
		return r;
	r = first_round(m, e);
	if (r == 0 && m->live)
		r = live_steps(m, e);
	if (r == 0)
		r = hand_over(m, e);
	return r < 0 ? r : 1;
}

static void failure_end(struct source *m, struct err *e)
{
	struct err e2 = { 0 };
	json_t *row = NULL;

	if (m->s.ctl.fd >= 0)
		control_send(&m->s.ctl, "failed", json_pack("{s:s}", "text", err_text(e)), NULL);
	if (m->handed)
		return;
	if (db_migration_get(m->s.db, m->s.id, "source", &row, NULL) < 0) {
		side_unlock_forget(m->s.job->state_dir, m->s.id, "source");
		return;
	}
	json_decref(row);
	if (source_roll_back(&m->s, &e2) < 0)
		log_error("%s: rolling back the move: %s (the daemon tries again)", m->s.name, err_text(&e2));
}

static int source_run(struct source *m, struct err *e)
{
	auto_fd int lock = -1;
	int r;

	m->start = now_us();
	lock = side_lock(m->s.job->state_dir, m->s.id, "source", 1000, e);
	if (lock < 0)
		return lock;
	r = db_instance_get(m->s.db, m->s.name, &m->row, e);
	if (r == 0)
		r = container_open(m->s.db, m->s.job->state_dir, m->s.name, &m->c, e);
	if (r < 0)
		return r;
	m->dry_run = json_is_true(json_object_get(m->s.job->spec, "dry_run"));
	m->live = container_init_pid(m->c) > 0;
	m->disk.rootfs = container_rootfs(m->c);
	container_idmap(m->c, &m->disk.idmap_base, &m->disk.idmap_size);
	r = steps(m, e);
	if (r < 0) {
		failure_end(m, e);
		return r;
	}
	if (r == 0) {
		side_unlock_forget(m->s.job->state_dir, m->s.id, "source");
		return job_done_json(m->s.job, json_pack("{s:{s:b}}", "move", "dry_run", 1));
	}
	r = source_release(&m->s, e);
	if (r < 0)
		return err_context(e, r, "%s runs at the target; removing the original failed (the daemon tries "
				   "again)", m->s.name);
	control_send(&m->s.ctl, "released", NULL, NULL);
	return figures_report(m);
}

static int move_source(struct job *j, struct err *e)
{
	struct source m = { .mem_fd = -1 };
	int r = session_open(&m.s, j, e);

	if (r == 0)
		r = source_run(&m, e);
	fd_close(&m.mem_fd);
	container_free(m.c);
	json_decref(m.row);
	json_decref(m.mapped);
	session_close(&m.s);
	return r;
}

const struct job_verb migrate_source_verb = { "move-source", move_source };

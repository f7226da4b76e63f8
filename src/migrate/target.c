/* target - the side that takes a container over (job move-target).
 *
 * All of the volume is on the disk before READY, so that a power failure after COMMIT costs no more than it would have
 * cost anywhere.  Nearly all of it is written after the first round, while the container still runs; the rest while its
 * memory comes.
 *
 * States: preparing, ready, mine; or aborted.  Until COMMIT has come and `mine` is written, nothing it made
 * ever runs; any failure removes all of it.  `aborted` is written before, so that a source that waits can be
 * told for certain. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/disk.h"
#include "migrate/offer.h"
#include "migrate/side.h"
#include "migrate/verbs.h"
#include "storage/storage.h"

#define STEP_MS 120000
#define LONG_MS (24 * 3600 * 1000)
#define IDMAP_FIRST 1000000u
#define IDMAP_TOTAL 1000000000u

struct target {
	struct session s;
	struct container *c;
	struct pool *pool_handle;
	json_t *offer;
	const char *pool, *url, *certificate;
	char *address, *pin;
	struct disk_side disk;
	bool live, dry_run, written, prepared, ready, mine;
	uint64_t t0_ns;
	int mem_fd, sync_fd;
	uint64_t build_us, pages_us, finish_us;
};

static const char *spec_str(struct target *m, const char *key)
{
	const char *v = json_string_value(json_object_get(m->s.job->spec, key));

	return v ? v : "";
}

static int dial(struct target *m, const char *channel, int *ret, struct err *e)
{
	const char *v = json_string_value(json_object_get(json_object_get(m->s.job->spec, "secrets"), channel));

	return session_dial(&m->s, m->address, m->pin, channel, v ? v : "", ret, e);
}

/* 1: go on, 0: a dry run is over. */
static int agree(struct target *m, struct err *e)
{
	json_t *reasons = json_array();
	bool ok;
	int fd, r;

	r = dial(m, "control", &fd, e);
	if (r == 0)
		r = control_open(&m->s.ctl, fd, e);
	if (r == 0)
		r = control_send(&m->s.ctl, "hello", json_pack("{s:i}", "version", OFFER_VERSION), e);
	if (r == 0)
		r = session_expect(&m->s, "offer", STEP_MS, &m->offer, e);
	if (r == 0)
		r = offer_check(&m->s, m->offer, m->s.name, m->pool, reasons, e);
	ok = json_array_size(reasons) == 0;
	if (r == 0)
		r = control_send(&m->s.ctl, "answer",
				 json_pack("{s:b, s:O}", "accepted", ok, "reasons", reasons), e);
	if (r == 0 && !ok) {
		auto_free char *why = offer_reasons_text(reasons);

		r = err_set(e, -EOPNOTSUPP, "%s cannot be moved:\n%s", m->s.name, why ? why : "?");
	}
	json_decref(reasons);
	return r < 0 ? r : !m->dry_run;
}

static int rows_make(struct target *m, struct err *e)
{
	const char *secret = json_string_value(json_object_get(json_object_get(m->s.job->spec, "secrets"), "control"));
	json_t *row = offer_row(m->offer, m->s.name, m->pool), *mig;
	uint32_t base = 0, size = (uint32_t)json_integer_value(json_object_get(m->offer, "idmap_size"));
	int r;

	mig = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:b}}", "id", m->s.id, "role", "target", "instance",
			m->s.name, "state", ST_PREPARING, "peer", m->url, "peer_certificate", m->certificate,
			"secret", secret ? secret : "", "data", "live", m->live);
	r = db_migration_create(m->s.db, mig, e);
	json_decref(mig);
	if (r == 0) {
		m->written = true;
		r = db_instance_create(m->s.db, row, OWN_INCOMING, e);
	}
	json_decref(row);
	if (r == 0 && !json_is_true(json_object_get(m->offer, "privileged")))
		r = db_instance_take_idmap(m->s.db, m->s.name, IDMAP_FIRST, IDMAP_TOTAL, size, &base, e);
	return r;
}

static int volume_make(struct target *m, struct err *e)
{
	int r = container_open(m->s.db, m->s.job->state_dir, m->s.name, &m->c, e);

	if (r < 0)
		return r;
	container_idmap(m->c, &m->disk.idmap_base, &m->disk.idmap_size);
	m->disk.rootfs = container_rootfs(m->c);
	r = volume_create(container_pool(m->c), m->s.name, m->disk.idmap_base, e);
	if (r == 0)
		r = m->sync_fd = volume_sync_open(container_pool(m->c), m->s.name, e);
	return r < 0 ? r : 0;
}

static int disk_round(struct target *m, struct err *e)
{
	auto_fd int fd = -1;
	int r;

	r = dial(m, "disk", &fd, e);
	if (r == 0)
		r = disk_receive_start(&m->s, &m->disk, fd, e);
	fd_close(&fd);
	return r < 0 ? r : session_child_end(&m->s, !m->prepared, LONG_MS, e);
}

static int first_round(struct target *m, struct err *e)
{
	json_t *o = NULL;
	int r;

	r = session_expect(&m->s, "disk1", STEP_MS, &o, e);
	if (r < 0)
		return r;
	m->t0_ns = (uint64_t)json_integer_value(json_object_get(o, "t0_ns"));
	json_decref(o);
	r = disk_round(m, e);
	if (r == 0 && m->live)
		r = disk_forget_times(&m->disk, m->t0_ns, NULL, e);
	if (r == 0)
		r = disk_sync_start(&m->s, container_pool(m->c), m->sync_fd, e);
	if (r == 0)
		r = session_child_end(&m->s, false, LONG_MS, e);
	if (r == 0)
		r = session_point(&m->s, "target.disk1", e);
	return r < 0 ? r : control_send(&m->s.ctl, "disk-ok", NULL, e);
}

static int container_prepare(struct target *m, struct err *e)
{
	struct start_options o = { .mode = START_WAITING };
	char pid[16];
	const char *args[] = { "--init", pid, "--cgroup", NULL, NULL };
	json_t *clocks = NULL;
	int r;

	r = control_send(&m->s.ctl, "clocks?", NULL, e);
	if (r == 0)
		r = session_expect(&m->s, "clocks", STEP_MS, &clocks, e);
	if (r < 0)
		return r;
	o.monotonic_ns = (uint64_t)json_integer_value(json_object_get(clocks, "monotonic_ns"));
	o.boottime_ns = (uint64_t)json_integer_value(json_object_get(clocks, "boottime_ns"));
	json_decref(clocks);
	r = container_start(m->c, &o, e);
	if (r < 0)
		return r;
	args[3] = container_cgroup(m->c);
	snprintf(pid, sizeof(pid), "%d", (int)container_init_pid(m->c));
	r = dial(m, "mem", &m->mem_fd, e);
	if (r == 0)
		r = session_engine_start(&m->s, "live-restore", m->mem_fd, args, e);
	fd_close(&m->mem_fd);
	m->prepared = r == 0;
	if (r == 0)
		r = session_point(&m->s, "target.prepared", e);
	return r < 0 ? r : control_send(&m->s.ctl, "prepared", NULL, e);
}

static int second_round(struct target *m, struct err *e)
{
	json_t *o = NULL;
	struct msg msg;
	int r;

	r = session_expect(&m->s, "disk2", LONG_MS, &o, e);
	if (r < 0)
		return r;
	r = disk_forget_times(&m->disk, 0, json_object_get(o, "forget"), e);
	json_decref(o);
	if (r == 0)
		r = disk_round(m, e);
	if (r == 0)
		r = disk_sync_start(&m->s, container_pool(m->c), m->sync_fd, e);
	if (r == 0)
		r = control_send(&m->s.ctl, "disk-ok", NULL, e);
	if (r == 0)
		r = session_expect_engine(&m->s, "need-disk", LONG_MS, &msg, e);
	if (r < 0)
		return r;
	msg_done(&msg);
	r = session_point(&m->s, "target.disk2", e);
	if (r < 0)
		return r;
	r = msg_send(m->s.engine_ctl, NULL, 0, "disk-ready", NULL);
	return r < 0 ? err_sys(e, r, "the engine is gone") : 0;
}

static int engine_through(struct target *m, struct err *e)
{
	struct msg msg;
	int r;

	r = session_expect_engine(&m->s, "ready", LONG_MS, &msg, e);
	if (r < 0)
		return r;
	msg_get_u64(&msg, "build_us", &m->build_us);
	msg_get_u64(&msg, "pages_us", &m->pages_us);
	msg_get_u64(&msg, "finish_us", &m->finish_us);
	msg_done(&msg);
	r = session_engine_end(&m->s, STEP_MS, e);
	if (r == 0)
		r = session_child_end(&m->s, false, LONG_MS, e); /* its disk */
	return r < 0 ? r : session_point(&m->s, "target.restored", e);
}

static int take_over(struct target *m, struct err *e)
{
	int r;

	r = db_migration_set(m->s.db, m->s.id, "target", ST_PREPARING, ST_READY, NULL, e);
	if (r < 0)
		return r;
	m->ready = true;
	r = control_send(&m->s.ctl, "READY",
			 json_pack("{s:I, s:I, s:I}", "build_us", (json_int_t)m->build_us, "pages_us",
				   (json_int_t)m->pages_us, "finish_us", (json_int_t)m->finish_us), e);
	if (r == 0)
		r = session_expect(&m->s, "COMMIT", STEP_MS, NULL, e);
	if (r == 0)
		r = session_point(&m->s, "target.commit", e);
	if (r == 0)
		r = db_migration_commit(m->s.db, m->s.id, "target", ST_READY, ST_MINE, m->s.name, OWN_INCOMING,
					OWN_MINE, e);
	if (r < 0)
		return r;
	m->mine = m->s.detached = true;
	job_committed(m->s.job);
	r = session_point(&m->s, "target.mine", e);
	if (r < 0)
		return r;
	return m->live ? target_go(&m->s, e) : 0;
}

static int steps(struct target *m, struct err *e)
{
	int r = agree(m, e);

	if (r <= 0)
		return r;
	m->live = json_is_true(json_object_get(m->offer, "live"));
	r = rows_make(m, e);
	if (r == 0)
		r = volume_make(m, e);
	if (r == 0)
		r = first_round(m, e);
	if (r == 0 && m->live) {
		r = container_prepare(m, e);
		if (r == 0)
			r = second_round(m, e);
		if (r == 0)
			r = engine_through(m, e);
	}
	return r < 0 ? r : take_over(m, e) < 0 ? e->code : 1;
}

static void failure_end(struct target *m, struct err *e)
{
	struct err e2 = { 0 };
	int r;

	if (m->mine)
		return; /* the daemon goes on with move-resolve */
	/* `aborted` is on disk before the source hears of the failure: its waiting copy may then run on. */
	r = m->written ? target_abort(&m->s, m->ready, &e2) : 0;
	if (r < 0)
		log_error("%s: removing what the move made: %s (the daemon tries again)", m->s.name, err_text(&e2));
	if (m->s.ctl.fd >= 0)
		control_send(&m->s.ctl, "failed", json_pack("{s:s}", "text", err_text(e)), NULL);
	if (r == 0 && m->written && m->ready)
		target_tell(&m->s, ST_ABORTED, NULL);
}

static int finish(struct target *m, struct err *e)
{
	int r, q;

	r = session_point(&m->s, "target.running", e);
	if (r == 0)
		r = control_send(&m->s.ctl, "RUNNING", NULL, e);
	/* Heard or not; but not before, since the source counts its pause until then. */
	q = db_migration_set(m->s.db, m->s.id, "target", ST_MINE, ST_TAKEN, NULL, r == 0 ? e : NULL);
	if (r == 0)
		r = q;
	if (r == 0)
		r = session_expect(&m->s, "released", STEP_MS, NULL, e);
	if (r == 0) {
		r = db_migration_delete(m->s.db, m->s.id, "target", e);
		side_unlock_forget(m->s.job->state_dir, m->s.id, "target");
	} else {
		/* It runs here; the source only has to hear it.  The daemon goes on telling. */
		log_warn("%s runs here; the source has not confirmed: %s", m->s.name, err_text(e));
		r = 0;
	}
	return r < 0 ? r : job_done_json(m->s.job, json_pack("{s:{s:b, s:I, s:I, s:I}}", "move", "live", m->live,
							     "build_us", (json_int_t)m->build_us, "pages_us",
							     (json_int_t)m->pages_us, "finish_us",
							     (json_int_t)m->finish_us));
}

static int pin_make(struct target *m, struct err *e)
{
	int r;

	if (asprintf(&m->pin, "%s/migrations/%s.pin", m->s.job->state_dir, m->s.id) < 0) {
		m->pin = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = fd_replace_file_at(AT_FDCWD, m->pin, m->certificate, strlen(m->certificate), 0600);
	return r < 0 ? err_sys(e, r, "cannot write %s", m->pin) : 0;
}

static int target_run(struct target *m, struct err *e)
{
	auto_fd int lock = -1;
	int r;

	m->url = spec_str(m, "operation");
	m->certificate = spec_str(m, "certificate");
	m->pool = spec_str(m, "pool")[0] ? spec_str(m, "pool") : "default";
	m->dry_run = json_is_true(json_object_get(m->s.job->spec, "dry_run"));
	lock = side_lock(m->s.job->state_dir, m->s.id, "target", 1000, e);
	if (lock < 0)
		return lock;
	r = target_address(m->url, &m->address, e);
	if (r == 0)
		r = pin_make(m, e);
	if (r == 0)
		r = steps(m, e);
	if (r < 0)
		failure_end(m, e);
	else if (r > 0)
		r = finish(m, e);
	else
		r = job_done_json(m->s.job, json_pack("{s:{s:b}}", "move", "dry_run", 1));
	if (m->pin)
		unlink(m->pin);
	if (m->dry_run || !m->written)
		side_unlock_forget(m->s.job->state_dir, m->s.id, "target");
	return r;
}

static int move_target(struct job *j, struct err *e)
{
	struct target m = { .mem_fd = -1, .sync_fd = -1 };
	int r = session_open(&m.s, j, e);

	if (r == 0)
		r = target_run(&m, e);
	fd_close(&m.mem_fd);
	fd_close(&m.sync_fd);
	container_free(m.c);
	json_decref(m.offer);
	free(m.address);
	free(m.pin);
	session_close(&m.s);
	return r;
}

const struct job_verb migrate_target_verb = { "move-target", move_target };

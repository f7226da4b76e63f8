/* resolve - what becomes of a migration whose process is gone (job move-resolve).
 *
 * spec {id, role}.  Source: offered and frozen roll back; handed waits for the target, who comes with the
 * channel "control" (the daemon starts this job for it and hands the connection over): mine releases the
 * original, aborted takes it back.  Target: preparing and ready become aborted; mine goes on to run; both
 * tell the source. */
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "migrate/side.h"
#include "migrate/verbs.h"

#define STEP_MS 10000

static int source_hear(struct session *s, struct err *e)
{
	const char *state;
	json_t *o = NULL;
	int fd, r;

	r = session_channel(s, "control", STEP_MS, &fd, e);
	if (r == 0)
		r = control_open(&s->ctl, fd, e);
	if (r == 0)
		r = session_expect(s, "state", STEP_MS, &o, e);
	if (r < 0)
		return r;
	state = json_string_value(json_object_get(o, "state"));
	if (state && strcmp(state, ST_MINE) == 0)
		r = source_release(s, e);
	else if (state && strcmp(state, ST_ABORTED) == 0)
		r = source_take_back(s, e);
	else
		r = err_set(e, -EPROTO, "the target says \"%s\", which means nothing", state ? state : "");
	json_decref(o);
	return r < 0 ? r : control_send(&s->ctl, "resolved", NULL, e);
}

static int resolve_source(struct session *s, const char *state, bool told, struct err *e)
{
	if (strcmp(state, ST_HANDED) != 0) {
		int r = source_roll_back(s, e);

		/* A target that came to tell hears that there is nothing left to decide. */
		if (r == 0 && told) {
			int fd;

			r = session_channel(s, "control", STEP_MS, &fd, e);
			if (r == 0)
				r = control_open(&s->ctl, fd, e);
			if (r == 0)
				r = control_send(&s->ctl, "resolved", NULL, e);
		}
		return r;
	}
	return told ? source_hear(s, e) :
		      err_set(e, -EAGAIN, "%s was handed over; it stays frozen until the target is heard of", s->name);
}

static int resolve_target(struct session *s, const char *state, struct err *e)
{
	int r;

	if (strcmp(state, ST_TAKEN) == 0)
		return target_tell(s, ST_MINE, e);
	if (strcmp(state, ST_MINE) == 0) {
		json_t *row = NULL;
		bool live;

		r = db_migration_get(s->db, s->id, "target", &row, e);
		if (r < 0)
			return r;
		live = json_is_true(json_object_get(json_object_get(row, "data"), "live"));
		json_decref(row);
		r = live ? target_go(s, e) : 0;
		if (r == 0)
			r = db_migration_set(s->db, s->id, "target", ST_MINE, ST_TAKEN, NULL, e);
		return r < 0 ? r : target_tell(s, ST_MINE, e);
	}
	r = target_abort(s, true, e);
	if (r < 0)
		return r;
	if (strcmp(state, ST_PREPARING) == 0) {
		/* READY was never said: the source cannot be waiting. */
		r = db_migration_delete(s->db, s->id, "target", e);
		side_unlock_forget(s->job->state_dir, s->id, "target");
		return r;
	}
	return target_tell(s, ST_ABORTED, e);
}

static int resolve_run(struct session *s, struct err *e)
{
	const char *role = json_string_value(json_object_get(s->job->spec, "role"));
	bool told = json_is_true(json_object_get(s->job->spec, "told"));
	auto_fd int lock = -1;
	json_t *row = NULL;
	int r;

	if (!role)
		return err_set(e, -EINVAL, "no role");
	lock = side_lock(s->job->state_dir, s->id, role, told ? 8000 : 0, e);
	if (lock < 0)
		return lock;
	r = db_migration_get(s->db, s->id, role, &row, e);
	if (r == -ENOENT)
		side_unlock_forget(s->job->state_dir, s->id, role);
	if (r < 0)
		return r;
	const char *state = json_string_value(json_object_get(row, "state"));
	const char *instance = json_string_value(json_object_get(row, "instance"));

	free(s->name);
	s->name = strdup(instance ? instance : "");
	if (!s->name)
		r = err_set(e, -ENOMEM, "out of memory");
	else if (strcmp(role, "source") == 0)
		r = resolve_source(s, state ? state : "", told, e);
	else
		r = resolve_target(s, state ? state : "", e);
	json_decref(row);
	return r;
}

static int move_resolve(struct job *j, struct err *e)
{
	struct session s;
	int r = session_open(&s, j, e);

	/* Nothing here may be left half done because the daemon is restarted. */
	s.detached = true;
	if (r == 0)
		r = resolve_run(&s, e);
	session_close(&s);
	return r;
}

static const struct job_verb migrate_resolve_verb = { "move-resolve", move_resolve };

const struct job_verb *const migrate_verbs[] = { &migrate_source_verb, &migrate_target_verb,
						 &migrate_resolve_verb };
const size_t migrate_verbs_n = array_len(migrate_verbs);

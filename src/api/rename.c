/* The job that renames a stopped instance: its volume, its row, its logs.
 *
 * Not covered: a crash between the volume's renaming and the row's leaves the volume under the new name; the
 * next start says that the root file system is missing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/verbs.h"
#include "base/mem.h"
#include "db/db.h"
#include "runtime/lock.h"
#include "storage/storage.h"

static int move_files(struct job *j, struct db *db, const char *pool_name, const char *name, const char *to,
		      struct err *e)
{
	auto_free char *old_logs = NULL, *new_logs = NULL;
	struct pool *pool = NULL;
	int r = pool_open(db, j->state_dir, pool_name, &pool, e);

	if (r >= 0)
		r = volume_rename(pool, name, to, e);
	if (r >= 0) {
		r = db_instance_rename(db, name, to, e);
		if (r < 0)
			volume_rename(pool, to, name, NULL);
	}
	pool_free(pool);
	if (r < 0)
		return r;
	/* liblxc's own folder is written anew at each start; logs are worth keeping, but not a failure. */
	if (asprintf(&old_logs, "%s/logs/%s", j->state_dir, name) < 0)
		old_logs = NULL;
	if (asprintf(&new_logs, "%s/logs/%s", j->state_dir, to) < 0)
		new_logs = NULL;
	if (old_logs && new_logs)
		(void)!rename(old_logs, new_logs);
	return 0;
}

static int rename_locked(struct job *j, struct db *db, const char *name, const char *to, struct err *e)
{
	json_t *row = NULL;
	char pool[64], source[128];
	int r = db_instance_get(db, name, &row, e);

	if (r < 0)
		return r;
	r = json_integer_value(json_object_get(row, "own")) == OWN_MINE ?
		    0 : err_set(e, -EBUSY, "the instance \"%s\" is being moved", name);
	snprintf(pool, sizeof(pool), "%s", json_string_value(json_object_get(row, "pool")));
	json_decref(row);
	if (r >= 0)
		r = move_files(j, db, pool, name, to, e);
	if (r < 0)
		return r;
	snprintf(source, sizeof(source), "/1.0/instances/%s", to);
	return job_lifecycle(j, "instance-renamed", source);
}

static int instance_rename_run(struct job *j, struct err *e)
{
	const char *name = json_string_value(json_object_get(j->spec, "name"));
	const char *to = json_string_value(json_object_get(j->spec, "to"));
	auto_db *db = NULL;
	int lock, lock_to, r;

	if (!name || !to || strchr(name, '/') || strchr(to, '/'))
		return err_set(e, -EINVAL, "a name is missing");
	r = db_open(j->state_dir, &db, e);
	if (r < 0)
		return r;
	lock = instance_lock(j->state_dir, name, 0, e);
	if (lock < 0)
		return lock;
	lock_to = instance_lock(j->state_dir, to, 0, e);
	r = lock_to < 0 ? lock_to : rename_locked(j, db, name, to, e);
	if (lock_to >= 0)
		instance_unlock(db, j->state_dir, to, &lock_to);
	instance_unlock(db, j->state_dir, name, &lock);
	return r;
}

static const struct job_verb rename_verb = { .name = "instance-rename", .run = instance_rename_run };

const struct job_verb *const api_verbs[] = { &rename_verb };
const size_t api_verbs_n = array_len(api_verbs);

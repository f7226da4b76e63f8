#include "runtime/lock.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "storage/folder.h"

static int locks_dir(const char *state_dir, char **ret, struct err *e)
{
	return asprintf(ret, "%s/locks", state_dir) < 0 ? err_sys(e, -ENOMEM, "locks") : 0;
}

static int lock_path(const char *state_dir, const char *name, char **ret, struct err *e)
{
	return asprintf(ret, "%s/locks/%s", state_dir, name) < 0 ? err_sys(e, -ENOMEM, "instance %s", name) : 0;
}

int instance_lock(const char *state_dir, const char *name, int wait_ms, struct err *e)
{
	auto_free char *dir = NULL, *path = NULL;
	int r = lock_path(state_dir, name, &path, e);

	if (r == 0)
		r = locks_dir(state_dir, &dir, e);
	if (r == 0)
		r = folder_make(dir, 0700, e);
	if (r < 0)
		return r;
	r = fd_lock_file(path, wait_ms);
	if (r == -EWOULDBLOCK)
		return err_set(e, -EBUSY,
			       "instance %s is busy with another operation; try again when it is done", name);
	return r < 0 ? err_sys(e, r, "cannot lock %s", path) : r;
}

void instance_unlock(struct db *db, const char *state_dir, const char *name, int *lock)
{
	auto_free char *path = NULL;
	json_t *row;
	int r = db ? db_instance_get(db, name, &row, NULL) : -EINVAL;

	/* While it is held: who opened the file before finds it without a name and opens it anew. */
	if (r == 0)
		json_decref(row);
	else if (r == -ENOENT && lock_path(state_dir, name, &path, NULL) == 0)
		unlink(path);
	fd_close(lock);
}

void instance_lock_forget(struct db *db, const char *state_dir, const char *name)
{
	int lock = instance_lock(state_dir, name, 0, NULL);

	/* Else whoever has it will see that the instance is gone. */
	if (lock >= 0)
		instance_unlock(db, state_dir, name, &lock);
}

void instance_locks_tidy(struct db *db, const char *state_dir)
{
	auto_free char *dir = NULL;
	struct dirent *de;
	DIR *d;

	if (locks_dir(state_dir, &dir, NULL) < 0)
		return;
	d = opendir(dir);
	while (d && (de = readdir(d)))
		if (de->d_type == DT_REG)
			instance_lock_forget(db, state_dir, de->d_name);
	if (d)
		closedir(d);
}

#include "image_store/verbs.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "db/db.h"
#include "image_store/store.h"

static const char *spec_str(struct job *j, const char *key)
{
	return json_string_value(json_object_get(j->spec, key));
}

static int is_cancelled(void *arg)
{
	return job_cancelled(arg);
}

static int image_import_run(struct job *j, struct err *e)
{
	struct image_import in = { .file = spec_str(j, "file"),
				   .rootfs_file = spec_str(j, "rootfs_file"),
				   .properties = json_object_get(j->spec, "properties"),
				   .aliases = json_object_get(j->spec, "aliases"),
				   .filename = spec_str(j, "filename"),
				   .public = json_is_true(json_object_get(j->spec, "public")),
				   .cancelled = is_cancelled,
				   .arg = j };
	auto_db *db = NULL;
	json_t *result;
	int r;

	if (!in.file)
		return err_set(e, -EINVAL, "the image's file is missing");
	r = db_open(j->state_dir, &db, e);
	if (r == 0)
		r = image_import(db, j->state_dir, &in, &result, e);
	if (r < 0) {
		/* The job took the files over, whatever became of them. */
		unlink(in.file);
		if (in.rootfs_file)
			unlink(in.rootfs_file);
		return r;
	}
	return job_done_json(j, result);
}

static int image_delete_run(struct job *j, struct err *e)
{
	const char *fingerprint = spec_str(j, "fingerprint");
	auto_db *db = NULL;
	int r;

	if (!fingerprint)
		return err_set(e, -EINVAL, "the image's fingerprint is missing");
	r = db_open(j->state_dir, &db, e);
	return r < 0 ? r : image_delete(db, j->state_dir, fingerprint, e);
}

static const struct job_verb import_verb = { .name = "image-import", .run = image_import_run };
static const struct job_verb delete_verb = { .name = "image-delete", .run = image_delete_run };

const struct job_verb *const image_store_verbs[] = { &import_verb, &delete_verb };
const size_t image_store_verbs_n = array_len(image_store_verbs);

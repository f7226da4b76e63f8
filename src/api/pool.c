#include <errno.h>
#include <string.h>

#include "api/core.h"
#include "api/validate.h"
#include "storage/storage.h"

static json_t *used_by(struct api *a, const char *pool)
{
	auto_json *rows = NULL;
	json_t *list = json_array(), *row;
	size_t i;

	if (db_instance_list(a->db, &rows, NULL) == 0)
		json_array_foreach(rows, i, row)
			if (strcmp(body_str(row, "pool", ""), pool) == 0)
				json_array_append_new(list, json_sprintf("/1.0/instances/%s", body_str(row, "name", "")));
	return list;
}

static void pool_complete(struct api *a, json_t *row)
{
	json_object_update_new(row, json_pack("{s:o, s:s, s:[s]}", "used_by", used_by(a, body_str(row, "name", "")),
					      "status", "Created", "locations", "none"));
}

static void pool_list(struct call *c)
{
	struct err e = { 0 };
	json_t *list, *row;
	size_t i;

	if (db_pool_list(c->a->db, &list, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	json_array_foreach(list, i, row)
		pool_complete(c->a, row);
	reply_list(c, list, "/1.0/storage-pools", "name");
}

static void pool_get(struct call *c)
{
	struct err e = { 0 };
	json_t *row;

	if (db_pool_get(c->a->db, c->arg[0], &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	pool_complete(c->a, row);
	reply_sync(c, row);
}

static void pool_post(struct call *c)
{
	const char *name = body_str(c->body, "name", ""), *driver = body_str(c->body, "driver", "");
	const json_t *config = json_object_get(c->body, "config");
	auto_json *row = NULL;
	struct pool *pool = NULL;
	struct err e = { 0 };
	int r = name_check_object("storage pool", name, &e);

	if (r >= 0 && strcmp(driver, "dir") != 0)
		r = err_set(&e, -EINVAL, "the driver \"%s\" is not supported (dir is)", driver);
	if (r >= 0 && config && !json_is_null(config) && json_object_size(config))
		r = err_set(&e, -EINVAL, "a pool of driver dir takes no configuration yet: it lies in the state folder");
	if (r >= 0) {
		row = json_pack("{s:s, s:s, s:s, s:{}}", "name", name, "driver", driver, "description",
				body_str(c->body, "description", ""), "config");
		r = row ? db_pool_put(c->a->db, row, true, &e) : err_set(&e, -ENOMEM, "out of memory");
	}
	if (r >= 0) {
		r = pool_open(c->a->db, c->a->state_dir, name, &pool, &e);
		pool_free(pool);
		if (r < 0)
			db_pool_delete(c->a->db, name, NULL);
	}
	if (r < 0)
		reply_err(c, &e);
	else
		reply_created(c, "/1.0/storage-pools/%s", name);
}

static void pool_put(struct call *c)
{
	const json_t *config = json_object_get(c->body, "config");
	auto_json *row = NULL;
	struct err e = { 0 };
	int r = db_pool_get(c->a->db, c->arg[0], &row, &e);

	if (r >= 0 && json_object_size(config) && !json_equal(config, json_object_get(row, "config")))
		r = err_set(&e, -EINVAL, "a pool of driver dir takes no configuration yet");
	if (r >= 0) {
		json_object_set_new(row, "description", json_string(body_str(c->body, "description", "")));
		r = db_pool_put(c->a->db, row, false, &e);
	}
	if (r < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

static void pool_delete(struct call *c)
{
	auto_json *users = used_by(c->a, c->arg[0]);
	struct err e = { 0 };

	if (json_array_size(users))
		reply_error(c->q, 400, "the storage pool \"%s\" is in use by %s", c->arg[0],
			    json_string_value(json_array_get(users, 0)));
	else if (db_pool_delete(c->a->db, c->arg[0], &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

static void pool_resources(struct call *c)
{
	struct pool *pool = NULL;
	uint64_t bytes = 0, files = 0;
	struct err e = { 0 };
	int r = pool_open(c->a->db, c->a->state_dir, c->arg[0], &pool, &e);

	if (r >= 0)
		r = pool_space(pool, &bytes, &files, &e);
	pool_free(pool);
	if (r < 0)
		reply_err(c, &e);
	else
		reply_sync(c, json_pack("{s:{s:I}, s:{s:I}}", "space", "free", (json_int_t)bytes, "inodes", "free",
					(json_int_t)files));
}

const struct route routes_pool[] = {
	{ "GET", "/1.0/storage-pools", ACCESS_TRUSTED, pool_list },
	{ "POST", "/1.0/storage-pools", ACCESS_TRUSTED, pool_post },
	{ "GET", "/1.0/storage-pools/*", ACCESS_TRUSTED, pool_get },
	{ "PUT", "/1.0/storage-pools/*", ACCESS_TRUSTED, pool_put },
	{ "DELETE", "/1.0/storage-pools/*", ACCESS_TRUSTED, pool_delete },
	{ "GET", "/1.0/storage-pools/*/resources", ACCESS_TRUSTED, pool_resources },
	{ NULL, NULL, 0, NULL },
};

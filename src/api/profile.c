#include <errno.h>
#include <string.h>

#include "api/core.h"
#include "api/validate.h"

/* Names of instances that use it, as URLs. */
static json_t *used_by(struct api *a, const char *profile)
{
	auto_json *rows = NULL;
	json_t *list = json_array(), *row, *p;
	size_t i, k;

	if (db_instance_list(a->db, &rows, NULL) < 0)
		return list;
	json_array_foreach(rows, i, row)
		json_array_foreach(json_object_get(row, "profiles"), k, p)
			if (json_is_string(p) && strcmp(json_string_value(p), profile) == 0)
				json_array_append_new(list, json_sprintf("/1.0/instances/%s", body_str(row, "name", "")));
	return list;
}

static void profile_list(struct call *c)
{
	struct err e = { 0 };
	json_t *list, *row;
	size_t i;

	if (db_profile_list(c->a->db, &list, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	json_array_foreach(list, i, row)
		json_object_set_new(row, "used_by", used_by(c->a, body_str(row, "name", "")));
	reply_list(c, list, "/1.0/profiles", "name");
}

static void profile_get(struct call *c)
{
	struct err e = { 0 };
	json_t *row;

	if (db_profile_get(c->a->db, c->arg[0], &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	json_object_set_new(row, "used_by", used_by(c->a, c->arg[0]));
	reply_sync(c, row);
}

static int profile_store(struct api *a, const char *name, const json_t *body, bool create, bool merge, struct err *e)
{
	static const char *const keys[] = { "description", "config", "devices" };
	auto_json *row = NULL;
	int r = name_check_object("profile", name, e);

	if (r >= 0)
		r = config_check_instance(json_object_get(body, "config"), e);
	if (r >= 0)
		r = devices_check(json_object_get(body, "devices"), e);
	if (r >= 0 && merge)
		r = db_profile_get(a->db, name, &row, e);
	if (r < 0)
		return r;
	if (!row)
		row = json_pack("{s:s}", "name", name);
	for (size_t i = 0; i < array_len(keys); i++) {
		json_t *new = json_object_get(body, keys[i]), *old = json_object_get(row, keys[i]);

		if (!new || json_is_null(new))
			continue;
		if (merge && json_is_object(old) && json_is_object(new))
			json_object_update(old, new);
		else
			json_object_set(row, keys[i], new);
	}
	return db_profile_put(a->db, row, create, e);
}

static void profile_post(struct call *c)
{
	const char *name = body_str(c->body, "name", "");
	struct err e = { 0 };

	if (profile_store(c->a, name, c->body, true, false, &e) < 0)
		reply_err(c, &e);
	else
		reply_created(c, "/1.0/profiles/%s", name);
}

static void profile_put(struct call *c)
{
	struct err e = { 0 };

	if (profile_store(c->a, c->arg[0], c->body, false, false, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

static void profile_patch(struct call *c)
{
	struct err e = { 0 };

	if (profile_store(c->a, c->arg[0], c->body, false, true, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

static void profile_delete(struct call *c)
{
	auto_json *users = used_by(c->a, c->arg[0]);
	struct err e = { 0 };

	if (strcmp(c->arg[0], "default") == 0)
		reply_error(c->q, 403, "the profile \"default\" cannot be deleted");
	else if (json_array_size(users))
		reply_error(c->q, 400, "the profile \"%s\" is in use by %s", c->arg[0],
			    json_string_value(json_array_get(users, 0)));
	else if (db_profile_delete(c->a->db, c->arg[0], &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

const struct route routes_profile[] = {
	{ "GET", "/1.0/profiles", ACCESS_TRUSTED, profile_list },
	{ "POST", "/1.0/profiles", ACCESS_TRUSTED, profile_post },
	{ "GET", "/1.0/profiles/*", ACCESS_TRUSTED, profile_get },
	{ "PUT", "/1.0/profiles/*", ACCESS_TRUSTED, profile_put },
	{ "PATCH", "/1.0/profiles/*", ACCESS_TRUSTED, profile_patch },
	{ "DELETE", "/1.0/profiles/*", ACCESS_TRUSTED, profile_delete },
	{ NULL, NULL, 0, NULL },
};

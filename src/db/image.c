#include <string.h>

#include "base/mem.h"
#include "db/query.h"

#define COLUMNS "fingerprint, size, architecture, created_at, uploaded_at, filename, public, properties"

static json_t *alias_short_row(struct db *db, query *q)
{
	(void)db;
	return json_pack("{s:s, s:s}", "name", query_text(q, 0), "description", query_text(q, 1));
}

static json_t *image_row(struct db *db, query *q)
{
	auto_query *qa = NULL;
	json_t *aliases = NULL;

	if (query_open(db, "SELECT name, description FROM aliases WHERE fingerprint = ? ORDER BY name", &qa,
		       NULL, "s", query_text(q, 0)) < 0 ||
	    query_list(db, qa, alias_short_row, &aliases, NULL) < 0)
		return NULL;
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:o, s:o}", "fingerprint", query_text(q, 0),
			 "size", (json_int_t)sqlite3_column_int64(q, 1), "architecture", query_text(q, 2),
			 "created_at", query_text(q, 3), "uploaded_at", query_text(q, 4), "filename",
			 query_text(q, 5), "public", sqlite3_column_int(q, 6), "properties",
			 query_json(q, 7, false), "aliases", aliases);
}

static int alias_put(struct db *db, const char *name, const char *fingerprint, const char *description,
		     bool create, struct err *e)
{
	int r = query_run(db, e,
			  create ? "INSERT INTO aliases (fingerprint, description, name) VALUES (?,?,?)" :
				   "UPDATE aliases SET fingerprint = ?, description = ? WHERE name = ?",
			  "sss", fingerprint, description ? description : "", name);

	if (r == -EEXIST)
		return err_set(e, r, "an image alias \"%s\" exists already", name);
	if (r == -EINVAL)
		return err_set(e, -ENOENT, "there is no image \"%s\"", fingerprint);
	if (r == 0)
		return err_set(e, -ENOENT, "there is no image alias \"%s\"", name);
	return r < 0 ? r : 0;
}

static int image_put_locked(struct db *db, const json_t *row, struct err *e)
{
	const char *fingerprint = row_str(row, "fingerprint", "");
	json_t *properties = json_object_get(row, "properties"), *empty = json_object(), *a;
	char now[32];
	size_t i;
	int r;

	r = query_run(db, e,
		      "INSERT INTO images (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (fingerprint)"
		      " DO UPDATE SET size = excluded.size, architecture = excluded.architecture,"
		      " filename = excluded.filename, public = excluded.public,"
		      " properties = excluded.properties", "sissssij", fingerprint,
		      (int64_t)json_integer_value(json_object_get(row, "size")),
		      row_str(row, "architecture", "x86_64"), row_str(row, "created_at", "1970-01-01T00:00:00Z"),
		      row_str(row, "uploaded_at", db_time_now(now, sizeof(now))), row_str(row, "filename", ""),
		      (int64_t)json_is_true(json_object_get(row, "public")),
		      json_is_object(properties) ? properties : empty);
	json_decref(empty);
	json_array_foreach(json_object_get(row, "aliases"), i, a) {
		if (r < 0)
			break;
		r = alias_put(db, row_str(a, "name", ""), fingerprint, row_str(a, "description", ""), true, e);
	}
	return r < 0 ? r : 0;
}

int db_image_put(struct db *db, const json_t *row, struct err *e)
{
	int r = tx_begin(db, e);

	return r < 0 ? r : tx_end(db, image_put_locked(db, row, e), e);
}

int db_image_get(struct db *db, const char *prefix, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	json_t *list = NULL;
	int r;

	if (!*prefix || strspn(prefix, "0123456789abcdef") != strlen(prefix))
		return err_set(e, -ENOENT, "there is no image \"%s\"", prefix);
	r = query_open(db, "SELECT " COLUMNS " FROM images WHERE substr(fingerprint, 1, ?) = ? LIMIT 2", &q, e,
		       "is", (int64_t)strlen(prefix), prefix);
	if (r >= 0)
		r = query_list(db, q, image_row, &list, e);
	if (r < 0)
		return r;
	if (json_array_size(list) == 1)
		*ret = json_incref(json_array_get(list, 0));
	else if (json_array_size(list) == 0)
		r = err_set(e, -ENOENT, "there is no image \"%s\"", prefix);
	else
		r = err_set(e, -EINVAL, "more than one image begins with \"%s\": give more digits", prefix);
	json_decref(list);
	return r;
}

int db_image_list(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM images ORDER BY uploaded_at, fingerprint", &q, e, "");

	return r < 0 ? r : query_list(db, q, image_row, ret, e);
}

int db_image_delete(struct db *db, const char *fingerprint, struct err *e)
{
	int r = query_run(db, e, "DELETE FROM images WHERE fingerprint = ?", "s", fingerprint);

	if (r == 0)
		return err_set(e, -ENOENT, "there is no image \"%s\"", fingerprint);
	return r < 0 ? r : 0;
}

int db_alias_put(struct db *db, const char *name, const char *fingerprint, const char *description,
		 bool create, struct err *e)
{
	return alias_put(db, name, fingerprint, description, create, e);
}

static json_t *alias_row(struct db *db, query *q)
{
	(void)db;
	return json_pack("{s:s, s:s, s:s, s:s}", "name", query_text(q, 0), "target", query_text(q, 1),
			 "description", query_text(q, 2), "type", "container");
}

int db_alias_get(struct db *db, const char *name, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT name, fingerprint, description FROM aliases WHERE name = ?", &q, e, "s",
			   name);

	if (r < 0)
		return r;
	r = query_one(db, q, alias_row, ret, e);
	if (r == -ENOENT)
		return err_set(e, r, "there is no image alias \"%s\"", name);
	return r;
}

int db_alias_list(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT name, fingerprint, description FROM aliases ORDER BY name", &q, e, "");

	return r < 0 ? r : query_list(db, q, alias_row, ret, e);
}

int db_alias_delete(struct db *db, const char *name, struct err *e)
{
	int r = query_run(db, e, "DELETE FROM aliases WHERE name = ?", "s", name);

	if (r == 0)
		return err_set(e, -ENOENT, "there is no image alias \"%s\"", name);
	return r < 0 ? r : 0;
}

/* Profiles, networks, storage pools: a name, a description, a config and one more column. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "db/query.h"

struct entity {
	const char *table, *word;
	const char *extra; /* the column beside name, description, config */
	bool extra_json;
	const char *extra_default;
};

static const struct entity profile = { "profiles", "profile", "devices", true, NULL };
static const struct entity network = { "networks", "network", "type", false, "bridge" };
static const struct entity pool = { "pools", "storage pool", "driver", false, "dir" };

static json_t *named_row(const struct entity *en, query *q)
{
	return json_pack("{s:s, s:s, s:o, s:o}", "name", query_text(q, 0), "description", query_text(q, 1),
			 "config", query_json(q, 2, false), en->extra,
			 en->extra_json ? query_json(q, 3, false) : json_string(query_text(q, 3)));
}

static json_t *profile_row(struct db *db, query *q)
{
	(void)db;
	return named_row(&profile, q);
}

static json_t *network_row(struct db *db, query *q)
{
	(void)db;
	return named_row(&network, q);
}

static json_t *pool_row(struct db *db, query *q)
{
	(void)db;
	return named_row(&pool, q);
}

static int named_get(struct db *db, const struct entity *en, query_row_fn fn, const char *name, json_t **ret,
		     struct err *e)
{
	auto_query *q = NULL;
	char sql[160];
	int r;

	snprintf(sql, sizeof(sql), "SELECT name, description, config, %s FROM %s WHERE name = ?", en->extra,
		 en->table);
	r = query_open(db, sql, &q, e, "s", name);
	if (r < 0)
		return r;
	r = query_one(db, q, fn, ret, e);
	if (r == -ENOENT)
		return err_set(e, r, "there is no %s \"%s\"", en->word, name);
	return r;
}

static int named_list(struct db *db, const struct entity *en, query_row_fn fn, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	char sql[160];
	int r;

	snprintf(sql, sizeof(sql), "SELECT name, description, config, %s FROM %s ORDER BY name", en->extra,
		 en->table);
	r = query_open(db, sql, &q, e, "");
	return r < 0 ? r : query_list(db, q, fn, ret, e);
}

static int named_put(struct db *db, const struct entity *en, const json_t *row, bool create, struct err *e)
{
	const char *name = row_str(row, "name", ""), *desc = row_str(row, "description", "");
	json_t *config = json_object_get(row, "config"), *extra = json_object_get(row, en->extra);
	json_t *empty = json_object();
	char sql[200];
	int r;

	if (!json_is_object(config))
		config = empty;
	if (en->extra_json && !json_is_object(extra))
		extra = empty;
	snprintf(sql, sizeof(sql),
		 create ? "INSERT INTO %s (description, config, %s, name) VALUES (?,?,?,?)" :
			  "UPDATE %s SET description = ?, config = ?, %s = ? WHERE name = ?",
		 en->table, en->extra);
	if (en->extra_json)
		r = query_run(db, e, sql, "sjjs", desc, config, extra, name);
	else
		r = query_run(db, e, sql, "sjss", desc, config,
			      row_str(row, en->extra, en->extra_default), name);
	json_decref(empty);
	if (r == -EEXIST)
		return err_set(e, r, "a %s \"%s\" exists already", en->word, name);
	if (r == 0)
		return err_set(e, -ENOENT, "there is no %s \"%s\"", en->word, name);
	return r < 0 ? r : 0;
}

static int named_delete(struct db *db, const struct entity *en, const char *name, struct err *e)
{
	char sql[80];
	int r;

	snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE name = ?", en->table);
	r = query_run(db, e, sql, "s", name);
	if (r == 0)
		return err_set(e, -ENOENT, "there is no %s \"%s\"", en->word, name);
	return r < 0 ? r : 0;
}

#define NAMED(kind)                                                                              \
	int db_##kind##_get(struct db *db, const char *name, json_t **ret, struct err *e)        \
	{                                                                                        \
		return named_get(db, &kind, kind##_row, name, ret, e);                           \
	}                                                                                        \
	int db_##kind##_list(struct db *db, json_t **ret, struct err *e)                         \
	{                                                                                        \
		return named_list(db, &kind, kind##_row, ret, e);                                \
	}                                                                                        \
	int db_##kind##_put(struct db *db, const json_t *row, bool create, struct err *e)        \
	{                                                                                        \
		return named_put(db, &kind, row, create, e);                                     \
	}                                                                                        \
	int db_##kind##_delete(struct db *db, const char *name, struct err *e)                   \
	{                                                                                        \
		return named_delete(db, &kind, name, e);                                         \
	}

NAMED(profile)
NAMED(network)
NAMED(pool)

#include <stdlib.h>
#include <string.h>

#include "db/query.h"

#define COLUMNS "name, architecture, description, ephemeral, config, devices, profiles, created_at," \
		" last_used_at, own, idmap_base, idmap_size, pool, power"

static json_t *instance_row(struct db *db, query *q)
{
	(void)db;
	return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:s, s:s, s:i, s:I, s:I, s:s, s:s}",
			 "name", query_text(q, 0), "architecture", query_text(q, 1),
			 "description", query_text(q, 2), "ephemeral", sqlite3_column_int(q, 3),
			 "config", query_json(q, 4, false), "devices", query_json(q, 5, false),
			 "profiles", query_json(q, 6, true), "created_at", query_text(q, 7),
			 "last_used_at", query_text(q, 8), "own", sqlite3_column_int(q, 9),
			 "idmap_base", (json_int_t)sqlite3_column_int64(q, 10),
			 "idmap_size", (json_int_t)sqlite3_column_int64(q, 11),
			 "pool", query_text(q, 12), "power", query_text(q, 13));
}

/* The empty value where the row has none or one of another type. */
static json_t *member(const json_t *row, const char *key, bool array)
{
	json_t *j = json_object_get(row, key);

	if (array ? json_is_array(j) : json_is_object(j))
		return json_incref(j);
	return array ? json_array() : json_object();
}

int db_instance_create(struct db *db, const json_t *row, enum own own, struct err *e)
{
	json_t *config = member(row, "config", false), *devices = member(row, "devices", false);
	json_t *profiles = member(row, "profiles", true);
	const char *name = row_str(row, "name", "");
	char now[32];
	int r;

	r = query_run(db, e,
		      "INSERT INTO instances (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		      "sssijjjssiiiss", name, row_str(row, "architecture", "x86_64"),
		      row_str(row, "description", ""),
		      (int64_t)json_is_true(json_object_get(row, "ephemeral")), config, devices, profiles,
		      row_str(row, "created_at", db_time_now(now, sizeof(now))),
		      row_str(row, "last_used_at", "1970-01-01T00:00:00Z"), (int64_t)own,
		      (int64_t)json_integer_value(json_object_get(row, "idmap_base")),
		      (int64_t)json_integer_value(json_object_get(row, "idmap_size")),
		      row_str(row, "pool", "default"), row_str(row, "power", "off"));
	json_decref(config);
	json_decref(devices);
	json_decref(profiles);
	if (r == -EEXIST)
		return err_set(e, r, "an instance \"%s\" exists already", name);
	return r < 0 ? r : 0;
}

/* No row changed: there was none. */
static int found(int r, const char *name, struct err *e)
{
	if (r == 0)
		return err_set(e, -ENOENT, "there is no instance \"%s\"", name);
	return r < 0 ? r : 0;
}

int db_instance_get(struct db *db, const char *name, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM instances WHERE name = ?", &q, e, "s", name);

	if (r < 0)
		return r;
	r = query_one(db, q, instance_row, ret, e);
	if (r == -ENOENT)
		return err_set(e, r, "there is no instance \"%s\"", name);
	return r;
}

int db_instance_list(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM instances ORDER BY name", &q, e, "");

	return r < 0 ? r : query_list(db, q, instance_row, ret, e);
}

int db_instance_update(struct db *db, const char *name, const json_t *row, struct err *e)
{
	json_t *config = member(row, "config", false), *devices = member(row, "devices", false);
	json_t *profiles = member(row, "profiles", true);
	int r = query_run(db, e,
			  "UPDATE instances SET config = ?, devices = ?, profiles = ?, description = ?,"
			  " ephemeral = ? WHERE name = ?", "jjjsis", config, devices, profiles,
			  row_str(row, "description", ""),
			  (int64_t)json_is_true(json_object_get(row, "ephemeral")), name);

	json_decref(config);
	json_decref(devices);
	json_decref(profiles);
	return found(r, name, e);
}

static int config_set_locked(struct db *db, const char *name, const char *key, const char *value,
			     struct err *e)
{
	json_t *row, *config;
	int r = db_instance_get(db, name, &row, e);

	if (r < 0)
		return r;
	config = json_object_get(row, "config");
	if (value)
		r = json_object_set_new(config, key, json_string(value));
	else
		json_object_del(config, key);
	if (r < 0)
		r = err_set(e, -EINVAL, "the value of %s is not valid UTF-8", key);
	else
		r = query_run(db, e, "UPDATE instances SET config = ? WHERE name = ?", "js", config, name);
	json_decref(row);
	return found(r, name, e);
}

int db_instance_set_config(struct db *db, const char *name, const char *key, const char *value,
			   struct err *e)
{
	int r = tx_begin(db, e);

	return r < 0 ? r : tx_end(db, config_set_locked(db, name, key, value, e), e);
}

int db_instance_set_power(struct db *db, const char *name, bool on, struct err *e)
{
	return found(query_run(db, e, "UPDATE instances SET power = ? WHERE name = ?", "ss",
			       on ? "on" : "off", name), name, e);
}

int db_instance_set_used(struct db *db, const char *name, struct err *e)
{
	char now[32];

	return found(query_run(db, e, "UPDATE instances SET last_used_at = ? WHERE name = ?", "ss",
			       db_time_now(now, sizeof(now)), name), name, e);
}

static const char *own_text(int own)
{
	static const char *const names[] = {
		[OWN_MINE] = "at rest here", [OWN_CREATING] = "being created",
		[OWN_INCOMING] = "arriving by a migration", [OWN_OUTGOING] = "being migrated away",
		[OWN_HANDED] = "handed over to another host and not yet confirmed",
		[OWN_DELETING] = "being deleted",
	};

	return own >= 0 && own < (int)(sizeof(names) / sizeof(names[0])) ? names[own] : "in an unknown state";
}

int db_instance_set_own(struct db *db, const char *name, enum own from, enum own to, struct err *e)
{
	json_t *row;
	int r = query_run(db, e, "UPDATE instances SET own = ? WHERE name = ? AND own = ?", "isi",
			  (int64_t)to, name, (int64_t)from);

	if (r != 0)
		return r < 0 ? r : 0;
	r = db_instance_get(db, name, &row, e);
	if (r < 0)
		return r;
	r = (int)json_integer_value(json_object_get(row, "own"));
	json_decref(row);
	return err_set(e, -EBUSY, "the instance \"%s\" is %s", name, own_text(r));
}

int db_instance_rename(struct db *db, const char *name, const char *to, struct err *e)
{
	int r = query_run(db, e, "UPDATE instances SET name = ? WHERE name = ?", "ss", to, name);

	if (r == -EEXIST)
		return err_set(e, r, "an instance \"%s\" exists already", to);
	return found(r, name, e);
}

int db_instance_delete(struct db *db, const char *name, struct err *e)
{
	return found(query_run(db, e, "DELETE FROM instances WHERE name = ?", "s", name), name, e);
}

/* The lowest gap of `size` between the ranges in use, which come ordered by their base. */
static int gap_find(struct db *db, const char *name, uint64_t first, uint64_t total, uint64_t size,
		    uint64_t *ret, struct err *e)
{
	auto_query *q = NULL;
	uint64_t at = first;
	int r = query_open(db, "SELECT idmap_base, idmap_size FROM instances WHERE idmap_size > 0 AND"
			   " name <> ? ORDER BY idmap_base", &q, e, "s", name);

	if (r < 0)
		return r;
	while ((r = query_step(db, q, e)) > 0) {
		uint64_t base = (uint64_t)sqlite3_column_int64(q, 0);
		uint64_t end = base + (uint64_t)sqlite3_column_int64(q, 1);

		if (base >= at + size)
			break;
		if (end > at)
			at = end;
	}
	if (r < 0)
		return r;
	if (at + size > first + total)
		return err_set(e, -ENOSPC, "no range of %llu ids is free for \"%s\"",
			       (unsigned long long)size, name);
	*ret = at;
	return 0;
}

int db_instance_take_idmap(struct db *db, const char *name, uint32_t first, uint32_t total, uint32_t size,
			   uint32_t *ret_base, struct err *e)
{
	uint64_t base = 0;
	int r = tx_begin(db, e);

	if (r < 0)
		return r;
	r = gap_find(db, name, first, total, size, &base, e);
	if (r >= 0)
		r = found(query_run(db, e,
				    "UPDATE instances SET idmap_base = ?, idmap_size = ? WHERE name = ?",
				    "iis", (int64_t)base, (int64_t)size, name), name, e);
	r = tx_end(db, r, e);
	if (r < 0)
		return r;
	*ret_base = (uint32_t)base;
	return 0;
}

#include "db/query.h"

#define COLUMNS "id, role, instance, state, peer, peer_certificate, secret, data, created_at"

static json_t *migration_row(struct db *db, query *q)
{
	(void)db;
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s}", "id", query_text(q, 0), "role",
			 query_text(q, 1), "instance", query_text(q, 2), "state", query_text(q, 3), "peer",
			 query_text(q, 4), "peer_certificate", query_text(q, 5), "secret", query_text(q, 6),
			 "data", query_json(q, 7, false), "created_at", query_text(q, 8));
}

int db_migration_create(struct db *db, const json_t *row, struct err *e)
{
	json_t *data = json_object_get(row, "data"), *empty = json_object();
	char now[32];
	int r = query_run(db, e, "INSERT INTO migrations (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?)", "sssssssjs",
			  row_str(row, "id", ""), row_str(row, "role", ""), row_str(row, "instance", ""),
			  row_str(row, "state", ""), row_str(row, "peer", ""),
			  row_str(row, "peer_certificate", ""), row_str(row, "secret", ""),
			  json_is_object(data) ? data : empty, db_time_now(now, sizeof(now)));

	json_decref(empty);
	if (r == -EEXIST)
		return err_set(e, r, "a migration with the id %s exists already", row_str(row, "id", ""));
	return r < 0 ? r : 0;
}

static int state_set(struct db *db, const char *id, const char *role, const char *from, const char *to,
		     const json_t *data, struct err *e)
{
	json_t *row;
	int r;

	if (data)
		r = query_run(db, e, "UPDATE migrations SET state = ?1, data = ?2 WHERE id = ?3 AND role = ?4"
			      " AND (?5 IS NULL OR state = ?5)", "sjsss", to, data, id, role, from);
	else
		r = query_run(db, e, "UPDATE migrations SET state = ?1 WHERE id = ?2 AND role = ?3"
			      " AND (?4 IS NULL OR state = ?4)", "ssss", to, id, role, from);
	if (r != 0)
		return r < 0 ? r : 0;
	r = db_migration_get(db, id, role, &row, e);
	if (r < 0)
		return r;
	r = err_set(e, -EBUSY, "the migration is in state \"%s\", not \"%s\"", row_str(row, "state", ""),
		    from ? from : "");
	json_decref(row);
	return r;
}

int db_migration_set(struct db *db, const char *id, const char *role, const char *from, const char *to,
		     const json_t *data, struct err *e)
{
	return state_set(db, id, role, from, to, data, e);
}

int db_migration_get(struct db *db, const char *id, const char *role, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM migrations WHERE id = ? AND role = ?", &q, e, "ss", id,
			   role);

	if (r < 0)
		return r;
	r = query_one(db, q, migration_row, ret, e);
	if (r == -ENOENT)
		return err_set(e, r, "there is no migration %s with the role %s", id, role);
	return r;
}

int db_migration_of(struct db *db, const char *instance, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM migrations WHERE instance = ? ORDER BY created_at DESC, id"
			   " LIMIT 1", &q, e, "s", instance);

	if (r < 0)
		return r;
	r = query_one(db, q, migration_row, ret, e);
	return r == -ENOENT ? err_set(e, r, "nothing is known of a migration of %s", instance) : r;
}

int db_migration_list(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT " COLUMNS " FROM migrations ORDER BY created_at, id", &q, e, "");

	return r < 0 ? r : query_list(db, q, migration_row, ret, e);
}

int db_migration_delete(struct db *db, const char *id, const char *role, struct err *e)
{
	int r = query_run(db, e, "DELETE FROM migrations WHERE id = ? AND role = ?", "ss", id, role);

	if (r == 0)
		return err_set(e, -ENOENT, "there is no migration %s with the role %s", id, role);
	return r < 0 ? r : 0;
}

int db_migration_commit(struct db *db, const char *id, const char *role, const char *from, const char *to,
			const char *instance, enum own own_from, enum own own_to, struct err *e)
{
	int r = tx_begin(db, e);

	if (r < 0)
		return r;
	r = state_set(db, id, role, from, to, NULL, e);
	if (r >= 0)
		r = db_instance_set_own(db, instance, own_from, own_to, e);
	return tx_end(db, r, e);
}

#include "db/query.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int query_error(struct db *db, int rc, struct err *e)
{
	const char *text = db && db->h ? sqlite3_errmsg(db->h) : sqlite3_errstr(rc);
	int ext = db && db->h ? sqlite3_extended_errcode(db->h) : rc;
	int code = -EIO;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		code = -EAGAIN;
		break;
	case SQLITE_NOMEM:
		code = -ENOMEM;
		break;
	case SQLITE_FULL:
		code = -ENOSPC;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		code = -EUCLEAN;
		break;
	case SQLITE_READONLY:
		code = -EROFS;
		break;
	case SQLITE_CONSTRAINT:
		code = ext == SQLITE_CONSTRAINT_PRIMARYKEY || ext == SQLITE_CONSTRAINT_UNIQUE ?
			       -EEXIST : -EINVAL;
		break;
	}
	return err_set(e, code, "the database says: %s", text);
}

static int bind_all(struct db *db, query *q, const char *types, va_list ap, struct err *e)
{
	for (int i = 1; *types; types++, i++) {
		int rc = SQLITE_MISUSE;

		if (*types == 's') {
			rc = sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
		} else if (*types == 'i') {
			rc = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
		} else if (*types == 'j') {
			const json_t *j = va_arg(ap, const json_t *);
			char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("null");

			if (!text)
				return err_set(e, -ENOMEM, "out of memory");
			rc = sqlite3_bind_text(q, i, text, -1, free);
		}
		if (rc != SQLITE_OK)
			return query_error(db, rc, e);
	}
	return 0;
}

static int open_v(struct db *db, const char *sql, query **ret, struct err *e, const char *types,
		  va_list ap)
{
	auto_query *q = NULL;
	int rc = sqlite3_prepare_v2(db->h, sql, -1, &q, NULL), r;

	if (rc != SQLITE_OK)
		return query_error(db, rc, e);
	r = bind_all(db, q, types, ap, e);
	if (r < 0)
		return r;
	*ret = ptr_take(q);
	return 0;
}

int query_open(struct db *db, const char *sql, query **ret, struct err *e, const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = open_v(db, sql, ret, e, types, ap);
	va_end(ap);
	return r;
}

int query_step(struct db *db, query *q, struct err *e)
{
	int rc = sqlite3_step(q);

	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : query_error(db, rc, e);
}

int query_run(struct db *db, struct err *e, const char *sql, const char *types, ...)
{
	auto_query *q = NULL;
	va_list ap;
	int r;

	va_start(ap, types);
	r = open_v(db, sql, &q, e, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	r = query_step(db, q, e);
	if (r < 0)
		return r;
	return sqlite3_changes(db->h);
}

const char *query_text(query *q, int col)
{
	const unsigned char *s = sqlite3_column_text(q, col);

	return s ? (const char *)s : "";
}

json_t *query_json(query *q, int col, bool array)
{
	json_t *j = json_loads(query_text(q, col), 0, NULL);

	if (array ? json_is_array(j) : json_is_object(j))
		return j;
	json_decref(j);
	return array ? json_array() : json_object();
}

int tx_begin(struct db *db, struct err *e)
{
	int rc = sqlite3_exec(db->h, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : query_error(db, rc, e);
}

int tx_end(struct db *db, int r, struct err *e)
{
	int rc;

	if (r < 0) {
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
		return r;
	}
	rc = sqlite3_exec(db->h, "COMMIT", NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		int failed = query_error(db, rc, e);

		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
		return failed;
	}
	return r;
}

const char *row_str(const json_t *row, const char *key, const char *dflt)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : dflt;
}

int query_list(struct db *db, query *q, query_row_fn fn, json_t **ret, struct err *e)
{
	json_t *list = json_array();
	int r;

	if (!list)
		return err_set(e, -ENOMEM, "out of memory");
	while ((r = query_step(db, q, e)) > 0) {
		json_t *row = fn(db, q);

		if (!row || json_array_append_new(list, row) < 0) {
			r = err_set(e, -ENOMEM, "out of memory");
			break;
		}
	}
	if (r < 0) {
		json_decref(list);
		return r;
	}
	*ret = list;
	return 0;
}

int query_one(struct db *db, query *q, query_row_fn fn, json_t **ret, struct err *e)
{
	int r = query_step(db, q, e);
	json_t *row;

	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "not found");
	row = fn(db, q);
	if (!row)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = row;
	return 0;
}

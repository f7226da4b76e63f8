/* query - short spelling for prepared statements; private to this room.
 *
 * Parameter types: 's' const char * (NULL allowed), 'i' int64_t, 'j' const json_t * (stored as text;
 * NULL is stored as the text "null"). */
#pragma once
#include <sqlite3.h>

#include "db/db.h"

struct db {
	sqlite3 *h;
};

typedef sqlite3_stmt query;

static inline void query_cleanup(query **q)
{
	sqlite3_finalize(*q);
}
#define auto_query __attribute__((cleanup(query_cleanup))) query

/* SQLite's result code as ours, with its sentence. */
int query_error(struct db *db, int rc, struct err *e);

int query_open(struct db *db, const char *sql, query **ret, struct err *e, const char *types, ...);
/* 1: a row; 0: the end. */
int query_step(struct db *db, query *q, struct err *e);
/* A statement without rows: how many rows it changed. */
int query_run(struct db *db, struct err *e, const char *sql, const char *types, ...);

/* Columns; text is "" for NULL. */
const char *query_text(query *q, int col);
/* The JSON text of a column as a new reference: an empty object (or array) where it is damaged. */
json_t *query_json(query *q, int col, bool array);

/* Transactions. tx_end commits when r >= 0, else rolls back; returns r, or why the commit failed. */
int tx_begin(struct db *db, struct err *e);
int tx_end(struct db *db, int r, struct err *e);

/* Helpers over jansson: a string member or the default. */
const char *row_str(const json_t *row, const char *key, const char *dflt);

/* Collects one object per row. */
typedef json_t *(*query_row_fn)(struct db *db, query *q);
int query_list(struct db *db, query *q, query_row_fn fn, json_t **ret, struct err *e);
int query_one(struct db *db, query *q, query_row_fn fn, json_t **ret, struct err *e);

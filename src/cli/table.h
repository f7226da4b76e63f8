/* table - rows for people (aligned), for programs (csv, json). */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

enum table_format { TABLE_PLAIN, TABLE_CSV, TABLE_JSON };

/* "table", "csv", "json"; -EINVAL. */
int table_format_parse(const char *word, enum table_format *ret, struct err *e);

struct table;
struct table *table_new(const char *const *headers, size_t n); /* NULL: ENOMEM */
void table_free(struct table *t);
/* One row: n strings, copied; a NULL is empty. -ENOMEM. */
int table_row(struct table *t, const char *const *cells);
/* Sorted by the first column. */
void table_print(struct table *t, enum table_format format);

/* Prints any JSON, indented. */
void json_print(const json_t *j);

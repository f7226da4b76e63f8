#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct table {
	const char *const *headers;
	size_t cols;
	char ***rows;
	size_t n, cap;
};

int table_format_parse(const char *word, enum table_format *ret, struct err *e)
{
	if (strcmp(word, "table") == 0)
		*ret = TABLE_PLAIN;
	else if (strcmp(word, "csv") == 0)
		*ret = TABLE_CSV;
	else if (strcmp(word, "json") == 0)
		*ret = TABLE_JSON;
	else
		return err_set(e, -EINVAL, "there is no format '%s': table, csv or json", word);
	return 0;
}

struct table *table_new(const char *const *headers, size_t n)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t) {
		t->headers = headers;
		t->cols = n;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++) {
		for (size_t c = 0; c < t->cols; c++)
			free(t->rows[i][c]);
		free(t->rows[i]);
	}
	free(t->rows);
	free(t);
}

int table_row(struct table *t, const char *const *cells)
{
	char **row;

	if (array_grow(t->rows, t->n, t->cap) < 0)
		return -ENOMEM;
	row = calloc(t->cols, sizeof(*row));
	if (!row)
		return -ENOMEM;
	t->rows[t->n++] = row;
	for (size_t c = 0; c < t->cols; c++) {
		row[c] = strdup(cells[c] ? cells[c] : "");
		if (!row[c])
			return -ENOMEM;
	}
	return 0;
}

static int by_first(const void *a, const void *b)
{
	return strcmp((**(char **const *)a), (**(char **const *)b));
}

/* Columns on the screen: characters, not the bytes of UTF-8. */
static int width_of(const char *s)
{
	int w = 0;

	for (; *s; s++)
		w += ((unsigned char)*s & 0xc0) != 0x80;
	return w;
}

/* Escape sequences in a name that a server sent must not reach the terminal. */
static void put_clean(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

static void print_plain(const struct table *t)
{
	for (size_t i = 0; i < t->n + 1; i++) {
		for (size_t c = 0; c < t->cols; c++) {
			const char *cell = i ? t->rows[i - 1][c] : t->headers[c];
			int width = width_of(t->headers[c]);

			put_clean(cell);
			if (c + 1 == t->cols)
				break;
			for (size_t k = 0; k < t->n; k++)
				width = width_of(t->rows[k][c]) > width ? width_of(t->rows[k][c]) : width;
			printf("%*s", width - width_of(cell) + 2, "");
		}
		putchar('\n');
	}
}

static void print_csv(const struct table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		for (size_t c = 0; c < t->cols; c++) {
			const char *s = t->rows[i][c];
			bool quote = strpbrk(s, ",\"\n") != NULL;

			if (quote)
				putchar('"');
			for (; *s; s++) {
				if (*s == '"')
					putchar('"');
				putchar(*s);
			}
			if (quote)
				putchar('"');
			putchar(c + 1 == t->cols ? '\n' : ',');
		}
	}
}

static void print_json(const struct table *t)
{
	json_t *list = json_array();

	for (size_t i = 0; i < t->n; i++) {
		json_t *o = json_object();

		for (size_t c = 0; c < t->cols; c++) {
			char key[64];
			size_t k;

			for (k = 0; t->headers[c][k] && k < sizeof(key) - 1; k++) {
				char ch = t->headers[c][k];

				key[k] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch == ' ' ? '_' : ch;
			}
			key[k] = 0;
			json_object_set_new(o, key, json_string(t->rows[i][c]));
		}
		json_array_append_new(list, o);
	}
	json_print(list);
	json_decref(list);
}

void table_print(struct table *t, enum table_format format)
{
	if (t->n)
		qsort(t->rows, t->n, sizeof(*t->rows), by_first);
	if (format == TABLE_CSV)
		print_csv(t);
	else if (format == TABLE_JSON)
		print_json(t);
	else
		print_plain(t);
}

void json_print(const json_t *j)
{
	auto_free char *text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	puts(text ? text : "null");
}

#include "cr/refusal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

int refusals_add(struct refusals *rf, pid_t pid, const char *where, const char *what, const char *fmt, ...)
{
	struct refusal n = { .pid = pid };
	va_list ap;

	if (array_grow(rf->list, rf->n, rf->cap) < 0)
		return -ENOMEM;
	va_start(ap, fmt);
	if (vasprintf(&n.why, fmt, ap) < 0)
		n.why = NULL;
	va_end(ap);
	n.where = strdup(where ? where : "");
	n.what = strdup(what ? what : "");
	if (!n.why || !n.where || !n.what) {
		free(n.why);
		free(n.where);
		free(n.what);
		return -ENOMEM;
	}
	rf->list[rf->n++] = n;
	return 0;
}

void refusals_done(struct refusals *rf)
{
	for (size_t i = 0; i < rf->n; i++) {
		free(rf->list[i].where);
		free(rf->list[i].what);
		free(rf->list[i].why);
	}
	free(rf->list);
	*rf = (struct refusals)REFUSALS_INIT;
}

char *refusals_text(const struct refusals *rf)
{
	auto_buf b = BUF_INIT;

	for (size_t i = 0; i < rf->n; i++) {
		const struct refusal *x = &rf->list[i];
		int r = x->pid ? buf_addf(&b, "process %d", (int)x->pid) : buf_adds(&b, "container");

		if (r >= 0 && *x->where)
			r = buf_addf(&b, ", %s", x->where);
		if (r >= 0)
			r = buf_addf(&b, ": %s: %s\n", x->what, x->why);
		if (r < 0)
			return NULL;
	}
	return buf_take(&b);
}

/* Names of files are any bytes; JSON is UTF-8.  Bytes from 0x80 on are written as their Latin-1
 * escapes: readable, unambiguous and never malformed. */
static int json_string(struct buf *b, const char *s)
{
	int r = buf_add(b, "\"", 1);

	for (; *s && r >= 0; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			r = buf_addf(b, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			r = buf_addf(b, "\\u%04x", c);
		else
			r = buf_add(b, s, 1);
	}
	return r < 0 ? r : buf_add(b, "\"", 1);
}

char *refusals_json(const struct refusals *rf)
{
	auto_buf b = BUF_INIT;
	int r = buf_adds(&b, "[");

	for (size_t i = 0; i < rf->n && r >= 0; i++) {
		const struct refusal *x = &rf->list[i];
		const struct {
			const char *key, *value;
		} kv[] = { { "where", x->where }, { "what", x->what }, { "why", x->why } };

		r = buf_addf(&b, "%s{\"pid\":%d", i ? "," : "", (int)x->pid);
		for (size_t k = 0; k < array_len(kv) && r >= 0; k++) {
			r = buf_addf(&b, ",\"%s\":", kv[k].key);
			if (r >= 0)
				r = json_string(&b, kv[k].value);
		}
		if (r >= 0)
			r = buf_adds(&b, "}");
	}
	if (r >= 0)
		r = buf_adds(&b, "]");
	return r < 0 ? NULL : buf_take(&b);
}

#include "cr/task/timers_parse.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"

static bool skip(const char **p, const char *word)
{
	if (!str_starts(*p, word))
		return false;
	*p += strlen(word);
	return true;
}

static int number(const char **p, unsigned base, uint64_t max, uint64_t *ret)
{
	int r = parse_u64_at(p, base, ret);

	return r < 0 ? r : *ret > max ? -ERANGE : 0;
}

/* "signal/pid.12", "thread/tid.13", "none/pid.12". */
static int parse_notify(const char **p, struct timer_info *t)
{
	uint64_t v;

	if (skip(p, "signal/"))
		t->notify = SIGEV_SIGNAL;
	else if (skip(p, "none/"))
		t->notify = SIGEV_NONE;
	else if (skip(p, "thread/"))
		t->notify = SIGEV_THREAD;
	else
		return -EPROTO;
	if (skip(p, "tid."))
		t->notify |= SIGEV_THREAD_ID;
	else if (!skip(p, "pid."))
		return -EPROTO;
	if (number(p, 10, INT32_MAX, &v) < 0)
		return -EPROTO;
	t->tid = (pid_t)v;
	return skip(p, "\n") ? 0 : -EPROTO;
}

static int parse_one(const char **p, struct timer_info *t)
{
	uint64_t v;
	bool neg;

	if (!skip(p, "ID: ") || number(p, 10, INT32_MAX, &v) < 0)
		return -EPROTO;
	t->id = (int)v;
	if (!skip(p, "\nsignal: ") || number(p, 10, 64, &v) < 0)
		return -EPROTO;
	t->signo = (int)v;
	/* The kernel prints the value as a pointer: hexadecimal, without 0x. */
	if (!skip(p, "/") || number(p, 16, UINT64_MAX, &t->value) < 0)
		return -EPROTO;
	if (!skip(p, "\nnotify: ") || parse_notify(p, t) < 0 || !skip(p, "ClockID: "))
		return -EPROTO;
	neg = skip(p, "-");
	if (number(p, 10, INT32_MAX, &v) < 0 || !skip(p, "\n"))
		return -EPROTO;
	t->clock = neg ? -(int)v : (int)v;
	return 0;
}

int timers_parse(const char *text, struct timer_list *ret)
{
	struct timer_info *v = NULL;
	size_t n = 0, cap = 0;

	while (*text) {
		int r = n < TIMERS_MAX ? array_grow(v, n, cap) : -E2BIG;

		if (r == 0) {
			memset(&v[n], 0, sizeof(v[n]));
			r = parse_one(&text, &v[n]);
		}
		if (r < 0) {
			free(v);
			return r;
		}
		n++;
	}
	ret->v = v;
	ret->n = n;
	return 0;
}

/* Events: every listener is a websocket with a filter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/core.h"

enum { EV_OPERATION = 1, EV_LIFECYCLE = 2, EV_LOGGING = 4, EV_ALL = 7 };

struct listener {
	struct api *a;
	struct listener *next, **prev;
	struct ws *ws;
	unsigned types;
};

static unsigned type_bit(const char *s, size_t n)
{
	static const struct {
		const char *name;
		unsigned bit;
	} types[] = { { "operation", EV_OPERATION }, { "lifecycle", EV_LIFECYCLE }, { "logging", EV_LOGGING } };

	for (size_t i = 0; i < array_len(types); i++)
		if (strlen(types[i].name) == n && memcmp(types[i].name, s, n) == 0)
			return types[i].bit;
	return 0;
}

static void on_open(struct ws *w, void *arg)
{
	struct listener *l = arg;

	l->ws = w;
	l->next = l->a->listeners;
	l->prev = &l->a->listeners;
	if (l->next)
		l->next->prev = &l->next;
	l->a->listeners = l;
}

static void on_closed(struct ws *w, void *arg)
{
	struct listener *l = arg;

	if (w) {
		*l->prev = l->next;
		if (l->next)
			l->next->prev = l->prev;
	}
	free(l);
}

void event_get(struct call *c)
{
	static const struct ws_events events = { .open = on_open, .closed = on_closed };
	const char *types = http_request_query(c->q, "type");
	struct listener *l = calloc(1, sizeof(*l));

	if (!l) {
		reply_error(c->q, 500, "out of memory");
		return;
	}
	l->a = c->a;
	l->types = types && *types ? 0 : EV_ALL;
	while (types && *types) {
		size_t n = strcspn(types, ",");
		unsigned bit = type_bit(types, n);

		if (!bit) {
			reply_error(c->q, 400, "\"%.*s\" is not a type of event", (int)n, types);
			free(l);
			return;
		}
		l->types |= bit;
		types += n + (types[n] == ',');
	}
	if (http_respond_websocket(c->q, &events, l) < 0) {
		free(l);
		reply_error(c->q, 400, "events come by a websocket");
	}
}

void event_send(struct api *a, const char *type, json_t *metadata)
{
	unsigned bit = type_bit(type, strlen(type));
	auto_json *ev = NULL;
	auto_free char *text = NULL;
	char when[64];
	struct timespec ts;
	struct tm tm;
	size_t n;

	if (!a->listeners) {
		json_decref(metadata);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%09ldZ", ts.tv_nsec);
	ev = json_pack("{s:s, s:s, s:s, s:s, s:o}", "type", type, "timestamp", when, "location", "none", "project",
		       "default", "metadata", metadata);
	text = ev ? json_dumps(ev, JSON_COMPACT) : NULL;
	if (!text)
		return;
	for (struct listener *l = a->listeners; l; l = l->next)
		if (l->types & bit)
			ws_send(l->ws, WS_FRAME_TEXT, text, strlen(text));
}

void event_lifecycle(struct api *a, const char *action, const char *source)
{
	event_send(a, "lifecycle", json_pack("{s:s, s:s, s:{}}", "action", action, "source", source, "context"));
}

#include "image_store/metadata.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/parse.h"

#define EVENTS_MAX 4096
#define PROPERTIES_MAX 100
#define WORD_MAX 4096

struct reader {
	yaml_parser_t parser;
	yaml_event_t event;
	bool have;
	unsigned events;
	struct err *e;
};

static int next(struct reader *r)
{
	if (r->have)
		yaml_event_delete(&r->event);
	r->have = false;
	if (++r->events > EVENTS_MAX)
		return err_set(r->e, -E2BIG, "metadata.yaml is too long");
	if (!yaml_parser_parse(&r->parser, &r->event))
		return err_set(r->e, -EINVAL, "metadata.yaml, line %zu: %s", r->parser.problem_mark.line + 1,
			       r->parser.problem ? r->parser.problem : "not YAML");
	r->have = true;
	if (r->event.type == YAML_ALIAS_EVENT)
		return err_set(r->e, -EINVAL, "metadata.yaml uses aliases");
	return 0;
}

/* The scalar of the event now, as a string of JSON; NULL: it is none, or not UTF-8 or too long. */
static json_t *word(struct reader *r)
{
	if (r->event.type != YAML_SCALAR_EVENT || r->event.data.scalar.length > WORD_MAX)
		return NULL;
	return json_stringn((const char *)r->event.data.scalar.value, r->event.data.scalar.length);
}

/* Passes over the value that begins with the event now. */
static int skip(struct reader *r)
{
	int depth = 0;

	for (;;) {
		int q;

		switch (r->event.type) {
		case YAML_SEQUENCE_START_EVENT:
		case YAML_MAPPING_START_EVENT:
			depth++;
			break;
		case YAML_SEQUENCE_END_EVENT:
		case YAML_MAPPING_END_EVENT:
			depth--;
			break;
		default:
			break;
		}
		if (depth <= 0)
			return 0;
		q = next(r);
		if (q < 0)
			return q;
	}
}

static int properties_read(struct reader *r, json_t *to)
{
	if (r->event.type != YAML_MAPPING_START_EVENT)
		return r->event.type == YAML_SCALAR_EVENT ?
			       0 :
			       err_set(r->e, -EINVAL, "metadata.yaml: properties is not a map");
	for (;;) {
		json_t *key, *value;
		int q = next(r);

		if (q < 0 || r->event.type == YAML_MAPPING_END_EVENT)
			return q;
		key = word(r);
		if (!key || json_object_size(to) >= PROPERTIES_MAX) {
			json_decref(key);
			return err_set(r->e, -EINVAL, "metadata.yaml: properties cannot be read");
		}
		q = next(r);
		value = q < 0 ? NULL : word(r);
		if (value)
			q = json_object_set_new(to, json_string_value(key), value) < 0 ?
				    err_sys(r->e, -ENOMEM, "metadata.yaml") : 0;
		else if (q == 0)
			q = err_set(r->e, -EINVAL, "metadata.yaml: property %s is not a word",
				    json_string_value(key));
		json_decref(key);
		if (q < 0)
			return q;
	}
}

static int value_read(struct reader *r, const char *key, json_t *to)
{
	json_t *w;
	int64_t n;
	int q = next(r);

	if (q < 0)
		return q;
	if (strcmp(key, "properties") == 0)
		return properties_read(r, json_object_get(to, "properties"));
	if (strcmp(key, "architecture") == 0) {
		w = word(r);
		if (!w)
			return err_set(r->e, -EINVAL, "metadata.yaml: architecture is not a word");
		return json_object_set_new(to, key, w) < 0 ? err_sys(r->e, -ENOMEM, "metadata.yaml") : 0;
	}
	if (strcmp(key, "creation_date") == 0 || strcmp(key, "expiry_date") == 0) {
		w = word(r);
		q = w ? parse_i64(json_string_value(w), 10, &n) : -EINVAL;
		json_decref(w);
		if (q < 0 || n < 0)
			return err_set(r->e, -EINVAL, "metadata.yaml: %s is not a number of seconds", key);
		return json_object_set_new(to, key, json_integer(n)) < 0 ?
			       err_sys(r->e, -ENOMEM, "metadata.yaml") : 0;
	}
	return skip(r); /* templates and what others may know */
}

static int document_read(struct reader *r, json_t *to)
{
	int q;

	do {
		q = next(r);
	} while (q == 0 && (r->event.type == YAML_STREAM_START_EVENT ||
			    r->event.type == YAML_DOCUMENT_START_EVENT));
	if (q < 0)
		return q;
	if (r->event.type != YAML_MAPPING_START_EVENT)
		return err_set(r->e, -EINVAL, "metadata.yaml is not a map");
	for (;;) {
		json_t *key;

		q = next(r);
		if (q < 0 || r->event.type == YAML_MAPPING_END_EVENT)
			return q;
		key = word(r);
		if (!key)
			return err_set(r->e, -EINVAL, "metadata.yaml has a key that is not a word");
		q = value_read(r, json_string_value(key), to);
		json_decref(key);
		if (q < 0)
			return q;
	}
}

int metadata_parse(const char *text, size_t len, json_t **ret, struct err *e)
{
	struct reader r = { .e = e };
	json_t *to;
	int q;

	if (len > METADATA_MAX)
		return err_set(e, -EFBIG, "metadata.yaml is longer than %d bytes", METADATA_MAX);
	to = json_pack("{s:s, s:i, s:i, s:{}}", "architecture", "", "creation_date", 0, "expiry_date", 0,
		       "properties");
	if (!to || !yaml_parser_initialize(&r.parser)) {
		json_decref(to);
		return err_sys(e, -ENOMEM, "metadata.yaml");
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	q = document_read(&r, to);
	if (r.have)
		yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	if (q < 0) {
		json_decref(to);
		return q;
	}
	*ret = to;
	return 0;
}

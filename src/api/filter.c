#include "api/filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/parse.h"

static const json_t *field_of(const json_t *object, const char *field)
{
	static const char *const inside[] = { "config.", "expanded_config.", "properties." };

	for (size_t i = 0; i < array_len(inside); i++) {
		size_t n = strlen(inside[i]);
		char outer[24];

		if (!str_starts(field, inside[i]))
			continue;
		snprintf(outer, sizeof(outer), "%.*s", (int)(n - 1), inside[i]);
		return json_object_get(json_object_get(object, outer), field + n);
	}
	return json_object_get(object, field);
}

static bool value_equals(const json_t *have, const char *want)
{
	char number[32];

	if (json_is_string(have))
		return strcasecmp(json_string_value(have), want) == 0;
	if (json_is_boolean(have))
		return strcasecmp(json_is_true(have) ? "true" : "false", want) == 0;
	if (json_is_integer(have)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(have));
		return strcmp(number, want) == 0;
	}
	return *want == '\0';
}

int filter_match(const char *expression, const json_t *object, struct err *e)
{
	auto_free char *copy = strdup(expression);
	char *save = NULL, *word[3], *joint;
	int match = 1;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	word[0] = strtok_r(copy, " ", &save);
	while (word[0]) {
		bool ne;

		word[1] = strtok_r(NULL, " ", &save);
		word[2] = word[1] ? strtok_r(NULL, " ", &save) : NULL;
		ne = str_eq(word[1], "ne");
		if (!word[2] || (!ne && !str_eq(word[1], "eq")))
			return err_set(e, -EINVAL, "the filter \"%s\" is not understood: it is FIELD eq VALUE or FIELD ne "
				       "VALUE, joined by \"and\"", expression);
		if (value_equals(field_of(object, word[0]), word[2]) == ne)
			match = 0;
		joint = strtok_r(NULL, " ", &save);
		if (!joint)
			break;
		word[0] = strtok_r(NULL, " ", &save);
		if (strcmp(joint, "and") != 0 || !word[0])
			return err_set(e, -EINVAL, "the filter \"%s\" is not understood: clauses are joined by \"and\"", expression);
	}
	return match;
}

#include "cr/task/limits_parse.h"

#include <errno.h>
#include <string.h>

#include "base/parse.h"

/* By RLIMIT_*, as the kernel writes them. */
static const char *const names[LIMITS_MAX] = {
	"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size",
	"Max resident set", "Max processes", "Max open files", "Max locked memory", "Max address space",
	"Max file locks", "Max pending signals", "Max msgqueue size", "Max nice priority",
	"Max realtime priority", "Max realtime timeout",
};

const char *limit_name(int what)
{
	return what >= 0 && what < LIMITS_MAX ? names[what] : "unknown";
}

static int value(const char **p, uint64_t *ret)
{
	while (**p == ' ')
		(*p)++;
	if (str_starts(*p, "unlimited")) {
		*p += strlen("unlimited");
		*ret = UINT64_MAX;
		return 0;
	}
	return parse_u64_at(p, 10, ret);
}

int limits_parse(const char *text, struct limit ret[LIMITS_MAX])
{
	const char *p = strchr(text, '\n'); /* behind the heading */

	for (int i = 0; i < LIMITS_MAX; i++) {
		if (!p || !str_starts(p + 1, names[i]))
			return -EPROTO;
		p += 1 + strlen(names[i]);
		if (*p != ' ' || value(&p, &ret[i].soft) < 0 || *p != ' ' || value(&p, &ret[i].hard) < 0)
			return -EPROTO;
		p = strchr(p, '\n');
	}
	return LIMITS_MAX;
}

#include "cli/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* What may stand in a path of the API; the server judges the rest. */
static bool name_safe(const char *name)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(name);
}

int target_open(struct conf *c, const char *ref, bool need_name, struct target *ret, struct err *e)
{
	auto_free char *remote = NULL, *name = NULL;
	int r = conf_split(c, ref, &remote, &name, e);

	if (r < 0)
		return r;
	if (need_name && !*name)
		return err_set(e, -EINVAL, "'%s' names a host; a name behind it is missing", ref);
	if (!name_safe(name))
		return err_set(e, -EINVAL, "'%s' is no name: letters, digits and '-' are", name);
	r = remote_open(c, remote, &ret->remote, e);
	if (r < 0)
		return r;
	ret->name = ptr_take(name);
	return 0;
}

void target_done(struct target *t)
{
	remote_free(t->remote);
	free(t->name);
	t->remote = NULL;
	t->name = NULL;
}

#include "runtime/program.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static int program_try(const char *dir, const char *sub, const char *name, char **ret)
{
	auto_free char *path = NULL, *real = NULL;

	if (asprintf(&path, "%s/%s%s%s", dir, sub, *sub ? "/" : "", name) < 0)
		return -ENOMEM;
	if (access(path, X_OK) < 0)
		return -errno;
	real = realpath(path, NULL);
	if (!real)
		return -errno;
	*ret = ptr_take(real);
	return 0;
}

int program_find(const char *name, char **ret, struct err *e)
{
	static const char *const subs[] = { "", "../guest", "../runtime", "../engine", "../wire", "../migrate",
					    "../daemon" };
	const char *libexec = getenv("GODWIT_LIBEXEC");
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (libexec && program_try(libexec, "", name, ret) == 0)
		return 0;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_sys(e, -errno, "cannot read /proc/self/exe");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < array_len(subs); i++)
		if (program_try(self, subs[i], name, ret) == 0)
			return 0;
	return err_set(e, -ENOENT,
		       "the program %s is not beside %s; reinstall, or set GODWIT_LIBEXEC to its folder",
		       name, self);
}

#include "cr/ns/outside.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/ns.h"

const unsigned ns_flags[NS_KINDS] = { CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC,
				      CLONE_NEWUTS,  CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWTIME };

const char *ns_file(unsigned flag)
{
	static const char *const files[NS_KINDS] = { "user", "pid", "net", "ipc", "uts", "mnt", "cgroup", "time" };

	for (size_t i = 0; i < NS_KINDS; i++)
		if (ns_flags[i] == flag)
			return files[i];
	return NULL;
}

/* The value of "kind[id]"; id NULL: whatever it is. */
static const char *external_of(const struct cr_opts *o, const char *kind, const char *id)
{
	size_t n = strlen(kind);

	for (size_t i = 0; i < o->externals.n; i++) {
		const char *k = o->externals.v[i].key, *v = o->externals.v[i].value;

		if (strncmp(k, kind, n) != 0 || k[n] != '[' || !str_ends(k, "]"))
			continue;
		if (!id || (strlen(id) == strlen(k) - n - 2 && strncmp(k + n + 1, id, strlen(id)) == 0))
			return v;
	}
	return NULL;
}

const char *outside_mount_name(const struct cr_opts *o, const char *mountpoint)
{
	const char *name;

	if (!o)
		return NULL;
	for (size_t i = 0; i < o->ext_mount_map.n; i++)
		if (strcmp(o->ext_mount_map.v[i].key, mountpoint) == 0)
			return o->ext_mount_map.v[i].value;
	name = external_of(o, "mnt", mountpoint);
	return name && *name ? name : NULL;
}

const char *outside_mount_path(const struct cr_opts *o, const char *name)
{
	if (!o)
		return NULL;
	for (size_t i = 0; i < o->ext_mount_map.n; i++)
		if (strcmp(o->ext_mount_map.v[i].key, name) == 0)
			return o->ext_mount_map.v[i].value;
	return external_of(o, "mnt", name);
}

bool outside_mount_auto(const struct cr_opts *o)
{
	/* "--external mnt[]" is another spelling. */
	return o && (o->ext_mount_auto || external_of(o, "mnt", ""));
}

const char *outside_namespace_name(const struct cr_opts *o, pid_t pid, unsigned flag)
{
	const char *file = ns_file(flag), *name;
	char path[64], ino[32];
	struct stat st;

	if (!o || !file)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, file);
	if (stat(path, &st) < 0)
		return NULL;
	snprintf(ino, sizeof(ino), "%llu", (unsigned long long)st.st_ino);
	name = external_of(o, file, ino);
	return name && *name ? name : NULL;
}

int outside_namespaces(const struct cr_opts *o, pid_t pid, unsigned own, unsigned *ret, struct err *e)
{
	unsigned named = 0;

	for (size_t i = 0; i < NS_KINDS; i++)
		if (own & ns_flags[i] && outside_namespace_name(o, pid, ns_flags[i]))
			named |= ns_flags[i];
	if (named & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME))
		return err_set(e, -EOPNOTSUPP, "a user, mount or time namespace cannot be given from outside: the "
			       "tree's processes are rebuilt in their own");
	*ret = named;
	return 0;
}

/* A file, or the process whose namespace it is. */
static int joined_open(const char *where, const char *file, struct err *e)
{
	char path[64];
	uint32_t pid;
	int fd;

	if (parse_u32(where, 10, &pid) >= 0) {
		snprintf(path, sizeof(path), "/proc/%u/ns/%s", pid, file);
		where = path;
	}
	fd = open(where, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "opening the %s namespace %s", file, where) : fd;
}

int outside_namespace_open(const struct cr_opts *o, unsigned flag, const char *name, int *ret, struct err *e)
{
	const char *file = ns_file(flag);
	int fd = -ENOENT;

	for (size_t i = 0; file && i < o->join_ns.n && fd == -ENOENT; i++)
		if (strcmp(o->join_ns.v[i].key, file) == 0)
			fd = joined_open(o->join_ns.v[i].value, file, e);
	for (size_t i = 0; name && i < o->inherit_fds.n && fd == -ENOENT; i++)
		if (strcmp(o->inherit_fds.v[i].key, name) == 0) {
			fd = fcntl(o->inherit_fds.v[i].fd, F_DUPFD_CLOEXEC, 0);
			if (fd < 0)
				return err_sys(e, -errno, "the descriptor for the namespace %s", name);
		}
	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

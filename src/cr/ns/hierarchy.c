/* hierarchy - finding the container's own folders in the cgroup hierarchies. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/cgroup.h"
#include "cr/ns/mounts.h"
#include "cr/ns/util.h"

const char *const cgroup_settings[] = {
	/* v2 */
	"pids.max", "memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max",
	"cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "io.weight",
	"cgroup.subtree_control", "cgroup.max.depth", "cgroup.max.descendants",
	/* v1 */
	"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.limit_in_bytes",
	"memory.soft_limit_in_bytes", "memory.swappiness", "memory.use_hierarchy",
	"cgroup.clone_children", "notify_on_release", "cpuset.cpu_exclusive", "blkio.weight", NULL
};

bool cgroup_setting_known(const char *name, bool *ret_early)
{
	*ret_early = str_starts(name, "cpuset.") || strcmp(name, "cgroup.clone_children") == 0;
	for (size_t i = 0; cgroup_settings[i]; i++)
		if (strcmp(name, cgroup_settings[i]) == 0)
			return true;
	return false;
}

void hierarchies_close(struct hierarchies *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->list[i].controllers);
		fd_close(&h->list[i].fd);
	}
	h->n = 0;
}

static int proc_cgroup_visit(int out, void *arg)
{
	auto_free char *text = NULL;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)*(pid_t *)arg);
	r = fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	return r < 0 ? r : fd_write_full(out, text, strlen(text));
}

/* The path behind "N:controllers:" in a /proc/PID/cgroup; malloc'd, NULL: no such line. */
static char *path_in(const char *text, const char *controllers)
{
	size_t n = strlen(controllers);

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *c = strchr(line, ':');

		if (c && strncmp(c + 1, controllers, n) == 0 && c[1 + n] == ':')
			return strndup(c + 2 + n, strcspn(c + 2 + n, "\n"));
	}
	return NULL;
}

/* Is every controller of the list an option of this mount? */
static bool mount_is(const struct mnt *m, const char *controllers)
{
	if (!*controllers)
		return strcmp(m->fstype, "cgroup2") == 0;
	if (strcmp(m->fstype, "cgroup") != 0)
		return false;
	for (const char *p = controllers; *p;) {
		size_t len = strcspn(p, ",");
		bool found = false;

		for (const char *o = m->sopts; *o && !found;) {
			size_t olen = strcspn(o, ",");

			found = olen == len && strncmp(o, p, len) == 0;
			o += olen + (o[olen] == ',');
		}
		if (!found)
			return false;
		p += len + (p[len] == ',');
	}
	return true;
}

static int folder_open(const struct mnts *all, const char *controllers, const char *path)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct mnt *m = &all->list[i];
		size_t n = strlen(m->root) > 1 ? strlen(m->root) : 0;
		auto_buf full = BUF_INIT;

		if (!mount_is(m, controllers) || strstr(path, "/..") ||
		    strncmp(m->root, path, n) != 0)
			continue;
		if (n && path[n] != '/' && path[n])
			continue;
		if (buf_addf(&full, "%s/%s", m->path, path + n) < 0)
			return -ENOMEM;
		return open(full.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return -1;
}

/* outside: as we see the init's group; inside: as it sees it.  The root of its namespace is the
 * first without the second. */
static bool namespace_root(char *outside, const char *inside)
{
	size_t n = strlen(outside), k = strcmp(inside, "/") ? strlen(inside) : 0;

	if (k > n || strcmp(outside + n - k, inside + (k ? 0 : 1)) != 0)
		return false;
	outside[n - k] = 0;
	return outside[0] == '/' && outside[1];
}

static int one_add(struct hierarchies *h, const struct mnts *all, const char *controllers,
		   const char *outside, const char *inside, int v2_fd)
{
	auto_free char *out = path_in(outside, controllers), *in = path_in(inside, controllers);
	int fd;

	if (!out || !in || h->n == HIERARCHIES_MAX)
		return 0;
	if (!*controllers)
		fd = fcntl(v2_fd, F_DUPFD_CLOEXEC, 0);
	else if (!namespace_root(
			 out,
			 in)) /* at the hierarchy's root, or without a namespace: not its own */
		return 0;
	else
		fd = folder_open(all, controllers, out);
	if (fd < 0)
		return 0;
	h->list[h->n].controllers = strdup(controllers);
	h->list[h->n].fd = fd;
	return h->list[h->n++].controllers ? 0 : -ENOMEM;
}

int hierarchies_open(pid_t init, int v2_fd, struct hierarchies *ret, struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *outside = NULL, *inside = NULL;
	struct mnts all = { 0 };
	char path[48];
	int r;

	ret->n = 0;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)init);
	r = fd_read_file_at(AT_FDCWD, path, 65536, &outside, NULL);
	if (r < 0)
		return err_sys(e, r, "reading %s", path);
	r = ns_visit(init, CLONE_NEWCGROUP, proc_cgroup_visit, &init, 65536, &inside, e);
	if (r >= 0)
		r = mnts_read(proc_fd, getpid(), &all, e);
	for (const char *line = outside; r >= 0 && *line;
	     line += strcspn(line, "\n"), line += *line == '\n') {
		const char *c = strchr(line, ':'), *end = c ? strchr(c + 1, ':') : NULL;
		auto_free char *controllers = end ? strndup(c + 1, (size_t)(end - c - 1)) : NULL;

		if (controllers)
			r = one_add(ret, &all, controllers, outside, inside, v2_fd);
	}
	mnts_done(&all);
	if (r < 0)
		hierarchies_close(ret);
	return r < 0 ? err_context(e, r, "finding the container's cgroups") : 0;
}

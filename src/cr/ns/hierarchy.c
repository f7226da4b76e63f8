/* hierarchy - finding the container's own folders in the cgroup hierarchies. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/guard.h"
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
	"memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness", "memory.use_hierarchy",
	"cgroup.clone_children", "notify_on_release", "cpuset.cpu_exclusive", "blkio.weight", CGROUP_DEVICES, NULL
};

bool cgroup_setting_known(const char *name, bool *ret_early)
{
	*ret_early = str_starts(name, "cpuset.") || strcmp(name, "cgroup.clone_children") == 0 ||
		     strcmp(name, CGROUP_DEVICES) == 0;
	for (size_t i = 0; cgroup_settings[i]; i++)
		if (strcmp(name, cgroup_settings[i]) == 0)
			return true;
	return false;
}

void hierarchies_close(struct hierarchies *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->list[i].controllers);
		free(h->list[i].path);
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
char *cgroup_path_in(const char *text, const char *controllers)
{
	size_t n = strlen(controllers);

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *c = strchr(line, ':');

		if (c && strncmp(c + 1, controllers, n) == 0 && c[1 + n] == ':')
			return strndup(c + 2 + n, strcspn(c + 2 + n, "\n"));
	}
	return NULL;
}

/* Is this one of the words of a list? */
static bool word_in(const char *list, const char *word, size_t len)
{
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ", \n");

		if (n == len && strncmp(p, word, n) == 0)
			return true;
		p += n + (p[n] != 0);
	}
	return false;
}

bool hierarchy_is(const char *fstype, const char *options, const char *controllers)
{
	if (!*controllers)
		return strcmp(fstype, "cgroup2") == 0;
	if (strcmp(fstype, "cgroup") != 0)
		return false;
	for (const char *p = controllers; *p;) {
		size_t len = strcspn(p, ",");

		if (!word_in(options, p, len))
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

		if (!hierarchy_is(m->fstype, m->sopts, controllers) || strstr(path, "/..") ||
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
	auto_free char *out = cgroup_path_in(outside, controllers), *in = cgroup_path_in(inside, controllers);
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
	h->list[h->n] = (struct hierarchy){ .controllers = strdup(controllers), .fd = fd };
	return h->list[h->n++].controllers ? 0 : -ENOMEM;
}

/* Of a tree that is no container of liblxc's. */
static int tree_add(struct hierarchies *h, const struct mnts *all, const char *controllers, const char *text)
{
	auto_free char *path = cgroup_path_in(text, controllers);
	int fd;

	if (!path || path[0] != '/' || h->n == HIERARCHIES_MAX)
		return 0;
	fd = folder_open(all, controllers, path);
	if (fd < 0)
		return 0;
	h->list[h->n] = (struct hierarchy){ .controllers = strdup(controllers), .fd = fd, .path = ptr_take(path) };
	return h->list[h->n++].controllers ? 0 : -ENOMEM;
}

/* inside: how the init itself sees its groups; NULL: of a tree that is no container of liblxc's. */
static int all_add(struct hierarchies *h, const char *text, const char *inside, int v2_fd, struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mnts all = { 0 };
	int r = mnts_read(proc_fd, getpid(), &all, e);

	for (const char *line = text; r >= 0 && *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *c = strchr(line, ':'), *end = c ? strchr(c + 1, ':') : NULL;
		auto_free char *controllers = end ? strndup(c + 1, (size_t)(end - c - 1)) : NULL;

		if (controllers)
			r = inside ? one_add(h, &all, controllers, text, inside, v2_fd) :
				     tree_add(h, &all, controllers, text);
	}
	mnts_done(&all);
	if (r < 0)
		hierarchies_close(h);
	return r;
}

static int cgroup_text(pid_t pid, char **ret, struct err *e)
{
	char path[48];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, 65536, ret, NULL);
	return r < 0 ? err_sys(e, r, "reading %s", path) : 0;
}

int hierarchies_open(pid_t init, int v2_fd, struct hierarchies *ret, struct err *e)
{
	auto_free char *outside = NULL, *inside = NULL;
	int r;

	ret->n = 0;
	r = cgroup_text(init, &outside, e);
	if (r < 0)
		return r;
	r = ns_visit(init, CLONE_NEWCGROUP, proc_cgroup_visit, &init, 65536, &inside, e);
	if (r >= 0)
		r = all_add(ret, outside, inside, v2_fd, e);
	return r < 0 ? err_context(e, r, "finding the container's cgroups") : 0;
}

int hierarchies_of_tree(pid_t first, struct hierarchies *ret, struct err *e)
{
	auto_free char *text = NULL;
	int r;

	ret->n = 0;
	r = cgroup_text(first, &text, e);
	if (r < 0)
		return r;
	r = all_add(ret, text, NULL, -1, e);
	return r < 0 ? err_context(e, r, "finding the tree's cgroups") : 0;
}

bool hierarchy_has(const char *controllers, const char *name)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), top = -1;
	auto_free char *list = NULL;
	struct mnts all = { 0 };

	if (*controllers)
		return strcmp(controllers, name) == 0 || word_in(controllers, name, strlen(name));
	if (strcmp(name, CGROUP_UNIFIED) == 0)
		return true;
	if (mnts_read(proc_fd, getpid(), &all, NULL) >= 0)
		top = folder_open(&all, controllers, "/");
	mnts_done(&all);
	return top >= 0 && fd_read_file_at(top, "cgroup.controllers", 4096, &list, NULL) >= 0 &&
	       word_in(list, name, strlen(name));
}

/* A new v1 cpuset takes no process before it has cpus and memory nodes. */
static void cpuset_fill(int parent, int dir)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < array_len(files); i++) {
		auto_free char *have = NULL, *up = NULL;

		if (fd_read_file_at(dir, files[i], 4096, &have, NULL) >= 0 && have[0] <= ' ' &&
		    fd_read_file_at(parent, files[i], 4096, &up, NULL) >= 0)
			(void)fd_write_file_at(dir, files[i], up);
	}
}

static size_t pieces(const char *path)
{
	size_t n = 0;

	for (const char *p = path; *p; p += strcspn(p, "/")) {
		p += strspn(p, "/");
		n += *p != '\0';
	}
	return n;
}

/* From the first folder that is not there on all are made. */
static int guard_tell(struct guard **g, int top, const char *path, size_t n, struct err *e)
{
	char text[PATH_MAX + 32];

	snprintf(text, sizeof(text), "%zu %s", n, path + strspn(path, "/"));
	return guard_add(g, "cgroups", text, top, e);
}

static int path_walk(int top, const char *path, bool make, struct guard **g, bool *ret_made, struct err *e)
{
	int dir = fcntl(top, F_DUPFD_CLOEXEC, 0);
	bool told = false;

	for (const char *p = path; dir >= 0 && *p;) {
		size_t n = strcspn(p, "/");
		auto_fd int parent = -1;
		char name[NAME_MAX + 1];

		if (n == 0) {
			p++;
			continue;
		}
		parent = dir;
		if (n > NAME_MAX || strncmp(p, "..", n < 2 ? 2 : n) == 0)
			return err_set(e, -EINVAL, "%s is no path of a cgroup", path);
		snprintf(name, sizeof(name), "%.*s", (int)n, p);
		if (make && !told && faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
			int r = guard_tell(g, top, path, pieces(p), e);

			if (r < 0)
				return r;
			told = *ret_made = true;
		}
		if (make && mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
			return err_sys(e, -errno, "%s", path);
		dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir >= 0)
			cpuset_fill(parent, dir);
		p += n;
	}
	return dir < 0 ? err_sys(e, -errno, "%s", path) : dir;
}

int hierarchy_make(const char *controllers, const char *path, bool make, struct guard **g, struct hierarchy *ret,
		   struct err *e)
{
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), top = -1;
	struct mnts all = { 0 };
	int r = mnts_read(proc_fd, getpid(), &all, e);

	if (r < 0)
		return r;
	*ret = (struct hierarchy){ .fd = -1 };
	top = folder_open(&all, controllers, "/");
	mnts_done(&all);
	if (top < 0)
		return -ENODEV;
	ret->controllers = strdup(controllers);
	ret->path = strdup(path);
	ret->fd = ret->controllers && ret->path && strlen(path) < PATH_MAX ? path_walk(top, path, make, g, &ret->made, e) :
									     err_sys(e, -ENOMEM, "cgroups");
	if (ret->fd >= 0)
		return 0;
	r = ret->fd == -ENOENT && !make ?
		    err_set(e, -ENOENT, "the cgroup %s:%s is not there, and the mode of --manage-cgroups makes none",
			    controllers, path) :
		    err_context(e, ret->fd, "making a cgroup of \"%s\"", controllers);
	ret->fd = -1;
	free(ptr_take(ret->controllers));
	free(ptr_take(ret->path));
	return r;
}

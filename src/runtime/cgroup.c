#include "runtime/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

#define CGROUP_FILE_MAX (4u << 20)

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(int ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

void cgroup_mounts_done(struct cgroup_mounts *ms)
{
	for (size_t i = 0; i < ms->n; i++) {
		free(ms->m[i].base);
		free(ms->m[i].controllers);
	}
	free(ms->m);
	*ms = (struct cgroup_mounts){ 0 };
}

/* The path of pid 1 in the hierarchy whose controllers are `want` ("" for v2), out of /proc/1/cgroup. */
static int pid1_path(char *text, const char *want, char **ret)
{
	auto_free char *copy = strdup(text);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		if (strcmp(names + 1, want) != 0)
			continue;
		if (str_ends(path, "/init.scope"))
			path[strlen(path) - strlen("/init.scope")] = '\0';
		*ret = strdup(strcmp(path, "/") == 0 ? "" : path);
		return *ret ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

/* /proc/1/cgroup writes a hierarchy's controllers in the kernel's order, its mount options in the same:
 * what is left after the generic options have been taken away. */
static void v1_names(const char *super_options, char *ret, size_t len)
{
	auto_free char *copy = strdup(super_options);
	char *save = NULL;

	*ret = '\0';
	for (char *o = copy ? strtok_r(copy, ",", &save) : NULL; o; o = strtok_r(NULL, ",", &save)) {
		size_t have = strlen(ret);

		if (strcmp(o, "rw") == 0 || strcmp(o, "ro") == 0 || strcmp(o, "xattr") == 0 ||
		    strcmp(o, "noprefix") == 0 || strcmp(o, "clone_children") == 0 ||
		    str_starts(o, "release_agent="))
			continue;
		snprintf(ret + have, len - have, "%s%s", have ? "," : "", o);
	}
}

static void octal_unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

static int mount_add(struct cgroup_mounts *ms, char *pid1, const char *point, const char *options, bool v2)
{
	auto_free char *sub = NULL, *base = NULL, *controllers = NULL;
	char names[512] = "";
	int r;

	if (!v2)
		v1_names(options, names, sizeof(names));
	r = pid1_path(pid1, names, &sub);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (asprintf(&base, "%s%s", point, sub) < 0)
		return -ENOMEM;
	if (v2) {
		auto_free char *path = NULL;

		if (asprintf(&path, "%s/cgroup.controllers", base) < 0)
			return -ENOMEM;
		if (fd_read_file_at(AT_FDCWD, path, 4096, &controllers, NULL) == 0)
			controllers[strcspn(controllers, "\n")] = '\0';
	}
	if (!controllers)
		controllers = strdup(names);
	if (!controllers || array_grow(ms->m, ms->n, ms->cap) < 0)
		return -ENOMEM;
	ms->m[ms->n++] = (struct cgroup_mount){ .base = ptr_take(base),
						.controllers = ptr_take(controllers),
						.v2 = v2 };
	return 0;
}

/* What is mounted over is listed too, but its path leads elsewhere. */
static bool mount_is_reachable(const char *point, uint64_t id)
{
	struct statx st;

	if (statx(AT_FDCWD, point, AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) < 0)
		return false;
	return !(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id == id;
}

/* One line of mountinfo: "36 35 0:30 ROOT POINT OPTIONS [tags] - TYPE SOURCE SUPEROPTIONS". */
static int mount_line(struct cgroup_mounts *ms, char *pid1, char *line)
{
	char *dash = strstr(line, " - "), *save = NULL, *point = NULL, *type, *options;
	const char *p = line;
	uint64_t id;

	if (!dash || parse_u64_at(&p, 10, &id) < 0)
		return 0;
	*dash = '\0';
	type = dash + 3;
	if (!str_starts(type, "cgroup ") && !str_starts(type, "cgroup2 "))
		return 0;
	for (int i = 0; i < 5; i++)
		point = strtok_r(i ? NULL : line, " ", &save);
	options = strrchr(type, ' ');
	if (!point || !options)
		return 0;
	octal_unescape(point);
	if (!mount_is_reachable(point, id))
		return 0;
	return mount_add(ms, pid1, point, options + 1, str_starts(type, "cgroup2 "));
}

int cgroup_mounts_read(struct cgroup_mounts *ret, struct err *e)
{
	auto_free char *mounts = NULL, *pid1 = NULL;
	auto_cgroup_mounts ms = { 0 };
	char *save = NULL;
	int r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", CGROUP_FILE_MAX, &mounts, NULL);

	if (r == 0)
		r = fd_read_file_at(AT_FDCWD, "/proc/1/cgroup", CGROUP_FILE_MAX, &pid1, NULL);
	if (r < 0)
		return err_sys(e, r, "cannot read where cgroups are mounted");
	for (char *line = strtok_r(mounts, "\n", &save); line && r == 0; line = strtok_r(NULL, "\n", &save))
		r = mount_line(&ms, pid1, line);
	if (r < 0)
		return err_sys(e, r, "cannot read where cgroups are mounted");
	*ret = ms;
	ms = (struct cgroup_mounts){ 0 };
	return 0;
}

const struct cgroup_mount *cgroup_mounts_v2(const struct cgroup_mounts *ms)
{
	for (size_t i = 0; i < ms->n; i++)
		if (ms->m[i].v2)
			return &ms->m[i];
	return NULL;
}

static bool words_have(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; *p; p += strcspn(p, ", ")) {
		p += strspn(p, ", ");
		if (strncmp(p, word, n) == 0 && (p[n] == '\0' || p[n] == ',' || p[n] == ' '))
			return true;
	}
	return false;
}

const struct cgroup_mount *cgroup_mounts_with(const struct cgroup_mounts *ms, const char *controller)
{
	for (int v2 = 0; v2 < 2; v2++)
		for (size_t i = 0; i < ms->n; i++)
			if (ms->m[i].v2 == (bool)v2 && words_have(ms->m[i].controllers, controller))
				return &ms->m[i];
	return NULL;
}

static int file_write(const char *dir, const char *file, const char *text)
{
	auto_free char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return -ENOMEM;
	return fd_write_file_at(AT_FDCWD, path, text);
}

int cgroup_kill(const char *dir)
{
	return file_write(dir, "cgroup.kill", "1");
}

/* v1: signals to each process that is in the folder now. */
static void v1_kill(const char *dir)
{
	auto_free char *path = NULL, *text = NULL;
	char *save = NULL;

	if (asprintf(&path, "%s/cgroup.procs", dir) < 0)
		path = NULL;
	if (!path || fd_read_file_at(AT_FDCWD, path, CGROUP_FILE_MAX, &text, NULL) < 0)
		return;
	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		int pid;

		/* 0: a process that is in no PID namespace of ours; signalling it would hit our own group. */
		if (parse_int(s, &pid) == 0 && pid > 1)
			kill(pid, SIGKILL);
	}
}

static int tree_rmdir(const char *dir, bool kill_v1)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((de = readdir(d))) {
		auto_free char *sub = NULL;

		if (de->d_type != DT_DIR || strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue; /* liblxc makes `.lxc` for what is attached */
		if (asprintf(&sub, "%s/%s", dir, de->d_name) < 0)
			r = -ENOMEM;
		else if (tree_rmdir(sub, kill_v1) < 0)
			r = -EBUSY;
	}
	closedir(d);
	if (kill_v1)
		v1_kill(dir);
	if (rmdir(dir) < 0 && errno != ENOENT)
		return -errno;
	return r;
}

int cgroup_remove(const char *dir, bool v2, int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;
	int r;

	for (int wait = 1;; wait = wait < 50 ? wait * 2 : 50) {
		if (access(dir, F_OK) < 0)
			return 0;
		if (v2)
			cgroup_kill(dir);
		r = tree_rmdir(dir, !v2);
		if (r == 0 || now_ms() >= deadline)
			return r;
		sleep_ms(wait);
	}
}

static int events_frozen(int fd)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	const char *p;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	p = strstr(text, "frozen ");
	return p ? p[7] == '1' : -EOPNOTSUPP;
}

int cgroup_freeze(const char *dir, bool frozen, int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;
	auto_free char *path = NULL;
	auto_fd int fd = -1;
	int r;

	if (asprintf(&path, "%s/cgroup.events", dir) < 0)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = file_write(dir, "cgroup.freeze", frozen ? "1" : "0");
	while (r == 0) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		int64_t left = deadline - now_ms();
		int now = events_frozen(fd);

		if (now < 0 || now == frozen)
			return now < 0 ? now : 0;
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
	return r;
}

static int procs_have(const char *dir, pid_t pid)
{
	auto_free char *path = NULL, *text = NULL;
	char *save = NULL;

	if (asprintf(&path, "%s/cgroup.procs", dir) < 0)
		return -ENOMEM;
	if (fd_read_file_at(AT_FDCWD, path, CGROUP_FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		int v;

		if (parse_int(s, &v) == 0 && v == pid)
			return 1;
	}
	return 0;
}

int cgroup_find(const char *dir, pid_t pid, char **ret)
{
	int r = procs_have(dir, pid);
	struct dirent *de;
	DIR *d;

	if (r > 0) {
		*ret = strdup(dir);
		return *ret ? 1 : -ENOMEM;
	}
	if (r < 0)
		return r;
	d = opendir(dir);
	while (d && r == 0 && (de = readdir(d))) {
		auto_free char *sub = NULL;

		if (de->d_type != DT_DIR || strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue; /* liblxc makes `.lxc` for what is attached */
		r = asprintf(&sub, "%s/%s", dir, de->d_name) < 0 ? -ENOMEM : cgroup_find(sub, pid, ret);
	}
	if (d)
		closedir(d);
	return r;
}

int cgroup_holds(const char *dir, pid_t pid)
{
	auto_free char *at = NULL;

	return cgroup_find(dir, pid, &at);
}

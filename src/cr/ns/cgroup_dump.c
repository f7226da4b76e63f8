/* cgroup - the groups that a container has made below its own, who is in them, and their settings.
 *
 * Read: the folders below the container's own in each hierarchy, cgroup.procs, the settings of the
 * list in hierarchy.c.  Put back: cgroup_restore.c.  In a migration the limits of the container's own
 * group come from the target's configuration, and device rules of v1 as well.  Refused by name: threaded
 * groups.  Not covered: threads in a v1 group other than their process', BPF programs attached to groups. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/cr.h"
#include "cr/ns/cgroup.h"
#include "cr/ns/ids.h"
#include "cr/ns/ns.h"
#include "cr/task/tree.h"

#define DEPTH_MAX 64
#define VALUE_MAX 65536
#define PROCS_MAX (4u << 20)

struct walk {
	struct dump *d;
	const struct ids *ids;
	const char *controllers;
	const struct hierarchy *h;
	bool check;
	struct err *e;
	char path[PATH_MAX];
};

/* The limits of a container's own group are configuration, those of a folder that others are in too are theirs; which
 * controllers the groups below have is neither. */
static bool setting_travels(const struct walk *w, const char *name)
{
	if (strcmp(name, CGROUP_DEVICES) == 0 && !w->d->opts)
		return false;
	return *w->path || (w->d->opts && !w->h->shared) || strcmp(name, "cgroup.subtree_control") == 0;
}

static int settings_read(struct walk *w, int dir, GwCgroup *m)
{
	size_t cap = 0;

	for (size_t i = 0; cgroup_settings[i]; i++) {
		auto_free char *value = NULL;
		GwCgroupSetting *s;

		if (!setting_travels(w, cgroup_settings[i]))
			continue;
		if (fd_read_file_at(dir, cgroup_settings[i], VALUE_MAX, &value, NULL) < 0)
			continue;
		if (strcmp(cgroup_settings[i], CGROUP_DEVICES) != 0)
			value[strcspn(value, "\n")] = 0;
		if (!*value)
			continue;
		s = calloc(1, sizeof(*s));
		if (!s || array_grow(m->settings, m->n_settings, cap) < 0) {
			free(s);
			return err_sys(w->e, -ENOMEM, "cgroups");
		}
		gw_cgroup_setting__init(s);
		m->settings[m->n_settings++] = s;
		s->name = (char *)cgroup_settings[i];
		s->value = ptr_take(value);
	}
	return 0;
}

static const struct task *task_by_pid(const struct dump *d, pid_t pid)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (d->tasks[i]->pid == pid)
			return d->tasks[i];
	return NULL;
}

/* Who is in the own group without being in the tree (entered by exec) is not ours. */
static int procs_read(struct walk *w, int dir, GwCgroup *m)
{
	auto_free char *text = NULL;
	size_t cap = 0;
	int r = fd_read_file_at(dir, "cgroup.procs", PROCS_MAX, &text, NULL);

	if (r < 0)
		return r == -EOPNOTSUPP ? 0
					: err_sys(w->e, r, "processes of the cgroup /%s", w->path);
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		const struct task *t = task_by_pid(w->d, (pid_t)strtol(p, NULL, 10));

		if (!t || t->zombie)
			continue;
		if (array_grow(m->pids, m->n_pids, cap) < 0)
			return err_sys(w->e, -ENOMEM, "cgroups");
		m->pids[m->n_pids++] = (uint32_t)t->nspid;
	}
	return 0;
}

static int group_check(struct walk *w, int dir)
{
	auto_free char *type = NULL;
	auto_buf where = BUF_INIT;
	int r;

	if (*w->controllers || fd_read_file_at(dir, "cgroup.type", 64, &type, NULL) < 0)
		return 0;
	if (!str_starts(type, "threaded") && !str_starts(type, "domain threaded"))
		return 0;
	r = buf_addf(&where, "cgroup /%s", w->path);
	if (r >= 0)
		r = refusals_add(&w->d->refusals, 0, where.data, "a threaded cgroup",
				 "it cannot be carried yet");
	return r < 0 ? err_sys(w->e, r, "checking cgroups") : 0;
}

static int group_put(struct walk *w, int dir)
{
	GwCgroup m = GW_CGROUP__INIT;
	struct stat st, procs;
	int r;

	if (fstat(dir, &st) < 0 || fstatat(dir, "cgroup.procs", &procs, 0) < 0)
		return err_sys(w->e, -errno, "the cgroup /%s", w->path);
	m.controllers = (char *)w->controllers;
	m.path = w->path;
	m.outside = *w->path ? NULL : w->h->path;
	m.has_mode = m.has_uid = m.has_gid = m.has_procs_uid = m.has_procs_gid = m.has_procs_mode = true;
	m.mode = st.st_mode & 07777;
	m.uid = id_inside(&w->ids->uid, st.st_uid);
	m.gid = id_inside(&w->ids->gid, st.st_gid);
	m.procs_uid = id_inside(&w->ids->uid, procs.st_uid);
	m.procs_gid = id_inside(&w->ids->gid, procs.st_gid);
	m.procs_mode = procs.st_mode & 0777;
	r = settings_read(w, dir, &m);
	if (r >= 0)
		r = procs_read(w, dir, &m);
	if (r >= 0)
		r = sink_put(w->d->sink, REC_GW_CGROUP, 0, &m.base, w->e);
	for (size_t i = 0; i < m.n_settings; i++) {
		free(m.settings[i]->value);
		free(m.settings[i]);
	}
	free(m.settings);
	free(m.pids);
	return r;
}

static bool group_all_ours(const struct dump *d, int dir)
{
	auto_free char *text = NULL;
	bool all = true;

	if (fd_read_file_at(dir, "cgroup.procs", PROCS_MAX, &text, NULL) < 0)
		return true;
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		all &= task_by_pid(d, (pid_t)strtol(p, NULL, 10)) != NULL;
	}
	return all;
}

static int group(struct walk *w, int dir, unsigned depth)
{
	size_t len = strlen(w->path);
	struct dirent *de;
	DIR *list;
	int fd, r;

	r = w->check ? group_check(w, dir) : group_put(w, dir);
	if (r < 0)
		return r;
	if (depth > DEPTH_MAX)
		return err_set(w->e, -ELOOP, "cgroups are nested too deep");
	fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	list = fd >= 0 ? fdopendir(fd) : NULL;
	if (!list) {
		r = err_sys(w->e, -errno, "the cgroup /%s", w->path);
		fd_close(&fd);
		return r;
	}
	rewinddir(list);
	while (r >= 0 && (de = readdir(list))) {
		auto_fd int sub = -1;

		if (de->d_name[0] == '.' || de->d_type != DT_DIR)
			continue;
		if (snprintf(w->path + len, sizeof(w->path) - len, "%s%s", len ? "/" : "",
			     de->d_name) >= (int)(sizeof(w->path) - len)) {
			r = err_set(w->e, -ENAMETOOLONG, "a cgroup's path is too long");
		} else {
			sub = openat(dir, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (sub >= 0)
				r = group(w, sub, depth + 1);
		}
		w->path[len] = 0;
	}
	closedir(list);
	return r;
}

/* ---- a folder that the tree shares with others: what is below it counts where processes of the tree are ---- */

struct seen {
	char **paths;
	size_t n, cap;
};

static int seen_put(struct walk *w, struct seen *s, const char *path, size_t len)
{
	auto_fd int dir = -1;
	char *copy;

	for (size_t i = 0; i < s->n; i++)
		if (strlen(s->paths[i]) == len && strncmp(s->paths[i], path, len) == 0)
			return 0;
	copy = strndup(path, len);
	if (!copy || array_grow(s->paths, s->n, s->cap) < 0) {
		free(copy);
		return err_sys(w->e, -ENOMEM, "cgroups");
	}
	s->paths[s->n++] = copy;
	if (len >= sizeof(w->path))
		return err_set(w->e, -ENAMETOOLONG, "a cgroup's path is too long");
	memcpy(w->path, copy, len + 1);
	dir = *w->path ? fd_open_beneath(w->h->fd, w->path, O_RDONLY | O_DIRECTORY, 0) :
			 fcntl(w->h->fd, F_DUPFD_CLOEXEC, 0);
	if (dir < 0)
		return err_sys(w->e, dir, "opening the cgroup /%s", w->path);
	return w->check ? group_check(w, dir) : group_put(w, dir);
}

static int task_groups(struct walk *w, struct seen *s, struct task *t)
{
	auto_free char *path = NULL;
	const char *own = w->h->path[1] ? w->h->path : "", *below, *text, *first;
	size_t n = strlen(own);
	int r = task_cgroups(t, &text);

	/* Most are where the first process is, and have nothing to add. */
	if (r >= 0 && t != w->d->tasks[0] && task_cgroups(w->d->tasks[0], &first) >= 0 && strcmp(text, first) == 0)
		return 0;
	path = r < 0 ? NULL : cgroup_path_in(text, w->controllers);
	if (!path)
		return 0;
	if (strncmp(path, own, n) != 0 || (path[n] && path[n] != '/'))
		return w->check ? refusals_add(&w->d->refusals, t->nspid, "", "cgroup",
					       "%s:%s is not below that of the tree's first process (%s); "
					       "--manage-cgroups=ignore leaves cgroups to whoever restores",
					       w->controllers, path, w->h->path) :
				  0;
	below = path + n + (path[n] == '/');
	if (*below && r >= 0)
		r = seen_put(w, s, "", 0);
	for (const char *p = below; *p && r >= 0;) {
		p += strcspn(p, "/");
		r = seen_put(w, s, below, (size_t)(p - below));
		p += *p == '/';
	}
	return r;
}

static int shared_walk(struct walk *w)
{
	struct seen s = { 0 };
	/* Who is at the hierarchy's root is nowhere in particular, and a restore leaves it where the restorer is. */
	int r = w->h->path[1] ? seen_put(w, &s, "", 0) : 0;

	for (size_t i = 0; i < w->d->n_tasks && r >= 0; i++)
		if (!w->d->tasks[i]->zombie)
			r = task_groups(w, &s, w->d->tasks[i]);
	for (size_t i = 0; i < s.n; i++)
		free(s.paths[i]);
	free(s.paths);
	return r;
}

static int all_walk(struct dump *d, bool check, struct err *e)
{
	auto_free struct walk *w = calloc(1, sizeof(*w));
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	auto_free struct hierarchies *h = calloc(1, sizeof(*h));
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (!w || !ids || !h || proc_fd < 0)
		return err_sys(e, -ENOMEM, "cgroups");
	r = ids_load(proc_fd, d->root_pid, ids, e);
	if (r >= 0)
		r = d->opts ? hierarchies_of_tree(d->root_pid, h, e) :
			      hierarchies_open(d->root_pid, d->cgroup_fd, h, e);
	for (size_t i = 0; i < h->n && r >= 0; i++) {
		/* The hierarchy's root is nobody's own, even where nobody else is in it. */
		h->list[i].shared = d->opts && (!h->list[i].path[1] || (!(d->ns & CLONE_NEWCGROUP) &&
									 !group_all_ours(d, h->list[i].fd)));
		*w = (struct walk){ .d = d,
				    .ids = ids,
				    .controllers = h->list[i].controllers,
				    .h = &h->list[i],
				    .check = check,
				    .e = e };
		r = h->list[i].shared ? shared_walk(w) : group(w, h->list[i].fd, 0);
	}
	hierarchies_close(h);
	return r;
}

static bool ignored(const struct dump *d)
{
	return d->opts && d->opts->cgroups == CR_CGROUP_IGNORE;
}

static int check(struct dump *d, struct err *e)
{
	return ignored(d) ? 0 : all_walk(d, true, e);
}

static int frozen(struct dump *d, struct err *e)
{
	return ignored(d) ? 0 : all_walk(d, false, e);
}

const struct cr_part cr_part_cgroup = {
	.name = "cgroups",
	.check = check,
	.frozen = frozen,
	.load = cgroup_load,
	.build = cgroup_build,
	.finish = cgroup_finish,
	.restore_done = cgroup_restore_done,
};

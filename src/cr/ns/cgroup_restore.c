/* cgroup_restore - making the container's groups below its own at the target, and putting its
 * processes into them.
 *
 * The own folders are opened while the engine still sees the host's mounts.  Groups are made in
 * `build`; who is in them, the controllers of their children and the settings come at the end,
 * since v2 gives a group with processes in it no controllers for its children, and a process in
 * v1's cpuset needs its cpus first. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/cr.h"
#include "cr/guard.h"
#include "cr/ns/cgroup.h"
#include "cr/ns/ids.h"
#include "cr/ns/ns.h"

typedef int (*group_fn)(struct restore *r, const GwCgroup *m, int own, struct err *e);

static int path_check(const GwCgroup *m, struct err *e)
{
	if (!m->controllers || !m->path || strlen(m->path) >= PATH_MAX || m->path[0] == '/')
		return err_set(e, -EPROTO, "the image has an impossible cgroup");
	for (const char *c = m->path; *c;) {
		size_t n = strcspn(c, "/");

		if (n == 0 || c[0] == '.' || n > NAME_MAX)
			return err_set(e, -EPROTO, "the image has an impossible cgroup");
		c += n + (c[n] == '/');
	}
	for (size_t i = 0; i < m->n_settings; i++) {
		bool early;

		if (!m->settings[i]->name || !m->settings[i]->value ||
		    !cgroup_setting_known(m->settings[i]->name, &early))
			return err_set(e, -EPROTO, "the image has an unknown setting of a cgroup");
	}
	return 0;
}

int cgroup_load(struct restore *r, struct err *e)
{
	struct hierarchies *h;
	const struct record *rec;
	auto_fd int v2 = -1;
	size_t pos = 0;
	int x = 0;

	while ((rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos)) && x >= 0)
		x = path_check((const GwCgroup *)rec->msg, e);
	if (x < 0)
		return x;
	if (!r->cgroup)
		return 0;
	/* The own folder's descriptor is the engine's from `enter` on; here by its path. */
	v2 = open(r->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	h = calloc(1, sizeof(*h));
	if (v2 < 0 || !h) {
		x = v2 < 0 ? -errno : -ENOMEM;
		free(h);
		return err_sys(e, x, "opening the cgroup %s", r->cgroup);
	}
	r->part_data[NS_DATA_CGROUP] = h;
	return hierarchies_open(r->init_pid, v2, h, e);
}

/* Groups for which the target has no hierarchy of the same controllers are left out: the container
 * sees none there. */
static int each(struct restore *r, group_fn fn, struct err *e)
{
	struct hierarchies *h = r->part_data[NS_DATA_CGROUP];
	const struct record *rec;
	size_t pos = 0;

	while (h && (rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos))) {
		const GwCgroup *m = (const GwCgroup *)rec->msg;

		for (size_t i = 0; i < h->n; i++) {
			int x;

			if (strcmp(h->list[i].controllers, m->controllers) != 0)
				continue;
			x = fn(r, m, h->list[i].fd, e);
			if (x < 0)
				return err_context(e, x, "cgroup %s:/%s", m->controllers, m->path);
		}
	}
	return 0;
}

static int setting_write(int dir, const char *name, const char *value)
{
	auto_free char *now = NULL;
	int r = fd_read_file_at(dir, name, 4096, &now, NULL);

	if (r < 0)
		return r;
	now[strcspn(now, "\n")] = 0;
	return strcmp(now, value) == 0 ? 0 : fd_write_file_at(dir, name, value);
}

static int group_open(const GwCgroup *m, int own)
{
	return *m->path ? fd_open_beneath(own, m->path, O_RDONLY | O_DIRECTORY, 0)
			: fcntl(own, F_DUPFD_CLOEXEC, 0);
}

/* A cpuset without cpus takes no process: its parent's where the source's do not exist here. */
static void cpuset_inherit(int own, const GwCgroup *m, int dir, const char *name)
{
	auto_free char *parent = strdup(m->path), *value = NULL;
	auto_fd int up = -1;
	char *slash = parent ? strrchr(parent, '/') : NULL;

	if (!parent)
		return;
	if (slash)
		*slash = 0;
	up = slash ? fd_open_beneath(own, parent, O_RDONLY | O_DIRECTORY, 0)
		   : fcntl(own, F_DUPFD_CLOEXEC, 0);
	if (up >= 0 && fd_read_file_at(up, name, 4096, &value, NULL) >= 0)
		fd_write_file_at(dir, name, value);
}

static int group_make(struct restore *r, const GwCgroup *m, int own, struct err *e)
{
	auto_fd int dir = -1;
	int told = 0;

	/* A container that liblxc has started goes as a whole where its restore fails. */
	if (r->opts && *m->path && faccessat(own, m->path, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		char text[PATH_MAX + 8];

		snprintf(text, sizeof(text), "1 %s", m->path);
		told = guard_add(&r->guard, "cgroups", text, own, e);
	}
	if (told < 0)
		return told;
	if (*m->path && mkdirat(own, m->path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "making it");
	dir = group_open(m, own);
	if (dir < 0)
		return err_sys(e, dir, "opening it");
	for (size_t i = 0; i < m->n_settings; i++) {
		const GwCgroupSetting *s = m->settings[i];
		bool early;

		cgroup_setting_known(s->name, &early);
		if (early && *m->path && *m->controllers &&
		    setting_write(dir, s->name, s->value) < 0)
			cpuset_inherit(own, m, dir, s->name);
	}
	return 0;
}

/* Made with the container's root as owner; who else may manage the group shows in its files. */
static int group_own(const GwCgroup *m, int dir, const struct ids *ids)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.threads",
					     "cgroup.subtree_control", "tasks" };
	uid_t uid = id_outside(&ids->uid, m->uid), procs = id_outside(&ids->uid, m->procs_uid);
	gid_t gid = id_outside(&ids->gid, m->gid);

	if (fchown(dir, uid, gid) < 0 || fchmod(dir, m->mode & 07777) < 0)
		return -errno;
	for (size_t i = 0; i < array_len(files); i++)
		if (fchownat(dir, files[i], procs, (gid_t)-1, 0) < 0 && errno != ENOENT)
			return -errno;
	return 0;
}

static int group_fill(struct restore *r, const GwCgroup *m, int own, struct err *e)
{
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	auto_fd int dir = group_open(m, own);
	int x;

	if (dir < 0 || !ids)
		return err_sys(e, dir < 0 ? dir : -ENOMEM, "opening it");
	if (!*m->path)
		return 0;
	for (size_t i = 0; i < m->n_pids; i++) {
		struct rtask *t = restore_task(r, (pid_t)m->pids[i]);
		char text[16];

		if (!t || t->zombie)
			continue;
		snprintf(text, sizeof(text), "%d", (int)t->pid);
		x = fd_write_file_at(dir, "cgroup.procs", text);
		if (x < 0)
			return err_sys(e, x, "putting process %u into it", m->pids[i]);
	}
	x = ids_load(r->proc_fd, r->init_pid, ids, e);
	if (x < 0)
		return x;
	x = group_own(m, dir, ids);
	return x < 0 ? err_sys(e, x, "giving it to its owner") : 0;
}

/* "cpu memory" as "+cpu +memory". */
static int controllers_enable(int dir, const char *list)
{
	char name[64];
	int r = 0;

	for (const char *p = list; *p && r >= 0;) {
		size_t len = strcspn(p, " ");

		if (len && len < sizeof(name) - 1) {
			snprintf(name, sizeof(name), "+%.*s", (int)len, p);
			r = fd_write_file_at(dir, "cgroup.subtree_control", name);
		}
		p += len + (p[len] == ' ');
	}
	return r;
}

/* A setting that the target's kernel does not take leaves its default, and is said. */
static int group_set(struct restore *r, const GwCgroup *m, int own, struct err *e)
{
	auto_fd int dir = group_open(m, own);

	if (dir < 0)
		return err_sys(e, dir, "opening it");
	for (size_t i = 0; i < m->n_settings; i++) {
		const GwCgroupSetting *s = m->settings[i];
		bool control = strcmp(s->name, "cgroup.subtree_control") == 0, early;
		int x;

		cgroup_setting_known(s->name, &early);
		if ((early && *m->controllers) || (!*m->path && !control))
			continue;
		x = control ? controllers_enable(dir, s->value)
			    : setting_write(dir, s->name, s->value);
		if (x < 0 && x != -ENOENT)
			log_warn("cgroup %s:/%s: %s stays as it is: %s", m->controllers, m->path,
				 s->name, strerror(-x));
	}
	return 0;
}

int cgroup_build(struct restore *r, struct err *e)
{
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	int x;

	if (!r->part_data[NS_DATA_CGROUP])
		return 0;
	x = ids ? ids_load(r->proc_fd, r->init_pid, ids, e) : err_sys(e, -ENOMEM, "cgroups");
	if (x >= 0)
		x = ids_fs_enter(ids, e);
	if (x < 0)
		return x;
	x = each(r, group_make, e);
	ids_fs_leave();
	return x;
}

/* Records stand parents first, so controllers reach children in order. */
int cgroup_finish(struct restore *r, struct err *e)
{
	int x = each(r, group_fill, e);

	return x < 0 ? x : each(r, group_set, e);
}

/* ---- of a restore that makes its cgroups itself ---- */

/* Where the tree's own folder of a hierarchy shall be: as asked for, else where it was. */
static const char *own_path(const struct restore *r, const GwCgroup *m)
{
	const char *path = m->outside;

	for (size_t i = 0; i < r->opts->cgroup_roots.n; i++) {
		const struct cr_pair *p = &r->opts->cgroup_roots.v[i];

		if (!*p->key || strcmp(p->key, m->controllers) == 0)
			path = p->value;
	}
	return path;
}

static int seed_join(struct restore *r, struct hierarchies *h, const GwCgroup *m, struct err *e)
{
	const char *path = own_path(r, m);
	struct hierarchy *x = &h->list[h->n];
	char pid[16];
	int ret;

	if (*m->path || !path || h->n == HIERARCHIES_MAX)
		return 0;
	ret = hierarchy_make(m->controllers, path, &r->guard, x, e);
	if (ret == -ENOENT) {
		log_warn("this host has no cgroup hierarchy \"%s\"", m->controllers);
		return 0;
	}
	if (ret < 0)
		return ret;
	h->n++;
	snprintf(pid, sizeof(pid), "%d", (int)r->init_pid);
	ret = fd_write_file_at(x->fd, "cgroup.procs", pid);
	return ret < 0 ? err_sys(e, ret, "putting the first process into the cgroup %s:%s", m->controllers, path) : 0;
}

int cgroup_seed(struct restore *r, struct err *e)
{
	const struct record *rec;
	struct hierarchies *h;
	size_t pos = 0;
	int x = 0;

	if (r->opts->cgroups == CR_CGROUP_IGNORE)
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_sys(e, -ENOMEM, "cgroups");
	r->part_data[NS_DATA_CGROUP] = h;
	while (x >= 0 && (rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos)))
		x = seed_join(r, h, (const GwCgroup *)rec->msg, e);
	return x;
}

void cgroup_restore_done(struct restore *r)
{
	struct hierarchies *h = r->part_data[NS_DATA_CGROUP];

	if (h)
		hierarchies_close(h);
	free(h);
	r->part_data[NS_DATA_CGROUP] = NULL;
}

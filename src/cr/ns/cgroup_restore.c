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
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
#include "mnt.pb-c.h"

struct groups {
	struct hierarchies h;
	bool *made; /* by us, for each record */
	size_t n_records;
};

struct group {
	const GwCgroup *m;
	int own;       /* the tree's own folder in this hierarchy */
	bool *made;
};
typedef int (*group_fn)(struct restore *r, struct group *g, struct err *e);

/* ---- what --manage-cgroups allows ---- */

static bool may_make(const struct restore *r)
{
	return !r->opts || (r->opts->cgroups != CR_CGROUP_NONE && r->opts->cgroups != CR_CGROUP_PROPS);
}

static bool may_set(const struct restore *r, const struct group *g)
{
	if (!r->opts)
		return true;
	switch (r->opts->cgroups) {
	case CR_CGROUP_PROPS:
	case CR_CGROUP_FULL:
	case CR_CGROUP_STRICT:
		return true;
	case CR_CGROUP_SOFT:
		return *g->made;
	default:
		return false;
	}
}

static bool must_be_new(const struct restore *r)
{
	return r->opts && r->opts->cgroups == CR_CGROUP_STRICT;
}

/* ---- the records ---- */

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

static struct groups *groups_new(struct restore *r)
{
	struct groups *gs = calloc(1, sizeof(*gs));
	size_t pos = 0;

	if (!gs)
		return NULL;
	while (image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos))
		gs->n_records++;
	gs->made = calloc(gs->n_records + 1, sizeof(*gs->made));
	r->part_data[NS_DATA_CGROUP] = gs;
	return gs->made ? gs : NULL;
}

int cgroup_load(struct restore *r, struct err *e)
{
	const struct record *rec;
	struct groups *gs;
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
	gs = groups_new(r);
	if (v2 < 0 || !gs)
		return err_sys(e, v2 < 0 ? -errno : -ENOMEM, "opening the cgroup %s", r->cgroup);
	return hierarchies_open(r->init_pid, v2, &gs->h, e);
}

/* Groups for which the target has no hierarchy of the same controllers are left out: the container
 * sees none there. */
static int each(struct restore *r, group_fn fn, struct err *e)
{
	struct groups *gs = r->part_data[NS_DATA_CGROUP];
	const struct record *rec;
	size_t pos = 0;

	for (size_t k = 0; gs && (rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos)); k++) {
		const GwCgroup *m = (const GwCgroup *)rec->msg;

		for (size_t i = 0; i < gs->h.n; i++) {
			struct group g = { .m = m, .own = gs->h.list[i].fd, .made = &gs->made[k] };
			int x;

			if (strcmp(gs->h.list[i].controllers, m->controllers) != 0)
				continue;
			x = fn(r, &g, e);
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

/* What is allowed line by line, behind a denial of all, which a group with others below it does not take; and none can
 * be allowed more than the one above it. */
static int devices_write(int dir, const char *lines)
{
	auto_free char *copy = strdup(lines), *now = NULL;
	char *save = NULL;
	int r = copy ? fd_read_file_at(dir, CGROUP_DEVICES, 65536, &now, NULL) : -ENOMEM;

	if (r < 0 || strcmp(now, lines) == 0)
		return r;
	r = fd_write_file_at(dir, "devices.deny", "a");
	for (char *line = strtok_r(copy, "\n", &save); line && r >= 0; line = strtok_r(NULL, "\n", &save))
		r = fd_write_file_at(dir, "devices.allow", line);
	return r;
}

static void early_set(const struct group *g, int dir)
{
	for (size_t i = 0; i < g->m->n_settings; i++) {
		const GwCgroupSetting *s = g->m->settings[i];
		bool early;
		int x;

		cgroup_setting_known(s->name, &early);
		if (!early)
			continue;
		x = strcmp(s->name, CGROUP_DEVICES) == 0 ? devices_write(dir, s->value) :
							   setting_write(dir, s->name, s->value);
		if (x < 0 && *g->m->path && str_starts(s->name, "cpuset."))
			cpuset_inherit(g->own, g->m, dir, s->name);
		else if (x < 0 && x != -ENOENT)
			log_warn("cgroup %s:/%s: %s stays as it is: %s", g->m->controllers, g->m->path, s->name,
				 strerror(-x));
	}
}

/* A container that liblxc has started goes as a whole where its restore fails. */
static int group_tell(struct restore *r, const GwCgroup *m, int own, struct err *e)
{
	char text[PATH_MAX + 8];

	if (!r->opts || faccessat(own, m->path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	snprintf(text, sizeof(text), "1 %s", m->path);
	return guard_add(&r->guard, "cgroups", text, own, e);
}

static int group_make(struct restore *r, struct group *g, struct err *e)
{
	const GwCgroup *m = g->m;
	auto_fd int dir = -1;

	if (*m->path && may_make(r)) {
		int told = group_tell(r, m, g->own, e);

		if (told < 0)
			return told;
		*g->made = mkdirat(g->own, m->path, 0755) == 0;
		if (!*g->made && errno != EEXIST)
			return err_sys(e, -errno, "making it");
		if (!*g->made && must_be_new(r))
			return err_set(e, -EEXIST, "it is there already, and --manage-cgroups=strict makes all of them");
	}
	dir = group_open(m, g->own);
	if (dir == -ENOENT && !may_make(r))
		return err_set(e, dir, "it is not there, and the mode of --manage-cgroups makes none");
	if (dir < 0)
		return err_sys(e, dir, "opening it");
	if (*m->controllers && (*m->path || r->opts) && may_set(r, g))
		early_set(g, dir);
	return 0;
}

/* Made with the container's root as owner; who else may manage the group shows in its files.  An owner of the own group
 * that had no number inside was the host's root. */
static uint32_t owner_of(const struct id_map *map, const struct group *g, uint32_t inside)
{
	return !*g->m->path && inside == IDS_NOBODY ? (uint32_t)-1 : id_outside(map, inside);
}

static int group_own(const struct group *g, int dir, const struct ids *ids)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.threads",
					     "cgroup.subtree_control", "tasks" };
	const GwCgroup *m = g->m;
	uid_t uid = owner_of(&ids->uid, g, m->uid), procs = owner_of(&ids->uid, g, m->procs_uid);
	gid_t gid = owner_of(&ids->gid, g, m->gid);
	gid_t procs_gid = m->has_procs_gid ? owner_of(&ids->gid, g, m->procs_gid) : (gid_t)-1;

	if (fchown(dir, uid, gid) < 0 || fchmod(dir, m->mode & 07777) < 0)
		return -errno;
	for (size_t i = 0; i < array_len(files); i++) {
		/* Who is neither owner nor in the group gets no say, whatever an image has. */
		if (fchownat(dir, files[i], procs, procs_gid, 0) < 0 ||
		    (m->has_procs_mode && fchmodat(dir, files[i], m->procs_mode & 0775, 0) < 0)) {
			if (errno != ENOENT)
				return -errno;
		}
	}
	return 0;
}

static int procs_put(struct restore *r, const GwCgroup *m, int dir, struct err *e)
{
	for (size_t i = 0; i < m->n_pids; i++) {
		struct rtask *t = restore_task(r, (pid_t)m->pids[i]);
		char text[16];
		int x;

		if (!t || t->zombie)
			continue;
		snprintf(text, sizeof(text), "%d", (int)t->pid);
		x = fd_write_file_at(dir, "cgroup.procs", text);
		if (x < 0)
			return err_sys(e, x, "putting process %u into it", m->pids[i]);
	}
	return 0;
}

static int group_fill(struct restore *r, struct group *g, struct err *e)
{
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	auto_fd int dir = group_open(g->m, g->own);
	int x = 0;

	if (dir < 0 || !ids)
		return err_sys(e, dir < 0 ? dir : -ENOMEM, "opening it");
	if (*g->m->path)
		x = procs_put(r, g->m, dir, e);
	/* A folder that was there has its owner, but where all shall be as it was. */
	if (x < 0 || (r->opts ? !*g->made && !may_set(r, g) : !*g->m->path))
		return x;
	x = ids_load(r->proc_fd, r->init_pid, ids, e);
	if (x < 0)
		return x;
	x = group_own(g, dir, ids);
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

static int setting_apply(int dir, const GwCgroupSetting *s)
{
	if (strcmp(s->name, "cgroup.subtree_control") == 0)
		return controllers_enable(dir, s->value);
	return setting_write(dir, s->name, s->value);
}

/* The groups below a folder that was there need their controllers all the same. */
static bool wants_setting(const struct restore *r, const struct group *g, const char *name)
{
	bool early;

	cgroup_setting_known(name, &early);
	if (early && *g->m->controllers)
		return false;
	if (!*g->m->path && strcmp(name, "cgroup.subtree_control") == 0)
		return may_make(r);
	return (*g->m->path || r->opts) && may_set(r, g);
}

/* A setting that the target's kernel does not take leaves its default, and is said. */
static int group_set(struct restore *r, struct group *g, struct err *e)
{
	const GwCgroup *m = g->m;
	auto_fd int dir = group_open(m, g->own);

	if (dir < 0)
		return err_sys(e, dir, "opening it");
	for (size_t i = 0; i < m->n_settings; i++) {
		const GwCgroupSetting *s = m->settings[i];
		int x = wants_setting(r, g, s->name) ? setting_apply(dir, s) : 0;

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

/* Where the tree's own folder of a hierarchy shall be: as asked for, else where it was.  *ret_given: it is the
 * caller's, who may have made it. */
static const char *own_path(const struct restore *r, const GwCgroup *m, bool *ret_given)
{
	const char *all = NULL;

	*ret_given = true;
	for (size_t i = 0; i < r->opts->cgroup_roots.n; i++) {
		const struct cr_pair *p = &r->opts->cgroup_roots.v[i];

		if (!*p->key)
			all = p->value;
		else if (hierarchy_has(m->controllers, p->key))
			return p->value;
	}
	*ret_given = all;
	return all ? all : m->outside;
}

static int seed_join(struct restore *r, struct hierarchies *h, struct group *g, struct err *e)
{
	const GwCgroup *m = g->m;
	struct hierarchy *x = &h->list[h->n];
	bool given = false;
	const char *path = own_path(r, m, &given);
	char pid[16];
	int ret;

	if (*m->path || !path || h->n == HIERARCHIES_MAX)
		return 0;
	ret = hierarchy_make(m->controllers, path, may_make(r), &r->guard, x, e);
	if (ret == -ENODEV) {
		log_warn("this host has no cgroup hierarchy \"%s\"", m->controllers);
		return 0;
	}
	if (ret < 0)
		return ret;
	h->n++;
	*g->made = x->made;
	/* The root of a hierarchy is always there. */
	if (must_be_new(r) && !given && !*g->made && path[1])
		return err_set(e, -EEXIST, "the cgroup %s:%s is there already, and --manage-cgroups=strict makes all of them",
			       m->controllers, path);
	snprintf(pid, sizeof(pid), "%d", (int)r->init_pid);
	ret = fd_write_file_at(x->fd, "cgroup.procs", pid);
	return ret < 0 ? err_sys(e, ret, "putting the first process into the cgroup %s:%s", m->controllers, path) : 0;
}

int cgroup_seed(struct restore *r, struct err *e)
{
	const struct record *rec;
	struct groups *gs;
	size_t pos = 0;
	int x = 0;

	if (r->opts->cgroups == CR_CGROUP_IGNORE)
		return 0;
	gs = groups_new(r);
	if (!gs)
		return err_sys(e, -ENOMEM, "cgroups");
	for (size_t k = 0; x >= 0 && (rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos)); k++) {
		struct group g = { .m = (const GwCgroup *)rec->msg, .own = -1, .made = &gs->made[k] };

		x = seed_join(r, &gs->h, &g, e);
	}
	return x;
}

/* The path below the own group of what a mount has shown; NULL: it lay elsewhere. */
static const char *path_below(const char *own, const char *root)
{
	size_t n = own[1] ? strlen(own) : 0;

	if (!own[1] || strncmp(root, own, n) != 0 || (root[n] && root[n] != '/'))
		return NULL;
	return root + n + (root[n] == '/');
}

int cgroup_mount_open(struct restore *r, const MntEntry *m)
{
	const struct groups *gs = r->part_data[NS_DATA_CGROUP];
	const struct record *rec;
	size_t pos = 0;

	while (gs && m->fsname && (rec = image_find(r->image, REC_GW_CGROUP, REC_ANY, &pos))) {
		const GwCgroup *c = (const GwCgroup *)rec->msg;
		const char *below = *c->path || !c->outside ? NULL : path_below(c->outside, m->root);

		if (!below || !hierarchy_is(m->fsname, m->options, c->controllers))
			continue;
		for (size_t i = 0; i < gs->h.n; i++) {
			auto_fd int dir = -1;
			int fd;

			if (strcmp(gs->h.list[i].controllers, c->controllers) != 0)
				continue;
			dir = *below ? fd_open_beneath(gs->h.list[i].fd, below, O_PATH | O_DIRECTORY, 0) :
				       fcntl(gs->h.list[i].fd, F_DUPFD_CLOEXEC, 0);
			fd = dir < 0 ? -ENOENT : (int)syscall(SYS_open_tree, dir, "", OPEN_TREE_CLONE |
							      OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
			return fd < 0 ? -ENOENT : fd;
		}
	}
	return -ENOENT;
}

void cgroup_restore_done(struct restore *r)
{
	struct groups *gs = r->part_data[NS_DATA_CGROUP];

	if (gs) {
		hierarchies_close(&gs->h);
		free(gs->made);
	}
	free(gs);
	r->part_data[NS_DATA_CGROUP] = NULL;
}

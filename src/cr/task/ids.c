/* What readers of CRIU's images expect beside the state itself: numbers of the kernel objects that a process
 * uses, which cgroups it is in, and the inventory.
 *
 * Numbers: a process shares none of its tables with another one here (tree.c refuses that), so each of its
 * objects has its pid.  Namespaces are ours (NS_OURS + place) or the tree's own. */
#include "cr/task/ids.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/task/tree.h"
#include "cgroup.pb-c.h"
#include "inventory.pb-c.h"

#define IMAGE_VERSION 2 /* CRIU's "1.1" format */
#define CGROUP_FILE_MAX 65536

enum { NS_OURS = 1, NS_OWN = 11 };

static void ids_fill(TaskKobjIdsEntry *x, uint32_t object, unsigned own)
{
	uint32_t n[8];
	static const unsigned flags[8] = { CLONE_NEWPID,  CLONE_NEWNET,	 CLONE_NEWIPC,	  CLONE_NEWUTS,
					   CLONE_NEWNS,	  CLONE_NEWUSER, CLONE_NEWCGROUP, CLONE_NEWTIME };

	for (uint32_t i = 0; i < array_len(flags); i++)
		n[i] = (own & flags[i] ? NS_OWN : NS_OURS) + i;
	x->vm_id = x->files_id = x->fs_id = x->sighand_id = object;
	x->has_pid_ns_id = x->has_net_ns_id = x->has_ipc_ns_id = x->has_uts_ns_id = true;
	x->has_mnt_ns_id = x->has_user_ns_id = x->has_cgroup_ns_id = x->has_time_ns_id = true;
	x->pid_ns_id = n[0];
	x->net_ns_id = n[1];
	x->ipc_ns_id = n[2];
	x->uts_ns_id = n[3];
	x->mnt_ns_id = n[4];
	x->user_ns_id = n[5];
	x->cgroup_ns_id = n[6];
	x->time_ns_id = n[7];
}

int ids_put(struct dump *d, const struct task *t, struct err *e)
{
	TaskKobjIdsEntry x = TASK_KOBJ_IDS_ENTRY__INIT;

	if (t->zombie)
		return 0;
	ids_fill(&x, (uint32_t)t->nspid, d->ns);
	return sink_put(d->sink, REC_IDS, (uint32_t)t->nspid, &x.base, e);
}

int inventory_put(struct dump *d, struct err *e)
{
	InventoryEntry inv = INVENTORY_ENTRY__INIT;
	TaskKobjIdsEntry root = TASK_KOBJ_IDS_ENTRY__INIT;
	struct timespec up;

	clock_gettime(CLOCK_BOOTTIME, &up);
	ids_fill(&root, 0, 0);
	inv.img_version = IMAGE_VERSION;
	inv.has_fdinfo_per_id = inv.fdinfo_per_id = true;
	inv.has_ns_per_id = inv.ns_per_id = true;
	inv.root_ids = &root;
	inv.has_root_cg_set = true;
	inv.root_cg_set = 1;
	inv.has_lsmtype = true;
	inv.lsmtype = LSMTYPE__NO_LSM;
	inv.has_dump_uptime = true;
	inv.dump_uptime = (uint64_t)up.tv_sec * 1000000 + (uint64_t)up.tv_nsec / 1000;
	if (d->opts) {
		inv.has_tcp_close = true;
		inv.tcp_close = d->opts->tcp_close;
	}
	return sink_put(d->sink, REC_INVENTORY, 0, &inv.base, e);
}

/* ---- cgroups ---- */

void cg_sets_done(struct cg_sets *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct cg_sets){ 0 };
}

/* The set of these cgroups: *ret counts from 1. */
static int cg_set_of(struct cg_sets *s, const char *text, uint32_t *ret, struct err *e)
{
	char *copy;

	for (size_t i = s->n; i-- > 0;)
		if (strcmp(s->v[i], text) == 0) {
			*ret = (uint32_t)i + 1;
			return 0;
		}
	copy = strdup(text);
	if (!copy || array_grow(s->v, s->n, s->cap) < 0) {
		free(copy);
		return err_sys(e, -ENOMEM, "reading cgroups");
	}
	s->v[s->n++] = copy;
	*ret = (uint32_t)s->n;
	return 0;
}

static int cg_set_ours(struct cg_sets *s, struct err *e)
{
	auto_free char *text = NULL;
	uint32_t ours;
	int r = fd_read_file_at(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &text, NULL);

	return r < 0 ? err_sys(e, r, "reading our cgroups") : cg_set_of(s, text, &ours, e);
}

int cg_set_note(struct cg_sets *s, struct task *t, struct err *e)
{
	TaskCoreEntry *tc = t->threads[0].core->tc;
	const char *text;
	int r = s->n ? 0 : cg_set_ours(s, e);

	if (r < 0 || t->zombie || !tc)
		return r;
	r = task_cgroups(t, &text);
	if (r < 0)
		return err_sys(e, r, "reading the cgroups of a process");
	tc->has_cg_set = true;
	return cg_set_of(s, text, &tc->cg_set, e);
}

/* Lines `number:controllers:path`; cut up in place. */
static size_t members_parse(char *text, CgMemberEntry *m, size_t max)
{
	size_t n = 0;

	for (char *line = text, *next; *line && n < max; line = next) {
		char *name, *path;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		name = strchr(line, ':');
		path = name ? strchr(name + 1, ':') : NULL;
		if (!path)
			continue;
		*path = '\0';
		cg_member_entry__init(&m[n]);
		m[n].name = name + 1;
		m[n].path = path + 1;
		n++;
	}
	return n;
}

#define HIERARCHIES_MAX 64

static int set_make(char *text, uint32_t id, CgSetEntry **ret)
{
	auto_free CgMemberEntry *m = calloc(HIERARCHIES_MAX, sizeof(*m));
	CgSetEntry *s = malloc(sizeof(*s));
	size_t n;

	if (!m || !s) {
		free(s);
		return -ENOMEM;
	}
	n = members_parse(text, m, HIERARCHIES_MAX);
	cg_set_entry__init(s);
	s->id = id;
	s->ctls = calloc(n + 1, sizeof(*s->ctls));
	for (size_t i = 0; s->ctls && i < n; i++) {
		s->ctls[i] = malloc(sizeof(*m));
		if (!s->ctls[i])
			break;
		*s->ctls[i] = m[i];
		s->n_ctls++;
	}
	*ret = s;
	return s->n_ctls == n ? 0 : -ENOMEM;
}

static void set_free(CgSetEntry *s)
{
	for (size_t i = 0; s && i < s->n_ctls; i++)
		free(s->ctls[i]); /* what they say is the sets' text */
	if (s)
		free(s->ctls);
	free(s);
}

int cg_sets_put(struct dump *d, struct cg_sets *s, struct err *e)
{
	auto_free CgSetEntry **list = calloc(s->n + 1, sizeof(*list));
	CgroupEntry cg = CGROUP_ENTRY__INIT;
	int r = list ? 0 : -ENOMEM;

	for (size_t i = 0; i < s->n && r >= 0; i++) {
		r = set_make(s->v[i], (uint32_t)i + 1, &list[i]);
		cg.n_sets += list[i] != NULL;
	}
	cg.sets = list;
	r = r < 0 ? err_sys(e, r, "writing cgroups") : sink_put(d->sink, REC_CGROUP, 0, &cg.base, e);
	for (size_t i = 0; i < cg.n_sets; i++)
		set_free(list[i]);
	return r;
}

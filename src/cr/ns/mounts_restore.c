/* mounts_restore - the mounts of the source in the container that liblxc has made at the target.
 *
 * A mount of the target at the same place in the tree, with the same path and type, is adopted: it
 * came from the target's configuration.  What the container had made for itself is made anew: file
 * systems by the init's agent, so that they belong to the container's user namespace, binds by the
 * engine.  What is mounted at the target only is unmounted: the container had done so.  Then the
 * content of every tmpfs is made that of the source, before anything is mounted on it. */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/tty.h"
#include "cr/ns/mounts.h"
#include "cr/ns/ns.h"
#include "mnt.pb-c.h"

#define GUEST_DIR "/.godwit"
#define RIGHTS (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

struct want {
	const MntEntry *m;
	struct want *parent;
	struct mnt *twin; /* of the target, adopted */
	bool made, skipped;
};

struct build {
	struct restore *r;
	struct want *want;
	size_t n;
	struct mnts have;
	struct ids *ids;
	struct err *e;
};

/* ---- reading ---- */

static int want_load(struct build *b)
{
	const struct record *rec;
	size_t pos = 0, cap = 0;

	while ((rec = image_find(b->r->image, REC_MOUNTPOINTS, REC_ANY, &pos))) {
		const MntEntry *m = (const MntEntry *)rec->msg;

		if (m->mountpoint[0] != '/' || strlen(m->mountpoint) >= PATH_MAX || !m->fsname ||
		    b->n >= MOUNTS_MAX)
			return err_set(b->e, -EPROTO, "the image has an impossible mount");
		if (array_grow(b->want, b->n, cap) < 0)
			return err_sys(b->e, -ENOMEM, "mounts");
		b->want[b->n++] = (struct want){ .m = m };
	}
	for (size_t i = 0; i < b->n; i++)
		for (size_t k = 0; k < b->n; k++)
			if (k != i && b->want[k].m->mnt_id == b->want[i].m->parent_mnt_id)
				b->want[i].parent = &b->want[k];
	return 0;
}

/* ---- matching ---- */

static bool same_kind(const MntEntry *m, const struct mnt *have)
{
	if (strcmp(m->mountpoint, "/") == 0 || strcmp(m->fsname, have->fstype) == 0)
		return true;
	/* Device nodes come from the hosts' /dev, of whatever type these are. */
	return strncmp(m->mountpoint, "/dev/", 5) == 0 && strcmp(m->root, "/") != 0 &&
	       strcmp(have->root, "/") != 0;
}

static struct mnt *twin_find(struct build *b, const struct want *w)
{
	for (size_t i = 0; i < b->have.n; i++) {
		struct mnt *h = &b->have.list[i];
		bool top = !mnts_by_id(&b->have, h->parent);

		if (h->taken || strcmp(h->path, w->m->mountpoint) != 0 || !same_kind(w->m, h))
			continue;
		if (w->parent ? (w->parent->twin && h->parent == w->parent->twin->id) : top)
			return h;
	}
	return NULL;
}

/* Parents first, however the list is ordered. */
static void match(struct build *b)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < b->n; i++) {
			struct want *w = &b->want[i];

			if (w->twin || (w->parent && !w->parent->twin))
				continue;
			w->twin = twin_find(b, w);
			if (w->twin) {
				w->twin->taken = true;
				more = true;
			}
		}
	}
}

static bool is_guest_dir(const char *path)
{
	size_t n = strlen(GUEST_DIR);

	return strncmp(path, GUEST_DIR, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* Deepest first: children have longer paths, and what is stacked came later. */
static void extra_unmount(struct build *b)
{
	for (size_t i = b->have.n; i-- > 0;) {
		const struct mnt *h = &b->have.list[i];

		if (h->taken || is_guest_dir(h->path) || !mnts_by_id(&b->have, h->parent))
			continue;
		if (umount2(h->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
		    errno != ENOENT)
			log_warn("the mount %s of the target stays: %s", h->path, strerror(errno));
	}
}

/* ---- making ---- */

static int agent_mount(struct build *b, const MntEntry *m, unsigned long flags)
{
	struct aprog *p = aprog_new();
	struct aarg src, dst, type, opt;
	int r;

	if (!p)
		return -ENOMEM;
	src = aprog_str(p, m->source);
	dst = aprog_str(p, m->mountpoint);
	type = aprog_str(p, m->fsname);
	opt = aprog_str(p, m->options);
	APROG_CALL(p, 0, SYS_mount, src, dst, type, aarg_imm(flags), opt);
	r = agent_run(b->r->tasks[0]->agent, p, b->e);
	aprog_free(p);
	return r;
}

/* It was made, or taken from the host, while that was still possible (mounts_ready.c). */
static int ready_attach(struct build *b, const MntEntry *m)
{
	int fd = mounts_ready_fd(b->r, m->mnt_id);

	if (fd < 0)
		return err_set(b->e, -ENOENT, "the mount %s comes from outside (\"%s\") and is not given",
			       m->mountpoint, m->ext_key ? m->ext_key : "");
	if (syscall(SYS_move_mount, fd, "", AT_FDCWD, m->mountpoint, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(b->e, -errno, "putting a mount at %s", m->mountpoint);
	return 1;
}

/* The place for a mount lies on the disk, or in a tmpfs whose content has been made. */
static int want_make(struct build *b, struct want *w)
{
	static const char *const made[] = { "tmpfs",  "proc",	 "sysfs", "devpts",
					    "mqueue", "cgroup2", "cgroup" };
	static const char *const optional[] = { "securityfs",  "debugfs",   "tracefs",	"pstore",
						"fusectl",     "configfs",  "bpf",	"efivarfs",
						"binfmt_misc", "selinuxfs", "hugetlbfs" };
	const MntEntry *m = w->m;
	int r;

	if (m->ext_mount || mounts_ready_fd(b->r, m->mnt_id) >= 0)
		return ready_attach(b, m);
	if (m->ext_key) {
		/* A console is a terminal's node, which is there with the terminal. */
		if (strcmp(m->fsname, "devpts") == 0 && strcmp(m->root, "/") != 0 && (r = ttys_make(b->r, b->e)) < 0)
			return r;
		if (mount(m->ext_key, m->mountpoint, NULL, MS_BIND, NULL) < 0)
			return err_sys(b->e, -errno, "binding %s to %s", m->ext_key, m->mountpoint);
		return 1;
	}
	for (size_t i = 0; i < array_len(made); i++) {
		if (strcmp(m->fsname, made[i]) != 0 ||
		    (strcmp(m->root, "/") != 0 && strncmp(m->fsname, "cgroup", 6) != 0))
			continue;
		r = agent_mount(b, m, m->flags & ~(unsigned long)MS_RDONLY);
		return r < 0 ? err_context(b->e, r, "mounting %s at %s", m->fsname, m->mountpoint)
			     : 1;
	}
	for (size_t i = 0; i < array_len(optional); i++)
		if (strcmp(m->fsname, optional[i]) == 0)
			return 0;
	return err_set(b->e, -ENODEV,
		       "the container has %s mounted at %s (from %s), which its configuration at "
		       "the target does "
		       "not provide",
		       m->fsname, m->mountpoint, m->source);
}

static int content_make(struct build *b, const struct want *w)
{
	auto_fd int dir = -1;
	struct statfs fs;
	int r;

	if (!w->m->fsname || strcmp(w->m->fsname, "tmpfs") != 0 || w->m->ext_key ||
	    !image_find(b->r->image, REC_GW_TREE_ENTRY, w->m->mnt_id, NULL))
		return 0;
	dir = fd_open_in_root(b->r->root_fd, w->m->mountpoint, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return err_sys(b->e, dir, "opening %s", w->m->mountpoint);
	/* Never sweep anything else. */
	if (fstatfs(dir, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return err_set(b->e, -EINVAL, "%s is not a tmpfs at the target", w->m->mountpoint);
	r = tree_restore(b->r, w->m->mnt_id, dir, b->ids, b->e);
	return r < 0 ? err_context(b->e, r, "content of %s", w->m->mountpoint) : 0;
}

/* What another mount covers cannot be named by its path any more, so this comes with each mount. */
static void flags_set(struct build *b, const struct want *w)
{
	unsigned long want = w->m->flags & RIGHTS, have;

	have = w->twin	       ? mnt_flags(w->twin->opts) & RIGHTS
	       : w->m->ext_key ? ~0ul
			       : want & ~(unsigned long)MS_RDONLY;
	if (want == have)
		return;
	want = w->m->flags & (RIGHTS | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME |
			      MS_NOSYMFOLLOW);
	if (mount(NULL, w->m->mountpoint, NULL, MS_REMOUNT | MS_BIND | want, NULL) < 0)
		log_warn("the mount %s keeps the target's options: %s", w->m->mountpoint,
			 strerror(errno));
}

static int want_build(struct build *b, struct want *w)
{
	int r = 1;

	if (!w->twin)
		r = want_make(b, w);
	if (r < 0)
		return r;
	w->made = r == 1;
	w->skipped = r == 0;
	if (w->skipped)
		return 0;
	r = content_make(b, w);
	if (r >= 0)
		flags_set(b, w);
	return r;
}

/* Whatever a bind shows has to be there before it: made after the mounts of its source's path. */
static bool bind_waits(struct build *b, const struct want *w)
{
	if (!w->m->ext_key || w->m->ext_mount || w->twin)
		return false;
	for (size_t i = 0; i < b->n; i++) {
		const struct want *o = &b->want[i];
		size_t n = strlen(o->m->mountpoint);

		if (o == w || o->made || o->skipped || (o->m->ext_key && !o->m->ext_mount))
			continue;
		if (strncmp(o->m->mountpoint, w->m->ext_key, n) == 0 &&
		    (w->m->ext_key[n] == 0 || w->m->ext_key[n] == '/'))
			return true;
	}
	return false;
}

static int all_build(struct build *b)
{
	bool more = true;
	size_t left = 0;

	while (more) {
		more = false;
		left = 0;
		for (size_t i = 0; i < b->n; i++) {
			struct want *w = &b->want[i];
			int r;

			if (w->made || w->skipped)
				continue;
			if (w->parent && w->parent->skipped) {
				w->skipped = more = true;
				continue;
			}
			left++;
			if ((w->parent && !w->parent->made) || bind_waits(b, w))
				continue;
			r = want_build(b, w);
			if (r < 0)
				return r;
			more = true;
			left--;
		}
	}
	return left ? err_set(b->e, -ELOOP, "%zu mounts wait for each other", left) : 0;
}

/* Last, so that nothing that was made before is propagated. */
static void propagation_set(struct build *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct want *w = &b->want[i];
		bool want = w->m->shared_id != 0, have = w->twin && w->twin->shared != 0;

		if (!w->made || want == have)
			continue;
		if (mount(NULL, w->m->mountpoint, NULL, want ? MS_SHARED : MS_PRIVATE, NULL) < 0)
			log_warn("propagation of %s: %s", w->m->mountpoint, strerror(errno));
	}
}

int mounts_build(struct restore *r, struct err *e)
{
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	struct build b = { .r = r, .ids = ids, .e = e };
	int x = ids ? want_load(&b) : err_sys(e, -ENOMEM, "mounts");

	if (x >= 0 && b.n) {
		x = ids_load(r->proc_fd, r->init_pid, ids, e);
		if (x >= 0)
			x = mnts_read(r->proc_fd, r->init_pid, &b.have, e);
		if (x >= 0) {
			match(&b);
			extra_unmount(&b);
			x = all_build(&b);
		}
		if (x >= 0)
			propagation_set(&b);
	}
	mnts_done(&b.have);
	free(b.want);
	return x;
}

/* user - the user namespace.
 *
 * State: the maps of user and group ids.  Read: /proc/PID/uid_map, gid_map.  Put back: not at all,
 * the target's container has its own; its map must cover the same ids inside (ranges outside may
 * differ), which is checked before anything is built.  Not covered: setgroups=deny differing
 * between the two. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "cr/cr.h"
#include "cr/ns/ids.h"
#include "cr/ns/ns.h"
#include "userns.pb-c.h"

static void extents_fill(const struct id_map *m, UidGidExtent *ext, UidGidExtent **ptr)
{
	for (size_t i = 0; i < m->n; i++) {
		uid_gid_extent__init(&ext[i]);
		ext[i].first = m->ext[i].inside;
		ext[i].lower_first = m->ext[i].outside;
		ext[i].count = m->ext[i].count;
		ptr[i] = &ext[i];
	}
}

static int frozen(struct dump *d, struct err *e)
{
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	auto_free UidGidExtent *ext = calloc(2 * IDS_EXTENTS_MAX, sizeof(*ext));
	UidGidExtent *uid[IDS_EXTENTS_MAX], *gid[IDS_EXTENTS_MAX];
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	UsernsEntry u = USERNS_ENTRY__INIT;
	int r;

	if (!ids || !ext)
		return err_sys(e, -ENOMEM, "id maps");
	if (proc_fd < 0)
		return err_sys(e, -errno, "opening /proc");
	r = ids_load(proc_fd, d->root_pid, ids, e);
	if (r < 0)
		return r;
	extents_fill(&ids->uid, ext, uid);
	extents_fill(&ids->gid, ext + IDS_EXTENTS_MAX, gid);
	u.uid_map = uid;
	u.n_uid_map = ids->uid.n;
	u.gid_map = gid;
	u.n_gid_map = ids->gid.n;
	return sink_put(d->sink, REC_USERNS, 0, &u.base, e);
}

static int map_compare(const char *what, UidGidExtent *const *want, size_t n,
		       const struct id_map *have, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t first = want[i]->first, last = first + want[i]->count - 1;

		if (want[i]->count == 0 || last < first)
			return err_set(e, -EPROTO, "the image has an impossible map of %s ids",
				       what);
		if (id_outside(have, first) == UINT32_MAX || id_outside(have, last) == UINT32_MAX)
			return err_set(e, -ERANGE,
				       "the container has %s ids %u to %u, its map at the "
				       "target does not cover them",
				       what, first, last);
	}
	return 0;
}

/* ---- made by us ---- */

static int map_write(struct restore *r, const char *file, UidGidExtent *const *ext, size_t n, struct err *e)
{
	auto_buf text = BUF_INIT;
	char path[48];
	int x = 0;

	for (size_t i = 0; i < n && x >= 0; i++)
		x = buf_addf(&text, "%u %u %u\n", ext[i]->first, ext[i]->lower_first, ext[i]->count);
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)r->init_pid, file);
	if (x >= 0 && n)
		x = fd_write_file_at(AT_FDCWD, path, text.data);
	return x < 0 ? err_sys(e, x, "writing the user namespace's %s", file) : 0;
}

int userns_maps_write(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_USERNS, REC_ANY, NULL);
	const UsernsEntry *u = rec ? (const UsernsEntry *)rec->msg : NULL;
	char path[48];
	int x;

	if (!u || u->n_uid_map > IDS_EXTENTS_MAX || u->n_gid_map > IDS_EXTENTS_MAX)
		return err_set(e, -EPROTO, "the image has no maps of the user namespace");
	x = map_write(r, "uid_map", u->uid_map, u->n_uid_map, e);
	if (x < 0)
		return x;
	x = map_write(r, "gid_map", u->gid_map, u->n_gid_map, e);
	if (x != -EPERM)
		return x;
	/* Without privilege outside, groups have to be given up first. */
	snprintf(path, sizeof(path), "/proc/%d/setgroups", (int)r->init_pid);
	if (fd_write_file_at(AT_FDCWD, path, "deny") < 0)
		return x;
	return map_write(r, "gid_map", u->gid_map, u->n_gid_map, e);
}

static int build(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_USERNS, REC_ANY, NULL);
	auto_free struct ids *ids = calloc(1, sizeof(*ids));
	const UsernsEntry *u;
	int x;

	if (!ids)
		return err_sys(e, -ENOMEM, "id maps");
	if (!rec)
		return 0;
	u = (const UsernsEntry *)rec->msg;
	x = ids_load(r->proc_fd, r->init_pid, ids, e);
	if (x >= 0)
		x = map_compare("user", u->uid_map, u->n_uid_map, &ids->uid, e);
	if (x >= 0)
		x = map_compare("group", u->gid_map, u->n_gid_map, &ids->gid, e);
	return x;
}

const struct cr_part cr_part_userns = { .name = "user namespace",
					.ns = CLONE_NEWUSER,
					.frozen = frozen,
					.build = build };

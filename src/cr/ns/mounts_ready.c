/* mounts_ready - mounts that a restore on its own has to take hold of before the tree's root folder becomes the root:
 * those from outside, while the engine stands in the host's mounts; and proc and sysfs, which a user namespace may
 * mount only where it sees one whole (the kernel's mount_too_revealing), so the first process makes them while it
 * has a copy of the host's.  They wait as descriptors of detached mounts. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/msg.h"
#include "base/parse.h"
#include "cr/ns/cgroup.h"
#include "cr/ns/mounts.h"
#include "cr/ns/ns.h"
#include "cr/ns/outside.h"
#include "mnt.pb-c.h"

struct ready {
	struct {
		uint32_t id;
		int fd;
	} *list;
	size_t n, cap;
};

int mounts_ready_fd(struct restore *r, uint32_t mnt_id)
{
	const struct ready *o = r->part_data[NS_DATA_MOUNTS];

	for (size_t i = 0; o && i < o->n; i++)
		if (o->list[i].id == mnt_id)
			return o->list[i].fd;
	return -1;
}

static int ready_add(struct restore *r, uint32_t id, int fd, struct err *e)
{
	struct ready *o = r->part_data[NS_DATA_MOUNTS];

	if (!o)
		o = r->part_data[NS_DATA_MOUNTS] = calloc(1, sizeof(*o));
	if (!o || o->n >= MOUNTS_MAX || array_grow(o->list, o->n, o->cap) < 0) {
		close(fd);
		return err_sys(e, -ENOMEM, "mounts");
	}
	o->list[o->n].id = id;
	o->list[o->n++].fd = fd;
	return 0;
}

void mounts_restore_done(struct restore *r)
{
	struct ready *o = r->part_data[NS_DATA_MOUNTS];

	for (size_t i = 0; o && i < o->n; i++)
		fd_close(&o->list[i].fd);
	if (o)
		free(o->list);
	free(o);
	r->part_data[NS_DATA_MOUNTS] = NULL;
}

/* ---- from outside ---- */

static int outside_open(struct restore *r, const MntEntry *m, struct err *e)
{
	const char *key = m->ext_key ? m->ext_key : "", *path = outside_mount_path(r->opts, key);
	int fd;

	if (!path && !r->opts->root && str_starts(key, MNT_AUTO))
		return 0; /* our own mounts are copied, and it is among them */
	/* A path that an image names counts only for a caller who lets mounts be looked for. */
	if (!path && str_starts(key, MNT_AUTO) && outside_mount_auto(r->opts))
		path = key + strlen(MNT_AUTO);
	if (!path)
		return err_set(e, -ENOENT, "the mount %s comes from outside as \"%s\", which has to be given (--external "
			       "mnt[%s]:PATH)", m->mountpoint, key, key);
	/* What a container sees of its own cgroup is its new one's, though the caller may name another: runc gives the
	 * group that it is in itself. */
	fd = cgroup_mount_open(r, m);
	if (fd >= 0)
		return ready_add(r, m->mnt_id, fd, e);
	fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "the mount %s: opening %s", m->mountpoint, path) :
			ready_add(r, m->mnt_id, fd, e);
}

int mounts_outside_open(struct restore *r, struct err *e)
{
	const struct record *rec;
	size_t pos = 0;
	int x = 0;

	while (x >= 0 && (rec = image_find(r->image, REC_MOUNTPOINTS, REC_ANY, &pos))) {
		const MntEntry *m = (const MntEntry *)rec->msg;

		if (m->ext_mount)
			x = outside_open(r, m, e);
	}
	return x;
}

/* ---- made by the first process ---- */

static bool is_born(const MntEntry *m)
{
	return m->fsname && (strcmp(m->fsname, "proc") == 0 || strcmp(m->fsname, "sysfs") == 0) && !m->ext_mount &&
	       !m->ext_key && strcmp(m->root, "/") == 0;
}

/* "a=b,c": those that the file system does not know (another kernel's) are left out, as mount(8) -s does. */
static void options_set(int fs, const char *options)
{
	auto_free char *text = strdup(options);
	char *save = NULL;

	for (char *o = text ? strtok_r(text, ",", &save) : NULL; o; o = strtok_r(NULL, ",", &save)) {
		char *value = strchr(o, '=');

		if (value)
			*value++ = '\0';
		syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, o, value, 0);
	}
}

static int mount_detached(const MntEntry *m)
{
	auto_fd int fs = (int)syscall(SYS_fsopen, m->fsname, FSOPEN_CLOEXEC);
	unsigned attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int fd;

	if (fs < 0)
		return -errno;
	if (m->source)
		syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", m->source, 0);
	options_set(fs, m->options);
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	attr &= (m->flags & MS_NOSUID ? MOUNT_ATTR_NOSUID : 0) | (m->flags & MS_NODEV ? MOUNT_ATTR_NODEV : 0) |
		(m->flags & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	return fd < 0 ? -errno : fd;
}

int mounts_born_give(const struct restore *r, int sock)
{
	const struct record *rec;
	size_t pos = 0;

	while ((rec = image_find(r->image, REC_MOUNTPOINTS, REC_ANY, &pos))) {
		const MntEntry *m = (const MntEntry *)rec->msg;
		auto_fd int fd = -1;
		char id[16];
		int x;

		if (!is_born(m))
			continue;
		fd = mount_detached(m);
		/* Where it is not allowed, the attempt to mount it in its place says so, or adopts what is there. */
		if (fd < 0)
			continue;
		snprintf(id, sizeof(id), "%u", m->mnt_id);
		x = msg_send(sock, &fd, 1, "mount", "id", id, NULL);
		if (x < 0)
			return x;
	}
	return 0;
}

int mounts_born_take(struct restore *r, struct msg *m, struct err *e)
{
	uint64_t id;
	int fd;

	if (msg_get_u64(m, "id", &id) < 0 || id > UINT32_MAX)
		return err_set(e, -EPROTO, "the first process tells of an impossible mount");
	fd = msg_take_fd(m, 0);
	return fd < 0 ? err_set(e, -EPROTO, "a mount without a descriptor") : ready_add(r, (uint32_t)id, fd, e);
}

#include "cr/ns/ids.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

static void blanks(const char **p)
{
	while (**p == ' ' || **p == '\t')
		(*p)++;
}

int id_map_parse(const char *text, struct id_map *ret)
{
	const char *p = text;
	size_t n = 0;

	while (*p) {
		uint64_t v[3];

		for (int i = 0; i < 3; i++) {
			blanks(&p);
			if (parse_u64_at(&p, 10, &v[i]) < 0 || v[i] > UINT32_MAX)
				return -EPROTO;
		}
		if (n == IDS_EXTENTS_MAX || *p != '\n')
			return -EPROTO;
		p++;
		ret->ext[n++] =
			(struct id_extent){ (uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2] };
	}
	ret->n = n;
	return 0;
}

static int one_load(int proc_fd, pid_t pid, const char *name, struct id_map *ret, struct err *e)
{
	auto_free char *text = NULL;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
	r = fd_read_file_at(proc_fd, path, 65536, &text, NULL);
	if (r >= 0)
		r = id_map_parse(text, ret);
	return r < 0 ? err_sys(e, r, "reading the %s of process %d", name, (int)pid) : 0;
}

bool ids_are_ours(int proc_task)
{
	struct stat theirs, ours;

	return fstatat(proc_task, "ns/user", &theirs, 0) == 0 && fstatat(proc_task, "../self/ns/user", &ours, 0) == 0 &&
	       theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

static void map_identity(struct id_map *m)
{
	for (size_t i = 0; i < m->n; i++)
		m->ext[i].outside = m->ext[i].inside;
}

int ids_load(int proc_fd, pid_t pid, struct ids *ret, struct err *e)
{
	int r = one_load(proc_fd, pid, "uid_map", &ret->uid, e);
	auto_fd int dir = -1;
	char name[16];

	if (r >= 0)
		r = one_load(proc_fd, pid, "gid_map", &ret->gid, e);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%d", (int)pid);
	dir = openat(proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0 && ids_are_ours(dir)) {
		map_identity(&ret->uid);
		map_identity(&ret->gid);
	}
	return 0;
}

uint32_t id_inside(const struct id_map *m, uint32_t outside)
{
	for (size_t i = 0; i < m->n; i++)
		if (outside - m->ext[i].outside < m->ext[i].count && outside >= m->ext[i].outside)
			return m->ext[i].inside + (outside - m->ext[i].outside);
	return IDS_NOBODY;
}

uint32_t id_outside(const struct id_map *m, uint32_t inside)
{
	for (size_t i = 0; i < m->n; i++)
		if (inside - m->ext[i].inside < m->ext[i].count && inside >= m->ext[i].inside)
			return m->ext[i].outside + (inside - m->ext[i].inside);
	return UINT32_MAX;
}

/* A change of fsuid from 0 takes the file capabilities out of the effective set. */
static int caps_raise(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct c[2];

	if (syscall(SYS_capget, &h, c) < 0)
		return -errno;
	c[0].effective = c[0].permitted;
	c[1].effective = c[1].permitted;
	return syscall(SYS_capset, &h, c) < 0 ? -errno : 0;
}

int ids_fs_enter(const struct ids *ids, struct err *e)
{
	uid_t uid = id_outside(&ids->uid, 0);
	gid_t gid = id_outside(&ids->gid, 0);
	int r;

	if (uid == UINT32_MAX || gid == UINT32_MAX)
		return err_set(e, -ERANGE, "the container has no root in its id map");
	setfsgid(gid);
	setfsuid(uid);
	/* They report nothing: ask with an impossible id. */
	if ((uid_t)setfsuid((uid_t)-1) != uid || (gid_t)setfsgid((gid_t)-1) != gid) {
		ids_fs_leave();
		return err_set(e, -EPERM, "cannot make files as the container's root");
	}
	r = caps_raise();
	if (r < 0) {
		ids_fs_leave();
		return err_sys(e, r, "capabilities");
	}
	return 0;
}

void ids_fs_leave(void)
{
	setfsuid(geteuid());
	setfsgid(getegid());
	caps_raise();
}

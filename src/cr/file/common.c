/* common - help for the kinds of files: owners of signals, records, ids, opening inside a task. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/table.h"
#include "cr/ns/ids.h"

#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17 /* linux/fcntl.h cannot be included beside fcntl.h */
#endif

size_t cr_part_index(const struct cr_part *p)
{
	size_t i = 0;

	while (i < cr_parts_n && cr_parts[i] != p)
		i++;
	return i;
}

struct task *dump_task_by_pid(struct dump *d, pid_t pid)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];

		if (t->pid == pid)
			return t;
	}
	return NULL;
}

struct task *dump_task_by_nspid(struct dump *d, pid_t nspid)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (d->tasks[i]->nspid == nspid)
			return d->tasks[i];
	return NULL;
}

int ofile_refuse(struct dump *d, const struct ofile *f, const char *what, const char *fmt, ...)
{
	char where[64], why[768];
	va_list ap;

	if (f->fd >= 0)
		snprintf(where, sizeof(where), "fd %d", f->fd);
	else
		snprintf(where, sizeof(where), "a file it uses");
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return refusals_add(&d->refusals, f->task ? f->task->nspid : 0, where, what, "%s", why);
}

/* ---- owner of signals ---- */

/* The pid (or tid, or process group) inside the container of a number of ours; 0: not there. */
static pid_t owner_inside(struct dump *d, int type, pid_t pid)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];

		if (t->pid == pid && type != F_OWNER_TID)
			return t->nspid;
		for (size_t j = 0; type == F_OWNER_TID && j < t->n_threads; j++)
			if (t->threads[j].tid == pid)
				return t->threads[j].nstid;
		/* A group whose leader is dead: its number inside is known by a member. */
		if (type == F_OWNER_PGRP && getpgid(t->pid) == pid)
			return t->nspgid;
	}
	return 0;
}

int fown_read(struct dump *d, const struct ofile *f, FownEntry *ret, struct err *e)
{
	struct f_owner_ex own = { 0 };
	uint32_t ids[2] = { 0, 0 };
	const struct idmap *map;
	int sig;

	fown_entry__init(ret);
	if (f->lfd < 0 || (f->flags & O_PATH))
		return 0;
	sig = fcntl(f->lfd, F_GETSIG);
	if (fcntl(f->lfd, F_GETOWN_EX, &own) < 0 || sig < 0)
		return err_sys(e, -errno, "owner of signals of %s", f->link);
	ret->signum = (uint32_t)sig;
	if (own.pid == 0)
		return 0;
	if (fcntl(f->lfd, F_GETOWNER_UIDS, ids) < 0)
		return err_sys(e, -errno, "owner of signals of %s", f->link);
	map = dump_idmap(d, e);
	if (!map)
		return -EIO;
	own.pid = owner_inside(d, own.type, own.pid);
	if (own.pid == 0)
		return 0; /* outside of the container or dead: nobody there to be signalled */
	idmap_uid_in(map, ids[0], &ret->uid);
	idmap_uid_in(map, ids[1], &ret->euid);
	ret->pid_type = (uint32_t)own.type;
	ret->pid = (uint32_t)own.pid;
	return 0;
}

static pid_t owner_outside(struct restore *r, unsigned type, pid_t nspid)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rtask *t = r->tasks[i];

		if (t->pid <= 0 || t->zombie)
			continue;
		if (t->nspid == nspid && type != F_OWNER_TID)
			return t->pid;
		for (size_t j = 0; type == F_OWNER_TID && j < t->n_threads; j++)
			if (t->threads[j].nstid == nspid)
				return t->threads[j].tid;
		if (type == F_OWNER_PGRP && t->nspgid == nspid)
			return getpgid(t->pid);
	}
	return 0;
}

/* The kernel notes who sets an owner: the ids are those of the setter, so we become it for the call
 * (saved id stays 0, which brings the capabilities back). */
static int owner_set_as(int fd, const struct f_owner_ex *own, uid_t uid, uid_t euid)
{
	int r = 0;

	if (setresuid(uid, euid, 0) < 0)
		return -errno;
	if (fcntl(fd, F_SETOWN_EX, own) < 0)
		r = -errno;
	if (setresuid(0, 0, 0) < 0)
		return -errno;
	return r;
}

int fown_restore(struct restore *r, const struct rfile *f, const FownEntry *o, unsigned flags,
		 struct err *e)
{
	struct f_owner_ex own;
	const struct idmap *map;
	uid_t uid, euid;
	int got;

	if (!o || (flags & O_PATH))
		return 0;
	if (o->signum > 64)
		return err_set(e, -EINVAL, "file %u: signal %u as owner's signal", f->id,
			       o->signum);
	if (o->signum && fcntl(f->fd, F_SETSIG, (int)o->signum) < 0)
		return err_sys(e, -errno, "file %u: signal of the owner", f->id);
	if (o->pid) {
		if (o->pid_type > F_OWNER_PGRP || o->pid > INT32_MAX)
			return err_set(e, -EINVAL, "file %u: owner of signals makes no sense",
				       f->id);
		map = restore_idmap(r, e);
		if (!map)
			return -EIO;
		idmap_uid_out(map, o->uid, &uid);
		idmap_uid_out(map, o->euid, &euid);
		own.type = (int)o->pid_type;
		own.pid = owner_outside(r, o->pid_type, (pid_t)o->pid);
		if (own.pid > 0) {
			got = owner_set_as(f->fd, &own, uid, euid);
			if (got < 0)
				return err_sys(e, got, "file %u: owner of signals", f->id);
		}
	}
	if (flags & O_ASYNC) {
		got = fcntl(f->fd, F_GETFL);
		if (got < 0 || fcntl(f->fd, F_SETFL, got | O_ASYNC) < 0)
			return err_sys(e, -errno, "file %u: O_ASYNC", f->id);
	}
	return 0;
}

/* ---- records and flags ---- */

int ofile_put(struct dump *d, const struct ofile *f, FileEntry *fe, struct err *e)
{
	fe->id = f->id;
	fe->type = f->kind->type;
	return sink_put(d->sink, REC_FILES, f->id, &fe->base, e);
}

int rfile_set_flags(const struct rfile *f, int fd, unsigned flags, struct err *e)
{
	const unsigned can = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
	int old = fcntl(fd, F_GETFL);

	if (old < 0)
		return err_sys(e, -errno, "file %u: flags", f->id);
	if (((unsigned)old & can) == (flags & can))
		return 0;
	if (fcntl(fd, F_SETFL, ((unsigned)old & ~can) | (flags & can)) < 0)
		return err_sys(e, -errno, "file %u: flags %#o", f->id, flags);
	return 0;
}

int rfile_reopen(struct restore *r, int fd, unsigned flags)
{
	char path[64];
	int got;

	snprintf(path, sizeof(path), "self/fd/%d", fd);
	got = openat(r->proc_fd, path, (int)(flags | O_CLOEXEC));
	return got < 0 ? -errno : got;
}

int rfile_open_in_task(struct rtask *t, const char *path, unsigned flags, int *ret_fd,
		       struct err *e)
{
	struct aprog *p = aprog_new();
	long number;
	int r, fd = -1;

	if (!p)
		return err_sys(e, -ENOMEM, "opening %s", path);
	APROG_CALL(p, 0, SYS_openat, aarg_imm((uint64_t)AT_FDCWD), aprog_str(p, path),
		   aarg_imm(flags | O_CLOEXEC | O_NOCTTY), aarg_imm(0));
	r = agent_run(t->agent, p, e);
	number = r < 0 ? r : aprog_result(p, 0);
	aprog_free(p);
	if (r < 0)
		return err_context(e, r, "opening %s in process %d", path, t->nspid);
	r = agent_get_fd(t->agent, (int)number, &fd, e);
	if (r < 0)
		return r;
	r = AGENT_CALL(t->agent, NULL, e, SYS_close, (uint64_t)number);
	if (r < 0) {
		fd_close(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- user namespace ---- */

static int map_read(int proc_task, const char *name, struct idmap_range *ranges, size_t *ret_n,
		    struct err *e)
{
	auto_free char *text = NULL;
	int r;

	r = fd_read_file_at(proc_task, name, 1 << 20, &text, NULL);
	if (r < 0)
		return err_sys(e, r, "reading %s of the container", name);
	r = idmap_parse(text, ranges, 64, ret_n);
	if (r < 0)
		return err_sys(e, r, "%s of the container", name);
	return 0;
}

int idmap_read(int proc_task, struct idmap *ret, struct err *e)
{
	int r = map_read(proc_task, "uid_map", ret->u, &ret->n_u, e);

	if (r >= 0)
		r = map_read(proc_task, "gid_map", ret->g, &ret->n_g, e);
	if (r < 0 || !ids_are_ours(proc_task))
		return r;
	for (size_t i = 0; i < ret->n_u; i++)
		ret->u[i].outside = ret->u[i].inside;
	for (size_t i = 0; i < ret->n_g; i++)
		ret->g[i].outside = ret->g[i].inside;
	return 0;
}

static int id_in(const struct idmap_range *m, size_t n, uint32_t outside, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++)
		if (outside >= m[i].outside && outside - m[i].outside < m[i].count) {
			*ret = m[i].inside + (outside - m[i].outside);
			return 0;
		}
	*ret = 65534;
	return -ENOENT;
}

static int id_out(const struct idmap_range *m, size_t n, uint32_t inside, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++)
		if (inside >= m[i].inside && inside - m[i].inside < m[i].count) {
			*ret = m[i].outside + (inside - m[i].inside);
			return 0;
		}
	*ret = 65534;
	return -ENOENT;
}

int idmap_uid_in(const struct idmap *m, uid_t outside, uint32_t *ret)
{
	return id_in(m->u, m->n_u, outside, ret);
}

int idmap_gid_in(const struct idmap *m, gid_t outside, uint32_t *ret)
{
	return id_in(m->g, m->n_g, outside, ret);
}

int idmap_uid_out(const struct idmap *m, uint32_t inside, uid_t *ret)
{
	return id_out(m->u, m->n_u, inside, ret);
}

int idmap_gid_out(const struct idmap *m, uint32_t inside, gid_t *ret)
{
	return id_out(m->g, m->n_g, inside, ret);
}

const struct idmap *dump_idmap(struct dump *d, struct err *e)
{
	struct table *tb = dump_table(d);

	if (!tb) {
		err_sys(e, -ENOMEM, "table of descriptors");
		return NULL;
	}
	if (!tb->have_idmap) {
		if (idmap_read(d->tasks[0]->proc_fd, &tb->idmap, e) < 0)
			return NULL;
		tb->have_idmap = true;
	}
	return &tb->idmap;
}

const struct idmap *restore_idmap(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);
	char name[32];
	auto_fd int dir = -1;

	if (rt->have_idmap)
		return &rt->idmap;
	snprintf(name, sizeof(name), "%d", r->init_pid);
	dir = openat(r->proc_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		err_sys(e, -errno, "proc folder of the container's init");
		return NULL;
	}
	if (idmap_read(dir, &rt->idmap, e) < 0)
		return NULL;
	rt->have_idmap = true;
	return &rt->idmap;
}

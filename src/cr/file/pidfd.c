/* pidfd - descriptors of processes, and of namespaces.
 *
 * pidfd. State: which process; read from fdinfo. Back: late (file.h), when all processes are there.
 * One of a process that has ended becomes one of a child of the engine that ends at once: its exit
 * status is lost.
 * Refused: a process outside of the container.
 *
 * Namespace. State: which kind; only the container's own ones are carried. Back: /proc/PID/ns of
 * the init. */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/fdinfo.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static bool pidfd_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[pidfd]");
}

/* The process inside; 0: ended; -1: outside of the container. */
static pid_t target_of(struct dump *d, const struct ofile *f)
{
	int64_t pid;

	if (fdinfo_i64(f->fdinfo, "Pid", &pid) < 0 || pid <= 0 || pid > INT32_MAX)
		return 0;
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct task *t = d->tasks[i];

		if (t->pid == (pid_t)pid)
			return t->nspid;
		for (size_t j = 0; j < t->n_threads; j++)
			if (t->threads[j].tid == (pid_t)pid)
				return t->threads[j].nstid;
	}
	return -1;
}

static int pidfd_check(struct dump *d, struct ofile *f, struct err *e)
{
	if (target_of(d, f) >= 0)
		return 0;
	if (ofile_refuse(d, f, "pidfd",
			 "it refers to a process that does not move with the container") < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static int pidfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	PidfdEntry pe = PIDFD_ENTRY__INIT;
	pid_t pid = target_of(d, f);
	FownEntry own;
	int r;

	if (pid < 0)
		return err_set(e, -EOPNOTSUPP, "a pidfd of a process outside of the container");
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	pe.id = f->id;
	pe.nspid = (uint32_t)pid;
	pe.flags = f->flags;
	pe.fown = &own;
	fe.pidfd = &pe;
	return ofile_put(d, f, &fe, e);
}

static int pidfd_load(struct restore *r, struct rfile *f, struct err *e)
{
	return f->fe->pidfd ? 0 : err_set(e, -EINVAL, "file %u: not the record of a pidfd", f->id);
}

static int ended_open(unsigned flags, struct err *e)
{
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		return err_sys(e, -errno, "fork");
	if (pid == 0)
		_exit(0);
	fd = (int)syscall(SYS_pidfd_open, pid, flags);
	if (fd < 0)
		fd = err_sys(e, -errno, "pidfd_open");
	waitpid(pid, NULL, 0);
	return fd;
}

static pid_t pid_outside(struct restore *r, pid_t nspid, bool thread)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];

		if (t->nspid == nspid)
			return t->pid;
		for (size_t j = 0; thread && j < t->n_threads; j++)
			if (t->threads[j].nstid == nspid)
				return t->threads[j].tid;
	}
	return 0;
}

static int pidfd_build(struct restore *r, struct rfile *f, struct err *e)
{
	const PidfdEntry *pe = f->fe->pidfd;
	unsigned flags = pe->flags & (O_NONBLOCK | PIDFD_THREAD);
	pid_t pid;

	if (!pe->nspid) {
		f->fd = ended_open(flags, e);
		return f->fd < 0 ? f->fd : 0;
	}
	if (!(flags & PIDFD_THREAD ? restore_table(r)->finishing : restore_table(r)->standing))
		return 1;
	pid = pid_outside(r, (pid_t)pe->nspid, flags & PIDFD_THREAD);
	if (pid <= 0)
		return err_set(e, -EINVAL, "a pidfd of process %u, which is not there", pe->nspid);
	f->fd = (int)syscall(SYS_pidfd_open, pid, flags);
	return f->fd < 0 ? err_sys(e, -errno, "pidfd of process %u", pe->nspid) : 0;
}

static int pidfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	return fown_restore(r, f, f->fe->pidfd->fown, f->fe->pidfd->flags, e);
}

const struct file_kind file_kind_pidfd = {
	.name = "pidfd",
	.type = FD_TYPES__PIDFD,
	.recognise = pidfd_recognise,
	.check = pidfd_check,
	.capture = pidfd_capture,
	.load = pidfd_load,
	.build = pidfd_build,
	.placed = pidfd_placed,
};

/* ---- namespaces ---- */

static const struct {
	const char *link, *file;
	unsigned type;
} spaces[] = {
	{ "mnt:[", "mnt", CLONE_NEWNS },	   { "net:[", "net", CLONE_NEWNET },
	{ "uts:[", "uts", CLONE_NEWUTS },	   { "ipc:[", "ipc", CLONE_NEWIPC },
	{ "pid:[", "pid", CLONE_NEWPID },	   { "user:[", "user", CLONE_NEWUSER },
	{ "cgroup:[", "cgroup", CLONE_NEWCGROUP }, { "time:[", "time", 0x80 },
};

static size_t space_of(const struct ofile *f)
{
	size_t i = 0;

	while (i < array_len(spaces) && !str_starts(f->link, spaces[i].link))
		i++;
	return i;
}

static bool ns_recognise(const struct ofile *f)
{
	return space_of(f) < array_len(spaces);
}

static int ns_check(struct dump *d, struct ofile *f, struct err *e)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "ns/%s", spaces[space_of(f)].file);
	if (fstatat(d->tasks[0]->proc_fd, path, &st, 0) == 0 && st.st_ino == f->st.st_ino)
		return 0;
	if (ofile_refuse(d, f, "namespace", "%s is not the container's own", f->link) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static int ns_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	NsFileEntry ne = NS_FILE_ENTRY__INIT;

	ne.id = f->id;
	ne.ns_id = 1;
	ne.ns_cflag = spaces[space_of(f)].type;
	ne.flags = f->flags;
	fe.nsf = &ne;
	return ofile_put(d, f, &fe, e);
}

static int ns_load(struct restore *r, struct rfile *f, struct err *e)
{
	for (size_t i = 0; f->fe->nsf && i < array_len(spaces); i++)
		if (f->fe->nsf->ns_cflag == spaces[i].type)
			return 0;
	return err_set(e, -EINVAL, "file %u: an unknown kind of namespace", f->id);
}

static int ns_build(struct restore *r, struct rfile *f, struct err *e)
{
	char path[48];
	size_t i = 0;

	while (spaces[i].type != f->fe->nsf->ns_cflag)
		i++;
	snprintf(path, sizeof(path), "%d/ns/%s", r->init_pid, spaces[i].file);
	f->fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC);
	return f->fd < 0 ? err_sys(e, -errno, "namespace %s", spaces[i].file) : 0;
}

const struct file_kind file_kind_ns = {
	.name = "namespace",
	.type = FD_TYPES__NS,
	.recognise = ns_recognise,
	.check = ns_check,
	.capture = ns_capture,
	.load = ns_load,
	.build = ns_build,
};

/* tty_find - which terminal an open file is, and where its other end is.
 *
 * The kernel tells the number of a terminal (TIOCGDEV, TIOCGPTN) but not the devpts that it belongs
 * to, and a tree may have two with one number: its own and that of whoever started it. The node of
 * a slave is in its devpts; a master's is found as the kernel found it, beside the ptmx that was
 * opened. */
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"
#include "cr/file/tty_priv.h"
#include "sys/procfs.h"

#define PTS_MAJOR 136
#define PTS_MAJORS 8

bool tty_is_ptmx(dev_t rdev)
{
	return rdev == makedev(5, 2);
}

bool tty_is_current(dev_t rdev)
{
	return rdev == makedev(5, 0);
}

int tty_index_of(dev_t rdev)
{
	unsigned maj = major(rdev);

	if (maj < PTS_MAJOR || maj >= PTS_MAJOR + PTS_MAJORS)
		return -1;
	return (int)((maj - PTS_MAJOR) * 256 + minor(rdev));
}

dev_t tty_dev_decode(uint32_t n)
{
	/* Minor in the low byte and above bit 20. */
	return makedev((n >> 8) & 0xfff, (n & 0xff) | ((n >> 12) & 0xfff00));
}

bool tty_leads(const struct dump *d, const struct ofile *f)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, f->link, O_PATH, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->st.st_dev &&
	       st.st_ino == f->st.st_ino;
}

int tty_node_stat(const struct dump *d, int index, struct stat *ret)
{
	auto_fd int fd = -1;
	char path[32];

	snprintf(path, sizeof(path), "/dev/pts/%d", index);
	fd = fd_open_in_root(d->root_fd, path, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, ret) < 0)
		return -errno;
	return S_ISCHR(ret->st_mode) && tty_index_of(ret->st_rdev) == index ? 0 : -ENODEV;
}

/* The device behind a slave or /dev/tty. */
static int device_of(const struct ofile *f, dev_t *ret)
{
	unsigned n;

	if (ioctl(f->lfd, TIOCGDEV, &n) < 0)
		return -errno;
	*ret = tty_dev_decode(n);
	return 0;
}

static int master_index(const struct ofile *f)
{
	unsigned n;

	if (ioctl(f->lfd, TIOCGPTN, &n) < 0)
		return -errno;
	return n < TTY_INDEX_MAX ? (int)n : -ERANGE;
}

/* The devpts of a master; 0: not to be told. */
static dev_t devpts_of(const struct dump *d, const struct ofile *m)
{
	const char *slash = strrchr(m->link, '/');
	char path[PATH_MAX];
	auto_fd int fd = -1;
	struct statfs fs;
	struct stat st;

	if (fstatfs(m->lfd, &fs) == 0 && fs.f_type == DEVPTS_SUPER_MAGIC)
		return m->st.st_dev;
	if (!slash || snprintf(path, sizeof(path), "%.*s/pts", (int)(slash - m->link), m->link) >= PATH_MAX)
		return 0;
	fd = fd_open_in_root(d->root_fd, path, O_PATH | O_DIRECTORY, 0);
	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_dev : 0;
}

/* devpts 0: whichever. */
static const struct ofile *master_of(struct dump *d, int index, dev_t devpts)
{
	for (size_t i = 0; i < d->n_ofiles && index >= 0; i++) {
		const struct ofile *m = d->ofiles[i];
		dev_t its;

		if (m->kind != &file_kind_tty || !tty_is_ptmx(m->st.st_rdev) || master_index(m) != index)
			continue;
		its = devpts ? devpts_of(d, m) : 0;
		if (!its || its == devpts)
			return m;
	}
	return NULL;
}

/* The first slave (no /dev/tty) with this device whose master is not in the tree. */
static const struct ofile *outside_slave(struct dump *d, dev_t rdev)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *o = d->ofiles[i];
		dev_t dev = 0;

		if (o->kind == &file_kind_tty && !tty_is_ptmx(o->st.st_rdev) &&
		    !tty_is_current(o->st.st_rdev) && device_of(o, &dev) == 0 && dev == rdev &&
		    !master_of(d, tty_index_of(rdev), o->st.st_dev))
			return o;
	}
	return NULL;
}

/* The first file of the terminal that f is, whose master is not in the tree. */
static const struct ofile *first_of(struct dump *d, const struct ofile *f, dev_t rdev)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *o = d->ofiles[i];
		dev_t dev = 0;

		if (o == f)
			return f;
		if (o->kind != &file_kind_tty || tty_is_ptmx(o->st.st_rdev) || device_of(o, &dev) < 0 ||
		    dev != rdev)
			continue;
		if (tty_is_current(o->st.st_rdev) ? !master_of(d, tty_index_of(rdev), 0)
						  : o->st.st_dev == f->st.st_dev)
			return o;
	}
	return f;
}

static bool own_devpts(const struct dump *d, const struct tty_term *t)
{
	struct stat node, ours;

	if (!(d->ns & CLONE_NEWNS) || t->index < 0 || tty_node_stat(d, t->index, &node) < 0)
		return false;
	if (t->dev && node.st_dev != t->dev)
		return false;
	return stat("/dev/pts", &ours) < 0 || ours.st_dev != node.st_dev;
}

/* --shell-job is about one terminal: that of the first file with one that nothing else explains. */
static bool is_callers(struct dump *d, const struct tty_term *t, const struct ofile *f)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *o = d->ofiles[i];
		struct tty_term other = { .index = -1 };
		dev_t named;

		if (o == f)
			return true;
		if (o->kind != &file_kind_tty || tty_is_ptmx(o->st.st_rdev) || device_of(o, &other.rdev) < 0)
			continue;
		other.index = tty_index_of(other.rdev);
		other.dev = tty_is_current(o->st.st_rdev) ? 0 : o->st.st_dev;
		if (other.rdev == t->rdev && (!other.dev || !t->dev || other.dev == t->dev))
			return true;
		if (!master_of(d, other.index, other.dev) && !own_devpts(d, &other) &&
		    !given_names_tty(d->opts, other.dev ? o->st.st_rdev : other.rdev, other.dev, &named))
			return false;
	}
	return true;
}

static enum tty_where outside_where(struct dump *d, struct tty_term *t, const struct ofile *f)
{
	if (!d->opts)
		return TTY_NOWHERE;
	if (given_names_tty(d->opts, t->rdev, t->dev, &t->dev))
		return TTY_NAMED;
	if (own_devpts(d, t))
		return TTY_ORPHAN;
	return d->opts->shell_job && is_callers(d, t, f) ? TTY_CALLERS : TTY_NOWHERE;
}

int tty_find(struct dump *d, const struct ofile *f, struct tty_term *ret)
{
	struct tty_term t = { .where = TTY_HERE, .index = -1, .first = f };
	const struct ofile *slave = f, *m;
	dev_t rdev = 0;
	int r;

	if (tty_is_ptmx(f->st.st_rdev)) {
		t.index = master_index(f);
		t.id = (uint32_t)t.index;
		*ret = t;
		return t.index < 0 ? t.index : 0;
	}
	r = device_of(f, &rdev);
	if (r == -EIO) {
		t.where = TTY_GONE;
		t.id = TTY_HUNG + f->id;
		*ret = t;
		return 0;
	}
	if (r < 0)
		return r;
	t.index = tty_index_of(rdev);
	if (tty_is_current(f->st.st_rdev))
		slave = outside_slave(d, rdev);
	t.dev = slave ? slave->st.st_dev : 0;
	t.rdev = slave ? slave->st.st_rdev : rdev;
	/* /dev/tty of one number in both: that of the tree. */
	m = master_of(d, t.index, slave == f ? t.dev : 0);
	if (m) {
		t.first = m;
		t.id = (uint32_t)t.index;
	} else {
		t.where = outside_where(d, &t, slave ? slave : f);
		t.first = first_of(d, slave ? slave : f, rdev);
		t.id = t.where == TTY_ORPHAN ? (uint32_t)t.index : TTY_OUTSIDE + t.first->id;
	}
	*ret = t;
	return 0;
}

/* ---- whose it is ---- */

static uint32_t group_inside(struct dump *d, pid_t pgid)
{
	for (size_t i = 0; i < d->n_tasks && pgid > 0; i++)
		if (getpgid(d->tasks[i]->pid) == pgid)
			return (uint32_t)d->tasks[i]->nspgid;
	return 0;
}

static int session_by_master(struct dump *d, const struct tty_term *t, uint32_t *ret_sid, uint32_t *ret_pgrp,
			     struct err *e)
{
	const struct task *leader;
	int sid = 0, pgrp = 0;

	if (ioctl(t->first->lfd, TIOCGSID, &sid) < 0 || sid <= 0)
		return 0; /* no session has it */
	if (ioctl(t->first->lfd, TIOCGPGRP, &pgrp) < 0)
		return err_sys(e, -errno, "foreground group of terminal %d", t->index);
	leader = dump_task_by_pid(d, sid);
	*ret_sid = leader ? (uint32_t)leader->nspid : 0;
	*ret_pgrp = leader ? group_inside(d, pgrp) : 0;
	return 0;
}

/* Is it the session of a master in the tree whose terminal has the same number? */
static bool has_other(struct dump *d, const struct task *t, int index)
{
	const struct ofile *m = master_of(d, index, 0);
	int sid = 0;

	return m && ioctl(m->lfd, TIOCGSID, &sid) == 0 && sid == getsid(t->pid);
}

int tty_session_of(struct dump *d, const struct tty_term *t, uint32_t *ret_sid, uint32_t *ret_pgrp,
		   struct err *e)
{
	dev_t rdev = 0;

	*ret_sid = *ret_pgrp = 0;
	if (t->where == TTY_HERE)
		return session_by_master(d, t, ret_sid, ret_pgrp, e);
	if (device_of(t->first, &rdev) < 0)
		return err_set(e, -EIO, "terminal %s", t->first->link);
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct task *task = d->tasks[i];
		struct proc_stat st;
		int r = task->zombie ? 0 : proc_stat_read(task->proc_fd, &st, e);

		if (r < 0)
			return r;
		if (task->zombie || !st.tty_nr || tty_dev_decode((uint32_t)st.tty_nr) != rdev ||
		    has_other(d, task, t->index))
			continue;
		*ret_pgrp = group_inside(d, st.tpgid);
		/* Of its caller's session if that has no leader in the tree. */
		if (dump_task_by_pid(d, st.session)) {
			*ret_sid = (uint32_t)task->nssid;
			return 0;
		}
	}
	return 0;
}

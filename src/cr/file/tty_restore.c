/* tty_restore - the part of tty.c that puts terminals back.
 *
 * Pairs are made at once, before the first of their files (or mounts): numbers are reached by opening
 * masters. A terminal from outside is given by the caller, or is the one that this program has itself;
 * each file of it is opened again. */
#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"
#include "cr/file/tty_data.h"
#include "cr/file/tty_priv.h"

/* ---- restore: pairs ---- */

struct pair {
	const TtyInfoEntry *info;
	int index;	   /* here; -1: from outside */
	int master, slave; /* the engine's; -1 */
	uint32_t mode;	   /* of its node */
	bool has_mode;
	bool held;	   /* a file of the tree is its master */
	bool scttyd;	   /* its session leader has it */
	bool finished;
};
struct pairs {
	struct pair *list;
	size_t n, cap;
};

static bool is_hung(const TtyInfoEntry *ti)
{
	return ti->id & TTY_HUNG;
}

static bool is_outside(const TtyInfoEntry *ti)
{
	return !is_hung(ti) && ti->id & TTY_OUTSIDE;
}

/* Made again, though its master is outside. */
static bool is_orphan(const struct pair *p)
{
	return !p->held && !is_hung(p->info) && !is_outside(p->info);
}

static struct pair *pair_find(struct restore *r, uint32_t id)
{
	struct rtable *rt = restore_table(r);
	struct pairs *ps = rt ? rt->ttys : NULL;

	for (size_t i = 0; ps && i < ps->n; i++)
		if (ps->list[i].info->id == id)
			return &ps->list[i];
	return NULL;
}

static const GwFile *extra_of(struct restore *r, const struct rfile *f)
{
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);

	return rec ? (const GwFile *)rec->msg : NULL;
}

static int info_sane(const struct restore *r, const TtyInfoEntry *ti, struct err *e)
{
	if (is_hung(ti))
		return 0;
	if (is_outside(ti)) {
		if (!r->opts || (ti->id & ~TTY_OUTSIDE) >= TTY_OUTSIDE || ti->sid > INT32_MAX || ti->pgrp > INT32_MAX)
			return err_set(e, -EINVAL, "the record of terminal %#x, from outside, makes no sense", ti->id);
		return 0;
	}
	if (ti->id >= TTY_INDEX_MAX || !ti->pty || ti->pty->index != ti->id || !ti->termios ||
	    !ti->winsize || ti->termios->n_c_cc > 19)
		return err_set(e, -EINVAL, "the record of terminal %u makes no sense", ti->id);
	return 0;
}

int tty_load(struct restore *r, struct rfile *f, struct err *e)
{
	const struct record *rec;
	const TtyInfoEntry *ti;
	const GwFile *gf = extra_of(r, f);
	int got;

	if (!f->fe->tty || !f->fe->reg || f->fe->reg->name[0] != '/' ||
	    strlen(f->fe->reg->name) >= PATH_MAX || !gf)
		return err_set(e, -EINVAL, "file %u: the record of a terminal is not complete",
			       f->id);
	rec = image_find(r->image, REC_TTY_INFO, f->fe->tty->tty_info_id, NULL);
	if (!rec)
		return err_set(e, -EINVAL, "file %u: terminal %u is not there", f->id,
			       f->fe->tty->tty_info_id);
	ti = (const TtyInfoEntry *)rec->msg;
	got = info_sane(r, ti, e);
	if (got == 0 && gf->pty_master && (is_outside(ti) || is_hung(ti)))
		return err_set(e, -EINVAL, "file %u: a master of a terminal that has none", f->id);
	return got;
}

static int master_open_at(struct restore *r, const char *path, int *ret_fd, int *ret_index, struct err *e)
{
	auto_fd int fd = -1;
	unsigned n;
	int unlocked = 0, got;

	got = rfile_open_in_task(r->tasks[0], path, O_RDWR | O_NOCTTY, &fd, e);
	if (got < 0)
		return got;
	if (ioctl(fd, TIOCGPTN, &n) < 0 || ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
		return err_sys(e, -errno, "a new terminal");
	*ret_fd = fd_take(&fd);
	*ret_index = (int)n;
	return 0;
}

static int master_open(struct restore *r, int *ret_fd, int *ret_index, struct err *e)
{
	struct err ignored;

	/* In a container that we make ourselves /dev/ptmx may be a mount that is yet to come. */
	if (r->opts && master_open_at(r, "/dev/pts/ptmx", ret_fd, ret_index, &ignored) == 0)
		return 0;
	return master_open_at(r, "/dev/ptmx", ret_fd, ret_index, e);
}

static int slave_open(struct pair *p, struct err *e)
{
	if (p->slave < 0)
		p->slave = ioctl(p->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return p->slave < 0 ? err_sys(e, -errno, "slave of terminal %d", p->index) : 0;
}

static int pair_dress(struct restore *r, struct pair *p, struct err *e)
{
	const TtyInfoEntry *ti = p->info;
	const struct idmap *map = restore_idmap(r, e);
	auto_fd int node = -1;
	struct termios2 t = { .c_iflag = ti->termios->c_iflag,
			      .c_oflag = ti->termios->c_oflag,
			      .c_cflag = ti->termios->c_cflag,
			      .c_lflag = ti->termios->c_lflag,
			      .c_line = (cc_t)ti->termios->c_line,
			      .c_ispeed = ti->termios->c_ispeed,
			      .c_ospeed = ti->termios->c_ospeed };
	struct winsize w = { .ws_row = (unsigned short)ti->winsize->ws_row,
			     .ws_col = (unsigned short)ti->winsize->ws_col,
			     .ws_xpixel = (unsigned short)ti->winsize->ws_xpixel,
			     .ws_ypixel = (unsigned short)ti->winsize->ws_ypixel };
	char path[32];
	uid_t uid;
	gid_t gid;

	if (!map)
		return -EIO;
	for (size_t i = 0; i < ti->termios->n_c_cc; i++)
		t.c_cc[i] = (cc_t)ti->termios->c_cc[i];
	if (ioctl(p->master, TCSETS2, &t) < 0 || ioctl(p->master, TIOCSWINSZ, &w) < 0)
		return err_sys(e, -errno, "modes of terminal %d", p->index);
	snprintf(path, sizeof(path), "/dev/pts/%d", p->index);
	node = fd_open_in_root(r->root_fd, path, O_PATH | O_NOFOLLOW, 0);
	idmap_uid_out(map, ti->uid, &uid);
	idmap_gid_out(map, ti->gid, &gid);
	if (node < 0 || fchownat(node, "", uid, gid, AT_EMPTY_PATH) < 0 ||
	    (p->has_mode && fchmodat(r->root_fd, path + 1, p->mode & 07777, 0) < 0))
		return err_sys(e, node < 0 ? node : -errno, "owner of terminal %d", p->index);
	return 0;
}

static struct buf bytes_of(struct restore *r, uint32_t id)
{
	const struct record *rec = image_find(r->image, REC_TTY_DATA, id, NULL);
	const TtyDataEntry *td = rec ? (const TtyDataEntry *)rec->msg : NULL;

	return td ? (struct buf){ (char *)td->data.data, td->data.len, 0 } : (struct buf)BUF_INIT;
}

static int data_restore(struct restore *r, struct pair *p, struct err *e)
{
	const struct buf out = bytes_of(r, p->info->id), in = bytes_of(r, p->info->id | TTY_INPUT);
	auto_fd int slave = -1;

	if (!out.len && !in.len)
		return 0;
	slave = ioctl(p->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (slave < 0)
		return err_sys(e, -errno, "slave of terminal %d", p->index);
	return tty_data_give(p->master, slave, &out, &in, e);
}

/* What the files tell of their pairs. */
static void pairs_mark(struct restore *r)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const struct rfile *f = r->files[i];
		const GwFile *gf = f->kind == &file_kind_tty ? extra_of(r, f) : NULL;
		struct pair *p = gf ? pair_find(r, f->fe->tty->tty_info_id) : NULL;

		if (!p)
			continue;
		p->held = p->held || gf->pty_master;
		if (gf->has_mode) {
			p->has_mode = true;
			p->mode = gf->mode;
		}
	}
}

static int pairs_note(struct restore *r, struct pairs *ps, int *ret_highest, struct err *e)
{
	const struct record *rec;
	size_t pos = 0;

	*ret_highest = -1;
	while ((rec = image_find(r->image, REC_TTY_INFO, REC_ANY, &pos))) {
		const TtyInfoEntry *ti = (const TtyInfoEntry *)rec->msg;
		int got = info_sane(r, ti, e);

		if (got < 0)
			return got;
		if (array_grow(ps->list, ps->n, ps->cap) < 0)
			return err_sys(e, -ENOMEM, "terminals");
		ps->list[ps->n++] =
			(struct pair){ .info = ti, .index = -1, .master = -1, .slave = -1 };
		if (!is_hung(ti) && !is_outside(ti) && (int)ti->id > *ret_highest)
			*ret_highest = (int)ti->id;
	}
	pairs_mark(r);
	return 0;
}

/* Opens masters until the highest number is reached; those between that nobody wants stay open
 * so long. */
static int masters_open(struct restore *r, int highest, struct err *e)
{
	auto_free int *spare = calloc((size_t)highest + 2, sizeof(*spare));
	size_t n = 0;
	int last = -1, got = 0;

	if (!spare)
		return err_sys(e, -ENOMEM, "terminals");
	while (got == 0 && last < highest && n <= (size_t)highest) {
		struct pair *p;
		int fd;

		got = master_open(r, &fd, &last, e);
		if (got < 0)
			break;
		p = pair_find(r, (uint32_t)last);
		if (p && p->master < 0) {
			p->master = fd;
			p->index = last;
		} else {
			spare[n++] = fd;
		}
	}
	for (size_t i = 0; i < n; i++)
		close(spare[i]);
	return got;
}

/* ---- from outside ---- */

static bool is_terminal(int fd)
{
	struct termios2 t;

	return ioctl(fd, TCGETS2, &t) == 0;
}

/* The restoring program's own. */
static int callers_find(const struct pair *p, struct err *e)
{
	for (int fd = 0; fd <= 2; fd++)
		if (is_terminal(fd))
			return fd;
	return err_set(e, -ENOTTY, "the tree's terminal (%u:%u) becomes that of whoever restores it, and "
		       "none of its standard descriptors is a terminal", major(p->info->rdev), minor(p->info->rdev));
}

static int named_find(struct restore *r, const struct pair *p, struct err *e)
{
	int fd = given_tty(r->opts, p->info->rdev, p->info->dev);

	if (fd < 0)
		return err_set(e, -ENOENT, "the terminal tty[%x:%x] comes from outside and has to be given "
			       "(--inherit-fd fd[N]:tty[%x:%x])", p->info->rdev, p->info->dev, p->info->rdev,
			       p->info->dev);
	if (!is_terminal(fd))
		return err_set(e, -ENOTTY, "descriptor %d, given for tty[%x:%x], is no terminal", fd, p->info->rdev,
			       p->info->dev);
	return fd;
}

static int outside_open(struct restore *r, struct pair *p, struct err *e)
{
	int fd;

	if (p->info->type == TTY_TYPE__EXT_TTY)
		fd = named_find(r, p, e);
	else if (r->opts->shell_job)
		fd = callers_find(p, e);
	else
		fd = err_set(e, -EINVAL, "the tree was a job of a shell, with its terminal: --shell-job gives it "
			     "that of whoever restores it");
	if (fd < 0)
		return fd;
	p->slave = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return p->slave < 0 ? err_sys(e, -errno, "a terminal from outside") : 0;
}

static int pair_make(struct restore *r, struct pair *p, struct err *e)
{
	int got = 0;

	if (is_outside(p->info))
		return outside_open(r, p, e);
	if (is_orphan(p) && !(r->opts && r->opts->act))
		return err_set(e, -EINVAL, "the other end of terminal %u was outside, and nobody is there to take it",
			       p->info->id);
	if (is_hung(p->info))
		got = master_open(r, &p->master, &p->index, e);
	else if (p->master < 0)
		got = err_set(e, -EBUSY, "terminal %u is taken in the container", p->info->id);
	else
		got = pair_dress(r, p, e);
	if (got == 0 && (is_hung(p->info) || p->info->sid))
		got = slave_open(p, e);
	return got == 0 && !is_hung(p->info) ? data_restore(r, p, e) : got;
}

int ttys_make(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);
	struct pairs *ps;
	int highest, got;

	if (rt->ttys)
		return 0;
	ps = rt->ttys = calloc(1, sizeof(*ps));
	if (!ps)
		return err_sys(e, -ENOMEM, "terminals");
	got = pairs_note(r, ps, &highest, e);
	if (got == 0)
		got = masters_open(r, highest, e);
	for (size_t i = 0; got == 0 && i < ps->n; i++)
		got = pair_make(r, &ps->list[i], e);
	return got;
}

void ttys_done(struct restore *r)
{
	struct rtable *rt = restore_table(r);
	struct pairs *ps = rt ? rt->ttys : NULL;

	for (size_t i = 0; ps && i < ps->n; i++) {
		fd_close(&ps->list[i].master);
		fd_close(&ps->list[i].slave);
	}
	if (ps)
		free(ps->list);
	free(ps);
	if (rt)
		rt->ttys = NULL;
}

/* ---- restore: files ---- */

static unsigned open_flags(const struct rfile *f)
{
	return (f->fe->tty->flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_NOCTTY;
}

/* Opened again, so that the flags are the tree's alone; what cannot be (the slave of a locked pair) is
 * shared with its giver. */
static int outside_build(struct restore *r, struct rfile *f, struct pair *p, struct err *e)
{
	int fd = rfile_reopen(r, p->slave, open_flags(f));

	if (fd < 0 && given_allows(p->slave, open_flags(f) & O_ACCMODE))
		fd = fcntl(p->slave, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_sys(e, -EACCES, "the terminal from outside cannot be opened as before (flags %#o)",
			       f->fe->tty->flags);
	f->fd = fd;
	return 0;
}

static int slave_build(struct restore *r, struct rfile *f, struct pair *p, struct err *e)
{
	auto_fd int fd = -1;
	struct stat st;
	int got;

	if (is_outside(p->info))
		return outside_build(r, f, p, e);
	got = slave_open(p, e);
	if (got < 0)
		return got;
	if (is_hung(p->info))
		fd = rfile_reopen(r, p->slave, open_flags(f));
	else
		fd = fd_open_in_root(r->root_fd, f->fe->reg->name, (int)open_flags(f), 0);
	if (fd < 0)
		return err_sys(e, fd, "%s", f->fe->reg->name);
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || tty_index_of(st.st_rdev) != p->index)
		return err_set(e, -ESTALE, "%s is not terminal %d here", f->fe->reg->name, p->index);
	f->fd = fd_take(&fd);
	return 0;
}

/* Is the pair the terminal of this session?  The caller's is that of the caller's session (0). */
static bool has_session(const struct pair *p, pid_t nssid)
{
	return nssid == (pid_t)p->info->sid && (nssid || is_outside(p->info));
}

/* A task whose terminal is this pair; NULL: none. */
static struct rtask *task_with(struct restore *r, const struct rfile *f, const struct pair *p)
{
	struct rtask *any = NULL;

	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rtask *t = r->tasks[i];

		if (t->zombie || !has_session(p, t->nssid))
			continue;
		if (t == f->task)
			return t;
		any = any ? any : t;
	}
	return any;
}

static int master_build(struct rfile *f, const GwFile *gf, struct pair *p, struct err *e)
{
	int got = gf->no_hangup ? 0 : slave_open(p, e);

	if (got < 0)
		return got;
	f->fd = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
	if (f->fd < 0)
		return err_sys(e, -errno, "master of terminal %d", p->index);
	return rfile_set_flags(f, f->fd, f->fe->tty->flags, e);
}

int tty_build(struct restore *r, struct rfile *f, struct err *e)
{
	const GwFile *gf = extra_of(r, f);
	struct rtask *t;
	struct pair *p;
	int got;

	got = ttys_make(r, e);
	if (got < 0)
		return got;
	p = pair_find(r, f->fe->tty->tty_info_id);
	if (!p)
		return err_set(e, -EINVAL, "terminal %u is not there", f->fe->tty->tty_info_id);
	if (gf->pty_master)
		return master_build(f, gf, p, e);
	if (gf->rdev != 0x500 || is_hung(p->info))
		return slave_build(r, f, p, e);
	/* /dev/tty: by one whose terminal it is. */
	if (!restore_table(r)->standing)
		return 1;
	t = task_with(r, f, p);
	if (!t && is_outside(p->info))
		return slave_build(r, f, p, e);
	if (!t)
		return err_set(e, -EOPNOTSUPP, "nobody has terminal %d as its own to open /dev/tty",
			       p->index);
	return rfile_open_in_task(
		t, "/dev/tty", f->fe->tty->flags & (O_ACCMODE | O_NONBLOCK | O_APPEND), &f->fd, e);
}

int tty_session_begun(struct restore *r, struct rtask *t, struct err *e)
{
	struct rtable *rt = restore_table(r);
	struct pairs *ps = rt ? rt->ttys : NULL;

	for (size_t i = 0; ps && i < ps->n; i++) {
		struct pair *p = &ps->list[i];
		struct aprog *prog;
		long sid;
		int got, number;

		if (p->scttyd || !p->info->sid || (pid_t)p->info->sid != t->nspid)
			continue;
		got = AGENT_CALL(t->agent, &sid, e, SYS_getsid, 0);
		if (got < 0)
			return got;
		if (sid != t->nspid)
			return 0; /* its setsid() comes later */
		got = agent_put_fd(t->agent, p->slave, &number, e);
		if (got < 0)
			return got;
		prog = aprog_new();
		if (!prog)
			return err_sys(e, -ENOMEM, "terminal of a session");
		APROG_CALL(prog, 0, SYS_ioctl, aarg_imm((uint64_t)number), aarg_imm(TIOCSCTTY),
			   aarg_imm(0));
		APROG_CALL(prog, 0, SYS_close, aarg_imm((uint64_t)number));
		got = agent_run(t->agent, prog, e);
		aprog_free(prog);
		if (got == -EPERM && is_outside(p->info))
			return err_set(e, got, "session %d cannot have the terminal from outside: it is that of "
				       "another session (a terminal that no session has, as `setsid` leaves it, "
				       "will do)", t->nspid);
		if (got < 0)
			return err_context(e, got, "terminal %d of session %d", p->index, t->nspid);
		p->scttyd = true;
	}
	return 0;
}

/* Of a terminal of our own session the foreground is ours to give only while we have it. */
static bool foreground_given(const struct pair *p)
{
	pid_t group;

	if (p->info->sid)
		return p->scttyd;
	return is_outside(p->info) && ioctl(p->slave, TIOCGPGRP, &group) == 0 && group == getpgrp();
}

/* By the session leader or, if that is not there, anyone of the session. */
static int foreground_set(struct restore *r, const struct rfile *f, struct pair *p, struct err *e)
{
	struct rtask *t = task_with(r, f, p);
	struct aprog *prog;
	int32_t pgrp = (int32_t)p->info->pgrp;
	int number, got;

	if (!t || !p->info->pgrp || !foreground_given(p))
		return 0;
	got = agent_put_fd(t->agent, p->slave, &number, e);
	if (got < 0)
		return got;
	prog = aprog_new();
	if (!prog)
		return err_sys(e, -ENOMEM, "foreground group");
	APROG_CALL(prog, 0, SYS_ioctl, aarg_imm((uint64_t)number), aarg_imm(TIOCSPGRP),
		   aprog_in(prog, &pgrp, sizeof(pgrp)));
	APROG_CALL(prog, 0, SYS_close, aarg_imm((uint64_t)number));
	got = agent_run(t->agent, prog, e);
	aprog_free(prog);
	return got < 0 ? err_context(e, got, "foreground group of terminal %d", p->index) : 0;
}

static int orphan_give(struct restore *r, const struct pair *p, struct err *e)
{
	int got = r->opts->act(r->opts->arg, CR_ACT_ORPHAN_PTS_MASTER, r->init_pid, p->master, e);

	return got < 0 ? err_context(e, got, "giving the other end of terminal %d away", p->index) : 0;
}

/* Once for each, by whichever of its files comes first. */
static int pair_finish(struct restore *r, const struct rfile *f, struct pair *p, struct err *e)
{
	int on = 1, got;

	if (p->finished || is_hung(p->info))
		return 0;
	p->finished = true;
	got = foreground_set(r, f, p, e);
	if (got < 0 || is_outside(p->info))
		return got;
	if ((p->info->packet_mode && ioctl(p->master, TIOCPKT, &on) < 0) ||
	    (p->info->exclusive && ioctl(p->master, TIOCEXCL) < 0) ||
	    (p->info->locked && ioctl(p->master, TIOCSPTLCK, &on) < 0))
		return err_sys(e, -errno, "modes of terminal %d", p->index);
	return is_orphan(p) ? orphan_give(r, p, e) : 0;
}

int tty_placed(struct restore *r, struct rfile *f, struct err *e)
{
	int got = pair_finish(r, f, pair_find(r, f->fe->tty->tty_info_id), e);

	return got < 0 ? got : fown_restore(r, f, f->fe->tty->fown, f->fe->tty->flags, e);
}

/* tty - pseudo terminals.
 *
 * State of a pair: its number in the container's devpts, termios, window size, lock, packet and
 * exclusive mode, owner of the node, the session whose terminal it is and the group in its
 * foreground.
 * Read: by ioctls on the master (TIOCGSID works there for everybody). TIOCGDEV tells which pair a
 * slave or /dev/tty belongs to.
 * Back: masters are opened by the container's init (devpts makes the node's owner from who opens)
 * until the number is reached; slaves by path. A session leader takes its terminal right after its
 * setsid(), because only children forked later inherit it (`tty_session_begun`, called by the
 * tree's growth). Groups, modes and lock in `placed`. A slave whose master is closed (everything
 * says EIO) becomes a slave of a new pair whose master is closed.
 * Refused: terminals of outside (an exec's), consoles.
 * Bytes on their way between the two ends travel too (tty_data.c).
 * Not covered: a process that gave its session's terminal up (TIOCNOTTY). */
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
#include "cr/file/kinds.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"
#include "cr/file/tty_data.h"
#include "cr/file/tty_priv.h"

#define PTS_MAJOR 136
#define PTS_MAJORS 8

static bool is_ptmx(dev_t rdev)
{
	return rdev == makedev(5, 2);
}

static bool is_current(dev_t rdev)
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

static bool tty_recognise(const struct ofile *f)
{
	return S_ISCHR(f->st.st_mode) && !(f->flags & O_PATH) && f->link[0] == '/' &&
	       (is_ptmx(f->st.st_rdev) || is_current(f->st.st_rdev) ||
		tty_index_of(f->st.st_rdev) >= 0);
}

/* Number of the pair; -EIO: the master is closed. */
static int pair_of(const struct ofile *f)
{
	unsigned n;

	if (ioctl(f->lfd, is_ptmx(f->st.st_rdev) ? TIOCGPTN : TIOCGDEV, &n) < 0)
		return -errno;
	if (is_ptmx(f->st.st_rdev))
		return n < TTY_INDEX_MAX ? (int)n : -ERANGE;
	/* The kernel's own encoding of a device: minor in the low byte and above bit 20. */
	return tty_index_of(makedev((n >> 8) & 0xfff, (n & 0xff) | ((n >> 12) & 0xfff00)));
}

static const struct ofile *master_of(struct dump *d, int index)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *f = d->ofiles[i];

		if (f->kind == &file_kind_tty && is_ptmx(f->st.st_rdev) && pair_of(f) == index)
			return f;
	}
	return NULL;
}

/* The node of a slave in the container's devpts. */
static int node_stat(const struct dump *d, int index, struct stat *ret)
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

static bool leads(const struct dump *d, const struct ofile *f)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, f->link, O_PATH, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->st.st_dev &&
	       st.st_ino == f->st.st_ino;
}

static int tty_check(struct dump *d, struct ofile *f, struct err *e)
{
	int index = pair_of(f), r = 0;
	struct stat st;

	if (index == -EIO)
		return 0;
	if (index < 0)
		r = ofile_refuse(d, f, "terminal",
				 "%s is a console or serial line, not a pseudo terminal", f->link);
	else if (!leads(d, f) || node_stat(d, index, &st) < 0)
		r = ofile_refuse(d, f, "terminal", "%s is a terminal from outside of the container",
				 f->link);
	else if (!master_of(d, index))
		r = ofile_refuse(d, f, "terminal",
				 "the other end of %s is held by nobody in the container "
				 "(a terminal of an exec?)",
				 f->link);
	return r < 0 ? err_sys(e, r, "refusal") : 0;
}

/* ---- capture ---- */

static pid_t session_inside(struct dump *d, pid_t sid)
{
	const struct task *t = dump_task_by_pid(d, sid);

	return t ? t->nspid : 0;
}

static pid_t group_inside(struct dump *d, pid_t pgid)
{
	for (size_t i = 0; i < d->n_tasks; i++)
		if (getpgid(d->tasks[i]->pid) == pgid)
			return d->tasks[i]->nspgid;
	return 0;
}

static void termios_fill(TermiosEntry *te, uint32_t cc[19], const struct termios2 *t)
{
	termios_entry__init(te);
	te->c_iflag = t->c_iflag;
	te->c_oflag = t->c_oflag;
	te->c_cflag = t->c_cflag;
	te->c_lflag = t->c_lflag;
	te->c_line = t->c_line;
	te->c_ispeed = t->c_ispeed;
	te->c_ospeed = t->c_ospeed;
	for (size_t i = 0; i < 19; i++)
		cc[i] = t->c_cc[i];
	te->n_c_cc = 19;
	te->c_cc = cc;
}

static int info_put(struct dump *d, const struct ofile *m, int index, struct err *e)
{
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;
	TermiosEntry te = TERMIOS_ENTRY__INIT;
	WinsizeEntry we = WINSIZE_ENTRY__INIT;
	TtyPtyEntry pe = TTY_PTY_ENTRY__INIT;
	int sid = 0, pgrp = 0, lock = 0, pkt = 0, excl = 0;
	const struct idmap *map = dump_idmap(d, e);
	struct termios2 t;
	struct winsize w;
	struct stat st;
	uint32_t cc[19];

	if (!map)
		return -EIO;
	if (ioctl(m->lfd, TCGETS2, &t) < 0 || ioctl(m->lfd, TIOCGWINSZ, &w) < 0 ||
	    ioctl(m->lfd, TIOCGPTLCK, &lock) < 0 || ioctl(m->lfd, TIOCGPKT, &pkt) < 0 ||
	    ioctl(m->lfd, TIOCGEXCL, &excl) < 0)
		return err_sys(e, -errno, "state of terminal %d", index);
	if (ioctl(m->lfd, TIOCGSID, &sid) < 0 || sid <= 0)
		sid = 0; /* no session has it */
	else if (ioctl(m->lfd, TIOCGPGRP, &pgrp) < 0)
		return err_sys(e, -errno, "foreground group of terminal %d", index);
	if (node_stat(d, index, &st) < 0)
		return err_set(e, -ENODEV, "terminal %d has no node in /dev/pts", index);
	termios_fill(&te, cc, &t);
	we.ws_row = w.ws_row;
	we.ws_col = w.ws_col;
	we.ws_xpixel = w.ws_xpixel;
	we.ws_ypixel = w.ws_ypixel;
	pe.index = (uint32_t)index;
	ti.id = (uint32_t)index;
	ti.type = TTY_TYPE__PTY;
	ti.locked = lock;
	ti.exclusive = excl;
	ti.packet_mode = pkt;
	ti.sid = (uint32_t)(sid ? session_inside(d, sid) : 0);
	ti.pgrp = (uint32_t)(ti.sid && pgrp > 0 ? group_inside(d, pgrp) : 0);
	ti.rdev = (uint32_t)(major(st.st_rdev) << 8 | minor(st.st_rdev));
	ti.termios = &te;
	ti.winsize = &we;
	ti.pty = &pe;
	ti.has_uid = ti.has_gid = ti.has_dev = 1;
	ti.dev = st.st_mode &
		 07777; /* permissions of the node: a pty's device number says nothing anew */
	idmap_uid_in(map, st.st_uid, &ti.uid);
	idmap_gid_in(map, st.st_gid, &ti.gid);
	return sink_put(d->sink, REC_TTY_INFO, ti.id, &ti.base, e);
}

static int bytes_put(struct dump *d, uint32_t id, const struct buf *b, struct err *e)
{
	TtyDataEntry td = TTY_DATA_ENTRY__INIT;

	if (!b->len)
		return 0;
	td.tty_id = id;
	td.data.data = (uint8_t *)b->data;
	td.data.len = b->len;
	return sink_put(d->sink, REC_TTY_DATA, id, &td.base, e);
}

/* Bytes are taken out and put back at once, since the container may have to run on. */
static int data_put(struct dump *d, const struct ofile *m, int index, struct err *e)
{
	auto_buf out = BUF_INIT;
	auto_buf in = BUF_INIT;
	auto_fd int slave = -1;
	char path[32];
	int lock = 0, r, back;

	if (ioctl(m->lfd, TIOCGPTLCK, &lock) < 0 || lock)
		return 0; /* a locked slave was never open */
	snprintf(path, sizeof(path), "/dev/pts/%d", index);
	slave = fd_open_in_root(d->root_fd, path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	if (slave < 0)
		return err_sys(e, slave, "%s", path);
	r = tty_data_take(m->lfd, slave, &out, &in, e);
	back = tty_data_give(m->lfd, slave, &out, &in, r < 0 ? NULL : e);
	if (r < 0 || back < 0)
		return r < 0 ? r : back;
	r = bytes_put(d, (uint32_t)index, &out, e);
	return r < 0 ? r : bytes_put(d, (uint32_t)index | TTY_INPUT, &in, e);
}

static int hung_put(struct dump *d, const struct ofile *f, struct err *e)
{
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;

	ti.id = TTY_HUNG + f->id;
	ti.type = TTY_TYPE__PTY;
	return sink_put(d->sink, REC_TTY_INFO, ti.id, &ti.base, e);
}

/* Opening a slave that never was would change what its master sees. */
static bool slave_was_open(struct dump *d, int index, bool no_hangup)
{
	if (!no_hangup)
		return true;
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *f = d->ofiles[i];

		if (f->kind == &file_kind_tty && !is_ptmx(f->st.st_rdev) && pair_of(f) == index)
			return true;
	}
	return false;
}

static int tty_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	TtyFileEntry tf = TTY_FILE_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	GwFile gf = GW_FILE__INIT;
	bool master = is_ptmx(f->st.st_rdev);
	int index = pair_of(f), r;
	struct pollfd p = { .fd = f->lfd };
	FownEntry own;

	if (index < 0 && index != -EIO)
		return err_sys(e, index, "%s", f->link);
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	tf.id = re.id = f->id;
	tf.tty_info_id = index >= 0 ? (uint32_t)index : TTY_HUNG + f->id;
	tf.flags = re.flags = f->flags;
	tf.fown = re.fown = &own;
	re.name = f->link;
	re.has_mode = 1;
	re.mode = f->st.st_mode;
	fe.tty = &tf;
	fe.reg = &re;
	gf.has_pty_master = gf.has_no_hangup = gf.has_rdev = 1;
	gf.pty_master = master;
	gf.rdev = major(f->st.st_rdev) << 8 | minor(f->st.st_rdev);
	/* The slave was open before and is not any more. */
	gf.no_hangup = !(master && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP));
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
	if (r == 0 && master)
		r = info_put(d, f, index, e);
	if (r == 0 && master && slave_was_open(d, index, gf.no_hangup))
		r = data_put(d, f, index, e);
	return r == 0 && index < 0 ? hung_put(d, f, e) : r;
}

const struct file_kind file_kind_tty = {
	.name = "terminal",
	.type = FD_TYPES__TTY,
	.recognise = tty_recognise,
	.check = tty_check,
	.capture = tty_capture,
	.load = tty_load,
	.build = tty_build,
	.placed = tty_placed,
};

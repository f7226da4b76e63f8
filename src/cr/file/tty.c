/* tty - terminals.
 *
 * State of a pair: its number in the container's devpts, termios, window size, lock, packet and
 * exclusive mode, owner of the node, the session whose terminal it is and the group in its
 * foreground.
 * Read: by ioctls on the master (TIOCGSID works there for everybody). TIOCGDEV tells which pair a
 * slave or /dev/tty belongs to (tty_find.c).
 * Back: masters are opened by the container's init (devpts makes the node's owner from who opens)
 * until the number is reached; slaves by path. A session leader takes its terminal right after its
 * setsid(), because only children forked later inherit it (`tty_session_begun`, called by the
 * tree's growth). Groups, modes and lock in `placed`. A slave whose master is closed (everything
 * says EIO) becomes a slave of a new pair whose master is closed.
 * A terminal whose master nobody in the tree has is refused in a live migration. In a checkpoint it
 * may be one of three: an orphan (of the tree's own devpts: made again, its master given away), the
 * caller's (--shell-job), or one that has a name (--external, --inherit-fd); the last two may be
 * consoles and serial lines, and keep the modes that they have.
 * Bytes on their way between the two ends of a pair travel too (tty_data.c). Where the master is
 * outside what was written is its own; what was typed and not read goes along with an orphan, and
 * stays in a terminal that stays.
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
#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"
#include "cr/file/tty_data.h"
#include "cr/file/tty_priv.h"
#include "sys/procfs.h"

/* Consoles, virtual terminals, serial lines of all sorts. */
static bool is_line(dev_t rdev)
{
	static const unsigned majors[] = { 4, 5, 166, 188, 204, 229 };

	for (size_t i = 0; i < array_len(majors); i++)
		if (major(rdev) == majors[i])
			return true;
	return false;
}

static bool tty_recognise(const struct ofile *f)
{
	return S_ISCHR(f->st.st_mode) && !(f->flags & O_PATH) && f->link[0] == '/' &&
	       (tty_index_of(f->st.st_rdev) >= 0 || is_line(f->st.st_rdev));
}

/* ---- check ---- */

static int live_refuse(struct dump *d, const struct ofile *f, const struct tty_term *t)
{
	struct stat st;

	if (t->index < 0)
		return ofile_refuse(d, f, "terminal", "%s is a console or serial line, not a pseudo terminal",
				    f->link);
	if (!tty_leads(d, f) || tty_node_stat(d, t->index, &st) < 0)
		return ofile_refuse(d, f, "terminal", "%s is a terminal from outside of the container",
				    f->link);
	return ofile_refuse(d, f, "terminal",
			    "the other end of %s is held by nobody in the container (a terminal of an exec?)",
			    f->link);
}

static int outside_refuse(struct dump *d, const struct ofile *f, const struct tty_term *t)
{
	unsigned long long rdev = t->rdev, dev = t->dev;

	if (d->opts->shell_job)
		return ofile_refuse(d, f, "terminal",
				    "%s is a second terminal whose other end is outside of the tree: --shell-job "
				    "takes one; give this one a name (--external tty[%llx:%llx])",
				    f->link, rdev, dev);
	return ofile_refuse(d, f, "terminal",
			    "the other end of %s is outside of the tree: have it replaced by the terminal of "
			    "whoever restores (--shell-job), or give it a name (--external tty[%llx:%llx]; at the "
			    "restore --inherit-fd fd[N]:tty[%llx:%llx]); a terminal of the tree's own /dev/pts, in "
			    "a mount namespace of its own, would be made anew",
			    f->link, rdev, dev, rdev, dev);
}

/* What is made again is found again by its path. */
static bool is_found(const struct dump *d, const struct ofile *f, const struct tty_term *t)
{
	struct stat st;

	if (t->where != TTY_HERE && t->where != TTY_ORPHAN)
		return true;
	return tty_leads(d, f) && tty_node_stat(d, t->index, &st) == 0;
}

static int tty_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct tty_term t = { .index = -1 };
	int r = tty_find(d, f, &t);

	if (r == -EIO) /* a master without its terminal */
		return 0;
	if (r < 0)
		r = d->opts ? ofile_refuse(d, f, "terminal", "%s: there is no terminal behind it", f->link) :
			      live_refuse(d, f, &t);
	else if (t.where == TTY_NOWHERE)
		r = d->opts ? outside_refuse(d, f, &t) : live_refuse(d, f, &t);
	else if (!is_found(d, f, &t))
		r = ofile_refuse(d, f, "terminal", "%s is a terminal from outside of the container", f->link);
	return r < 0 ? err_sys(e, r, "refusal") : 0;
}

static bool is_open(struct dump *d, dev_t rdev)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *f = d->ofiles[i];
		struct tty_term t;
		unsigned n;

		if (f->kind != &file_kind_tty)
			continue;
		if (!tty_is_ptmx(f->st.st_rdev) && ioctl(f->lfd, TIOCGDEV, &n) == 0 && tty_dev_decode(n) == rdev)
			return true;
		if (tty_is_ptmx(f->st.st_rdev) && tty_find(d, f, &t) == 0 && t.index == tty_index_of(rdev))
			return true;
	}
	return false;
}

/* A session that is led by the tree keeps its terminal only if a file tells which it is. */
int ttys_check_tables(struct dump *d, struct err *e)
{
	for (size_t i = 0; d->opts && i < d->n_tasks; i++) {
		const struct task *t = d->tasks[i];
		struct proc_stat st;
		dev_t rdev;
		int r;

		if (t->zombie || t->nssid != t->nspid || proc_stat_read(t->proc_fd, &st, NULL) < 0 || !st.tty_nr)
			continue;
		rdev = tty_dev_decode((uint32_t)st.tty_nr);
		if (is_open(d, rdev))
			continue;
		r = refusals_add(&d->refusals, t->nspid, "", "terminal",
				 "the terminal of its session (device %u:%u) is open nowhere in the tree, so that it "
				 "cannot be given back", major(rdev), minor(rdev));
		if (r < 0)
			return err_sys(e, r, "refusal");
	}
	return 0;
}

/* ---- capture ---- */

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

static TtyType type_of(const struct tty_term *t)
{
	if (t->where == TTY_NAMED)
		return TTY_TYPE__EXT_TTY;
	if (t->index >= 0)
		return TTY_TYPE__PTY;
	if (major(t->rdev) == 5 && minor(t->rdev) == 1)
		return TTY_TYPE__CONSOLE;
	return major(t->rdev) == 4 && minor(t->rdev) < 64 ? TTY_TYPE__VT : TTY_TYPE__SERIAL;
}

static int modes_fill(const struct tty_term *t, TtyInfoEntry *ti, WinsizeEntry *we, struct termios2 *ret,
		      struct err *e)
{
	int fd = t->first->lfd, lock = 0, pkt = 0, excl = 0;
	struct winsize w;

	if (ioctl(fd, TCGETS2, ret) < 0 || ioctl(fd, TIOCGWINSZ, &w) < 0 || ioctl(fd, TIOCGEXCL, &excl) < 0)
		return err_sys(e, -errno, "state of terminal %s", t->first->link);
	if (t->where == TTY_HERE && (ioctl(fd, TIOCGPTLCK, &lock) < 0 || ioctl(fd, TIOCGPKT, &pkt) < 0))
		return err_sys(e, -errno, "state of terminal %d", t->index);
	we->ws_row = w.ws_row;
	we->ws_col = w.ws_col;
	we->ws_xpixel = w.ws_xpixel;
	we->ws_ypixel = w.ws_ypixel;
	ti->locked = lock;
	ti->exclusive = excl;
	ti->packet_mode = pkt;
	return 0;
}

/* Of a pair that is made again. */
static int node_fill(struct dump *d, const struct tty_term *t, TtyInfoEntry *ti, struct err *e)
{
	const struct idmap *map = dump_idmap(d, e);
	struct stat st;

	if (!map)
		return -EIO;
	if (tty_node_stat(d, t->index, &st) < 0)
		return err_set(e, -ENODEV, "terminal %d has no node in /dev/pts", t->index);
	ti->rdev = (uint32_t)st.st_rdev;
	ti->dev = (uint32_t)st.st_dev;
	ti->has_uid = ti->has_gid = 1;
	idmap_uid_in(map, st.st_uid, &ti->uid);
	idmap_gid_in(map, st.st_gid, &ti->gid);
	return 0;
}

static int info_put(struct dump *d, const struct tty_term *t, struct err *e)
{
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;
	TermiosEntry te = TERMIOS_ENTRY__INIT;
	WinsizeEntry we = WINSIZE_ENTRY__INIT;
	TtyPtyEntry pe = TTY_PTY_ENTRY__INIT;
	struct termios2 modes;
	uint32_t cc[19];
	int r = modes_fill(t, &ti, &we, &modes, e);

	if (r == 0)
		r = tty_session_of(d, t, &ti.sid, &ti.pgrp, e);
	if (r < 0)
		return r;
	termios_fill(&te, cc, &modes);
	ti.id = t->id;
	ti.type = type_of(t);
	ti.rdev = (uint32_t)t->rdev;
	ti.dev = (uint32_t)t->dev;
	ti.has_dev = 1;
	ti.termios = &te;
	ti.winsize = &we;
	if (ti.type == TTY_TYPE__PTY) {
		pe.index = (uint32_t)t->index;
		ti.pty = &pe;
	}
	if (t->where == TTY_HERE || t->where == TTY_ORPHAN)
		r = node_fill(d, t, &ti, e);
	return r < 0 ? r : sink_put(d->sink, REC_TTY_INFO, ti.id, &ti.base, e);
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

/* Of an orphan: what was typed. */
static int input_put(struct dump *d, const struct tty_term *t, struct err *e)
{
	auto_buf in = BUF_INIT;
	auto_fd int slave = -1;
	char path[32];
	int r, back;

	snprintf(path, sizeof(path), "/dev/pts/%d", t->index);
	slave = fd_open_in_root(d->root_fd, path, O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	if (slave < 0)
		return err_sys(e, slave, "%s", path);
	r = tty_input_take(slave, &in, e);
	back = tty_input_give(slave, &in, r < 0 ? NULL : e);
	if (r < 0 || back < 0)
		return r < 0 ? r : back;
	return bytes_put(d, t->id | TTY_INPUT, &in, e);
}

static int hung_put(struct dump *d, uint32_t id, struct err *e)
{
	TtyInfoEntry ti = TTY_INFO_ENTRY__INIT;

	ti.id = id;
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
		struct tty_term t;

		if (f->kind == &file_kind_tty && !tty_is_ptmx(f->st.st_rdev) && tty_find(d, f, &t) == 0 &&
		    t.where == TTY_HERE && t.index == index)
			return true;
	}
	return false;
}

/* Beside the record of the file; of the file that writes the terminal's record, its node's mode, too. */
static int extra_put(struct dump *d, const struct ofile *f, const struct tty_term *t, bool no_hangup,
		     struct err *e)
{
	GwFile gf = GW_FILE__INIT;
	struct stat st;

	gf.has_pty_master = gf.has_no_hangup = gf.has_rdev = 1;
	gf.pty_master = tty_is_ptmx(f->st.st_rdev);
	gf.rdev = major(f->st.st_rdev) << 8 | minor(f->st.st_rdev);
	gf.no_hangup = no_hangup;
	if (f == t->first && t->index >= 0 && tty_node_stat(d, t->index, &st) == 0) {
		gf.has_mode = 1;
		gf.mode = st.st_mode & 07777;
	}
	return sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int tty_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	TtyFileEntry tf = TTY_FILE_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	bool master = tty_is_ptmx(f->st.st_rdev), no_hangup;
	struct pollfd p = { .fd = f->lfd };
	struct tty_term t;
	FownEntry own;
	int r = tty_find(d, f, &t);

	if (r < 0 || t.where == TTY_NOWHERE)
		return err_sys(e, r < 0 ? r : -EOPNOTSUPP, "%s", f->link);
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	tf.id = re.id = f->id;
	tf.tty_info_id = t.id;
	tf.flags = re.flags = f->flags;
	tf.fown = re.fown = &own;
	re.name = f->link;
	re.has_mode = 1;
	re.mode = f->st.st_mode;
	fe.tty = &tf;
	fe.reg = &re;
	/* The slave was open before and is not any more. */
	no_hangup = !(master && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP));
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = extra_put(d, f, &t, no_hangup, e);
	if (r == 0 && t.where == TTY_GONE)
		return hung_put(d, t.id, e);
	if (r == 0 && f == t.first)
		r = info_put(d, &t, e);
	if (r == 0 && f == t.first && t.where == TTY_ORPHAN)
		r = input_put(d, &t, e);
	return r == 0 && master && slave_was_open(d, t.index, no_hangup) ? data_put(d, f, t.index, e) : r;
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

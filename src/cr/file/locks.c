/* locks - flock, POSIX and OFD locks.
 *
 * State: who holds which range how. Read: "lock" lines of fdinfo, collected with the tables; each
 * task sees its own POSIX locks there, and those of an open file description that it has.
 * Back, when all tables stand (a POSIX lock goes when its process closes any descriptor of the
 * file): by an agent of the holder, so that the kernel notes the right owner and pid; OFD by the
 * engine's descriptor, whose description is the owner.
 * Refused: leases and delegations; in a checkpoint all locks without --file-locks, and such as
 * somebody outside of the tree waits for, who would have it as soon as the tree is gone. What others
 * hold or wait for is nowhere in the tree's fdinfo.  Who waits for a lock repeats its call. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/file/table.h"

#include "file-lock.pb-c.h"

/* Numbers of the image format (those of the kernel's file_lock flags). */
#define FL_POSIX 1u
#define FL_FLOCK 2u
#define FL_OFDLCK 1024u

static int lease_refuse(struct dump *d, const struct ofile *f, struct err *e)
{
	if (ofile_refuse(d, f, "lease",
			 "%s is under a lease or delegation, which cannot be put back",
			 f->link) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static int lock_refuse(struct dump *d, const struct table_lock *l, struct err *e)
{
	static const char *const names[] = { "", "POSIX", "OFD", "flock" };

	if (ofile_refuse(d, l->of, "file lock",
			 "%s: process %d has a %s lock on it; --file-locks takes locks along (if nobody outside of the "
			 "tree uses them)", l->of->link, (int)l->task->nspid, names[l->lock.kind]) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

/* ---- who waits ---- */

static bool is_ours(struct dump *d, pid_t pid)
{
	return pid > 0 && dump_task_by_pid(d, pid);
}

/* The tree's lock that this is; NULL: it is somebody else's. */
static const struct table_lock *lock_of(struct dump *d, const struct fdinfo_lock *l)
{
	struct table *tb = dump_table(d);

	for (size_t i = 0; i < tb->n_locks; i++)
		if (fdinfo_lock_same(&tb->locks[i].lock, l) &&
		    (l->kind != LOCK_POSIX || l->pid == (int)tb->locks[i].task->pid))
			return &tb->locks[i];
	return NULL;
}

/* In a tree that stands nobody waits: whose number is not told is outside. */
static int waiter_refuse(struct dump *d, const struct table_lock *l, const struct fdinfo_lock *waiter,
			 struct err *e)
{
	char who[32] = "somebody";

	if (waiter->pid > 0)
		snprintf(who, sizeof(who), "process %d", waiter->pid);
	if (ofile_refuse(d, l->of, "file lock",
			 "%s: %s outside of the tree waits for its lock, and would have it before a restore",
			 l->of->link, who) < 0)
		return err_sys(e, -ENOMEM, "refusal");
	return 0;
}

static int waiters_check(struct dump *d, struct err *e)
{
	const struct table_lock *held = NULL;
	auto_free char *text = NULL;
	int r = fd_read_file_at(AT_FDCWD, "/proc/locks", 64u << 20, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading /proc/locks");
	for (const char *p = text; r == 0 && *p;) {
		const char *end = strchr(p, '\n');
		struct fdinfo_lock l;
		bool waits;

		if (fdinfo_lock(p, &l, &waits) == 0) {
			if (!waits)
				held = lock_of(d, &l);
			else if (held && !is_ours(d, l.pid))
				r = waiter_refuse(d, held, &l, e);
		}
		p = end ? end + 1 : p + strlen(p);
	}
	return r;
}

/* Part "files" has released its tables when a check comes here, so the lines are looked at once
 * more: called by it while they are there. */
int locks_check_tables(struct dump *d, struct err *e)
{
	struct table *tb = dump_table(d);
	int r = 0;

	for (size_t i = 0; r == 0 && i < tb->n_locks; i++) {
		if (tb->locks[i].lock.kind == LOCK_OTHER)
			r = lease_refuse(d, tb->locks[i].of, e);
		else if (d->opts && !d->opts->file_locks)
			r = lock_refuse(d, &tb->locks[i], e);
	}
	/* A tree that stays keeps its locks. */
	if (r == 0 && tb->n_locks && d->opts && d->opts->file_locks && d->opts->after == CR_AFTER_KILL)
		r = waiters_check(d, e);
	return r;
}

static int locks_frozen(struct dump *d, struct err *e)
{
	struct table *tb = dump_table(d);
	int r = 0;

	for (size_t i = 0; r == 0 && i < tb->n_locks; i++) {
		const struct table_lock *l = &tb->locks[i];
		FileLockEntry fl = FILE_LOCK_ENTRY__INIT;

		switch (l->lock.kind) {
		case LOCK_POSIX:
			fl.flag = FL_POSIX;
			break;
		case LOCK_FLOCK:
			fl.flag = FL_FLOCK;
			break;
		case LOCK_OFD:
			fl.flag = FL_OFDLCK;
			break;
		case LOCK_OTHER:
			return err_set(e, -EOPNOTSUPP, "%s is under a lease", l->of->link);
		}
		fl.type = l->lock.write ? F_WRLCK : F_RDLCK;
		fl.pid = l->task->nspid;
		fl.fd = l->fd;
		fl.start = (int64_t)l->lock.start;
		fl.len = (int64_t)l->lock.len;
		r = sink_put(d->sink, REC_FILELOCKS, (uint32_t)l->task->nspid, &fl.base, e);
	}
	return r;
}

/* ---- restore ---- */

static int lock_sane(struct restore *r, const FileLockEntry *fl, struct err *e)
{
	struct rtask *t = restore_task(r, fl->pid);

	if (!t || t->zombie || !restore_file_at(r, t, fl->fd) || fl->start < 0 || fl->len < 0 ||
	    (fl->type != F_WRLCK && fl->type != F_RDLCK) ||
	    (fl->flag != FL_POSIX && fl->flag != FL_FLOCK && fl->flag != FL_OFDLCK))
		return err_set(e, -EINVAL, "a lock of process %d, fd %d makes no sense", fl->pid,
			       fl->fd);
	return 0;
}

static int locks_load(struct restore *r, struct err *e)
{
	const struct record *rec;
	size_t pos = 0;
	int got = 0;

	if (r->opts && !r->opts->file_locks && image_find(r->image, REC_FILELOCKS, REC_ANY, NULL))
		return err_set(e, -EOPNOTSUPP, "the tree had file locks, which are put back by --file-locks (if nobody "
			       "outside of the tree uses them)");
	while (got == 0 && (rec = image_find(r->image, REC_FILELOCKS, REC_ANY, &pos)))
		got = lock_sane(r, (const FileLockEntry *)rec->msg, e);
	return got;
}

static int lock_take(struct restore *r, const FileLockEntry *fl, struct err *e)
{
	struct rtask *t = restore_task(r, fl->pid);
	struct rfile *f = restore_file_at(r, t, fl->fd);
	struct flock lk = { .l_type = (short)fl->type,
			    .l_whence = SEEK_SET,
			    .l_start = fl->start,
			    .l_len = fl->len };
	struct aprog *p;
	int got;

	if (fl->flag == FL_OFDLCK)
		return fcntl(f->fd, F_OFD_SETLK, &lk) < 0 ? err_sys(e, -errno, "OFD lock") : 0;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "a lock");
	if (fl->flag == FL_POSIX)
		APROG_CALL(p, 0, SYS_fcntl, aarg_imm((uint64_t)fl->fd), aarg_imm(F_SETLK),
			   aprog_in(p, &lk, sizeof(lk)));
	else
		APROG_CALL(p, 0, SYS_flock, aarg_imm((uint64_t)fl->fd),
			   aarg_imm((fl->type == F_WRLCK ? LOCK_EX : LOCK_SH) | LOCK_NB));
	got = agent_run(t->agent, p, e);
	aprog_free(p);
	return got < 0 ? got : 0;
}

static int locks_finish(struct restore *r, struct err *e)
{
	const struct record *rec;
	size_t pos = 0;
	int got = 0;

	while (got >= 0 && (rec = image_find(r->image, REC_FILELOCKS, REC_ANY, &pos))) {
		const FileLockEntry *fl = (const FileLockEntry *)rec->msg;

		got = lock_take(r, fl, e);
		if (got < 0)
			err_context(e, got, "lock of process %d, fd %d", fl->pid, fl->fd);
	}
	return got < 0 ? got : 0;
}

const struct cr_part cr_part_locks = {
	.name = "locks",
	.frozen = locks_frozen,
	.load = locks_load,
	.finish = locks_finish,
};

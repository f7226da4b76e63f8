/* table_restore - the descriptor tables of all tasks at a restore.
 *
 * Each task begins with a copy of its parent's table. Everything in it but the agent's channel is
 * closed, then the files go to their numbers (SCM_RIGHTS and dup2 by the agent). RLIMIT_NOFILE is
 * in the way of numbers above it: the soft limit is raised before, and set as recorded later by the
 * part that owns limits. Numbers of late files (file.h) are kept occupied by a file of no
 * meaning until `finish`. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cr/file/ghost.h"
#include "cr/file/kinds.h"
#include "cr/file/link.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"

#define FD_NUMBER_MAX (1u << 30)

struct rtable *restore_table(struct restore *r)
{
	size_t i = cr_part_index(&cr_part_files);

	return i < array_len(r->part_data) ? r->part_data[i] : NULL;
}

static struct rtable_task *table_of(struct restore *r, const struct rtask *t)
{
	struct rtable *rt = restore_table(r);

	for (size_t i = 0; rt && i < r->n_tasks; i++)
		if (r->tasks[i] == t)
			return &rt->tasks[i];
	return NULL;
}

static const struct rtable_fd *fd_at(struct restore *r, const struct rtask *t, int fd)
{
	struct rtable_task *tt = table_of(r, t);
	size_t lo = 0, hi = tt ? tt->n : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (tt->fds[mid].fd == fd)
			return &tt->fds[mid];
		if (tt->fds[mid].fd < fd)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

struct rfile *restore_file_at(struct restore *r, const struct rtask *t, int fd)
{
	const struct rtable_fd *x = fd_at(r, t, fd);

	return x ? x->f : NULL;
}

bool restore_cloexec_at(struct restore *r, const struct rtask *t, int fd)
{
	const struct rtable_fd *x = fd_at(r, t, fd);

	return x && x->cloexec;
}

/* ---- load ---- */

static const struct file_kind *kind_for(const FileEntry *fe)
{
	for (size_t i = 0; i < file_kinds_n; i++)
		if (file_kinds[i]->type == fe->type && file_kinds[i]->build)
			return file_kinds[i];
	return NULL;
}

static int kinds_find(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		struct rfile *f = r->files[i];

		f->number = -1;
		f->kind = kind_for(f->fe);
		if (!f->kind)
			return err_set(e, -EOPNOTSUPP,
				       "file %u is of kind %u, which is unknown here", f->id,
				       (unsigned)f->fe->type);
	}
	return 0;
}

static int rtable_fd_compare(const void *a, const void *b)
{
	const struct rtable_fd *x = a, *y = b;

	return (x->fd > y->fd) - (x->fd < y->fd);
}

static int table_read(struct restore *r, struct rtable_task *tt, struct err *e)
{
	struct rtask *t = tt->task;
	const struct record *rec;
	size_t pos = 0;

	while ((rec = image_find(r->image, REC_FDINFO, (uint32_t)t->nspid, &pos))) {
		const FdinfoEntry *fe = (const FdinfoEntry *)rec->msg;
		struct rfile *f = restore_file(r, fe->id);

		if (!f || fe->fd > FD_NUMBER_MAX)
			return err_set(e, -EINVAL,
				       "process %d: descriptor %u of file %u makes no sense",
				       t->nspid, fe->fd, fe->id);
		if (array_grow(tt->fds, tt->n, tt->cap) < 0)
			return err_sys(e, -ENOMEM, "table of descriptors");
		tt->fds[tt->n++] = (struct rtable_fd){ (int)fe->fd, fe->flags & FD_CLOEXEC, f };
		if (!f->task) {
			f->task = t;
			f->number = (int)fe->fd;
		}
	}
	if (tt->n)
		qsort(tt->fds, tt->n, sizeof(*tt->fds), rtable_fd_compare);
	for (size_t i = 1; i < tt->n; i++)
		if (tt->fds[i].fd == tt->fds[i - 1].fd)
			return err_set(e, -EINVAL,
				       "process %d: descriptor %d stands twice in the records",
				       t->nspid, tt->fds[i].fd);
	return 0;
}

int files_load(struct restore *r, struct err *e)
{
	size_t idx = cr_part_index(&cr_part_files);
	struct rtable *rt;
	int got;

	if (idx >= array_len(r->part_data))
		return err_set(e, -EIO, "part files has no place in the table of parts");
	rt = calloc(1, sizeof(*rt));
	if (!rt)
		return err_sys(e, -ENOMEM, "table of descriptors");
	r->part_data[idx] = rt;
	rt->tasks = calloc(r->n_tasks, sizeof(*rt->tasks));
	if (!rt->tasks)
		return err_sys(e, -ENOMEM, "table of descriptors");
	got = kinds_find(r, e);
	for (size_t i = 0; got >= 0 && i < r->n_tasks; i++) {
		rt->tasks[i].task = r->tasks[i];
		got = table_read(r, &rt->tasks[i], e);
	}
	if (got < 0)
		return got;
	rt->late = calloc(r->n_files + 1, sizeof(*rt->late));
	if (!rt->late)
		return err_sys(e, -ENOMEM, "table of descriptors");
	for (size_t i = 0; got >= 0 && i < r->n_files; i++)
		if (r->files[i]->kind->load)
			got = r->files[i]->kind->load(r, r->files[i], e);
	return got < 0 ? got : 0;
}

/* ---- build ---- */

static int file_failed(const struct rfile *f, int code, struct err *e)
{
	if (f->task)
		return err_context(e, code, "process %d, fd %d (%s)", f->task->nspid, f->number,
				   f->kind->name);
	return err_context(e, code, "file %u (%s)", f->id, f->kind->name);
}

/* Builds what can be built until nothing moves; *ret_left: how many remain. */
static int build_pass(struct restore *r, bool late, size_t *ret_left, struct err *e)
{
	struct rtable *rt = restore_table(r);
	size_t left, made;

	do {
		left = made = 0;
		for (size_t i = 0; i < r->n_files; i++) {
			struct rfile *f = r->files[i];
			int got;

			if (f->fd >= 0 || (late && !rt->late[i]))
				continue;
			got = f->kind->build(r, f, e);
			if (got < 0)
				return file_failed(f, got, e);
			if (got == 0 && f->fd < 0)
				return err_set(e, -EIO, "file %u (%s) was not made", f->id,
					       f->kind->name);
			left += got != 0;
			made += got == 0;
		}
	} while (left && made);
	*ret_left = left;
	return 0;
}

static int connect_pass(struct restore *r, bool late, struct err *e)
{
	struct rtable *rt = restore_table(r);

	for (size_t i = 0; i < r->n_files; i++) {
		struct rfile *f = r->files[i];
		int got;

		if (rt->late[i] != late || !f->kind->connect)
			continue;
		got = f->kind->connect(r, f, e);
		if (got < 0)
			return file_failed(f, got, e);
	}
	return 0;
}

static void nofile_raise(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

int files_build(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);
	size_t left;
	int got;

	nofile_raise();
	got = build_pass(r, false, &left, e);
	if (got < 0)
		return got;
	for (size_t i = 0; i < r->n_files; i++)
		rt->late[i] = r->files[i]->fd < 0;
	return connect_pass(r, false, e);
}

/* ---- placing ---- */

/* Room for the highest number; the limit itself is put back by its owner. */
static int limit_raise(struct rtask *t, int highest, struct err *e)
{
	struct rlimit rl = { 0 };
	struct aprog *p = aprog_new();
	struct aarg out;
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "limits of process %d", t->nspid);
	out = aprog_out(p, sizeof(rl));
	APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_NOFILE), aarg_imm(0), out);
	r = agent_run(t->agent, p, e);
	if (r >= 0)
		memcpy(&rl, aprog_out_data(p, out), sizeof(rl));
	aprog_free(p);
	if (r < 0)
		return r;
	if (rl.rlim_cur != RLIM_INFINITY && rl.rlim_cur < (rlim_t)highest + 64) {
		rl.rlim_cur = (rlim_t)highest + 64;
		if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < rl.rlim_cur)
			rl.rlim_max = rl.rlim_cur;
		p = aprog_new();
		if (!p)
			return err_sys(e, -ENOMEM, "limits of process %d", t->nspid);
		APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_NOFILE),
			   aprog_in(p, &rl, sizeof(rl)), aarg_imm(0));
		r = agent_run(t->agent, p, e);
		aprog_free(p);
		if (r < 0)
			return err_context(e, r, "process %d needs descriptor %d", t->nspid,
					   highest);
	}
	return 0;
}

static int table_clear(struct rtask *t, struct err *e)
{
	unsigned ch = (unsigned)agent_channel_number(t->agent);
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "closing what process %d inherited", t->nspid);
	if (ch > 0)
		APROG_CALL(p, 0, SYS_close_range, aarg_imm(0), aarg_imm(ch - 1), aarg_imm(0));
	APROG_CALL(p, 0, SYS_close_range, aarg_imm(ch + 1), aarg_imm(~0u), aarg_imm(0));
	r = agent_run(t->agent, p, e);
	aprog_free(p);
	return r < 0 ? err_context(e, r, "closing what process %d inherited", t->nspid) : 0;
}

/* All processes exist (their threads and credentials do not): what waited for that and no more. */
static int files_standing(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);
	size_t left;
	int got;

	if (rt->standing)
		return 0;
	rt->standing = true;
	got = build_pass(r, true, &left, e);
	for (size_t i = 0; got >= 0 && i < r->n_files; i++) {
		struct rfile *f = r->files[i];

		if (!rt->late[i] || f->fd < 0)
			continue;
		rt->late[i] = false;
		if (f->kind->connect && (got = f->kind->connect(r, f, e)) < 0)
			file_failed(f, got, e);
	}
	return got < 0 ? got : 0;
}

int files_task_filled(struct restore *r, struct rtask *t, struct err *e)
{
	struct rtable_task *tt = table_of(r, t);
	auto_free struct fd_place *pl = NULL;
	auto_fd int filler = -1;
	int highest, got;

	if (t->zombie)
		return 0;
	if (!tt)
		return err_set(e, -EIO, "process %d has no table", t->nspid);
	got = files_standing(r, e);
	if (got >= 0)
		got = table_clear(t, e);
	if (got < 0 || !tt->n)
		return got;
	highest = tt->fds[tt->n - 1].fd;
	got = limit_raise(t, highest + 1, e);
	if (got >= 0)
		got = agent_move_channel(t->agent, highest + 1, e);
	if (got < 0)
		return got;
	pl = calloc(tt->n, sizeof(*pl));
	if (!pl)
		return err_sys(e, -ENOMEM, "table of process %d", t->nspid);
	for (size_t i = 0; i < tt->n; i++) {
		int fd = tt->fds[i].f->fd;

		if (fd < 0 && filler < 0) {
			filler = openat(r->root_fd, "/", O_PATH | O_CLOEXEC);
			if (filler < 0)
				return err_sys(e, -errno, "a file to keep numbers occupied");
		}
		pl[i] = (struct fd_place){ fd < 0 ? filler : fd, tt->fds[i].fd,
					   tt->fds[i].cloexec };
	}
	got = agent_place_fds(t->agent, pl, tt->n, e);
	return got < 0 ? err_context(e, got, "descriptors of process %d", t->nspid) : 0;
}

static bool is_late(struct restore *r, const struct rfile *f)
{
	size_t lo = 0, hi = r->n_files;

	while (lo < hi) { /* ordered by id */
		size_t mid = lo + (hi - lo) / 2;

		if (r->files[mid] == f)
			return restore_table(r)->late[mid];
		if (r->files[mid]->id < f->id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int late_place(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);

	for (size_t i = 0; i < r->n_tasks; i++) {
		struct rtable_task *tt = &rt->tasks[i];

		for (size_t j = 0; j < tt->n; j++) {
			struct rtable_fd *x = &tt->fds[j];
			struct fd_place pl = { x->f->fd, x->fd, x->cloexec };
			int got;

			if (!is_late(r, x->f))
				continue;
			got = agent_place_fds(tt->task->agent, &pl, 1, e);
			if (got < 0)
				return err_context(e, got, "descriptor %d of process %d", x->fd,
						   tt->task->nspid);
		}
	}
	return 0;
}

int files_finish(struct restore *r, struct err *e)
{
	struct rtable *rt = restore_table(r);
	bool any = false;
	size_t left = 0;
	int got = 0;

	rt->finishing = true;
	for (size_t i = 0; i < r->n_files; i++)
		any = any || rt->late[i];
	if (any)
		got = build_pass(r, true, &left, e);
	if (got == 0 && left) {
		for (size_t i = 0; i < r->n_files; i++)
			if (r->files[i]->fd < 0)
				return err_set(e, -EDEADLK,
					       "file %u (%s) and %zu others wait for each other",
					       r->files[i]->id, r->files[i]->kind->name, left - 1);
	}
	if (got == 0 && any)
		got = connect_pass(r, true, e);
	if (got == 0 && any)
		got = late_place(r, e);
	for (size_t i = 0; got >= 0 && i < r->n_files; i++)
		if (r->files[i]->kind->placed) {
			got = r->files[i]->kind->placed(r, r->files[i], e);
			if (got < 0)
				file_failed(r->files[i], got, e);
		}
	return got < 0 ? got : 0;
}

void files_restore_done(struct restore *r)
{
	size_t idx = cr_part_index(&cr_part_files);
	struct rtable *rt = restore_table(r);

	for (size_t i = 0; i < r->n_files; i++) {
		const struct file_kind *k = r->files[i]->kind;

		/* Others keep theirs in lists of their own. */
		if (k != &file_kind_pipe && k != &file_kind_fifo && k != &file_kind_memfd)
			continue;
		free(r->files[i]->priv);
		r->files[i]->priv = NULL;
	}
	if (!rt)
		return;
	for (size_t i = 0; rt->tasks && i < r->n_tasks; i++)
		free(rt->tasks[i].fds);
	free(rt->tasks);
	links_restore_done(r);
	ghosts_done(r);
	ttys_done(r);
	free(rt->pipes);
	free(rt->late);
	free(rt);
	r->part_data[idx] = NULL;
}

/* table_dump - part "files" at a dump: all files are checked, captured, and the tables written. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cr/file/link.h"
#include "cr/file/table.h"
#include "cr/file/tty.h"

/* ---- the part ---- */

/* Pipes last: an end of one may be in flight in a socket, which is found by the socket's check. */
static int check_all(struct dump *d, struct err *e)
{
	int r = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; r >= 0 && i < d->n_ofiles; i++) {
			struct ofile *f = d->ofiles[i];

			if (f->checked || S_ISFIFO(f->st.st_mode) != pass)
				continue;
			f->checked = true;
			if (f->kind->check)
				r = f->kind->check(d, f, e);
		}
	return r < 0 ? r : 0;
}

/* The tables that are collected here stay: a dump begins with a check of the frozen tree. */
static int files_check(struct dump *d, struct err *e)
{
	int r;

	r = dump_table_collect(d, e);
	if (r == 0)
		r = fs_check_tables(d, e);
	if (r == 0 && d->check_only)
		r = mapped_check_tables(d, e);
	if (r == 0)
		r = check_all(d, e);
	if (r == 0)
		r = ttys_check_tables(d, e);
	return r == 0 ? locks_check_tables(d, e) : r;
}

/* Captures what has not been captured; a capture may add files (descriptors in flight), which
 * follow. */
int dump_capture_from(struct dump *d, struct table *tb, struct err *e)
{
	int r = 0;

	tb->in_loop = true;
	while (r >= 0 && tb->n_captured < d->n_ofiles) {
		/* Kinds that may add files go ahead, at the beginning and whenever more have
		 * come. */
		bool first = tb->n_first < d->n_ofiles;
		struct ofile *f = d->ofiles[first ? tb->n_first++ : tb->n_captured++];
		size_t before = d->refusals.n;

		if (f->kind->first != first)
			continue;
		if (!f->checked && f->kind->check) /* came in after the check */
			r = f->kind->check(d, f, e);
		if (r >= 0 && d->refusals.n != before)
			r = err_set(e, -EOPNOTSUPP, "%s", d->refusals.list[before].why);
		if (r >= 0)
			r = f->kind->capture(d, f, e);
		if (r < 0)
			err_context(e, r, "process %d, fd %d (%s)", f->task ? f->task->nspid : 0,
				    f->fd, f->kind->name);
	}
	tb->in_loop = false;
	return r < 0 ? r : 0;
}

static int tables_write(struct dump *d, struct table *tb, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < tb->n_tasks; i++) {
		const struct table_task *tt = &tb->tasks[i];

		for (size_t j = 0; r == 0 && j < tt->n; j++) {
			FdinfoEntry fe = FDINFO_ENTRY__INIT;

			fe.id = tt->fds[j].of->id;
			fe.flags = tt->fds[j].cloexec ? FD_CLOEXEC : 0;
			fe.type = tt->fds[j].of->kind->type;
			fe.fd = (uint32_t)tt->fds[j].fd;
			r = sink_put(d->sink, REC_FDINFO, (uint32_t)tt->task->nspid, &fe.base, e);
		}
	}
	return r;
}

static int files_frozen(struct dump *d, struct err *e)
{
	struct table *tb;
	int r;

	r = dump_table_collect(d, e);
	if (r < 0)
		return r;
	tb = dump_table(d);
	tb->capturing = true;
	r = dump_capture_from(d, tb, e);
	return r < 0 ? r : tables_write(d, tb, e);
}

static void files_done(struct dump *d)
{
	size_t i = cr_part_index(&cr_part_files);

	if (i >= array_len(d->part_data) || !d->part_data[i])
		return;
	links_dump_done(d);
	dump_table_reset(d);
	free(d->part_data[i]);
	d->part_data[i] = NULL;
	free(d->ofiles);
	d->ofiles = NULL;
	d->cap_ofiles = 0;
}

const struct cr_part cr_part_files = {
	.name = "files",
	.check = files_check,
	.frozen = files_frozen,
	.done = files_done,
	.load = files_load,
	.build = files_build,
	.task_begin = tty_session_begun,
	.task_filled = files_task_filled,
	.finish = files_finish,
	.restore_done = files_restore_done,
};

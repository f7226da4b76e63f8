/* fs - working folder, root folder, umask.
 *
 * Read: /proc/PID/cwd and root, opened by us (O_PATH), are captured as files like any other; umask
 * from /proc/PID/status.
 * Back: the agent's chroot, fchdir, umask on descriptors that the engine opened; root only where
 * some process has another than the container's.  Must come before credentials.
 * Not covered: threads with a folder of their own (unshare(CLONE_FS)); the task tree refuses
 * them. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/table.h"
#include "cr/task/tree.h"
#include "sys/procfs.h"

#include "fs.pb-c.h"

static int folder_file(struct dump *d, struct task *t, const char *name, uint32_t *ret,
		       struct err *e)
{
	struct ofile *f;
	int fd, r;

	f = dump_ofile_known(d, t->proc_fd, name);
	if (f) {
		*ret = f->id;
		return 0;
	}
	fd = openat(t->proc_fd, name, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "%s of process %d", name, t->nspid);
	r = dump_ofile_of_path(d, t, fd, &f, e);
	if (r < 0)
		return err_context(e, r, "%s of process %d", name, t->nspid);
	*ret = f->id;
	return 0;
}

/* Called by part "files" while it checks, so that the folders are looked at with everything
 * else. */
int fs_check_tables(struct dump *d, struct err *e)
{
	uint32_t id;
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];

		if (t->zombie)
			continue;
		r = folder_file(d, t, "cwd", &id, e);
		if (r == 0)
			r = folder_file(d, t, "root", &id, e);
		if (r == -ENOENT || r == -ESRCH)
			r = 0; /* it has ended since */
	}
	return r;
}

static int umask_read(const struct task *t, uint32_t *ret, struct err *e)
{
	struct proc_status st;
	int r = task_status(t, &t->threads[0], &st, e);

	if (r < 0)
		return err_context(e, r, "umask of process %d", t->nspid);
	*ret = st.umask & 0777;
	return 0;
}

static int fs_frozen(struct dump *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		FsEntry fs = FS_ENTRY__INIT;

		if (t->zombie)
			continue;
		r = folder_file(d, t, "cwd", &fs.cwd_id, e);
		if (r == 0)
			r = folder_file(d, t, "root", &fs.root_id, e);
		fs.has_umask = 1;
		if (r == 0)
			r = umask_read(t, &fs.umask, e);
		if (r == 0)
			r = sink_put(d->sink, REC_FS, (uint32_t)t->nspid, &fs.base, e);
	}
	return r;
}

/* ---- restore ---- */

static const FsEntry *entry_of(struct restore *r, const struct rtask *t)
{
	const struct record *rec = image_find(r->image, REC_FS, (uint32_t)t->nspid, NULL);

	return rec ? (const FsEntry *)rec->msg : NULL;
}

/* Has any process another root than the container's? Then each gets its own, because a child begins
 * with that of its parent. */
static bool any_chroot(struct restore *r)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const FsEntry *fs = entry_of(r, r->tasks[i]);
		const struct rfile *f = fs ? restore_file(r, fs->root_id) : NULL;

		if (f && f->fe->reg && f->fe->reg->name && !str_eq(f->fe->reg->name, "/"))
			return true;
	}
	return false;
}

static int fs_load(struct restore *r, struct err *e)
{
	for (size_t i = 0; i < r->n_tasks; i++) {
		const struct rtask *t = r->tasks[i];
		const FsEntry *fs = entry_of(r, t);

		if (t->zombie)
			continue;
		if (!fs || !restore_file(r, fs->cwd_id) || !restore_file(r, fs->root_id))
			return err_set(e, -EINVAL, "process %d: no record of its folders",
				       t->nspid);
	}
	/* Whatever is not NULL: yes. */
	r->part_data[cr_part_index(&cr_part_fs)] = any_chroot(r) ? r : NULL;
	return 0;
}

/* The task's folder from now on, by a descriptor of ours. */
static int folder_enter(struct rtask *t, int fd, bool root, const uint32_t *mask, struct err *e)
{
	struct aarg number;
	struct aprog *p;
	int got;

	if (fd < 0)
		return err_set(e, -EIO, "the folder was not opened");
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "folder of process %d", t->nspid);
	number = aarg_result(aprog_put(p));
	APROG_CALL(p, 0, SYS_fchdir, number);
	if (root)
		APROG_CALL(p, 0, SYS_chroot, aprog_str(p, "."));
	APROG_CALL(p, 0, SYS_close, number);
	if (mask)
		APROG_CALL(p, 0, SYS_umask, aarg_imm(*mask & 0777));
	got = agent_run_fd(t->agent, p, fd, e);
	aprog_free(p);
	return got < 0 ? got : 0;
}

static int fs_task_filled(struct restore *r, struct rtask *t, struct err *e)
{
	const FsEntry *fs = entry_of(r, t);
	int got = 0;

	if (t->zombie)
		return 0;
	if (r->part_data[cr_part_index(&cr_part_fs)]) {
		got = folder_enter(t, restore_file(r, fs->root_id)->fd, true, NULL, e);
		if (got < 0)
			return err_context(e, got, "root of process %d", t->nspid);
	}
	got = folder_enter(t, restore_file(r, fs->cwd_id)->fd, false, fs->has_umask ? &fs->umask : NULL, e);
	return got < 0 ? err_context(e, got, "working folder of process %d", t->nspid) : 0;
}

const struct cr_part cr_part_fs = {
	.name = "fs",
	.frozen = fs_frozen,
	.load = fs_load,
	.task_filled = fs_task_filled,
};

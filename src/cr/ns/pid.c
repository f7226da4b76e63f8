/* pid - the PID namespace.
 *
 * State: the last pid given away (who forks next gets the one after it).  Read and put back through
 * kernel.ns_last_pid, which follows the task that opens it: a short-lived process of the namespace
 * does both, on a procfs of its own, since the container's may be read-only.  The pids themselves:
 * cr/task.  Refused in a checkpoint: processes in the namespace that are not of the tree, having entered it
 * (exec, attach); they would end with its init, or be missing in the image. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/cr.h"
#include "cr/ns/ns.h"
#include "cr/ns/util.h"
#include "sys/abi.h"
#include "sys/procfs.h"

#define PIDS_MAX (1u << 22)

static int last_open(int flags)
{
	auto_fd int fs = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
	auto_fd int mnt = -1;
	int fd;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mnt < 0)
		return -errno;
	fd = openat(mnt, "sys/kernel/ns_last_pid", flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int last_read(int out, void *arg)
{
	auto_fd int fd = last_open(O_RDONLY);
	char text[32];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, text, sizeof(text));
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	return fd_write_full(out, text, (size_t)n);
}

static int last_write(int out, void *arg)
{
	auto_fd int fd = last_open(O_WRONLY);
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", *(const unsigned *)arg);

	if (fd < 0)
		return fd;
	return write(fd, text, (size_t)n) == n ? 0 : -errno;
}

/* The init's agent reads it at no cost, where the container has a procfs at its place. */
static int inside(struct dump *d, struct task *t, struct err *e)
{
	struct aprog *p;
	struct aarg out;
	size_t fd;
	int r;

	if (t != d->tasks[0])
		return 0;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "last pid");
	out = aprog_out(p, 24);
	fd = APROG_CALL(p, 0, SYS_openat, aarg_imm((uint64_t)AT_FDCWD),
			aprog_str(p, "/proc/sys/kernel/ns_last_pid"),
			aarg_imm(O_RDONLY | O_CLOEXEC));
	APROG_CALL(p, AOP_MAY_FAIL, SYS_read, aarg_result(fd), out, aarg_imm(23));
	APROG_CALL(p, 0, SYS_close, aarg_result(fd));
	r = agent_run(t->threads[0].agent, p, NULL);
	free(d->part_data[NS_DATA_PID]);
	d->part_data[NS_DATA_PID] =
		r >= 0 && aprog_result(p, 1) > 0 ? strdup(aprog_out_data(p, out)) : NULL;
	aprog_free(p);
	return r == -EPIPE ? err_set(e, r, "the init is gone") : 0;
}

/* ---- who has entered ---- */

static int pid_cmp(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

static int stranger_refuse(struct dump *d, int proc_fd, pid_t pid)
{
	auto_fd int dir = proc_open(proc_fd, pid);
	struct proc_status st;

	if (dir < 0 || proc_status_read(dir, &st, NULL) < 0 || st.state == 'Z' || st.state == 'X')
		return 0;
	return refusals_add(&d->refusals, st.ns_pid, "", "process from outside",
			    "it has entered the tree's PID namespace (exec, attach; process %d of this host) and is no "
			    "child of the tree: end it first", (int)pid);
}

static int strangers_refuse(struct dump *d, DIR *proc, const pid_t *ours)
{
	struct stat ns, st;
	struct dirent *de;
	int r = fstatat(d->tasks[0]->proc_fd, "ns/pid", &ns, 0) < 0 ? -errno : 0;

	while (r >= 0 && (de = readdir(proc))) {
		char path[32];
		uint32_t n;
		pid_t pid;

		if (parse_u32(de->d_name, 10, &n) < 0 || n > PIDS_MAX)
			continue;
		pid = (pid_t)n;
		snprintf(path, sizeof(path), "%d/ns/pid", (int)pid);
		if (fstatat(dirfd(proc), path, &st, 0) == 0 && st.st_ino == ns.st_ino && st.st_dev == ns.st_dev &&
		    !bsearch(&pid, ours, d->n_tasks, sizeof(pid), pid_cmp))
			r = stranger_refuse(d, dirfd(proc), pid);
	}
	return r == -ENOENT ? 0 : r; /* of a zombie */
}

static int check(struct dump *d, struct err *e)
{
	auto_free pid_t *ours = calloc(d->n_tasks + 1, sizeof(*ours));
	DIR *proc;
	int r;

	if (!d->opts || !d->n_tasks)
		return 0;
	proc = ours ? opendir("/proc") : NULL;
	if (!proc)
		return err_sys(e, ours ? -errno : -ENOMEM, "looking for processes from outside");
	for (size_t i = 0; i < d->n_tasks; i++)
		ours[i] = d->tasks[i]->pid;
	qsort(ours, d->n_tasks, sizeof(*ours), pid_cmp);
	r = strangers_refuse(d, proc, ours);
	closedir(proc);
	return r < 0 ? err_sys(e, r, "looking for processes from outside") : 0;
}

static void done(struct dump *d)
{
	free(d->part_data[NS_DATA_PID]);
	d->part_data[NS_DATA_PID] = NULL;
}

static int frozen(struct dump *d, struct err *e)
{
	auto_free char *text = ptr_take(d->part_data[NS_DATA_PID]);
	GwBlob b = GW_BLOB__INIT;
	uint32_t last;
	int r = 0;

	if (text)
		text[strcspn(text, "\n")] = 0;
	if (!text || parse_u32(text, 10, &last) < 0) {
		free(ptr_take(text));
		r = ns_visit(d->root_pid, CLONE_NEWPID, last_read, NULL, 64, &text, e);
	}
	if (r < 0)
		return r;
	b.has_data = true;
	b.data.data = (uint8_t *)text;
	b.data.len = strcspn(text, "\n");
	return sink_put(d->sink, REC_GW_MISC, GW_MISC_LAST_PID, &b.base, e);
}

static int finish(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_MISC, GW_MISC_LAST_PID, NULL);
	auto_free char *none = NULL;
	const GwBlob *b;
	char text[16];
	uint32_t last;

	if (!rec)
		return 0;
	b = (const GwBlob *)rec->msg;
	if (!b->has_data || b->data.len >= sizeof(text))
		return err_set(e, -EPROTO, "the image has an impossible last pid");
	memcpy(text, b->data.data, b->data.len);
	text[b->data.len] = 0;
	if (parse_u32(text, 10, &last) < 0 || last > PIDS_MAX)
		return err_set(e, -EPROTO, "the image has an impossible last pid");
	return ns_visit(r->init_pid, CLONE_NEWPID, last_write, &last, 64, &none, e);
}

const struct cr_part cr_part_pidns = {
	.name = "PID namespace", .ns = CLONE_NEWPID, .check = check, .inside = inside, .frozen = frozen, .done = done, .finish = finish
};

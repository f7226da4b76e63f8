/* What a killed engine leaves, and its removal: states of files (each part's `recover`), the frozen
 * cgroup, and in processes with several threads a mapping that the last agent to leave could not take
 * away while it ran in it.  The latter goes when another agent visits (inject/leftover.c). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/dump.h"
#include "cr/task/tree.h"
#include "sys/freezer.h"
#include "sys/procfs.h"

/* Agents that notice the death of their engine need a moment to leave. */
#define VISIT_TRIES 50
#define VISIT_STEP_NS 5000000

/* Code in private memory without a name or a file: ours, or that of a program which makes code as it
 * runs, which a visit does not harm. */
static bool has_nameless_code(const struct task *t)
{
	auto_free char *maps = NULL;
	char *line, *save = NULL;

	if (proc_file(t->proc_fd, "maps", &maps, NULL, NULL) < 0)
		return false;
	for (line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long inode;
		char perm[8], name[8] = "";

		if (sscanf(line, "%*s %7s %*s %*s %llu %7s", perm, &inode, name) >= 2 && perm[2] == 'x' &&
		    !inode && !*name)
			return true;
	}
	return false;
}

static int visit_stopped(const struct task *t, const pid_t *tids, size_t n, struct err *e)
{
	struct agent *a;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = seize_wait(tids[i], NULL, e);
	if (r < 0)
		return r == -ESRCH ? -EAGAIN : r;
	r = agent_inject(t->pid, t->pid, &a, e);
	return r < 0 ? r : agent_cure(a, e);
}

/* -EAGAIN: threads came or went, or agents are still leaving. */
static int visit(const struct task *t, struct err *e)
{
	auto_free pid_t *tids = NULL;
	size_t n = 0, started = 0;
	int r = proc_threads(t->proc_fd, t->pid, &tids, &n, e);

	for (; started < n && r >= 0; started += r >= 0)
		r = seize_start(tids[started], e);
	r = r >= 0 ? visit_stopped(t, tids, n, e) : r == -ESRCH ? -EAGAIN : r;
	for (size_t i = 0; i < started; i++)
		seize_detach(tids[i], NULL);
	return r;
}

static void visit_all(struct dump *d)
{
	for (size_t i = 0; i < d->n_tasks; i++) {
		const struct task *t = d->tasks[i];
		struct err e = { 0 };
		int r = 0;

		for (int k = 0; k < VISIT_TRIES && !t->zombie && has_nameless_code(t); k++) {
			r = visit(t, &e);
			if (r != -EAGAIN)
				break;
			nanosleep(&(struct timespec){ 0, VISIT_STEP_NS }, NULL);
		}
		if (r < 0)
			log_warn("recover, process %d: %s", (int)t->nspid, err_text(&e));
	}
}

/* The first process of a PID namespace. */
static bool is_init(pid_t pid)
{
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_fd int dir = proc < 0 ? -1 : proc_open(proc, pid);
	struct proc_status st;

	return dir >= 0 && proc_status_read(dir, &st, NULL) >= 0 && st.ns_pid == 1;
}

/* A tree that is no container shares its cgroup with others, and was stopped by ptrace, which ends with the engine. */
int dump_recover(pid_t pid, const char *cgroup, struct err *e)
{
	const struct cr_opts tree = { .images_fd = -1, .pid = pid };
	bool container = is_init(pid);
	struct dump_subject subject = { .pid = pid, .cgroup = container ? cgroup : NULL,
					.opts = container ? NULL : &tree };
	struct dump d;
	int r = dump_open(&d, &subject, true, e), x = 0;

	if (r >= 0)
		r = tree_collect(&d, e);
	for (size_t i = 0; i < cr_parts_n && r >= 0; i++) {
		struct err mine = { 0 };

		if (cr_parts[i]->recover && cr_parts[i]->recover(&d, &mine) < 0)
			log_error("recover, %s: %s", cr_parts[i]->name, err_text(&mine));
	}
	if (d.cgroup_fd >= 0)
		x = freezer_set(d.cgroup_fd, false, FREEZE_TIMEOUT_MS, r < 0 ? NULL : e);
	if (r >= 0 && x >= 0)
		visit_all(&d);
	dump_parts_done(&d);
	dump_close(&d);
	return r < 0 ? r : x;
}

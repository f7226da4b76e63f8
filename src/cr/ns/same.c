/* same - one set of namespaces for the whole container.
 *
 * State: which namespaces each task is in.  Read: /proc/PID/ns.  Put back: the target's container
 * has its own set, the tree grows inside.  Not covered: nested namespaces of a task, refused here
 * by name. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cr/cr.h"
#include "cr/ns/ns.h"
#include "sys/procfs.h"

static const char *const names[] = { "mnt",  "net",
				     "uts",  "ipc",
				     "pid",  "pid_for_children",
				     "user", "cgroup",
				     "time", "time_for_children" };

int ns_own(pid_t pid, unsigned *ret, struct err *e)
{
	static const struct {
		const char *file;
		unsigned flag;
	} kinds[] = {
		{ "mnt", CLONE_NEWNS },   { "net", CLONE_NEWNET },	 { "uts", CLONE_NEWUTS },
		{ "ipc", CLONE_NEWIPC },  { "pid", CLONE_NEWPID },	 { "user", CLONE_NEWUSER },
		{ "time", CLONE_NEWTIME }, { "cgroup", CLONE_NEWCGROUP },
	};
	unsigned found = 0;

	for (size_t i = 0; i < array_len(kinds); i++) {
		struct stat theirs, ours;
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i].file);
		if (stat(path, &ours) < 0)
			continue; /* a kernel without this kind */
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kinds[i].file);
		if (stat(path, &theirs) < 0)
			return err_sys(e, -errno, "looking at the namespaces of process %d", (int)pid);
		if (theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev)
			found |= kinds[i].flag;
	}
	*ret = found;
	return 0;
}

static int task_check(struct dump *d, struct task *t, char *const *init, struct err *e)
{
	for (size_t i = 0; i < array_len(names); i++) {
		auto_free char *link = NULL;
		char path[40] = "ns/";
		int r;

		if (!init[i])
			continue;
		strcat(path, names[i]);
		r = proc_readlink(t->proc_fd, path, &link, NULL);
		if (r == -ENOENT || r == -ESRCH)
			continue; /* ended meanwhile; or no child ever, for *_for_children */
		if (r < 0)
			return err_sys(e, r, "reading the %s namespace of process %d", names[i],
				       (int)t->nspid);
		if (strcmp(link, init[i]) == 0)
			continue;
		r = refusals_add(&d->refusals, t->nspid, "namespace", names[i],
				 "the process has its own %s namespace; nested namespaces are not "
				 "supported yet",
				 names[i]);
		if (r < 0)
			return err_sys(e, r, "checking namespaces");
	}
	return 0;
}

static int check(struct dump *d, struct err *e)
{
	char *init[array_len(names)] = { NULL };
	int r = 0;

	for (size_t i = 0; i < array_len(names) && r >= 0; i++) {
		char path[40] = "ns/";

		strcat(path, names[i]);
		r = proc_readlink(d->tasks[0]->proc_fd, path, &init[i], NULL);
		if (r == -ENOENT) /* a kernel without this kind */
			r = 0;
	}
	if (r < 0)
		r = err_sys(e, r, "reading the namespaces of the container");
	for (size_t i = 0; i < d->n_tasks && r >= 0; i++)
		if (!d->tasks[i]->zombie)
			r = task_check(d, d->tasks[i], init, e);
	for (size_t i = 0; i < array_len(names); i++)
		free(init[i]);
	return r;
}

const struct cr_part cr_part_same = { .name = "namespaces", .check = check };

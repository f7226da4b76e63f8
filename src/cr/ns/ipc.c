/* ipc - System V objects and POSIX message queues.
 *
 * Not carried yet: the container may have the namespace, but nothing in it.  Refused by name here:
 * each shared memory segment, semaphore set and message queue.  The namespace's sysctls
 * (kernel.shm*, msg*, sem) are the target's. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/cr.h"
#include "cr/ns/util.h"
#include "sys/abi.h"

#define LIST_MAX (1u << 20)

/* The lines of /proc/sysvipc/NAME behind the head line; the file follows the reader's namespace. */
static int sysv_list(int out, const char *name)
{
	auto_free char *text = NULL;
	char path[40];
	const char *p;
	int r;

	snprintf(path, sizeof(path), "/proc/sysvipc/%s", name);
	r = fd_read_file_at(AT_FDCWD, path, LIST_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* a kernel without System V IPC */
	for (p = strchr(text, '\n'); p && p[1]; p = strchr(p + 1, '\n')) {
		unsigned long key, id;

		if (sscanf(p + 1, "%lu %lu", &key, &id) == 2)
			dprintf(out, "%s %lu (key %#lx)\n", name, id, key);
	}
	return 0;
}

/* A mount of our own, which nobody sees, shows the namespace's queues. */
static int mqueue_list(int out)
{
	auto_fd int fs = (int)syscall(SYS_fsopen, "mqueue", FSOPEN_CLOEXEC);
	int mnt;
	struct dirent *de;
	DIR *d;

	if (fs < 0)
		return errno == ENODEV || errno == ENOSYS ? 0 : -errno;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mnt < 0)
		return -errno;
	d = NULL;
	{
		int dir = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (dir >= 0)
			d = fdopendir(dir);
	}
	fd_close(&mnt);
	if (!d)
		return -errno;
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			dprintf(out, "mqueue /%s\n", de->d_name);
	closedir(d);
	return 0;
}

static int objects_list(int out, void *arg)
{
	static const char *const names[] = { "shm", "sem", "msg" };
	int r = 0;

	for (size_t i = 0; i < array_len(names) && r >= 0; i++)
		r = sysv_list(out, names[i]);
	return r < 0 ? r : mqueue_list(out);
}

static const char *kind_of(const char *line)
{
	if (strncmp(line, "shm", 3) == 0)
		return "System V shared memory";
	if (strncmp(line, "sem", 3) == 0)
		return "System V semaphores";
	if (strncmp(line, "msg", 3) == 0)
		return "a System V message queue";
	return "a POSIX message queue";
}

static int check(struct dump *d, struct err *e)
{
	auto_free char *text = NULL;
	char *line, *save = NULL;
	int r = ns_visit(d->root_pid, CLONE_NEWIPC, objects_list, NULL, LIST_MAX, &text, e);

	for (line = r < 0 ? NULL : strtok_r(text, "\n", &save); line && r >= 0;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *what = kind_of(line);

		r = refusals_add(&d->refusals, 0, line, what, "it cannot be carried yet");
	}
	return r;
}

const struct cr_part cr_part_ipc = { .name = "IPC namespace", .ns = CLONE_NEWIPC, .check = check };

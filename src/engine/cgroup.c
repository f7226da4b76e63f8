#include "engine/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/procfs.h"

/* The mount point of the v2 hierarchy: the line "… - cgroup2 …" of our mountinfo, 5th word. */
static int mount_point(char **ret, struct err *e)
{
	auto_free char *text = NULL;
	char *line, *save = NULL;
	int r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", PROC_FILE_MAX, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading our mounts");
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char point[4096];

		if (!strstr(line, " - cgroup2 ") || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1)
			continue;
		*ret = strdup(point);
		return *ret ? 0 : err_sys(e, -ENOMEM, "reading our mounts");
	}
	return err_set(e, -ENOENT, "no unified (v2) cgroup hierarchy is mounted");
}

int cgroup_of_process(pid_t pid, char **ret, struct err *e)
{
	auto_free char *point = NULL, *path = NULL;
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_fd int dir = proc < 0 ? -errno : proc_open(proc, pid);
	int r;

	if (dir < 0)
		return err_sys(e, dir, "process %d", (int)pid);
	r = proc_cgroup_v2(dir, &path, e);
	if (r >= 0)
		r = mount_point(&point, e);
	if (r < 0)
		return r;
	if (asprintf(ret, "%s%s", point, path) < 0)
		return err_sys(e, -ENOMEM, "process %d", (int)pid);
	return 0;
}

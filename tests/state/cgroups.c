/* Groups that a container makes below its own (v2): nested, empty, with processes, with another
 * owner. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

static void put(const char *path, const char *text)
{
	int fd = MUST(open(path, O_WRONLY | O_CLOEXEC));

	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %m", path);
	close(fd);
}

static void group_of(pid_t pid, const char *want)
{
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	f = fopen(path, "re");
	CHECK(f, "%s: %m", path);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "0::", 3) == 0)
			break;
	fclose(f);
	line[strcspn(line, "\n")] = 0;
	CHECK(strcmp(line + 3, want) == 0, "process %d is in %s, not in %s", pid, line + 3, want);
}

int main(void)
{
	struct stat st;
	pid_t child[2];
	char text[16];

	MUST(mkdir("/mnt/cg", 0755));
	if (mount("none", "/mnt/cg", "cgroup2", 0, NULL) < 0)
		state_skip("cgroup2 cannot be mounted: %m");
	if (mkdir("/mnt/cg/a", 0755) < 0)
		state_skip("the container's cgroup is not its own: %m");
	MUST(mkdir("/mnt/cg/a/b", 0750));
	MUST(mkdir("/mnt/cg/empty", 0755));
	MUST(chown("/mnt/cg/empty", 33, 44));
	MUST(chown("/mnt/cg/empty/cgroup.procs", 33, 44));
	MUST(chmod("/mnt/cg/empty/cgroup.procs", 0664));
	put("/mnt/cg/empty/cgroup.max.depth", "7");
	for (int i = 0; i < 2; i++) {
		child[i] = MUST(fork());
		if (child[i] == 0)
			for (;;)
				pause();
		snprintf(text, sizeof(text), "%d", child[i]);
		put(i ? "/mnt/cg/a/b/cgroup.procs" : "/mnt/cg/a/cgroup.procs", text);
	}
	state_wait();
	group_of(getpid(), "/");
	group_of(child[0], "/a");
	group_of(child[1], "/a/b");
	MUST(stat("/mnt/cg/a/b", &st));
	CHECK((st.st_mode & 0777) == 0750 && st.st_uid == 0, "mode or owner of /a/b");
	MUST(stat("/mnt/cg/empty", &st));
	CHECK(st.st_uid == 33 && st.st_gid == 44, "owner of /empty");
	MUST(stat("/mnt/cg/empty/cgroup.procs", &st));
	CHECK(st.st_uid == 33 && st.st_gid == 44 && (st.st_mode & 0777) == 0664, "owner of its cgroup.procs");
	CHECK(open("/mnt/cg/empty/cgroup.max.depth", O_RDONLY | O_CLOEXEC) >= 0, "settings: %m");
	MUST(mkdir("/mnt/cg/a/later", 0755));
	MUST(rmdir("/mnt/cg/a/later"));
	for (int i = 0; i < 2; i++)
		MUST(kill(child[i], SIGKILL));
	state_pass();
}

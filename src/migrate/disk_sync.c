/* disk_sync - the target's volume, on its disk before anybody relies on it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "migrate/disk.h"

int disk_sync_start(struct session *s, struct pool *pool, int fd, struct err *e)
{
	struct err why = { 0 };
	int errp[2];
	pid_t pid;

	if (pipe2(errp, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot wait for the disk");
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "godwit-sync");
		if (volume_sync(pool, fd, &why) == 0)
			_exit(0);
		dprintf(errp[1], "%s", err_text(&why));
		_exit(1);
	}
	fd_close(&errp[1]);
	if (pid < 0) {
		fd_close(&errp[0]);
		return err_sys(e, -errno, "cannot wait for the disk");
	}
	setpgid(pid, pid); /* here too: whoever of the two is first */
	session_child_set(s, pid, errp[0], "the disk");
	return 0;
}

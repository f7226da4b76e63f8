/* live - the two ends of a migration as the daemon's job sees them: messages on a control socket
 * (ARCHITECTURE.md, "Engine"). */
#pragma once
#include <sys/types.h>

enum { LIVE_OK = 0, LIVE_FAILED = 1, LIVE_REFUSED = 3 };

/* Exit codes of the program; everything that happened has been said on ctl_fd. */
int live_dump(pid_t pid, const char *cgroup, int ctl_fd, int data_fd);
int live_restore(pid_t init, const char *cgroup, int ctl_fd, int data_fd);

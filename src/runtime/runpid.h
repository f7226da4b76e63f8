/* runpid - a process remembered in a file as "PID STARTTIME".
 *
 * The start time (field 22 of /proc/PID/stat, clock ticks since boot) makes the pair unique while the
 * machine is up: a pid that was used again is not taken for the old process.  Both numbers are as seen
 * from the host's own PID and time namespaces. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

struct runpid {
	pid_t pid;
	uint64_t start;
};

/* Of a living process; -ESRCH. */
int runpid_of(pid_t pid, struct runpid *ret);
/* DIR/FILE; the folder must exist.  Reading: -ENOENT, -EINVAL for anything but two numbers. */
int runpid_write(const char *dir, const char *file, const struct runpid *p);
int runpid_read(const char *dir, const char *file, struct runpid *ret);
/* A pidfd (CLOEXEC) of just this process; -ESRCH when it has ended. */
int runpid_open(const struct runpid *p);
/* Both of the above: a pidfd of the process DIR/FILE speaks of.  *ret_pid may be NULL. */
int runpid_open_file(const char *dir, const char *file, pid_t *ret_pid);

/* cgroup - where liblxc puts a container, in every hierarchy that is mounted.
 *
 * The rule is liblxc's own (5.0): mount point + cgroup of pid 1 (without a final /init.scope) + the
 * folder named in the configuration.  We name all three: PREFIX/NAME for the container, and beside it
 * NAME.monitor and NAME.pivot (where the monitor goes to die); an instance's name holds no dot. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct cgroup_mount {
	char *base;        /* mount point + cgroup of pid 1 */
	char *controllers; /* "memory", "cpu,cpuacct"; v2: those its root offers, blank-separated */
	bool v2;
};

struct cgroup_mounts {
	struct cgroup_mount *m;
	size_t n, cap;
};

int cgroup_mounts_read(struct cgroup_mounts *ret, struct err *e);
void cgroup_mounts_done(struct cgroup_mounts *ms);
#define auto_cgroup_mounts __attribute__((cleanup(cgroup_mounts_done))) struct cgroup_mounts

const struct cgroup_mount *cgroup_mounts_v2(const struct cgroup_mounts *ms); /* NULL: none */
/* The hierarchy (v1 before v2) with this controller; NULL: none. */
const struct cgroup_mount *cgroup_mounts_with(const struct cgroup_mounts *ms, const char *controller);

/* Kills what is in dir and below it (v2's cgroup.kill; else each process) and removes the folders; one
 * that is not there is success.  -EBUSY: something in it does not die within timeout_ms. */
int cgroup_remove(const char *dir, bool v2, int timeout_ms);
/* Kills everything in a v2 cgroup and below, also when it is frozen. */
int cgroup_kill(const char *dir);
/* Writes cgroup.freeze and waits until cgroup.events says so. -ETIMEDOUT. */
int cgroup_freeze(const char *dir, bool frozen, int timeout_ms);
/* 1: the process is in this cgroup or below it, *ret (malloc'd) is where; 0: it is not. */
int cgroup_find(const char *dir, pid_t pid, char **ret);
int cgroup_holds(const char *dir, pid_t pid);

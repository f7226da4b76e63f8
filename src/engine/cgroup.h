/* cgroup - where the v2 cgroup of a process is, when the caller does not say. */
#pragma once
#include <sys/types.h>

#include "base/err.h"

/* *ret is malloc'd. */
int cgroup_of_process(pid_t pid, char **ret, struct err *e);

/* util - short visits to the container's namespaces. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* Runs fn in these namespaces (CLONE_NEW* of setns) of process pid; what it writes to `out` comes
 * back as a string of at most max bytes.  With CLONE_NEWPID it is run in a child that is a process
 * of that PID namespace, else in this process, which comes back (network, IPC, UTS, cgroup only).
 * fn returns 0 or a negative errno. */
int ns_visit(pid_t pid, int flags, int (*fn)(int out, void *arg), void *arg, size_t max, char **ret,
	     struct err *e);

/* A socket made in the network namespace of process pid. */
int ns_socket(pid_t pid, int domain, int type, int protocol, int *ret, struct err *e);

/* scripts - those who are called at the moments of a dump or restore: action scripts, each by itself and without a
 * shell, and the peer of an RPC connection. */
#pragma once
#include "engine/options.h"

struct scripts {
	const struct options *o;
	/* The peer; NULL: none.  fd as in cr_opts.act. */
	int (*notify)(void *arg, enum cr_act act, pid_t pid, int fd, struct err *e);
	void *arg;
};

/* To be used as cr_opts.act, with a struct scripts as its arg.  A script that fails, by status or signal, fails the
 * step; those after it are not called. */
int scripts_act(void *scripts, enum cr_act act, pid_t pid, int fd, struct err *e);

/* family - processes that remember who they are and tell it by their exit status. */
#pragma once
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

struct identity {
	pid_t pid, ppid, pgid, sid;
};

static inline struct identity identity_now(void)
{
	return (struct identity){ getpid(), getppid(), getpgrp(), getsid(0) };
}

/* 0: the same; else which number differs. */
static inline int identity_differs(const struct identity *a)
{
	struct identity b = identity_now();

	if (a->pid != b.pid || a->ppid != b.ppid || a->pgid != b.pgid || a->sid != b.sid)
		fprintf(stderr, "pid %d: parent %d was %d, group %d was %d, session %d was %d\n", b.pid,
			b.ppid, a->ppid, b.pgid, a->pgid, b.sid, a->sid);
	return a->pid != b.pid ? 1 : a->ppid != b.ppid ? 2 : a->pgid != b.pgid ? 3 : a->sid != b.sid ? 4 : 0;
}

/* Blocked in everyone from the start, so that it is never lost. */
static inline void go_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static inline void go_wait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigwaitinfo(&set, NULL) < 0)
		;
}

/* Sends the go to a child and returns its exit status. */
static inline int go_collect(pid_t pid)
{
	int status;

	MUST(kill(pid, SIGUSR2));
	MUST(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + status;
}

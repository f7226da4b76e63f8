/* refusal - what stands against a checkpoint, all of it at once.
 *
 * A check that finds something it cannot carry adds a refusal and goes on, so that the person sees
 * everything in one answer.  A dump goes no further while the list is not empty. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct refusal {
	pid_t pid;    /* in the container; 0: the container as a whole */
	char *where;  /* "fd 7", "mapping 7f00-7f10", "mount /x", "thread 12" */
	char *what;   /* the kind, by the kernel's name: "io_uring" */
	char *why;    /* a sentence; may say what can be done */
};
struct refusals {
	struct refusal *list;
	size_t n, cap;
};

#define REFUSALS_INIT { NULL, 0, 0 }
/* 0 or -ENOMEM. */
int refusals_add(struct refusals *rf, pid_t pid, const char *where, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void refusals_done(struct refusals *rf);
/* One line for each: "process 12, fd 7: io_uring: why".  malloc'd; NULL: no memory. */
char *refusals_text(const struct refusals *rf);
char *refusals_json(const struct refusals *rf);

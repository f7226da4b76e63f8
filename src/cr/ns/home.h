/* home - the namespaces of our own, for the way back from others'. */
#pragma once
#include "base/err.h"
#include "cr/ns/outside.h"

struct home {
	struct {
		unsigned flag;
		int fd;
	} v[NS_KINDS];
	size_t n;
	int root, cwd; /* with CLONE_NEWNS: entering changes both */
};
#define HOME_INIT { .n = 0, .root = -1, .cwd = -1 }

/* Before one of these (a single CLONE_NEW* flag) is left. */
int home_note(struct home *h, unsigned flag, struct err *e);
/* Back to all that were noted, which are then forgotten. */
int home_return(struct home *h, struct err *e);
void home_forget(struct home *h);

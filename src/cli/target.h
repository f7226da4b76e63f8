/* target - "[REMOTE:]NAME" of the command line, opened. */
#pragma once
#include "cli/remote.h"

struct target {
	struct remote *remote;
	char *name; /* "" when none was said */
};

/* need_name: an empty name is refused. */
int target_open(struct conf *c, const char *ref, bool need_name, struct target *ret, struct err *e);
void target_done(struct target *t);
#define auto_target __attribute__((cleanup(target_done))) struct target

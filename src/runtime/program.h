/* program - our own helper programs (gw-init, gw-hook, godwit-criu, godwit-wire) on this host. */
#pragma once
#include "base/err.h"

/* The absolute path of helper `name`, sought in $GODWIT_LIBEXEC, then beside the running program, then in
 * the neighbouring folders of a build tree.  -ENOENT with a sentence. */
int program_find(const char *name, char **ret, struct err *e);

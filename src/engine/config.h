/* config - CRIU's configuration files: an option a line, without its dashes, perhaps an argument in double quotes. */
#pragma once
#include "engine/options.h"

#define CONFIG_MAX (1u << 20) /* bytes of a file */

/* Calls `set` for each line that says something; value NULL: no argument.  The strings live for the call.
 * -EINVAL with the number of the line. */
typedef int (*config_set)(void *arg, const char *name, const char *value, struct err *e);
int config_parse(const char *text, size_t len, config_set set, void *arg, struct err *e);

/* The files of `man criu` in their order; those that are not there are left out, `o->config` must be. */
int config_apply_default(struct options *o, struct err *e);
int config_apply_file(struct options *o, const char *path, struct err *e);

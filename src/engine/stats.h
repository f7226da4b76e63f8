/* stats - what a dump or restore took, in words (--display-stats); the files are cr_stats_write's. */
#pragma once
#include <stdbool.h>

#include "cr/opts.h"

void stats_print(const struct cr_stats *s, bool restore); /* on stdout */

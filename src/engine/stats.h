/* stats - what a dump or restore took: the files stats-dump and stats-restore, and words for a person. */
#pragma once
#include <stdbool.h>

#include "cr/opts.h"

/* Writes stats-dump or stats-restore into the current folder; an old one is replaced. */
int stats_save(const struct cr_stats *s, bool restore, struct err *e);
void stats_print(const struct cr_stats *s, bool restore); /* on stdout */

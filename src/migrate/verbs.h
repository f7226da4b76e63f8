/* The jobs of this room: move-source, move-target, move-resolve. */
#pragma once
#include "job/job.h"

extern const struct job_verb *const migrate_verbs[];
extern const size_t migrate_verbs_n;
extern const struct job_verb migrate_source_verb, migrate_target_verb;

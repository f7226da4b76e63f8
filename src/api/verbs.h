/* The jobs of this room: instance-rename. */
#pragma once
#include "job/job.h"

extern const struct job_verb *const api_verbs[];
extern const size_t api_verbs_n;

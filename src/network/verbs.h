/* The jobs of this room: network-up, network-down. */
#pragma once
#include "job/job.h"

extern const struct job_verb *const network_verbs[];
extern const size_t network_verbs_n;

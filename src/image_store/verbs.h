/* The jobs of this room: image-import, image-delete. */
#pragma once
#include "job/job.h"

extern const struct job_verb *const image_store_verbs[];
extern const size_t image_store_verbs_n;

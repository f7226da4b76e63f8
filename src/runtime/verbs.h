/* The jobs of this room: instance-create, -delete, -start, -stop, -restart, -exec. */
#pragma once
#include "job/job.h"

extern const struct job_verb *const runtime_verbs[];
extern const size_t runtime_verbs_n;

/* exec.c */
int instance_exec_run(struct job *j, struct err *e);

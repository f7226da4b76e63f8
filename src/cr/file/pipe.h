/* pipe - shared by pipe.c and pipe_restore.c. */
#pragma once
#include "cr/cr.h"

int pipe_load(struct restore *r, struct rfile *f, struct err *e);
int pipe_build(struct restore *r, struct rfile *f, struct err *e);
int fifo_build(struct restore *r, struct rfile *f, struct err *e);
int pipe_placed(struct restore *r, struct rfile *f, struct err *e);

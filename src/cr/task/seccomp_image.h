/* seccomp_image - the filters of all threads in one record, each once; a thread names its last one. */
#pragma once
#include "cr/cr.h"
#include "seccomp.pb-c.h"

struct filters {
	SeccompFilter *v;
	size_t n, cap;
};
/* Moves the filters of a thread from its record into the list. */
int filters_take(struct filters *f, struct thread *th);
int filters_put(struct dump *d, struct filters *f, struct err *e);
void filters_done(struct filters *f);

/* The way back: each thread's record has its filters again, at most `max`. */
int filters_give(struct restore *r, size_t max, struct err *e);

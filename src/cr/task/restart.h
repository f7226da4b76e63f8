/* restart - how long an interrupted sleep, poll or futex wait still has to go. */
#pragma once
#include "cr/cr.h"

struct waits;

/* Of the running tree, before the freeze: who sleeps in which call since when.  The freeze itself
 * wipes that out. */
int waits_take(const struct dump *d, struct waits **ret, struct err *e);
struct waits *waits_free(struct waits *w);

/* In phase `stopped`, for a thread whose rax is -516: notes the time left, or turns the call into one
 * that is simply made again. */
int restart_note(struct dump *d, struct task *t, struct thread *th, struct err *e);

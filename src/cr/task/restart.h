/* restart - when an interrupted sleep, poll or futex wait ends. */
#pragma once
#include "cr/cr.h"

struct waits;

/* Before the freeze: gets ready to ask the kernel; where that is not possible, notes of the running tree
 * who sleeps in which call since when, which the freeze itself wipes out. */
int waits_take(const struct dump *d, struct waits **ret, struct err *e);
struct waits *waits_free(struct waits *w);

/* In phase `stopped`, for a thread whose rax is -516: notes its end, or turns the call into one that is
 * simply made again. */
int restart_note(struct dump *d, struct task *t, struct thread *th, struct err *e);

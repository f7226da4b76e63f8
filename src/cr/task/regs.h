/* regs - general registers, extended state, signal mask of a thread; interrupted system calls. */
#pragma once
#include "cr/cr.h"

extern const struct cr_part cr_part_regs;

/* Of a record into what a thread becomes; checks what the kernel would not. */
int regs_of_record(const CoreEntry *core, const GwThread *extra, struct thread_regs *ret, struct err *e);

/* Restartable sequences.
 *
 * Kernel state: the address, length and signature that a thread registered (glibc does so for each
 * thread).  Read by PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13), registered anew by the thread itself.  A
 * thread stopped within a sequence is given its abort address by inject/seize.c.
 * gw-init has none, and a child forked by an agent none either: nothing to unregister.
 * Not covered: nothing known. */
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "cr/task/attr.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#ifndef SYS_rseq
#define SYS_rseq 334
#endif

struct rseq_configuration {
	uint64_t pointer;
	uint32_t size, signature, flags, pad;
};

static int stopped(struct dump *d, struct task *t, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		struct rseq_configuration c = { 0 };
		ThreadCoreEntry *tc = attr_thread_core(&t->threads[i]);

		if (!tc)
			return err_set(e, -ENOMEM, "no memory");
		if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->threads[i].tid, sizeof(c), &c) < 0) {
			if (errno == EIO)
				continue; /* a kernel without rseq */
			return err_sys(e, -errno, "asking for the rseq area of thread %d",
				       (int)t->threads[i].nstid);
		}
		if (!c.pointer)
			continue;
		tc->rseq_entry = ATTR_NEW(RseqEntry, rseq_entry);
		if (!tc->rseq_entry)
			return err_set(e, -ENOMEM, "no memory");
		tc->rseq_entry->rseq_abi_pointer = c.pointer;
		tc->rseq_entry->rseq_abi_size = c.size;
		tc->rseq_entry->signature = c.signature;
	}
	return 0;
}

static int give(struct restore *r, struct rtask *t, struct rthread *th, struct aprog *p, struct err *e)
{
	const RseqEntry *q = th->core->thread_core ? th->core->thread_core->rseq_entry : NULL;

	if (q)
		APROG_CALL(p, 0, SYS_rseq, aarg_imm(q->rseq_abi_pointer), aarg_imm(q->rseq_abi_size),
			   aarg_imm(0), aarg_imm(q->signature));
	return 0;
}

const struct attr_part attr_rseq = { .name = "rseq", .give = give };

const struct cr_part cr_part_rseq = {
	.name = "rseq",
	.stopped = stopped,
};

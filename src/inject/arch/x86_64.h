/* arch - what injection needs to know of x86-64: registers for a remote system call, and the return
 * stub.
 *
 * A return stub is a few hundred bytes of code, written by us for one thread, that brings this
 * thread's own state back without our help: it takes the thread off the list of users, unmaps the
 * agent when it was the last one, restores flags, stack, signal mask and all registers from
 * constants and jumps to where the thread was.  It uses no memory of the task but itself, so it
 * works whatever the stack pointer points at.  Extended state needs nothing: the agent never
 * touches it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#define ARCH_STUB_MAX 0x200

/* The last bytes of a stub: what its code reads, and how it is known again after a kill. */
struct arch_stub_tail {
	uint64_t magic, base, flags, sigmask, rip;
};
#define ARCH_STUB_MAGIC 0x6275745374697764ull

struct arch_stub {
	struct user_regs_struct gp; /* the thread's own, as ptrace gave them */
	uint64_t sigmask;
	uint64_t base, span; /* the agent's mapping; 0: not known yet */
	uint64_t users;	     /* address of agent_head.users */
	uint64_t at;	     /* where the stub will lie */
	bool first;	     /* begins with the system call that makes the mapping */
};

/* Writes the code into buf; returns its length.  *ret_leave is the offset where an agent enters (in
 * a `first` stub that lies behind the code that undoes the first call). */
size_t arch_stub_build(const struct arch_stub *s, uint8_t buf[ARCH_STUB_MAX], size_t *ret_leave);

/* Registers for executing system call nr at a syscall instruction.  orig_rax becomes -1, so that
 * the kernel does not restart what the thread was in. */
void arch_regs_call(struct user_regs_struct *r, uint64_t rip, long nr, const uint64_t args[6]);

/* An interrupted call that the kernel would restart. */
bool arch_in_restart(const struct user_regs_struct *r);

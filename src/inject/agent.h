/* agent - a small program of ours (pie/agent.c) that runs inside another process and executes
 * system calls for us.
 *
 * The same blob serves both directions: at a dump it reads what only the task itself can read
 * (alternative stacks, timers, prctl values); at a restore it is what a new task consists of until
 * its own memory, descriptors and threads are in place.  One agent lives in one thread and talks
 * over one end of a SOCK_SEQPACKET socketpair that it made itself and that we fetched by
 * pidfd_getfd; so it works across PID, network and user namespaces, and notices our death: when the
 * channel closes it leaves by itself (dump: everything it made is undone and rt_sigreturn brings
 * the thread back to where it was; restore: exit_group).
 *
 * All functions: 0 or more on success, negative errno and a sentence in *e otherwise.  -EPIPE: the
 * agent's task is gone.  Not thread-safe; one outstanding program for an agent at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct agent;

/* ---- programs: a list of system calls that runs in one round trip ---- */

/* Bytes of one program with its operations (72 each), data in and data out, in a leader; agents of
 * further threads take 11 KiB.  More is refused with -EMSGSIZE. */
#define AGENT_DATA_MAX 65536

/* An argument: an immediate value, the address of a piece of the program's data, or the result of
 * an earlier operation of the same program. */
struct aarg {
	enum { AARG_IMM, AARG_DATA, AARG_RESULT } kind;
	uint64_t
		value; /* IMM: itself.  DATA: offset in the data.  RESULT: index of the operation */
};

enum {
	AOP_MAY_FAIL = 1 << 0, /* an error of this call does not end the program */
};

struct aprog; /* growable; free with aprog_free */

struct aprog *aprog_new(void); /* NULL: no memory */
struct aprog *aprog_free(struct aprog *p);

struct aarg aarg_imm(uint64_t v);
/* Copies data into the program; the argument is its address in the task. */
struct aarg aprog_in(struct aprog *p, const void *data, size_t len);
struct aarg aprog_str(struct aprog *p, const char *s);
/* Room for len bytes of result, zeroed; read back with aprog_out_data after the call.  The bytes of
 * an aprog_in piece are returned as well, for calls that read and write one structure. */
struct aarg aprog_out(struct aprog *p, size_t len);
struct aarg aarg_result(size_t op);

/* Appends a system call and returns its index.  Errors of building (no memory, too long) are kept
 * in the program and reported by agent_run, so that callers need not check each step. */
size_t aprog_call(struct aprog *p, unsigned flags, long nr, size_t n_args, const struct aarg *args);
#define APROG_CALL(p, flags, nr, ...)                                                              \
	aprog_call((p), (flags), (nr),                                                             \
		   sizeof((struct aarg[]){ __VA_ARGS__ }) / sizeof(struct aarg),                   \
		   (struct aarg[]){ __VA_ARGS__ })

/* Appends "take the descriptor that comes along": its result is the number.  agent_run_fd sends one. */
size_t aprog_put(struct aprog *p);

/* Appends "read exactly len bytes from the task's descriptor fd to address addr" (short reads are
 * continued; the end of the stream is -EPIPE). */
size_t aprog_read_full(struct aprog *p, int fd, uint64_t addr, uint64_t len);
/* Appends a copy of len bytes of data to an arbitrary address of the task. */
size_t aprog_poke(struct aprog *p, uint64_t addr, const void *data, size_t len);

/* Runs it.  On a failed operation without AOP_MAY_FAIL the rest is not run, the error is returned
 * and the sentence names the call.  Results are those of the kernel (negative errno on failure). */
int agent_run(struct agent *a, struct aprog *p, struct err *e);
int agent_run_fd(struct agent *a, struct aprog *p, int fd, struct err *e);
long aprog_result(const struct aprog *p, size_t op);
void *aprog_out_data(struct aprog *p, struct aarg out);

/* One system call with immediate arguments; *ret may be NULL.  A failing call is an error. */
int agent_call(struct agent *a, long nr, const uint64_t args[6], long *ret, struct err *e);
#define AGENT_CALL(a, ret, e, nr, ...)                                                             \
	agent_call((a), (nr), (const uint64_t[6]){ __VA_ARGS__ }, (ret), (e))

/* ---- descriptors ---- */

/* Fetches a descriptor of the agent's task (pidfd_getfd); *ret_fd is ours, CLOEXEC. */
int agent_get_fd(struct agent *a, int fd, int *ret_fd, struct err *e);

struct fd_place {
	int fd;	      /* ours; stays ours */
	int number;   /* in the task, below the agent's own channel or above, never equal to it */
	bool cloexec; /* FD_CLOEXEC there */
};

/* Puts descriptors into the task's table at exactly these numbers (any order, any count; numbers
 * are unique and must be free or are replaced). */
int agent_place_fds(struct agent *a, const struct fd_place *places, size_t n, struct err *e);
/* Puts one descriptor at any free number, CLOEXEC; *ret_number is the number there. */
int agent_put_fd(struct agent *a, int fd, int *ret_number, struct err *e);
/* The number the agent's channel occupies in the task's table; it can be moved out of the way. */
int agent_channel_number(const struct agent *a);
int agent_move_channel(struct agent *a, int number, struct err *e);

/* ---- life ---- */

/* Injects into a ptrace-stopped thread (seize.h).  The thread's own registers, signal mask and
 * memory come back with agent_cure.  `host_pid` is the thread group, `tid` the thread (its leader).
 * -EAGAIN: agents of a killed engine are just leaving it, or a thread of it is not stopped by us
 * while something of them is left: detach, wait a moment, try again with all threads stopped. */
int agent_inject(pid_t host_pid, pid_t tid, struct agent **ret, struct err *e);
/* Another thread of a process that already has an agent: shares the mapping. */
int agent_inject_thread(struct agent *leader, pid_t tid, struct agent **ret, struct err *e);
/* Leaves the thread as it was found, ptrace-stopped; frees the agent even when it fails.  Threads
 * first, the leader last (else -EBUSY): its agent removes the mapping. */
int agent_cure(struct agent *a, struct err *e);
struct agent *agent_free(struct agent *a); /* closes the channel: the agent leaves by itself */

pid_t agent_host_pid(const struct agent *a);
pid_t agent_host_tid(const struct agent *a);
int agent_pidfd(const struct agent *a); /* of the thread group; owned by the agent */
/* [*start, *end) of the blob's mappings in the task: nothing may be mapped or unmapped there. */
void agent_range(const struct agent *a, uint64_t *start, uint64_t *end);

/* ---- restore only ---- */

/* As agent_inject, but the thread's former life is over: the blob is mapped at `addr` (AGENT_SPAN
 * bytes, free in the present and the final layout) and nothing of the old registers is kept. */
#define AGENT_SPAN 0x40000ull
int agent_take_over(pid_t host_pid, pid_t tid, uint64_t addr, struct agent **ret, struct err *e);
/* Moves the blob to another address of its task (for a child whose layout needs the place). */
int agent_relocate(struct agent *a, uint64_t addr, struct err *e);

/* A child process of the agent's, with pid `nspid` in the agent's PID namespace; it begins as a
 * copy of the agent's memory and descriptor table, running its own agent.  `extra_flags`:
 * CLONE_PARENT or 0.  exit_signal is SIGCHLD.  The pid is in use: -EEXIST. */
int agent_fork(struct agent *a, pid_t nspid, uint64_t extra_flags, struct agent **ret,
	       struct err *e);
/* A thread of the agent's process with thread id `nstid`, running its own agent. */
int agent_thread(struct agent *a, pid_t nstid, struct agent **ret, struct err *e);
/* Ends the task of this agent with this wait status' exit code or signal (zombies, helpers), frees
 * the agent. */
int agent_exit(struct agent *a, int wait_status, struct err *e);

/* What a restored thread becomes.  xstate: as PTRACE_GETREGSET NT_X86_XSTATE gives it; may be NULL.
 */
struct thread_regs;
/* Seizes the running thread of an agent (which goes on), so that seccomp filters put on it do not
 * judge the agent's own calls: to be called before the first filter is installed.  Agents of
 * agent_take_over are seized. */
int agent_seize(struct agent *a, struct err *e);
/* The end: for all agents of ONE process (every thread's, leader first): the threads are seized (if
 * they are not), the blob is unmapped, registers, extended state and signal masks are set.  They
 * stay ptrace-stopped, with the state that `regs[i]` says, until seize_detach; the agents are
 * freed. */
int agent_finish(struct agent **agents, const struct thread_regs *regs, size_t n, struct err *e);

/* internal - what the files of this room share. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/err.h"
#include "inject/agent.h"
#include "inject/arch/x86_64.h"
#include "inject/seize.h"
#include "pie/proto.h"

/* ---- seize.c ---- */
int seize_attach(pid_t tid, struct err *e); /* without an interrupt */
int seize_wait_status(pid_t tid, int *ret_status, struct err *e);
int seize_get_gp(pid_t tid, struct user_regs_struct *ret, struct err *e);
int seize_set_gp(pid_t tid, const struct user_regs_struct *gp, struct err *e);
int seize_get_mask(pid_t tid, uint64_t *ret, struct err *e);
int seize_set_mask(pid_t tid, uint64_t mask, struct err *e);
int seize_get_basic(pid_t tid, struct user_regs_struct *gp, uint64_t *mask, struct err *e);
int seize_interrupt(pid_t tid, struct err *e); /* a running thread: to its event stop */
int seize_cont(pid_t tid, struct err *e);
/* From a system call's exit stop to the event stop: no instruction of user space is executed, and
 * the kernel's restart logic runs behind it. */
int seize_settle(pid_t tid, struct err *e);
/* Runs to the next entry or exit of a system call. */
int seize_step_syscall(pid_t tid, struct err *e);

/* ---- proc.c: one process with agents in it ---- */
struct agent_chunk {
	uint64_t addr;
	uint32_t used; /* slots ever given away */
};

#define LEFTOVERS_MAX 16
struct leftovers {
	struct leftover {
		uint64_t start, len;
	} list[LEFTOVERS_MAX];
	size_t n;
};

struct agent_proc {
	unsigned refs;
	pid_t pid;
	int pidfd, mem_fd;
	int proc_fd;   /* the engine's own /proc, O_PATH: the engine changes its mount namespace */
	uint64_t base; /* of the blob; 0: not mapped yet */
	bool writable; /* the text as well; else it was made so by mprotect */
	bool returns;  /* dump: agents bring their threads back */
	uint64_t site; /* dump: where the leader's stub lies, in the vdso's padding */
	uint8_t site_saved[ARCH_STUB_MAX];
	int64_t users;
	struct leftovers stale; /* found at the way in, to be unmapped */
	struct agent_chunk *chunks;
	size_t n_chunks, cap_chunks;
	struct agent **agents; /* live ones, not owned; [0] is the leader's */
	size_t n_agents, cap_agents;
};

struct agent {
	struct agent_proc *p;
	pid_t tid;
	int sock;    /* our end */
	int channel; /* the number of the task's end */
	uint64_t slot, slot_len;
	uint32_t data_len;
	bool traced;
	bool leader;
	bool settled; /* it has been in its loop and has nothing left to close behind its answer */
	struct user_regs_struct gp; /* dump: the thread's own */
	uint64_t sigmask;
	uint64_t stub;
};

int proc_new(pid_t pid, int proc_fd, int pidfd, struct agent_proc **ret, struct err *e);
struct agent_proc *proc_unref(struct agent_proc *p);
int proc_write(struct agent_proc *p, uint64_t addr, const void *data, size_t len, struct err *e);
int proc_read(struct agent_proc *p, uint64_t addr, void *data, size_t len, struct err *e);
int proc_site_find(struct agent_proc *p, uint64_t *ret, struct err *e);
int proc_blob_write(struct agent_proc *p, struct err *e);
int proc_slot_write(struct agent_proc *p, uint64_t slot, bool leader, uint64_t stub, int channel,
		    struct err *e);
/* A new slot for a thread (and its stub); the leader's agent maps what is needed. */
int proc_slot_new(struct agent_proc *p, uint64_t *ret_slot, uint64_t *ret_stub, struct err *e);
struct agent *proc_leader(struct agent_proc *p);
int mem_read_pid(pid_t pid, uint64_t addr, void *data, size_t len);

#define AGENT_BLOB_HEAD 32
bool proc_blob_is(const uint8_t head[AGENT_BLOB_HEAD]);

/* ---- leftover.c ---- */
int leftovers_find(struct agent_proc *p, struct leftovers *ret);
bool leftovers_used(struct agent_proc *p, const struct leftovers *l, uint64_t site);
int leftovers_remove(struct agent *a, struct err *e);

/* ---- agent.c ---- */
int agent_new(struct agent_proc *p, pid_t tid, struct agent **ret, struct err *e);
void agent_drop(struct agent *a);
struct aprog_op_raw;
/* Appends an operation of a kind that has no public builder. */
size_t aprog_op(struct aprog *p, unsigned flags, unsigned kind, size_t n_args,
		const struct aarg *args);
size_t aprog_park(struct aprog *p, long nr, const struct aarg args[6]);
/* Sends a program that is not answered; and waits for the end of the channel. */
int agent_send(struct agent *a, struct aprog *p, struct err *e);
int agent_wait_end(struct agent *a, struct err *e);
/* Before an agent is interrupted for good: it waits for the next program, all descriptors of its
 * own closed. */
int agent_settle(struct agent *a, struct err *e);
/* agent_run with descriptors: n_fds go with it; *ret_fd (may be NULL) takes the one that may come
 * back, -1: none. */
int agent_run_fds(struct agent *a, struct aprog *p, const int *fds, size_t n_fds, int *ret_fd,
		  struct err *e);

/* ---- inject.c ---- */
/* Maps the blob (at addr; 0: anywhere) in the stopped leader and starts it. */
int agent_enter(struct agent *a, uint64_t addr, struct err *e);
int agent_channel_watch(struct agent *a, struct err *e);

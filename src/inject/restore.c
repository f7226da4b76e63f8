/* restore - agents as what new tasks consist of: taking over, forking, threads, the end.
 *
 * Tasks made here are not traced; agent_finish seizes them.  The blob lies at the same address in all
 * of them until it is moved. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "inject/prog.h"
#include "sys/abi.h"

#define EXIT_WAIT_MS 5000
#define PARK_TRIES 100000

int agent_take_over(pid_t host_pid, pid_t tid, uint64_t addr, struct agent **ret, struct err *e)
{
	struct agent_proc *p = NULL;
	struct agent *a = NULL;
	int r;

	r = proc_new(host_pid, -1, -1, &p, e);
	if (r < 0)
		return r;
	r = agent_new(p, tid, &a, e);
	proc_unref(p);
	if (r < 0)
		return r;
	r = agent_enter(a, addr, e);
	if (r >= 0)
		/* The stub is not needed any more, and children should have a clean vdso. */
		r = proc_write(p, p->site, p->site_saved, sizeof(p->site_saved), e);
	if (r < 0) {
		agent_drop(a);
		return err_context(e, r, "taking over process %d", host_pid);
	}
	p->site = 0;
	*ret = a;
	return 0;
}

int agent_relocate(struct agent *a, uint64_t addr, struct err *e)
{
	struct agent_proc *p = a->p;
	uint64_t old = p->base, slot = addr + AGENT_SLOT0;
	struct aprog *prog;
	int r;

	if (!a->leader || p->returns || p->n_agents > 1)
		return err_set(e, -EINVAL, "process %d: only a single restored agent can move", p->pid);
	r = AGENT_CALL(a, NULL, e, SYS_mmap, addr, AGENT_SPAN, PROT_READ | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);
	if (r >= 0)
		r = AGENT_CALL(a, NULL, e, SYS_mprotect, addr + AGENT_TEXT, AGENT_SPAN - AGENT_TEXT,
			       PROT_READ | PROT_WRITE);
	if (r < 0)
		return r;
	p->base = addr;
	r = proc_blob_write(p, e);
	if (r >= 0)
		r = proc_slot_write(p, slot, true, 0, a->channel, e);
	p->base = old;
	if (r < 0)
		return r;
	prog = aprog_new();
	if (!prog)
		return err_sys(e, -ENOMEM, "moving the agent of process %d", p->pid);
	aprog_op(prog, 0, AGENT_OP_JUMP, 3,
		 (struct aarg[]){ aarg_imm(addr), aarg_imm(slot), aarg_imm(slot + AGENT_SLOT0_LEN) });
	r = agent_run(a, prog, e);
	aprog_free(prog);
	if (r < 0)
		return r;
	p->base = addr;
	a->slot = slot;
	return AGENT_CALL(a, NULL, e, SYS_munmap, old, AGENT_SPAN);
}

/* ---- who was made ---- */

static int pidfd_pid(int pidfd, pid_t *ret)
{
	struct pidfd_info info = { .mask = PIDFD_INFO_PID };

	if (ioctl(pidfd, PIDFD_GET_INFO, &info) < 0)
		return -errno;
	if (!info.pid)
		return -ESRCH;
	*ret = (pid_t)info.pid;
	return 0;
}

/* Kernels before 6.13: a pidfd's fdinfo; `Pid:` is as the procfs instance counts. */
static int pidfd_pid_by_fdinfo(int proc_fd, int pidfd, pid_t *ret)
{
	auto_free char *text = NULL;
	char path[64], *at;
	int r;

	snprintf(path, sizeof(path), "self/fdinfo/%d", pidfd);
	r = fd_read_file_at(proc_fd, path, 65536, &text, NULL);
	if (r < 0)
		return r;
	at = strstr(text, "Pid:");
	*ret = at ? (pid_t)strtol(at + 4, NULL, 10) : 0;
	return *ret > 0 ? 0 : -ESRCH;
}

/* The thread of process pid whose innermost number is nstid. */
static int thread_find(int proc_fd, pid_t pid, pid_t nstid, pid_t *ret)
{
	char path[64];
	int fd, r = -ESRCH;
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "%d/task", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	while (r == -ESRCH && (de = readdir(d))) {
		auto_free char *text = NULL;
		char *at, *end;
		long last = 0;

		snprintf(path, sizeof(path), "%.20s/status", de->d_name);
		if (de->d_name[0] == '.' || fd_read_file_at(fd, path, 65536, &text, NULL) < 0)
			continue;
		at = strstr(text, "\nNSpid:");
		for (at = at ? at + 7 : NULL; at && *at && *at != '\n'; at = end) {
			long v = strtol(at, &end, 10);

			if (end == at)
				break;
			last = v;
		}
		if (last == nstid) {
			*ret = (pid_t)atoi(de->d_name);
			r = 0;
		}
	}
	closedir(d);
	return r;
}

static int channel_pair(int ret[2], struct err *e)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0)
		return err_sys(e, -errno, "channel of an agent");
	return 0;
}

/* Runs a program of one operation that makes a task; the task's end goes with it. */
static int task_make(struct agent *a, struct aprog *prog, int *ret_sock, int *ret_pidfd, long *ret_nspid,
		     struct err *e)
{
	int pair[2], r;

	r = channel_pair(pair, e);
	if (r < 0)
		return r;
	r = agent_run_fds(a, prog, &pair[1], 1, ret_pidfd, e);
	fd_close(&pair[1]);
	if (r < 0) {
		fd_close(&pair[0]);
		return r;
	}
	*ret_nspid = aprog_result(prog, 0);
	*ret_sock = pair[0];
	return 0;
}

int agent_fork(struct agent *a, pid_t nspid, uint64_t extra_flags, struct agent **ret, struct err *e)
{
	auto_fd int sock = -1, pidfd = -1;
	struct agent_proc *p = NULL;
	struct agent *child = NULL;
	struct aprog *prog;
	pid_t pid = 0;
	long got;
	int r;

	if (!a->leader || a->p->returns)
		return err_set(e, -EINVAL, "only the leader of a restored process can fork");
	prog = aprog_new();
	if (!prog)
		return err_sys(e, -ENOMEM, "forking process %d", nspid);
	aprog_op(prog, 0, AGENT_OP_FORK, 2,
		 (struct aarg[]){ aarg_imm(extra_flags), aarg_imm((uint64_t)nspid) });
	r = task_make(a, prog, &sock, &pidfd, &got, e);
	aprog_free(prog);
	if (r < 0)
		return err_context(e, r, "making process %d", nspid);
	if (pidfd < 0)
		return err_set(e, -EPROTO, "process %d was made without a pidfd", nspid);
	r = pidfd_pid(pidfd, &pid);
	if (r < 0)
		r = pidfd_pid_by_fdinfo(a->p->proc_fd, pidfd, &pid);
	if (r < 0)
		return err_sys(e, r, "cannot tell the pid of process %d outside", nspid);
	r = proc_new(pid, a->p->proc_fd, pidfd, &p, e);
	if (r < 0)
		return r;
	pidfd = -1;
	r = agent_new(p, pid, &child, e);
	proc_unref(p);
	if (r < 0)
		return r;
	p->base = a->p->base;
	child->sock = fd_take(&sock);
	child->leader = true;
	child->channel = a->channel;
	child->slot = a->slot;
	child->slot_len = a->slot_len;
	child->data_len = a->data_len;
	*ret = child;
	return 0;
}

int agent_thread(struct agent *a, pid_t nstid, struct agent **ret, struct err *e)
{
	auto_fd int sock = -1, pidfd = -1;
	struct agent_proc *p = a->p;
	uint64_t slot = 0, stub;
	struct agent_slot made;
	struct aprog *prog;
	struct agent *t = NULL;
	pid_t tid = 0;
	long got;
	int r;

	if (!a->leader || p->returns)
		return err_set(e, -EINVAL, "only the leader of a restored process makes threads");
	r = proc_slot_new(p, &slot, &stub, e);
	if (r >= 0)
		r = proc_slot_write(p, slot, false, 0, 0, e);
	if (r < 0)
		return r;
	prog = aprog_new();
	if (!prog)
		return err_sys(e, -ENOMEM, "making thread %d", nstid);
	aprog_op(prog, 0, AGENT_OP_THREAD, 3,
		 (struct aarg[]){ aarg_imm((uint64_t)nstid), aarg_imm(slot),
				  aarg_imm(slot + AGENT_SLOT_LEN) });
	r = task_make(a, prog, &sock, &pidfd, &got, e);
	aprog_free(prog);
	if (r < 0)
		return err_context(e, r, "making thread %d", nstid);
	r = pidfd >= 0 ? pidfd_pid(pidfd, &tid) : -ENOTSUP;
	if (r < 0)
		r = thread_find(p->proc_fd, p->pid, nstid, &tid);
	if (r < 0)
		return err_sys(e, r, "cannot tell the number of thread %d outside", nstid);
	r = proc_read(p, slot, &made, sizeof(made), e);
	if (r >= 0)
		r = agent_new(p, tid, &t, e);
	if (r < 0)
		return r;
	t->sock = fd_take(&sock);
	t->channel = made.channel;
	t->slot = slot;
	t->slot_len = AGENT_SLOT_LEN;
	t->data_len = AGENT_SLOT_DATA_LEN;
	*ret = t;
	return 0;
}

/* ---- the ends ---- */

static void exit_program(struct aprog *p, int wait_status)
{
	struct rlimit none = { 0, 0 };
	struct {
		uint64_t handler, flags, restorer, mask;
	} dfl = { 0 };
	uint64_t mask = 0;
	struct aarg pid;

	if (WIFEXITED(wait_status)) {
		APROG_CALL(p, 0, SYS_exit_group, aarg_imm((uint64_t)WEXITSTATUS(wait_status)));
		return;
	}
	/* No core file: its bit of the wait status is lost with it. */
	APROG_CALL(p, AOP_MAY_FAIL, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_CORE),
		   aprog_in(p, &none, sizeof(none)), aarg_imm(0));
	APROG_CALL(p, AOP_MAY_FAIL, SYS_rt_sigaction, aarg_imm((uint64_t)WTERMSIG(wait_status)),
		   aprog_in(p, &dfl, sizeof(dfl)), aarg_imm(0), aarg_imm(8));
	pid = aarg_result(APROG_CALL(p, 0, SYS_getpid, aarg_imm(0)));
	APROG_CALL(p, 0, SYS_kill, pid, aarg_imm((uint64_t)WTERMSIG(wait_status)));
	APROG_CALL(p, 0, SYS_rt_sigprocmask, aarg_imm(SIG_SETMASK), aprog_in(p, &mask, 8), aarg_imm(0),
		   aarg_imm(8));
}

int agent_exit(struct agent *a, int wait_status, struct err *e)
{
	struct aprog *p = aprog_new();
	pid_t tid = a->tid;
	struct pollfd dead = { .fd = a->p->pidfd, .events = POLLIN };
	int r;

	if (!p) {
		agent_drop(a);
		return err_sys(e, -ENOMEM, "ending process %d", tid);
	}
	exit_program(p, wait_status);
	r = agent_run(a, p, NULL);
	aprog_free(p);
	if (r == -EPIPE) {
		/* The channel closes before the process is a zombie that can be waited for. */
		if (a->traced)
			waitpid(tid, NULL, __WALL);
		else if (poll(&dead, 1, EXIT_WAIT_MS) != 1)
			r = -ETIMEDOUT;
	}
	agent_drop(a);
	if (r != -EPIPE)
		return err_set(e, r < 0 ? r : -EIO, "process %d did not end with status %#x", tid, wait_status);
	return 0;
}

int agent_seize(struct agent *a, struct err *e)
{
	int r;

	if (a->traced)
		return 0;
	r = seize_attach(a->tid, e);
	if (r >= 0)
		a->traced = true;
	return r;
}

/* A call of the stopped thread by the blob's own instruction; it stands at its exit afterwards. */
static int finish_call(struct agent *a, long nr, uint64_t x, uint64_t y, struct err *e)
{
	struct user_regs_struct gp;
	uint64_t args[6] = { x, y };
	int r = seize_get_gp(a->tid, &gp, e);

	if (r < 0)
		return r;
	arch_regs_call(&gp, a->p->base + AGENT_ENTRY_SYSCALL, nr, args);
	r = seize_set_gp(a->tid, &gp, e);
	for (int half = 0; half < 2 && r >= 0; half++)
		r = seize_step_syscall(a->tid, e);
	if (r >= 0)
		r = seize_get_gp(a->tid, &gp, e);
	if (r >= 0 && (int64_t)gp.rax < 0)
		r = err_sys(e, (int)gp.rax, "system call %ld in thread %d", nr, a->tid);
	return r;
}

static bool wants_restart(const struct thread_regs *t)
{
	return (int64_t)t->gp.rax == -516 && (int64_t)t->gp.orig_rax >= 0;
}

/* The call that is made again, with the time that is left. */
static void restart_program(struct aprog *p, const struct thread_regs *t)
{
	const struct user_regs_struct *gp = &t->gp;
	struct aarg args[6] = { aarg_imm(gp->rdi), aarg_imm(gp->rsi), aarg_imm(gp->rdx),
				aarg_imm(gp->r10), aarg_imm(gp->r8),  aarg_imm(gp->r9) };
	int64_t left = t->restart_left_ns, ts[2] = { left / 1000000000, left % 1000000000 };

	if (left >= 0) {
		switch (gp->orig_rax) {
		case SYS_nanosleep:
			args[0] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_clock_nanosleep:
			args[2] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_futex:
			args[3] = aprog_in(p, ts, sizeof(ts));
			break;
		case SYS_poll:
			args[2] = aarg_imm((uint64_t)((left + 999999) / 1000000));
			break;
		}
	}
	aprog_park(p, (long)gp->orig_rax, args);
}

/* The kernel keeps what is left of a sleep, poll or futex wait in a restart block that only it can
 * write.  So the thread makes the call again and is interrupted in it: then it has its block, and the
 * registers that follow say "restart".  Any other thread just stands still. */
static int park(struct agent *a, const struct thread_regs *t, struct err *e)
{
	static const struct aarg none[6];
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "finishing thread %d", a->tid);
	if (wants_restart(t))
		restart_program(p, t);
	else
		aprog_park(p, -1, none);
	r = agent_send(a, p, e);
	aprog_free(p);
	return r;
}

/* Stopped: 1: in its call, or behind it with *t changed to the result; 0: not yet there. */
static int parked(struct agent *a, struct thread_regs *t, struct err *e)
{
	struct user_regs_struct gp;
	struct agent_slot slot;
	int r = seize_get_gp(a->tid, &gp, e);

	if (r < 0)
		return r;
	if (!wants_restart(t))
		return gp.orig_rax == SYS_pause;
	if (gp.orig_rax == t->gp.orig_rax && arch_in_restart(&gp)) {
		t->gp.rax = gp.rax;
		return 1;
	}
	if (gp.orig_rax != SYS_pause)
		return 0;
	/* It ended at once: poll had something to report, the futex has another value. */
	r = proc_read(a->p, a->slot, &slot, sizeof(slot), e);
	t->gp.orig_rax = (uint64_t)-1;
	t->gp.rax = (uint64_t)slot.result;
	return r < 0 ? r : 1;
}

static int finish_stop(struct agent *a, struct thread_regs *t, struct err *e)
{
	int r = agent_seize(a, e);

	for (int i = 0; i < PARK_TRIES && r >= 0; i++) {
		r = seize_interrupt(a->tid, e);
		if (r >= 0)
			r = parked(a, t, e);
		if (r)
			return r;
		/* Between the end of its channel and its call. */
		r = seize_cont(a->tid, e);
		sched_yield();
	}
	return r < 0 ? r : err_set(e, -ETIMEDOUT, "thread %d does not come to rest", a->tid);
}

/* The leader unmaps everything of ours, what it stands on last. */
static int finish_unmap(struct agent *l, struct err *e)
{
	struct agent_proc *p = l->p;
	int r = 0;

	for (size_t i = 0; i < p->n_chunks && r >= 0; i++)
		r = finish_call(l, SYS_munmap, p->chunks[i].addr, AGENT_CHUNK_LEN, e);
	if (r >= 0)
		r = finish_call(l, SYS_munmap, p->base, AGENT_SPAN, e);
	return r < 0 ? r : seize_settle(l->tid, e);
}

static int finish_run(struct agent **agents, struct thread_regs *regs, size_t n, struct err *e)
{
	struct agent_proc *p = agents[0]->p;
	int r = 0;

	if (p->returns || !agents[0]->leader || n != p->n_agents)
		return err_set(e, -EINVAL, "process %d: all its %zu agents finish at once, leader first",
			       p->pid, p->n_agents);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = park(agents[i], &regs[i], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = agent_wait_end(agents[i], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = finish_stop(agents[i], &regs[i], e);
	if (r >= 0)
		r = finish_unmap(agents[0], e);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = seize_set_regs(agents[i]->tid, &regs[i], e);
	return r;
}

int agent_finish(struct agent **agents, const struct thread_regs *regs, size_t n, struct err *e)
{
	struct thread_regs *mine;
	int r;

	if (n == 0)
		return err_set(e, -EINVAL, "no agent to finish");
	mine = malloc(n * sizeof(*mine)); /* views: where a call ended at once, its result is set */
	if (mine)
		memcpy(mine, regs, n * sizeof(*mine));
	r = mine ? finish_run(agents, mine, n, e) : err_sys(e, -ENOMEM, "registers");
	free(mine);
	if (r < 0)
		r = err_context(e, r, "finishing process %d", agents[0]->p->pid);
	for (size_t i = 0; i < n; i++)
		agent_drop(agents[i]);
	return r;
}

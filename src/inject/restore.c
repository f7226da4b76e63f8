/* restore - agents as what new tasks consist of: taking over, forking, threads (their ends:
 * finish.c).
 *
 * Tasks made here are not traced; agent_finish seizes them.  The blob lies at the same address in
 * all of them until it is moved. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <dirent.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "inject/prog.h"
#include "sys/abi.h"

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
		return err_set(e, -EINVAL, "process %d: only a single restored agent can move",
			       p->pid);
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
		 (struct aarg[]){ aarg_imm(addr), aarg_imm(slot),
				  aarg_imm(slot + AGENT_SLOT0_LEN) });
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
static int task_make(struct agent *a, struct aprog *prog, int *ret_sock, int *ret_pidfd,
		     long *ret_nspid, struct err *e)
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

int agent_fork(struct agent *a, pid_t nspid, uint64_t extra_flags, struct agent **ret,
	       struct err *e)
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

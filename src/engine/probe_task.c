/* What the kernel says of processes and to their tracers. */
#include "engine/probe.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#define ARCH_MAP_VDSO_32 0x2002
#define ARCH_MAP_VDSO_64 0x2003
#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77
#endif

/* ---- children ---- */

static int child_reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status;
}

int probe_in_child(int (*ask)(void *arg), void *arg, struct err *e)
{
	int ends[2], answer, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "asking the kernel");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer = ask(arg);
		_exit(write(ends[1], &answer, sizeof(answer)) != sizeof(answer));
	}
	close(ends[1]);
	r = pid < 0 ? -errno : fd_read_full(ends[0], &answer, sizeof(answer));
	close(ends[0]);
	if (pid > 0)
		child_reap(pid);
	if (r >= 0)
		r = answer;
	return r < 0 ? err_sys(e, r, "the kernel could not be asked") : r;
}

int probe_of_child(int (*ask)(pid_t child), int (*prepare)(void), struct err *e)
{
	int ends[2], ready = 0, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "asking the kernel");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ready = prepare ? prepare() : 0;
		if (write(ends[1], &ready, sizeof(ready)) != sizeof(ready))
			_exit(1);
		for (;;)
			pause();
	}
	close(ends[1]);
	r = pid < 0 ? -errno : fd_read_full(ends[0], &ready, sizeof(ready));
	close(ends[0]);
	if (pid < 0)
		return err_sys(e, r, "asking the kernel");
	r = r < 0 ? r : ready < 0 ? ready : ask(pid);
	kill(pid, SIGKILL);
	child_reap(pid);
	return r < 0 ? err_sys(e, r, "the kernel could not be asked") : r;
}

/* Seized, and standing. */
static int child_stop(pid_t pid, unsigned long options)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, 0, options) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
		return -errno;
	return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) ? 0 : -EIO;
}

/* ---- questions ---- */

/* A size the kernel does not know is E2BIG, and no memory for the number is EINVAL. */
int probe_clone3_set_tid(struct err *e)
{
	struct clone_args a = { .exit_signal = SIGCHLD, .set_tid_size = 1 };

	if (syscall(SYS_clone3, &a, sizeof(a)) >= 0)
		_exit(1); /* nobody's child, and nobody's parent */
	return errno == EINVAL;
}

static int rseq_ask(pid_t child)
{
	uint64_t conf[4];
	int r = child_stop(child, 0);

	if (r < 0)
		return r;
	return ptrace(PTRACE_GET_RSEQ_CONFIGURATION, child, sizeof(conf), conf) > 0;
}

int probe_get_rseq_conf(struct err *e)
{
	return probe_of_child(rseq_ask, NULL, e);
}

static int suspend_ask(pid_t child)
{
	int r = child_stop(child, PTRACE_O_SUSPEND_SECCOMP);

	return r == -EINVAL ? 0 : r < 0 ? r : 1;
}

int probe_seccomp_suspend(struct err *e)
{
	return probe_of_child(suspend_ask, NULL, e);
}

/* One that lets everything pass. */
static int filter_install(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { 1, &allow };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}

/* How long the first filter is. */
static int filters_ask(pid_t child)
{
	int r = child_stop(child, 0);

	if (r < 0)
		return r;
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, child, 0, NULL) >= 0)
		return 1;
	return errno == EIO || errno == EINVAL ? 0 : -errno;
}

int probe_seccomp_filters(struct err *e)
{
	return probe_of_child(filters_ask, filter_install, e);
}

/* A process has its vdso already: the call that is there says EEXIST. */
static int vdso_ask(void *which)
{
	return syscall(SYS_arch_prctl, *(int *)which, 0x10000000ul) >= 0 || errno == EEXIST;
}

int probe_can_map_vdso(struct err *e)
{
	int which = ARCH_MAP_VDSO_64;

	return probe_in_child(vdso_ask, &which, e);
}

int probe_compat_cr(struct err *e)
{
	int which = ARCH_MAP_VDSO_32;

	return probe_in_child(vdso_ask, &which, e);
}

static int loginuid_ask(void *arg)
{
	auto_free char *text = NULL;
	int r = fd_read_file_at(AT_FDCWD, "/proc/self/loginuid", 64, &text, NULL);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : fd_write_file_at(AT_FDCWD, "/proc/self/loginuid", text) >= 0;
}

int probe_loginuid(struct err *e)
{
	return probe_in_child(loginuid_ask, NULL, e);
}

static int timer_ids_ask(void *arg)
{
	return prctl(PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0) >= 0;
}

int probe_timer_cr_ids(struct err *e)
{
	return probe_in_child(timer_ids_ask, NULL, e);
}

int probe_membarrier(struct err *e)
{
	enum { GET_REGISTRATIONS = 1 << 9 };

	return syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0) >= 0;
}

int probe_rseq(struct err *e)
{
	return syscall(SYS_rseq, NULL, 0, 0, 0) >= 0 || errno != ENOSYS;
}

static int breakpoints_ask(pid_t child)
{
	int r = child_stop(child, 0);

	if (r < 0)
		return r;
	/* An instruction nobody executes, then "break there". */
	return ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), 0x1000) >= 0 &&
	       ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 1) >= 0;
}

int probe_breakpoints(struct err *e)
{
	return probe_of_child(breakpoints_ask, NULL, e);
}

int probe_pidfd_store(struct err *e)
{
	auto_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0), copy = -1;

	if (self < 0)
		return 0;
	copy = (int)syscall(SYS_pidfd_getfd, self, self, 0);
	return copy >= 0 ? 1 : errno == ENOSYS ? 0 : err_sys(e, -errno, "pidfd_getfd");
}

static int vm_readv_ask(pid_t child)
{
	static const int there = 42;
	int here = 0;
	struct iovec to = { &here, sizeof(here) }, from = { (void *)&there, sizeof(there) };

	if (process_vm_readv(child, &to, 1, &from, 1, 0) < 0)
		return errno == ENOSYS ? 0 : -errno;
	return here == there;
}

int probe_vm_readv(struct err *e)
{
	return probe_of_child(vm_readv_ask, NULL, e);
}

int probe_mm_map(struct err *e)
{
	unsigned size = 0;

	return prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) >= 0 && size > 0;
}

#include "cr/seed.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/msg.h"
#include "cr/ns/home.h"
#include "cr/ns/ns.h"
#include "cr/ns/outside.h"

#define RSEQ_UNREGISTER 1
#define TAKEN_TRIES 250
#define TAKEN_STEP_NS 2000000
/* Made together with the process.  The time namespace is made ahead, since its clocks can only be set while
 * nobody is in it, the cgroup namespace when the process is in its cgroup, which becomes its root. */
#define NS_BORN (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)

/* ---- in the child, which has a copy of all of ours and must keep none of it ---- */

/* The C library's registration would outlive the library: the kernel writes to it at each switch. */
static void rseq_leave(void)
{
	if (__rseq_size)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset,
			__rseq_size < 32 ? 32 : __rseq_size, RSEQ_UNREGISTER, RSEQ_SIG);
}

static int step_failed(int sock, const char *step)
{
	int code = errno ? errno : EIO;
	char text[16];

	snprintf(text, sizeof(text), "%d", code);
	msg_send(sock, NULL, 0, "failed", "step", step, "errno", text, NULL);
	return -code;
}

/* The root folder becomes the root; what is mounted elsewhere is gone with the old one. */
static int root_enter(const char *root, int sock)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return step_failed(sock, "making mounts private");
	if (!root)
		return 0;
	if (mount(root, root, NULL, MS_BIND, NULL) < 0 || chdir(root) < 0)
		return step_failed(sock, "mounting the root folder");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return step_failed(sock, "entering the root folder");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return step_failed(sock, "leaving the host's root");
	return 0;
}

static int namespaces_fill(const struct restore *r, int sock)
{
	if (r->ns & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return step_failed(sock, "becoming the user namespace's root");
	if (r->ns & CLONE_NEWCGROUP && unshare(CLONE_NEWCGROUP) < 0)
		return step_failed(sock, "making the cgroup namespace");
	if (!(r->ns & CLONE_NEWNS))
		return 0;
	if (mounts_born_give(r, sock) < 0)
		return step_failed(sock, "making proc and sysfs");
	return root_enter(r->opts->root, sock);
}

static _Noreturn void seed_live(const struct restore *r, int sock)
{
	struct msg m;
	char end;

	/* Who hears that all stands may take us over at the next instruction. */
	if (msg_recv(sock, &m) <= 0 || namespaces_fill(r, sock) < 0)
		_exit(1);
	rseq_leave();
	syscall(SYS_set_robust_list, NULL, sizeof(void *) * 3);
	if (msg_send(sock, NULL, 0, "stands", NULL) < 0)
		_exit(1);
	/* The other end closes when the engine ends, however that happens. */
	syscall(SYS_dup3, sock, 0, O_CLOEXEC);
	syscall(SYS_close_range, 1, ~0u, 0);
	syscall(SYS_read, 0, &end, 1);
	_exit(1);
}

/* ---- namespaces that have to be ours while the child is born ---- */

static int named_join(struct restore *r, struct home *h, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *hd = (const GwHeader *)rec->msg;

	for (size_t i = 0; i < NS_KINDS; i++) {
		unsigned flag = ns_flags[i];
		const char *name = NULL;
		auto_fd int fd = -1;
		int x;

		for (size_t k = 0; k < hd->n_named_ns; k++)
			if (hd->named_ns[k]->flag == flag && hd->named_ns[k]->name)
				name = hd->named_ns[k]->name;
		x = outside_namespace_open(r->opts, flag, name, &fd, e);
		if (x == -ENOENT && !name)
			continue;
		if (x == -ENOENT)
			return err_set(e, x, "the tree was in a %s namespace \"%s\" from outside, which has to be given "
				       "(--inherit-fd fd[N]:%s)", ns_file(flag), name, name);
		if (x >= 0)
			x = home_note(h, flag, e);
		if (x < 0)
			return x;
		if (setns(fd, (int)flag) < 0)
			return err_sys(e, -errno, "entering the %s namespace that was given", ns_file(flag));
		r->joined_ns |= flag;
		r->ns &= ~flag;
	}
	return 0;
}

/* ---- the parent's part ---- */

static int seed_clone(struct restore *r, int sock[2], struct err *e)
{
	pid_t number = r->tasks[0]->nspid;
	struct clone_args ca = {
		.flags = (r->opts->sibling ? CLONE_PARENT : 0) | (r->ns & NS_BORN),
		.exit_signal = r->opts->sibling ? 0 : SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&number,
		.set_tid_size = 1,
	};
	sigset_t all, old;
	long pid = -1;

	/* Nothing may reach handlers of ours in a process that is not us. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	/* What was dumped a moment ago may still wait to be reaped, with its number. */
	for (int i = 0; i < TAKEN_TRIES; i++) {
		pid = syscall(SYS_clone3, &ca, sizeof(ca));
		if (pid >= 0 || errno != EEXIST || i + 1 == TAKEN_TRIES)
			break;
		nanosleep(&(struct timespec){ 0, TAKEN_STEP_NS }, NULL);
	}
	if (pid == 0) {
		close(sock[0]);
		seed_live(r, sock[1]);
	}
	pid = pid < 0 ? -errno : pid;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid == -EEXIST)
		return err_set(e, -EEXIST, "the process number %d is taken", (int)number);
	if (pid == -EPERM)
		return err_set(e, -EPERM, "process %d cannot be made with its number: that needs "
			       "CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) in its PID namespace", (int)number);
	return pid < 0 ? err_sys(e, (int)pid, "making process %d", (int)number) : (int)pid;
}

/* 1: all stands. */
static int seed_hear(struct restore *r, int sock, struct err *e)
{
	struct msg m = { 0 };
	int x = msg_recv(sock, &m);
	uint64_t code = 0;

	if (x <= 0)
		return err_set(e, x < 0 ? x : -ECHILD, "the first process ended while its namespaces were made");
	if (msg_is(&m, "stands"))
		x = 1;
	else if (msg_is(&m, "mount"))
		x = mounts_born_take(r, &m, e);
	else if (msg_is(&m, "failed") && msg_get(&m, "step") && msg_get_u64(&m, "errno", &code) >= 0 && code &&
		 code < 4096)
		x = err_sys(e, -(int)code, "%s", msg_get(&m, "step"));
	else
		x = err_set(e, -EPROTO, "the first process says \"%s\"", m.verb);
	msg_done(&m);
	return x;
}

static int seed_settle(struct restore *r, int sock, struct err *e)
{
	int x = 0;

	if (r->ns & CLONE_NEWUSER)
		x = userns_maps_write(r, e);
	if (x >= 0)
		x = cgroup_seed(r, e);
	if (x >= 0)
		x = fault_at("seed", "cgroups", NULL, e);
	if (x < 0)
		return x;
	x = msg_send(sock, NULL, 0, "go", NULL);
	fault_kill_at("seed", "told", NULL);
	if (x < 0)
		return err_sys(e, x, "the first process has ended");
	do
		x = seed_hear(r, sock, e);
	while (x == 0);
	return x;
}

int seed_make(struct restore *r, struct err *e)
{
	struct home home = HOME_INIT;
	struct err back = { 0 };
	int sock[2], x, y;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return err_sys(e, -errno, "making the first process");
	x = named_join(r, &home, e);
	if (x >= 0 && r->ns & CLONE_NEWTIME) {
		x = home_note(&home, CLONE_NEWTIME, e);
		if (x >= 0)
			x = timens_make(r, e);
	}
	if (x >= 0)
		x = seed_clone(r, sock, e);
	if (x > 0) {
		r->init_pid = x;
		x = fault_at("seed", "born", NULL, e);
	}
	y = home_return(&home, &back);
	if (x >= 0 && y < 0)
		x = err_set(e, y, "%s", err_text(&back));
	fd_close(&sock[1]);
	if (x >= 0)
		x = seed_settle(r, sock[0], e);
	r->seed_fd = sock[0];
	return x < 0 ? x : 0;
}

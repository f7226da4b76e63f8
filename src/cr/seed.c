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
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/ns/ns.h"
#include "cr/ns/outside.h"

#define RSEQ_UNREGISTER 1
/* Made together with the process.  The time namespace is made ahead, since its clocks can only be set while
 * nobody is in it, the cgroup namespace when the process is in its cgroup, which becomes its root. */
#define NS_BORN (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)

/* What the child says when its namespaces stand, or which step failed. */
struct report {
	int code;
	char step[48];
};

/* ---- in the child, which has a copy of all of ours and must keep none of it ---- */

/* The C library's registration would outlive the library: the kernel writes to it at each switch. */
static void rseq_leave(void)
{
	if (__rseq_size)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset,
			__rseq_size < 32 ? 32 : __rseq_size, RSEQ_UNREGISTER, RSEQ_SIG);
}

static int step_failed(struct report *rep, const char *step)
{
	rep->code = errno ? -errno : -EIO;
	snprintf(rep->step, sizeof(rep->step), "%s", step);
	return rep->code;
}

/* The root folder becomes the root; what is mounted elsewhere is gone with the old one. */
static int root_enter(const char *root, struct report *rep)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return step_failed(rep, "making mounts private");
	if (!root)
		return 0;
	if (mount(root, root, NULL, MS_BIND, NULL) < 0 || chdir(root) < 0)
		return step_failed(rep, "mounting the root folder");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return step_failed(rep, "entering the root folder");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return step_failed(rep, "leaving the host's root");
	return 0;
}

static int namespaces_fill(const struct restore *r, struct report *rep)
{
	if (r->ns & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return step_failed(rep, "becoming the user namespace's root");
	if (r->ns & CLONE_NEWCGROUP && unshare(CLONE_NEWCGROUP) < 0)
		return step_failed(rep, "making the cgroup namespace");
	return r->ns & CLONE_NEWNS ? root_enter(r->opts->root, rep) : 0;
}

static _Noreturn void seed_live(const struct restore *r, int sock)
{
	struct report rep = { 0 };
	char go;

	if (fd_read_full(sock, &go, 1) < 0)
		_exit(1);
	namespaces_fill(r, &rep);
	rseq_leave();
	syscall(SYS_set_robust_list, NULL, sizeof(void *) * 3);
	(void)fd_write_full(sock, &rep, sizeof(rep));
	/* The other end closes when the engine ends, however that happens. */
	syscall(SYS_dup3, sock, 0, O_CLOEXEC);
	syscall(SYS_close_range, 1, ~0u, 0);
	syscall(SYS_read, 0, &go, 1);
	_exit(1);
}

/* ---- namespaces that have to be ours while the child is born ---- */

struct home {
	unsigned flag;
	int fd;
};

struct homes {
	struct home v[NS_KINDS];
	size_t n;
};

static int home_note(struct homes *h, unsigned flag, struct err *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_file(flag));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "opening our %s namespace", ns_file(flag));
	h->v[h->n++] = (struct home){ flag, fd };
	return 0;
}

static int homes_return(struct homes *h, struct err *e)
{
	int x = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (setns(h->v[i].fd, (int)h->v[i].flag) < 0)
			x = err_sys(e, -errno, "returning to our %s namespace", ns_file(h->v[i].flag));
		fd_close(&h->v[i].fd);
	}
	h->n = 0;
	return x;
}

static int named_join(struct restore *r, struct homes *h, struct err *e)
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
	long pid;

	/* Nothing may reach handlers of ours in a process that is not us. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = syscall(SYS_clone3, &ca, sizeof(ca));
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

static int seed_settle(struct restore *r, int sock, struct err *e)
{
	struct report rep = { 0 };
	int x = 0;

	if (r->ns & CLONE_NEWUSER)
		x = userns_maps_write(r, e);
	if (x >= 0)
		x = cgroup_seed(r, e);
	if (x < 0)
		return x;
	x = fd_write_full(sock, "g", 1);
	if (x >= 0)
		x = fd_read_full(sock, &rep, sizeof(rep));
	if (x < 0)
		return err_sys(e, x, "the first process ended while its namespaces were made");
	rep.step[sizeof(rep.step) - 1] = '\0';
	return rep.code < 0 ? err_sys(e, rep.code, "%s", rep.step) : 0;
}

int seed_make(struct restore *r, struct err *e)
{
	struct homes homes = { .n = 0 };
	struct err back = { 0 };
	int sock[2], x, y;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
		return err_sys(e, -errno, "making the first process");
	x = named_join(r, &homes, e);
	if (x >= 0 && r->ns & CLONE_NEWTIME) {
		x = home_note(&homes, CLONE_NEWTIME, e);
		if (x >= 0)
			x = timens_make(r, e);
	}
	if (x >= 0)
		x = seed_clone(r, sock, e);
	if (x > 0)
		r->init_pid = x;
	y = homes_return(&homes, &back);
	if (x >= 0 && y < 0)
		x = err_set(e, y, "%s", err_text(&back));
	fd_close(&sock[1]);
	if (x >= 0)
		x = seed_settle(r, sock[0], e);
	r->seed_fd = sock[0];
	return x < 0 ? x : 0;
}

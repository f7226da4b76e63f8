/* swrk, the RPC of a child, and service, that of a daemon. */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/action.h"
#include "engine/folders.h"
#include "engine/rpc.h"

#define CAP_CR 40 /* CAP_CHECKPOINT_RESTORE */
#define CHILDREN_MAX 64
#define ADDRESS_DEFAULT "criu_service.socket"

int action_swrk(const struct options *o, struct err *e)
{
	struct rpc_peer p;
	int r;

	fd_set_cloexec(o->swrk_fd, 1);
	r = rpc_peer_of(o->swrk_fd, true, &p, e);
	if (r < 0)
		return err_context(e, r, "swrk %d", o->swrk_fd);
	r = rpc_serve(&p, o, e);
	rpc_peer_done(&p);
	return r;
}

/* ---- the rights of a peer ---- */

/* Effective capabilities of a peer in our own user namespace; those of another count for nothing here. */
static uint64_t peer_caps(const struct rpc_peer *p)
{
	char path[48];
	auto_free char *text = NULL;
	struct stat ours, theirs;
	const char *line;

	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)p->pid);
	if (stat("/proc/self/ns/user", &ours) < 0 || stat(path, &theirs) < 0 || ours.st_ino != theirs.st_ino)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)p->pid);
	if (fd_read_file_at(AT_FDCWD, path, 1u << 16, &text, NULL) < 0)
		return 0;
	line = strstr(text, "\nCapEff:");
	return line ? strtoull(line + 8, NULL, 16) : 0;
}

/* A number means another process in another pid namespace. */
static int peer_sees_our_pids(const struct rpc_peer *p, struct err *e)
{
	char path[48];
	struct stat ours, theirs;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)p->pid);
	if (stat("/proc/self/ns/pid", &ours) < 0 || stat(path, &theirs) < 0)
		return err_sys(e, -errno, "looking at process %d", (int)p->pid);
	if (ours.st_ino != theirs.st_ino)
		return err_set(e, -EPERM, "process %d counts pids in another namespace", (int)p->pid);
	return 0;
}

static int caps_get(struct __user_cap_data_struct ret[2])
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return syscall(SYS_capget, &h, ret) < 0 ? -errno : 0;
}

static int caps_keep(uint64_t caps)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	int r = caps_get(d);

	if (r < 0)
		return r;
	for (int i = 0; i < 2; i++) {
		d[i].permitted &= (uint32_t)(caps >> (32 * i));
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

static bool caps_cover(uint64_t caps)
{
	struct __user_cap_data_struct d[2];

	return caps_get(d) >= 0 && !(d[0].permitted & ~(uint32_t)caps) && !(d[1].permitted & ~(uint32_t)(caps >> 32));
}

static int groups_take(int sock)
{
	gid_t list[256];
	socklen_t len = sizeof(list);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, list, &len) < 0)
		return -errno;
	return setgroups(len / sizeof(*list), list) < 0 ? -errno : 0;
}

/* From here on the process may do what its peer may, and choose pids: the kernel decides what may be traced, written
 * and become whom, and no check of ours can be outrun. */
static int peer_become(const struct rpc_peer *p, struct err *e)
{
	uint64_t caps = peer_caps(p);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int r = 0;

	if (getsockopt(p->sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return err_sys(e, -errno, "asking who is at the other end of the socket");
	if (cred.uid == geteuid() && caps_cover(caps))
		return 0;
	/* Neither the change of ids nor a program of the peer's brings or takes rights by itself. */
	if (cred.uid != geteuid() || cred.gid != getegid() || geteuid() == 0) {
		r = groups_take(p->sock);
		if (r >= 0 && (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT, 0, 0, 0) < 0 ||
			       setresgid(cred.gid, cred.gid, cred.gid) < 0 || setresuid(cred.uid, cred.uid, cred.uid) < 0))
			r = -errno;
	}
	if (r >= 0)
		r = caps_keep(caps | 1ull << CAP_CR);
	/* Files of /proc are its own again; who has fewer capabilities still cannot trace it. */
	if (r >= 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "taking on the rights of process %d", (int)p->pid) : 0;
}

static int connection_serve(const struct options *o, int sock, struct err *e)
{
	struct rpc_peer p;
	int r = rpc_peer_of(sock, false, &p, e);

	if (r < 0)
		return r;
	r = peer_sees_our_pids(&p, e);
	if (r >= 0)
		r = peer_become(&p, e);
	if (r >= 0)
		r = rpc_serve(&p, o, e);
	rpc_peer_done(&p);
	return r;
}

/* ---- the daemon ---- */

/* A socket that nobody listens at is left over. */
static int address_clear(const struct sockaddr_un *a, struct err *e)
{
	auto_fd int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct stat st;

	if (lstat(a->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s is there, and no socket", a->sun_path);
	if (probe >= 0 && connect(probe, (const void *)a, sizeof(*a)) >= 0)
		return err_set(e, -EADDRINUSE, "somebody listens at %s", a->sun_path);
	if (errno == ECONNREFUSED && unlink(a->sun_path) == 0)
		return 0;
	return err_sys(e, -errno, "taking %s over", a->sun_path);
}

static int service_listen(const char *path, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_fd int sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "the address %s is too long for a socket", path);
	strcpy(a.sun_path, path);
	r = address_clear(&a, e);
	if (r < 0)
		return r;
	/* Anybody may ask: each is served with what he may do himself. */
	if (sk < 0 || bind(sk, (void *)&a, sizeof(a)) < 0 || chmod(path, 0666) < 0 || listen(sk, 16) < 0)
		return err_sys(e, -errno, "listening at %s", path);
	return fd_take(&sk);
}

static void children_reap(unsigned *n)
{
	while (*n > 0 && waitpid(-1, NULL, WNOHANG) > 0)
		--*n;
}

static void connection_take(const struct options *o, int listener, int signals, unsigned *n)
{
	auto_fd int sk = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct err e = { 0 };
	sigset_t none;
	pid_t pid;

	if (sk < 0)
		return;
	pid = fork();
	if (pid < 0)
		log_error("a connection was refused: %s", strerror(errno));
	*n += pid > 0;
	if (pid != 0)
		return;
	close(listener);
	close(signals);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (connection_serve(o, sk, &e) < 0) {
		log_error("%s", err_text(&e));
		_exit(EXIT_FAILED);
	}
	_exit(EXIT_OK);
}

static int service_run(const struct options *o, int listener, struct err *e)
{
	struct signalfd_siginfo si;
	unsigned children = 0;
	auto_fd int signals = -1;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || (signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return err_sys(e, -errno, "waiting for signals");
	for (;;) {
		/* Who finds no place waits in the backlog. */
		struct pollfd p[2] = { { signals, POLLIN, 0 }, { children < CHILDREN_MAX ? listener : -1, POLLIN, 0 } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(e, -errno, "waiting for connections");
		while (read(signals, &si, sizeof(si)) == sizeof(si))
			if (si.ssi_signo != SIGCHLD)
				return 0;
		children_reap(&children);
		if (p[1].revents)
			connection_take(o, listener, signals, &children);
	}
}

int action_service(struct options *o, struct err *e)
{
	const char *path = o->address ? o->address : ADDRESS_DEFAULT;
	auto_fd int listener = service_listen(path, e);
	pid_t parent = getpid();
	int r = listener;

	if (r >= 0 && o->daemon && daemon(1, 0) < 0)
		r = err_sys(e, -errno, "going to the background");
	if (r >= 0 && o->pidfile)
		r = pidfile_write(o->pidfile, getpid(), e);
	if (r >= 0)
		r = status_say(o, e);
	if (r >= 0)
		r = service_run(o, listener, e);
	if (listener >= 0 && (getpid() == parent || o->daemon))
		unlink(path);
	return r;
}

/* unix_make - names of unix sockets, and the calls whose maker the kernel writes down.
 *
 * bind() takes the name as a string and finds the folder from the caller's root and working folder.
 * So the engine changes these two for the moment of the call: to the container's root, to the folder
 * from which a recorded name leads to its node, or to an empty tmpfs of our own.
 *
 * Connecting goes by the node itself ("self/fd/N" below our own /proc, SIOCUNIXFILE), not by a name, which
 * may be gone or somebody else's.
 *
 * SO_PEERCRED: effective ids are taken on with SECBIT_NO_SETUID_FIXUP, so that the capabilities stay.
 * The process id is then the engine's, which reads as 0 in the container; unix_maker.c has the better way. */
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "cr/file/file.h"
#include "cr/guard.h"
#include "cr/sock/unix.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

/* ---- bind ---- */

struct place {
	int root, cwd; /* ours, to come back to */
};

static int place_enter(int root_fd, int cwd_fd, struct place *ret)
{
	struct place p;
	int saved;

	p.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	p.cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p.root < 0 || p.cwd < 0 || fchdir(root_fd) < 0 || chroot(".") < 0 || fchdir(cwd_fd) < 0) {
		saved = errno;
		if (p.root >= 0 && fchdir(p.root) == 0)
			(void)!chroot(".");
		if (p.cwd >= 0)
			(void)!fchdir(p.cwd);
		fd_close(&p.root);
		fd_close(&p.cwd);
		return -saved;
	}
	*ret = p;
	return 0;
}

static int place_leave(struct place *p)
{
	int r = 0;

	if (fchdir(p->root) < 0 || chroot(".") < 0 || fchdir(p->cwd) < 0)
		r = -errno;
	fd_close(&p->root);
	fd_close(&p->cwd);
	return r;
}

/* An empty file system that no path leads to. */
static int scratch_open(void)
{
	auto_fd int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int m;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	m = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return m < 0 ? -errno : m;
}

/* The folders above the last piece of a path, beneath dirfd. */
static int make_folders(int dirfd, const char *path)
{
	char piece[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	size_t n = strlen(path);

	for (size_t i = 1; i < n && n < sizeof(piece); i++) {
		size_t skip = strspn(path, "/");

		if (path[i] != '/' || i <= skip)
			continue;
		memcpy(piece, path + skip, i - skip);
		piece[i - skip] = 0;
		if (mkdirat(dirfd, piece, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int bind_aside(const char *name, int fd, const struct sockaddr_un *sa, socklen_t len)
{
	auto_fd int root = scratch_open();
	struct place p;
	int r, back;

	if (root < 0)
		return root;
	r = make_folders(root, name);
	if (r == 0)
		r = place_enter(root, root, &p);
	if (r < 0)
		return r;
	r = bind(fd, (const struct sockaddr *)sa, len) < 0 ? -errno : 0;
	if (r == 0 && unlink(name) < 0)
		r = -errno;
	back = place_leave(&p);
	return r < 0 ? r : back;
}

static int node_dress(struct restore *r, const struct usk *s, const char *name, struct err *e)
{
	const FilePermsEntry *p = s->u->file_perms;
	const struct idmap *m = restore_idmap(r, e);
	uid_t uid = 0;
	gid_t gid = 0;

	if (!p)
		return 0;
	if (!m)
		return e && e->code ? e->code : -EIO;
	if (idmap_uid_out(m, p->uid, &uid) < 0 || idmap_gid_out(m, p->gid, &gid) < 0)
		return err_set(e, -EINVAL, "the owner of unix socket %s is not mapped here", name);
	if (fchownat(AT_FDCWD, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(AT_FDCWD, name, p->mode & 07777, 0) < 0)
		return err_sys(e, -errno, "owner and mode of unix socket %s", name);
	return 0;
}

/* A node that was not there before goes again where the restore fails. */
static int node_guard(struct restore *r, const char *name, struct err *e)
{
	const char *slash = strrchr(name, '/');
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + 2];
	auto_fd int dir = -1;

	if (!r->opts)
		return 0;
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - name) + 1 : 1, slash ? name : ".");
	dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, -errno, "the folder of unix socket %s", name);
	return guard_add(&r->guard, "socket", slash ? slash + 1 : name, dir, e);
}

static int bind_in_place(struct restore *r, const struct usk *s, const char *name, int fd,
			 const struct sockaddr_un *sa, socklen_t len, struct err *e)
{
	const GwSockopt *ro = unix_own(s, UNIX_OWN_ROOT);
	auto_fd int root = -1, cwd = -1;
	struct place p;
	struct stat st;
	int ret, back;
	mode_t mask;

	if (ro && (!ro->value.len || ro->value.data[ro->value.len - 1]))
		return err_set(e, -EINVAL, "unix socket %s: its root makes no sense", name);
	root = fd_open_in_root(r->root_fd, ro ? (const char *)ro->value.data : "/", O_PATH | O_DIRECTORY, 0);
	cwd = fd_open_in_root(r->root_fd, s->u->name_dir ? s->u->name_dir : "/", O_PATH | O_DIRECTORY, 0);
	if (root < 0 || cwd < 0)
		return err_sys(e, root < 0 ? root : cwd, "the folder of unix socket %s", name);
	ret = place_enter(root, cwd, &p);
	if (ret < 0)
		return err_sys(e, ret, "the folder of unix socket %s", name);
	/* The node came with the disk; bind() wants to make it itself. */
	if (lstat(name, &st) == 0) {
		if (S_ISSOCK(st.st_mode) && unlink(name) < 0)
			ret = err_sys(e, -errno, "unix socket %s", name);
	} else {
		ret = node_guard(r, name, e);
	}
	/* Born with its mode: there is no moment at which a stranger may connect, or a kill leaves another one. */
	mask = umask(0077);
	if (s->u->file_perms)
		umask(~s->u->file_perms->mode & 0777);
	if (ret == 0 && bind(fd, (const struct sockaddr *)sa, len) < 0)
		ret = err_sys(e, -errno, "unix socket %s cannot be bound", name);
	umask(mask);
	if (ret == 0)
		ret = fault_at("unix", "bound", NULL, e);
	if (ret == 0)
		ret = node_dress(r, s, name, e);
	back = place_leave(&p);
	return ret < 0 || back == 0 ? ret : err_sys(e, back, "the engine's root folder");
}

int unix_bind(struct restore *r, const struct usk *s, int fd, bool aside, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char name[sizeof(sa.sun_path) + 1] = { 0 };
	socklen_t len;
	int ret;

	if (!s->u->name.len || s->u->name.len > sizeof(sa.sun_path))
		return err_set(e, -EINVAL, "a unix socket's name makes no sense");
	memcpy(sa.sun_path, s->u->name.data, s->u->name.len);
	memcpy(name, s->u->name.data, s->u->name.len);
	len = (socklen_t)(sizeof(sa_family_t) + s->u->name.len);
	if (!name[0]) {
		if (bind(fd, (struct sockaddr *)&sa, len) < 0)
			return err_sys(e, -errno, "unix socket @%s cannot be bound", name + 1);
		return 0;
	}
	if (!aside)
		return bind_in_place(r, s, name, fd, &sa, len, e);
	ret = bind_aside(name, fd, &sa, len);
	return ret < 0 ? err_sys(e, ret, "unix socket %s cannot be bound", name) : 0;
}

/* ---- in somebody's name ---- */

struct guise {
	bool on;
	int securebits;
};

static int guise_put_on(struct restore *r, const struct usk *as, struct guise *ret, struct err *e)
{
	const struct idmap *m;
	uid_t uid;
	gid_t gid;

	*ret = (struct guise){ 0 };
	if (!as || !as->x || !as->x->has_peer_uid || !as->x->has_peer_gid)
		return 0;
	m = restore_idmap(r, e);
	if (!m)
		return e && e->code ? e->code : -EIO;
	if (idmap_uid_out(m, as->x->peer_uid, &uid) < 0 || idmap_gid_out(m, as->x->peer_gid, &gid) < 0)
		return 0; /* it was a stranger, and stays one */
	ret->securebits = prctl(PR_GET_SECUREBITS);
	if (ret->securebits < 0 ||
	    prctl(PR_SET_SECUREBITS, ret->securebits | SECBIT_NO_SETUID_FIXUP) < 0)
		return err_sys(e, -errno, "cannot take on the credentials of a socket's maker");
	ret->on = true;
	if (syscall(SYS_setresgid, -1, gid, -1) < 0 || syscall(SYS_setresuid, -1, uid, -1) < 0)
		return err_sys(e, -errno, "cannot take on the credentials of a socket's maker");
	return 0;
}

/* The engine's real ids are root's and were never changed. */
static int guise_take_off(struct guise *g, struct err *e)
{
	if (!g->on)
		return 0;
	g->on = false;
	if (syscall(SYS_setresuid, -1, getuid(), -1) < 0 || syscall(SYS_setresgid, -1, getgid(), -1) < 0 ||
	    prctl(PR_SET_SECUREBITS, g->securebits) < 0)
		return err_sys(e, -errno, "cannot take back the engine's credentials");
	return 0;
}

int unix_listen(struct restore *r, const struct usk *as, int fd, int backlog, struct err *e)
{
	struct rtask *maker = unix_maker(r, as);
	struct guise g;
	int ret, off;

	if (maker && maker->agent && unix_maker_listen(maker, fd, backlog) >= 0)
		return 0;
	ret = guise_put_on(r, as, &g, e);
	if (ret == 0 && listen(fd, backlog) < 0)
		ret = err_sys(e, -errno, "a unix socket cannot listen");
	off = guise_take_off(&g, e);
	return ret < 0 ? ret : off;
}

int unix_socketpair(struct restore *r, const struct usk *as, int type, int ret_fds[2], struct err *e)
{
	struct rtask *maker = unix_maker(r, as);
	int ret, off, fds[2] = { -1, -1 };
	struct guise g;

	if (maker && maker->agent && unix_maker_socketpair(maker, type, ret_fds) >= 0)
		return 0;
	ret = guise_put_on(r, as, &g, e);
	if (ret == 0 && socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
		ret = err_sys(e, -errno, "unix socket");
	off = guise_take_off(&g, e);
	if (ret < 0 || off < 0) {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		return ret < 0 ? ret : off;
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

/* ---- connect ---- */

static int connect_by_node(struct restore *r, int c, int node)
{
	auto_fd int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int ret;

	if (cwd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "self/fd/%d", node);
	if (fchdir(r->proc_fd) < 0)
		return -errno;
	ret = connect(c, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	if (fchdir(cwd) < 0)
		return -errno;
	return ret;
}

int unix_connect(struct restore *r, const struct usk *as, int c, int to, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct rtask *maker = unix_maker(r, as);
	socklen_t len = sizeof(sa);
	auto_fd int node = -1;
	struct guise g;
	int ret, off;

	if (getsockname(to, (struct sockaddr *)&sa, &len) < 0)
		return err_sys(e, -errno, "unix socket");
	if (len <= sizeof(sa_family_t) || sa.sun_path[0]) {
		node = ioctl(to, SIOCUNIXFILE);
		if (node < 0)
			return err_sys(e, -errno, "the node of a unix socket");
	}
	ret = fd_set_nonblock(c, 1);
	if (ret < 0)
		return err_sys(e, ret, "unix socket");
	if (maker && maker->agent && unix_maker_connect(maker, c, &sa, len, node) >= 0)
		return fd_set_nonblock(c, 0);
	ret = guise_put_on(r, as, &g, e);
	if (ret == 0) {
		if (node < 0)
			ret = connect(c, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
		else
			ret = connect_by_node(r, c, node);
		if (ret < 0)
			err_sys(e, ret, "a unix socket cannot be connected again");
	}
	off = guise_take_off(&g, e);
	(void)fd_set_nonblock(c, 0);
	return ret < 0 ? ret : off;
}

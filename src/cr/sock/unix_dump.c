/* unix_dump - unix sockets, the reading half (unix_queue.c has their queues, unix_restore.c the rest).
 *
 * State: type, bound name and node, backlog, peer, directions shut down, whose credentials the kernel
 * recorded (SO_PEERCRED), options, and what waits to be read.  Read: sock_diag for the relations,
 * SIOCUNIXFILE (Linux 4.19) for the node, whatever path leads to it today, getsockopt for the rest.
 *
 * Refused: a peer in another network namespace that is not in the tree (somebody outside).  A peer in the
 * container's namespace that nobody in the tree holds belongs to a task that is left out: for
 * the socket that travels it has been closed.
 * "Try again": data sent on a connection that was not accepted yet sits in a socket without an inode, which
 * only accept() can reach. */
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/sock/sock.h"
#include "cr/sock/unix.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

/* Where a path-bound socket's node is, and how the name it was bound by leads there. */
struct node {
	bool deleted;
	uint32_t mode, uid, gid;
	char *root; /* the name is absolute, seen from this folder; NULL: from the container's root */
	char *dir;  /* the name is relative, seen from this folder; NULL: it is absolute */
};

static void node_done(struct node *n)
{
	free(n->root);
	free(n->dir);
	*n = (struct node){ 0 };
}

static bool unix_recognise(const struct ofile *f)
{
	return sock_domain(f) == AF_UNIX;
}

/* The path the kernel prints for the node behind fd, without " (deleted)"; NULL: no memory. */
static char *node_path(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return NULL;
	path[n] = 0;
	return strdup(path);
}

static bool node_at(struct dump *d, const char *path, const struct stat *want)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == want->st_dev && st.st_ino == want->st_ino;
}

/* Finds the folder from which `name` leads to `path`: what is in front of it. */
static char *node_prefix(const char *path, const char *name)
{
	size_t pl = strlen(path), nl;

	while (name[0] == '.' && name[1] == '/')
		for (name += 2; *name == '/'; name++)
			;
	while (*name == '/')
		name++;
	nl = strlen(name);
	if (!nl || pl < nl + 1 || strcmp(path + pl - nl, name) != 0 || path[pl - nl - 1] != '/')
		return NULL;
	return pl == nl + 1 ? strdup("/") : strndup(path, pl - nl - 1);
}

/* An accepted socket has the name and the node of the listener, which is there to tell of them. */
bool unix_is_accepted(struct dump *d, const struct udiag_sock *u)
{
	const struct udiag *all = sock_unix_list(d);

	if (u->type == SOCK_DGRAM || u->state != TCP_ESTABLISHED)
		return false;
	for (size_t i = 0; i < udiag_listeners(all); i++) {
		const struct udiag_sock *l = udiag_listener(all, i);

		if (l->node_ino == u->node_ino && l->name_len == u->name_len && !memcmp(l->name, u->name, u->name_len))
			return true;
	}
	return false;
}

/* 1: filled; 0: not bound to a node. */
static int node_read(struct dump *d, struct ofile *f, const struct udiag_sock *u, struct node *ret,
		     struct err *e)
{
	const struct idmap *m = dump_idmap(d, e);
	char name[sizeof(u->name) + 1] = { 0 };
	auto_free char *path = NULL;
	auto_fd int fd = -1;
	struct stat st;

	*ret = (struct node){ 0 };
	if (!m)
		return e && e->code ? e->code : -EIO;
	if (!u->name_len || !u->name[0] || !u->bound_node || unix_is_accepted(d, u))
		return 0;
	memcpy(name, u->name, u->name_len);
	fd = ioctl(f->lfd, SIOCUNIXFILE);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "the node that unix socket %s is bound to cannot be opened", name);
	ret->mode = st.st_mode & 07777;
	(void)idmap_uid_in(m, st.st_uid, &ret->uid);
	(void)idmap_gid_in(m, st.st_gid, &ret->gid);
	ret->deleted = st.st_nlink == 0;
	if (ret->deleted)
		return 1;
	if (name[0] == '/' && node_at(d, name, &st))
		return 1;
	path = node_path(fd);
	if (!path || !node_at(d, path, &st))
		return err_set(e, -EOPNOTSUPP, "unix socket %s is bound to a node that the container's root "
			       "does not lead to", name);
	if (name[0] == '/')
		ret->root = node_prefix(path, name);
	else
		ret->dir = node_prefix(path, name);
	if (!ret->root && !ret->dir)
		return err_set(e, -EOPNOTSUPP, "unix socket %s is bound at %s: its name does not lead there "
			       "any more", name, path);
	return 1;
}

static bool unix_type_known(int type)
{
	return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET;
}

/* A peer that the list of the namespace does not know.  The list was read while the tree ran, so
 * it is asked once more. */
static int unix_peer_is_outside(struct dump *d, struct ofile *f, bool *ret, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	const struct udiag_sock *u = udiag_find(sock_unix_list(d), (uint32_t)f->st.st_ino);
	struct udiag *again = NULL;
	auto_fd int diag = -1;
	int r;

	*ret = false;
	if (u && (!u->peer || udiag_find(sock_unix_list(d), u->peer)))
		return 0;
	diag = sock_diag_open(s->netns_fd);
	if (diag < 0)
		return err_sys(e, diag, "cannot enter the container's network namespace");
	r = udiag_read(diag, &again, e);
	if (r < 0)
		return r;
	u = udiag_find(again, (uint32_t)f->st.st_ino);
	*ret = u && u->peer && !udiag_find(again, u->peer);
	udiag_free(again);
	return 0;
}

static int unix_check(struct dump *d, struct ofile *f, struct err *e)
{
	const struct udiag_sock *u;
	struct err why = { 0 };
	bool outside;
	struct node n;
	int type = 0, r;

	r = sock_check(d, f, e);
	if (r < 0)
		return r;
	(void)sock_get_int(f->lfd, SOL_SOCKET, SO_TYPE, &type);
	if (!unix_type_known(type))
		return ofile_refuse(d, f, "unix socket", "its type %d is not known", type);
	r = unix_peer_is_outside(d, f, &outside, e);
	if (r < 0)
		return r;
	if (outside && !d->opts)
		return ofile_refuse(d, f, "unix socket", "it is connected to a process outside of the container");
	u = udiag_find(sock_unix_list(d), (uint32_t)f->st.st_ino);
	if (!u)
		return 0; /* made since the list was read */
	r = node_read(d, f, u, &n, &why);
	node_done(&n);
	if (r == -EOPNOTSUPP)
		return ofile_refuse(d, f, "unix socket", "%s", err_text(&why));
	return unix_outside_check(d, f, u, e);
}

/* ---- capture ---- */

static int unix_add_u32(GwSockExtra *x, int name, uint32_t v)
{
	return gw_sock_add(x, GW_LEVEL_OWN, name, &v, sizeof(v));
}

static void unix_peercred(struct dump *d, struct ofile *f, GwSockExtra *x)
{
	const struct idmap *m = dump_idmap(d, NULL);
	struct ucred c;
	socklen_t len = sizeof(c);
	struct task *t;

	if (!m || getsockopt(f->lfd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0 || c.uid == (uid_t)-1)
		return;
	/* An id from outside of the container has no number inside: it reads as "nobody" there too. */
	x->has_peer_uid = x->has_peer_gid = true;
	(void)idmap_uid_in(m, c.uid, &x->peer_uid);
	(void)idmap_gid_in(m, c.gid, &x->peer_gid);
	t = c.pid > 0 ? dump_task_by_pid(d, c.pid) : NULL;
	if (t) {
		x->has_peer_pid = true;
		x->peer_pid = (uint32_t)t->nspid;
	}
}

static bool sock_error_pending(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* Connections that wait in a backlog come back by connecting again, if nothing was sent on them. */
static int unix_check_backlog(struct dump *d, const struct udiag_sock *u, struct err *e)
{
	for (size_t i = 0; i < u->n_icons; i++) {
		struct ofile *c = sock_by_ino(d, u->icons[i]);
		int unread = 0;

		if (!u->icons[i])
			return err_set(e, -EAGAIN, "a unix socket has a connection in its backlog that was "
				       "closed before it was accepted; try again in a moment");
		if (!c)
			continue; /* of a task that is left out, or outside (unix_outside.c) */
		if (ioctl(c->lfd, SIOCOUTQ, &unread) < 0 || unread > 0)
			return err_set(e, -EAGAIN, "data was sent on a unix connection that is not accepted yet; "
				       "try again in a moment");
	}
	return 0;
}

static int unix_extra(struct dump *d, struct ofile *f, const struct udiag_sock *u, const struct node *n,
		      GwSockExtra *x)
{
	const struct udiag_sock *l;
	int r = 0;

	unix_peercred(d, f, x);
	if (n->root)
		r = gw_sock_add(x, GW_LEVEL_OWN, UNIX_OWN_ROOT, n->root, strlen(n->root) + 1);
	if (r == 0 && u->type != SOCK_DGRAM && u->state == TCP_ESTABLISHED && !u->peer) {
		l = udiag_listener_of(sock_unix_list(d), u->ino);
		if (l)
			r = unix_add_u32(x, UNIX_OWN_WAITS_AT, l->ino);
	}
	if (r == 0 && u->has_peer)
		r = unix_add_u32(x, UNIX_OWN_HAD_PEER, 1);
	if (r == 0 && sock_error_pending(f->lfd))
		r = unix_add_u32(x, UNIX_OWN_ERROR, 1);
	return r;
}

static int unix_put(struct dump *d, struct ofile *f, const struct udiag_sock *u, const struct node *n, uint32_t peer,
		    SkOptsEntry *o, GwSockExtra *x, struct err *e)
{
	UnixSkEntry usk = UNIX_SK_ENTRY__INIT;
	FilePermsEntry perms = FILE_PERMS_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;
	int r;

	r = fown_read(d, f, &fown, e);
	if (r < 0)
		return r;
	usk.id = f->id;
	usk.ino = u->ino;
	usk.type = u->type;
	usk.state = u->state;
	usk.flags = f->flags;
	usk.backlog = u->state == TCP_LISTEN ? u->wqueue : 0;
	usk.peer = peer;
	usk.fown = &fown;
	usk.opts = o;
	usk.name.data = (uint8_t *)u->name;
	usk.name.len = u->name_len;
	usk.has_shutdown = true;
	usk.shutdown = (SkShutdown)(u->shutdown & 3);
	if (u->bound_node && !unix_is_accepted(d, u)) {
		perms.mode = n->mode;
		perms.uid = n->uid;
		perms.gid = n->gid;
		usk.file_perms = &perms;
		usk.has_deleted = true;
		usk.deleted = n->deleted;
		usk.name_dir = n->dir;
	}
	fe.usk = &usk;
	r = ofile_put(d, f, &fe, e);
	if (r < 0)
		return r;
	return sink_put(d->sink, REC_GW_SOCK, f->id, &x->base, e);
}

static int unix_capture(struct dump *d, struct ofile *f, struct err *e)
{
	const struct udiag_sock *u = udiag_find(sock_unix_list(d), (uint32_t)f->st.st_ino);
	uint32_t peer, again = 0;
	GwSockExtra *x = NULL;
	SkOptsEntry o;
	struct node n;
	int r;

	if (!u)
		return err_set(e, -EOPNOTSUPP, "a unix socket (inode %llu) is not in the container's network "
			       "namespace", (unsigned long long)f->st.st_ino);
	if (u->state == TCP_LISTEN) {
		r = unix_check_backlog(d, u, e);
		if (r < 0)
			return r;
	}
	r = unix_outside_put(d, f, u, &again, e);
	if (r < 0)
		return r;
	peer = again ? again : u->peer;
	r = node_read(d, f, u, &n, e);
	if (r < 0)
		return r;
	r = sock_opts_read(d, f, &o, &x, e);
	if (r < 0) {
		node_done(&n);
		return r;
	}
	r = unix_extra(d, f, u, &n, x);
	if (r < 0)
		err_sys(e, r, "a unix socket");
	else
		r = unix_put(d, f, u, &n, peer, &o, x, e);
	sock_opts_done(&o);
	gw_sock_extra__free_unpacked(x, NULL);
	node_done(&n);
	/* What a connection that begins anew had received belongs to the old one. */
	if (r < 0 || u->state == TCP_LISTEN || (again && u->type != SOCK_DGRAM))
		return r;
	return unix_queue_capture(d, f, u, e);
}

int unix_dump_verify(struct dump *d, struct err *e)
{
	for (size_t i = 0; i < d->n_ofiles; i++) {
		const struct ofile *f = d->ofiles[i];
		const struct udiag_sock *u;

		if (f->kind != &file_kind_unix)
			continue;
		u = udiag_find(sock_unix_list(d), (uint32_t)f->st.st_ino);
		if (u && d->opts) {
			int r = unix_outside_verify(d, f, u, e);

			if (r < 0)
				return r;
			continue;
		}
		if (!u || !u->peer || sock_by_ino(d, u->peer))
			continue;
		if (!udiag_find(sock_unix_list(d), u->peer))
			return err_set(e, -EOPNOTSUPP, "process %d, fd %d: unix socket connected to a process "
				       "outside of the container", f->task ? f->task->nspid : 0, f->fd);
		log_info("unix socket of process %d, fd %d: its peer stays behind and will be gone",
			 f->task ? f->task->nspid : 0, f->fd);
	}
	return 0;
}

const struct file_kind file_kind_unix = {
	.name = "unix socket",
	.type = FD_TYPES__UNIXSK,
	.first = true,
	.recognise = unix_recognise,
	.check = unix_check,
	.capture = unix_capture,
	.load = unix_load,
	.build = unix_build,
	.placed = unix_placed,
};

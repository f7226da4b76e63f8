/* unix_outside - unix sockets of a checkpoint's tree whose far end somebody outside of the tree has.
 *
 * Carried on demand only, and by its name: a client of a stream or packet server, and a datagram socket that is
 * connected, call the same name again at the restore (--ext-unix-sk, at both).  What the old connection had not been read
 * of is lost with it, with a line in the log.  The far end stands in the image as a socket of its own, marked as CRIU
 * does, which nobody of the tree holds.
 *
 * One that has no name to be called by (a socketpair, a client of a server in the tree) can be let go
 * (--external unix[INO], by either end's inode): to the tree its far end has closed.
 *
 * All others are refused, and so are connections from outside that wait at a listener of the tree, but with
 * --skip-in-flight. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define EXTERN 1u /* unix_sk_entry.uflags */

/* ---- dump ---- */

struct far {
	uint32_t ino; /* of the far end, or of the listener it waits at */
	struct sockaddr_un sa;
	socklen_t len; /* of the name; 0: none */
};

/* Somebody else's; *ret is what is known of it. */
static bool far_is_outside(struct dump *d, const struct ofile *f, const struct udiag_sock *u, struct far *ret)
{
	const struct udiag_sock *l = NULL;
	socklen_t len = sizeof(ret->sa);

	*ret = (struct far){ .ino = u->peer };
	if (!u->peer && u->type != SOCK_DGRAM && u->state == TCP_ESTABLISHED) {
		l = udiag_listener_of(sock_unix_list(d), u->ino);
		ret->ino = l ? l->ino : 0;
	}
	if (!ret->ino || sock_by_ino(d, ret->ino))
		return false;
	if (getpeername(f->lfd, (struct sockaddr *)&ret->sa, &len) == 0 && len > sizeof(sa_family_t) &&
	    len <= sizeof(ret->sa))
		ret->len = len;
	return true;
}

static const char *name_text(const struct sockaddr_un *sa, socklen_t len, char ret[112])
{
	int n = (int)(len - sizeof(sa_family_t));

	if (sa->sun_path[0])
		snprintf(ret, 112, "%.*s", n, sa->sun_path);
	else
		snprintf(ret, 112, "@%.*s", n - 1, sa->sun_path + 1);
	return ret;
}

static bool is_named(const struct cr_opts *o, uint32_t ino)
{
	char key[32];

	snprintf(key, sizeof(key), "unix[%u]", ino);
	for (size_t i = 0; i < o->externals.n; i++)
		if (strcmp(o->externals.v[i].key, key) == 0)
			return true;
	return false;
}

static bool is_let_go(const struct dump *d, const struct udiag_sock *u, const struct far *far)
{
	return is_named(d->opts, u->ino) || is_named(d->opts, far->ino);
}

/* NULL: calling its name leads to it. */
static const char *why_not_again(struct dump *d, const struct udiag_sock *u, const struct far *far)
{
	char path[sizeof(far->sa.sun_path) + 1] = { 0 };
	auto_fd int node = -1;
	struct stat st;

	if (!far->len)
		return "its far end has no name to be called by";
	if (u->type != SOCK_DGRAM && unix_is_accepted(d, u))
		return "the far end has called it, and would have to call again";
	memcpy(path, far->sa.sun_path, far->len - sizeof(sa_family_t));
	if (!path[0])
		return NULL;
	if (path[0] != '/')
		return "its far end's name is not absolute";
	node = fd_open_in_root(d->root_fd, path, O_PATH, 0);
	return node < 0 || fstat(node, &st) < 0 || !S_ISSOCK(st.st_mode) ?
		       "its far end's name does not lead to a socket any more" :
		       NULL;
}

static int waiting_check(struct dump *d, struct ofile *f, const struct udiag_sock *u)
{
	size_t n = 0;
	int r;

	for (size_t i = 0; i < u->n_icons; i++)
		n += u->icons[i] && !sock_by_ino(d, u->icons[i]);
	if (!n)
		return 0;
	if (d->opts->skip_in_flight) {
		if (!d->check_only)
			log_warn("process %d, fd %d: %zu connections from outside that wait to be accepted are left out",
				 f->task ? f->task->nspid : 0, f->fd, n);
		return 0;
	}
	r = ofile_refuse(d, f, "unix connections not accepted", "%zu from outside of the tree wait; --skip-in-flight "
			 "drops them", n);
	d->n_passing += r >= 0;
	return r;
}

#define WHY_MAX 400

static bool is_refused(struct dump *d, const struct udiag_sock *u, const struct far *far, char ret[WHY_MAX])
{
	const char *why;
	char text[112];

	if (is_let_go(d, u, far))
		return false;
	why = why_not_again(d, u, far);
	if (why)
		snprintf(ret, WHY_MAX, "it is connected to somebody outside of the tree, and %s; --external unix[%u] lets it "
			 "be disconnected", why, u->ino);
	else
		snprintf(ret, WHY_MAX, "it is connected to %s, outside of the tree; --ext-unix-sk connects it again",
			 name_text(&far->sa, far->len, text));
	return why || !d->opts->ext_unix_sk;
}

int unix_outside_check(struct dump *d, struct ofile *f, const struct udiag_sock *u, struct err *e)
{
	char why[WHY_MAX];
	struct far far;

	/* Whom something in flight belongs to is not known yet: unix_outside_verify has the last word. */
	if (!d->opts || sock_in_flight(d))
		return 0;
	if (u->state == TCP_LISTEN)
		return waiting_check(d, f, u);
	if (!far_is_outside(d, f, u, &far) || !is_refused(d, u, &far, why))
		return 0;
	return ofile_refuse(d, f, "unix socket", "%s", why);
}

int unix_outside_verify(struct dump *d, const struct ofile *f, const struct udiag_sock *u, struct err *e)
{
	const struct sock_dump *s = sock_dump_of(d);
	char why[WHY_MAX];
	struct far far;

	for (size_t i = 0; i < s->n_outside; i++)
		if (s->outside[i] == u->ino)
			return err_set(e, -EAGAIN, "a unix socket is on its way from process to process; try again in a "
				       "moment");
	if (u->state == TCP_LISTEN || !far_is_outside(d, f, u, &far) || !is_refused(d, u, &far, why))
		return 0;
	return err_set(e, -EOPNOTSUPP, "process %d, fd %d: unix socket: %s", f->task ? f->task->nspid : 0, f->fd, why);
}

/* One record for each far end, however many are connected to it. */
static int far_put(struct dump *d, const struct udiag_sock *u, const struct far *far, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	UnixSkEntry usk = UNIX_SK_ENTRY__INIT;
	SkOptsEntry opts = SK_OPTS_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;

	for (size_t i = 0; i < s->n_outside; i++)
		if (s->outside[i] == far->ino)
			return 0;
	if (array_grow(s->outside, s->n_outside, s->cap_outside) < 0)
		return err_sys(e, -ENOMEM, "unix sockets");
	s->outside[s->n_outside++] = far->ino;
	usk.id = fe.id = d->next_file_id++;
	usk.ino = far->ino;
	usk.type = u->type;
	usk.state = u->type == SOCK_DGRAM ? TCP_CLOSE : TCP_LISTEN;
	usk.uflags = EXTERN;
	usk.fown = &fown;
	usk.opts = &opts;
	usk.name.data = (uint8_t *)far->sa.sun_path;
	usk.name.len = far->len - sizeof(sa_family_t);
	fe.type = FD_TYPES__UNIXSK;
	fe.usk = &usk;
	return sink_put(d->sink, REC_FILES, fe.id, &fe.base, e);
}

int unix_outside_put(struct dump *d, struct ofile *f, const struct udiag_sock *u, uint32_t *ret_ino, struct err *e)
{
	pid_t pid = f->task ? f->task->nspid : 0;
	char why[WHY_MAX];
	struct far far;
	char text[112];

	if (!d->opts || u->state == TCP_LISTEN || !far_is_outside(d, f, u, &far))
		return 0;
	if (is_let_go(d, u, &far)) {
		log_warn("process %d, fd %d: the far end of a unix socket, outside of the tree, is left out (--external)", pid,
			 f->fd);
		return 0;
	}
	if (is_refused(d, u, &far, why))
		return 0; /* unix_outside_verify says so, if it still is so when all is known */
	name_text(&far.sa, far.len, text);
	if (u->type != SOCK_DGRAM && u->rqueue)
		log_warn("process %d, fd %d: %u bytes that came from %s are left out", pid, f->fd, u->rqueue, text);
	log_info("process %d, fd %d: a unix socket will be connected to %s again", pid, f->fd, text);
	*ret_ino = far.ino;
	return far_put(d, u, &far, e);
}

/* ---- restore ---- */

bool unix_is_outside(const struct usk *s)
{
	return s->u->uflags & EXTERN;
}

int unix_outside_load(struct restore *r, const struct usk *s, struct err *e)
{
	char text[112];

	if (!unix_is_outside(s))
		return 0;
	if (s->u->name.len < 1 || s->u->name.len > sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(e, -EINVAL, "file %u: a unix socket outside of the tree has no name", s->f->id);
	if (r->opts && r->opts->ext_unix_sk)
		return 0;
	snprintf(text, sizeof(text), "%s%.*s", s->u->name.data[0] ? "" : "@", (int)s->u->name.len - !s->u->name.data[0],
		 (const char *)s->u->name.data + !s->u->name.data[0]);
	return err_set(e, -EINVAL, "the image has a connection to the unix socket %s outside of the tree; --ext-unix-sk "
		       "connects it again", text);
}

/* Nobody gets it; it stands for the one outside. */
int unix_outside_build(struct usk *s, struct err *e)
{
	s->f->fd = socket(AF_UNIX, (int)s->u->type | SOCK_CLOEXEC, 0);
	if (s->f->fd < 0)
		return err_sys(e, -errno, "unix socket");
	s->made = true;
	return 0;
}

/* By the process that has it, whom the other end then sees; its own root leads to the name. */
int unix_outside_connect(struct restore *r, struct usk *s, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const ProtobufCBinaryData *name = &s->outside->u->name;
	socklen_t len = (socklen_t)(sizeof(sa_family_t) + name->len);
	struct rtask *t = s->f->task;
	char text[112];
	int ret;

	memcpy(sa.sun_path, name->data, name->len);
	name_text(&sa, len, text);
	if (!t || !t->agent)
		return err_set(e, -EOPNOTSUPP, "the unix socket that was connected to %s has nobody who could connect it "
			       "again", text);
	ret = fd_set_nonblock(s->f->fd, 1);
	if (ret == 0)
		ret = unix_maker_connect(t, s->f->fd, &sa, len, -1);
	(void)fd_set_nonblock(s->f->fd, 0);
	return ret < 0 ? err_sys(e, ret, "process %d cannot connect to the unix socket %s again, which is outside of the "
				 "tree", t->nspid, text) :
			 0;
}

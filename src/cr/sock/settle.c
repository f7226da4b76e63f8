/* settle - the moment after the freeze: what cannot be carried and passes by itself.
 *
 * TCP connections and unix connections with data that wait to be accepted, messages in a netlink socket's
 * queue: the tree is let run on for a few milliseconds, with its listeners deaf to new TCP connections (deaf.c), and
 * frozen again, until they are gone or it has been tried often enough.
 *
 * Handshakes that have begun, and connections that the tree has closed already, whose last bytes are still
 * on their way, need no thaw: the kernel goes on with them as long as the link is not silenced.  They get
 * a few milliseconds; what is not acknowledged by then is lost with them.
 *
 * In a network that the tree shares with others only its own listeners and sockets count (owned.h); connections that it
 * has closed already are nobody's there, and none of ours. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/file/file.h"
#include "cr/hold.h"
#include "cr/ns/ns.h"
#include "cr/sock/owned.h"
#include "cr/sock/sock.h"

#define LINGER_TRIES 20
#define LINGER_STEP_US 1000
#define SETTLE_TRIES 20
#define SETTLE_STEP_US 5000
#define FREEZE_MS 10000

/* What is looked at: all sockets of a namespace, or (mine) those of one tree. */
struct view {
	int diag;
	const struct owned *mine;
};

static bool view_has(const struct view *v, uint32_t ino)
{
	return !v->mine || owned_find(v->mine, ino);
}

static int settle_unix(const struct view *v, struct err *e)
{
	struct udiag *u = NULL;
	int r = udiag_read(v->diag, &u, e);

	for (size_t i = 0; r == 0 && i < udiag_count(u); i++) {
		const struct udiag_sock *l = udiag_at(u, i);

		for (size_t k = 0; k < l->n_icons && view_has(v, l->ino); k++) {
			const struct udiag_sock *c = udiag_find(u, l->icons[k]);

			if (!c || c->wqueue)
				r = err_set(e, -EAGAIN, "data waits on a unix connection that is not accepted yet");
		}
	}
	udiag_free(u);
	return r;
}

static bool is_at_listener(const struct view *v, const struct idiag *t, uint16_t port)
{
	for (size_t i = 0; i < idiag_count(t); i++) {
		const struct idiag_sock *s = idiag_at(t, i);

		if (s->state == TCP_LISTEN && s->sport == port && view_has(v, s->ino))
			return true;
	}
	return false;
}

/* *ret_lingering: handshakes that have begun, closed connections with data that is not acknowledged. */
static int settle_tcp(const struct view *v, int family, bool *ret_lingering, struct err *e)
{
	struct idiag *t = NULL;
	int r = idiag_read(v->diag, family, IPPROTO_TCP,
			   1u << TCP_LISTEN | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSING | 1u << TCP_LAST_ACK, &t, e);

	for (size_t i = 0; r == 0 && i < idiag_count(t); i++) {
		const struct idiag_sock *s = idiag_at(t, i);

		if (s->state == TCP_LISTEN && s->rqueue && view_has(v, s->ino))
			r = err_set(e, -EAGAIN, "%u connections wait at port %u to be accepted", s->rqueue,
				    s->sport);
		else if (s->state == TCP_SYN_RECV ? is_at_listener(v, t, s->sport) :
						    s->state != TCP_LISTEN && !v->mine && !s->ino && s->wqueue)
			*ret_lingering = true;
	}
	idiag_free(t);
	return r;
}

/* The fifth column of /proc/net/netlink is what waits to be read, the tenth the inode. */
static int settle_netlink(const struct view *v, pid_t pid, struct err *e)
{
	auto_free char *text = NULL;
	char path[64], *save = NULL;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/net/netlink", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL);
	if (r < 0)
		return r == -EFBIG ? 0 : err_sys(e, r, "%s", path);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		unsigned waiting;
		uint32_t ino;

		if (sscanf(l, "%*s %*s %*s %*s %u %*s %*s %*s %*s %u", &waiting, &ino) == 2 && waiting &&
		    view_has(v, ino))
			return err_set(e, -EAGAIN, "messages wait in a netlink socket");
	}
	return 0;
}

static int settle_once(struct dump *d, const struct view *v, struct err *e)
{
	bool lingering;
	int r = 0;

	for (int i = 0; i < LINGER_TRIES; i++) {
		lingering = false;
		r = settle_tcp(v, AF_INET, &lingering, e);
		if (r == 0)
			r = settle_tcp(v, AF_INET6, &lingering, e);
		if (r < 0 || !lingering)
			break;
		usleep(LINGER_STEP_US);
	}
	if (r == 0)
		r = settle_unix(v, e);
	return r < 0 ? r : settle_netlink(v, d->root_pid, e);
}

/* Lives in the part's data from here on, so that the listeners hear again whatever happens. */
static struct sock_dump *dump_begin(struct dump *d)
{
	size_t at = cr_part_index(&cr_part_sock);
	struct sock_dump *s = d->part_data[at];

	if (!s) {
		s = calloc(1, sizeof(*s));
		if (s)
			s->netns_fd = s->diag = -1;
		d->part_data[at] = s;
	}
	return s;
}

/* Until nothing waits any more, or it has been tried often enough; the tree stands afterwards. */
static int settle_all(struct dump *d, int diag, struct owned *mine, struct err *e)
{
	bool shared = !(d->ns & CLONE_NEWNET);
	struct view v = { diag, shared ? mine : NULL };
	int r = 0;

	for (int i = 0;; i++) {
		r = settle_once(d, &v, e);
		if (r != -EAGAIN || i == SETTLE_TRIES)
			break;
		r = hold_go(d->hold, FREEZE_MS, e);
		usleep(SETTLE_STEP_US);
		if (r >= 0)
			r = hold_stop(d->hold, FREEZE_MS, e);
		if (r >= 0 && shared) {
			owned_done(mine);
			r = owned_read(d->root_pid, mine);
		}
		if (r < 0)
			return r;
	}
	if (r == -EAGAIN)
		log_info("%s still; it is not waited for any longer", err_text(e));
	return r == -EAGAIN ? 0 : r;
}

int sock_settled(struct dump *d, struct err *e)
{
	struct owned mine = { 0 };
	struct sock_dump *s;
	auto_fd int ns = -1, diag = -1;
	char path[64];
	int r = 0;

	/* Nothing of this stands against a move. */
	if (d->check_only)
		return 0;
	s = dump_begin(d);
	if (!s)
		return err_sys(e, -ENOMEM, "sockets");
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)d->root_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return err_sys(e, -errno, "%s", path);
	diag = sock_diag_open(ns);
	if (diag < 0)
		return err_sys(e, diag, "cannot enter the container's network namespace");
	if (d->cgroup_fd < 0 || !(d->ns & CLONE_NEWNET)) {
		r = owned_read(d->root_pid, &mine);
		if (r < 0)
			return err_sys(e, r, "the sockets of the tree");
		if (!mine.n)
			return 0;
	}
	r = deaf_begin(&s->deaf, d->cgroup_fd, &mine, diag);
	r = r < 0 ? err_sys(e, r, "listening sockets") : settle_all(d, diag, &mine, e);
	owned_done(&mine);
	return r;
}

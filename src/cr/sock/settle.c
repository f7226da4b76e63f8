/* settle - the moment after the freeze: what cannot be carried and passes by itself.
 *
 * TCP connections and unix connections with data that wait to be accepted, messages in a netlink socket's
 * queue: the tree is let run on for a few milliseconds, with its listeners deaf to new TCP connections (deaf.c), and
 * frozen again, until they are gone or it has been tried often enough.
 *
 * Handshakes that have begun, and connections that the tree has closed already, whose last bytes are still
 * on their way, need no thaw: the kernel goes on with them as long as the link is not silenced.  They get
 * a few milliseconds; what is not acknowledged by then is lost with them. */
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
#include "cr/sock/sock.h"

#define LINGER_TRIES 20
#define LINGER_STEP_US 1000
#define SETTLE_TRIES 20
#define SETTLE_STEP_US 5000
#define FREEZE_MS 10000

static int settle_unix(int diag, struct err *e)
{
	struct udiag *u = NULL;
	int r = udiag_read(diag, &u, e);

	for (size_t i = 0; r == 0 && i < udiag_count(u); i++) {
		const struct udiag_sock *l = udiag_at(u, i);

		for (size_t k = 0; k < l->n_icons; k++) {
			const struct udiag_sock *c = udiag_find(u, l->icons[k]);

			if (!c || c->wqueue)
				r = err_set(e, -EAGAIN, "data waits on a unix connection that is not accepted yet");
		}
	}
	udiag_free(u);
	return r;
}

/* *ret_lingering: handshakes that have begun, closed connections with data that is not acknowledged. */
static int settle_tcp(int diag, int family, bool *ret_lingering, struct err *e)
{
	struct idiag *t = NULL;
	int r = idiag_read(diag, family, IPPROTO_TCP,
			   1u << TCP_LISTEN | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSING | 1u << TCP_LAST_ACK, &t, e);

	for (size_t i = 0; r == 0 && i < idiag_count(t); i++) {
		const struct idiag_sock *s = idiag_at(t, i);

		if (s->state == TCP_LISTEN && s->rqueue)
			r = err_set(e, -EAGAIN, "%u connections wait at port %u to be accepted", s->rqueue,
				    s->sport);
		else if (s->state == TCP_SYN_RECV ||
			 (s->state != TCP_LISTEN && !s->ino && s->wqueue))
			*ret_lingering = true;
	}
	idiag_free(t);
	return r;
}

/* The fifth column of /proc/net/netlink is what waits to be read. */
static int settle_netlink(pid_t pid, struct err *e)
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

		if (sscanf(l, "%*s %*s %*s %*s %u", &waiting) == 1 && waiting)
			return err_set(e, -EAGAIN, "messages wait in a netlink socket");
	}
	return 0;
}

static int settle_once(struct dump *d, int diag, struct err *e)
{
	bool lingering;
	int r = 0;

	for (int i = 0; i < LINGER_TRIES; i++) {
		lingering = false;
		r = settle_tcp(diag, AF_INET, &lingering, e);
		if (r == 0)
			r = settle_tcp(diag, AF_INET6, &lingering, e);
		if (r < 0 || !lingering)
			break;
		usleep(LINGER_STEP_US);
	}
	if (r == 0)
		r = settle_unix(diag, e);
	return r < 0 ? r : settle_netlink(d->root_pid, e);
}

/* Lives in the part's data from here on, so that the listeners hear again whatever happens. */
static struct sock_dump *dump_begin(struct dump *d)
{
	size_t at = cr_part_index(&cr_part_sock);
	struct sock_dump *s = d->part_data[at];

	if (!s) {
		s = calloc(1, sizeof(*s));
		if (s)
			s->netns_fd = -1;
		d->part_data[at] = s;
	}
	return s;
}

int sock_settled(struct dump *d, struct err *e)
{
	struct sock_dump *s;
	auto_fd int ns = -1, diag = -1;
	char path[64];
	int r = 0;

	/* Nothing of this stands against a move; and in a network that is not the tree's own it would be the
	 * affairs of others that we wait for. */
	if (d->check_only || !(d->ns & CLONE_NEWNET))
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
	r = deaf_begin(&s->deaf, d->cgroup_fd, diag);
	if (r < 0)
		return err_sys(e, r, "listening sockets");
	for (int i = 0;; i++) {
		r = settle_once(d, diag, e);
		if (r != -EAGAIN || i == SETTLE_TRIES)
			break;
		r = hold_go(d->hold, FREEZE_MS, e);
		usleep(SETTLE_STEP_US);
		if (r >= 0)
			r = hold_stop(d->hold, FREEZE_MS, e);
		if (r < 0)
			return r;
	}
	if (r == -EAGAIN)
		log_info("%s still; it is not waited for any longer", err_text(e));
	return r == -EAGAIN ? 0 : r;
}

/* part - sockets of a tree as a whole: the namespace's lists, and what comes last at a restore.
 *
 * Read: sock_diag of the container's network namespace (that of its init; sockets of other namespaces
 * are refused one by one).  Put back: see unix_restore.c, inet.c.  Not covered: sockets that nobody
 * holds (a closed connection whose last data is still on its way, TIME_WAIT) stay behind; the far end
 * learns it by a reset when it sends again. */
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/file.h"
#include "cr/sock/netlock.h"
#include "cr/sock/sock.h"

/* ============================================ dump ============================================ */

struct sock_dump *sock_dump_of(struct dump *d)
{
	return d->part_data[cr_part_index(&cr_part_sock)];
}

static void sock_dump_free(struct sock_dump *s)
{
	if (!s)
		return;
	deaf_end(&s->deaf);
	netlock_free(s->lock);
	fd_close(&s->netns_fd);
	fd_close(&s->diag);
	udiag_free(s->unix_socks);
	idiag_free(s->tcp[0]);
	idiag_free(s->tcp[1]);
	inet_dump_free(s);
	sock_opts_refs_free(s);
	free(s->by_ino);
	free(s->outside);
	free(s);
}

static int sock_dump_open(struct dump *d, struct err *e)
{
	size_t at = cr_part_index(&cr_part_sock);
	struct sock_dump *s, *old = d->part_data[at];
	struct stat st;

	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, -ENOMEM, "sockets");
	if (old) {
		s->deaf = old->deaf;
		old->deaf = (struct deaf){ 0 };
		s->lock = ptr_take(old->lock);
	}
	sock_dump_free(old);
	d->part_data[at] = s;
	s->netns_fd = s->diag = -1;
	s->netns_fd = openat(d->tasks[0]->proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
	if (s->netns_fd < 0 || fstat(s->netns_fd, &st) < 0)
		return err_sys(e, -errno, "cannot open the container's network namespace");
	s->netns_ino = st.st_ino;
	s->diag = sock_diag_open(s->netns_fd);
	return s->diag < 0 ? err_sys(e, s->diag, "cannot enter the container's network namespace") : 0;
}

static void list_note(struct sock_dump *s, int r)
{
	if (r < 0 && !s->list_error)
		s->list_error = r;
}

const struct udiag *sock_unix_list(struct dump *d)
{
	struct sock_dump *s = sock_dump_of(d);

	if (s && !s->unix_socks && !s->list_error)
		list_note(s, udiag_read(s->diag, &s->unix_socks, &s->list_failed));
	return s ? s->unix_socks : NULL;
}

const struct idiag *sock_tcp_list(struct dump *d, size_t which)
{
	struct sock_dump *s = sock_dump_of(d);

	/* Not TIME_WAIT: nobody holds those, and there can be tens of thousands. */
	if (s && !s->tcp[which] && !s->list_error)
		list_note(s, idiag_read(s->diag, which ? AF_INET6 : AF_INET, IPPROTO_TCP, ~(1u << TCP_TIME_WAIT),
					&s->tcp[which], &s->list_failed));
	return s ? s->tcp[which] : NULL;
}

static int lists_check(struct dump *d, struct err *e)
{
	const struct sock_dump *s = sock_dump_of(d);

	return s && s->list_error ? err_set(e, s->list_error, "%s", err_text(&s->list_failed)) : 0;
}

static int ino_cmp(const void *a, const void *b)
{
	const struct ofile *x = *(struct ofile *const *)a, *y = *(struct ofile *const *)b;

	return x->st.st_ino < y->st.st_ino ? -1 : x->st.st_ino > y->st.st_ino;
}

/* Rebuilt whenever files have come in since: capturing a queue may find new ones in flight. */
static int sock_index(struct dump *d, struct sock_dump *s)
{
	struct ofile **list;

	if (s->by_ino && s->indexed == d->n_ofiles)
		return 0;
	list = calloc(d->n_ofiles ? d->n_ofiles : 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	free(s->by_ino);
	s->by_ino = list;
	s->n_by_ino = 0;
	for (size_t i = 0; i < d->n_ofiles; i++)
		if (S_ISSOCK(d->ofiles[i]->st.st_mode) &&
		    (d->ofiles[i]->kind == &file_kind_unix || d->ofiles[i]->kind == &file_kind_inet))
			list[s->n_by_ino++] = d->ofiles[i];
	if (s->n_by_ino)
		qsort(list, s->n_by_ino, sizeof(*list), ino_cmp);
	s->indexed = d->n_ofiles;
	return 0;
}

struct ofile *sock_by_ino(struct dump *d, uint32_t ino)
{
	struct sock_dump *s = sock_dump_of(d);
	size_t lo = 0, hi;

	if (!ino || sock_index(d, s) < 0)
		return NULL;
	hi = s->n_by_ino;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		uint32_t got = (uint32_t)s->by_ino[mid]->st.st_ino;

		if (got == ino)
			return s->by_ino[mid];
		if (got < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

bool sock_in_flight(struct dump *d)
{
	struct sock_dump *s = sock_dump_of(d);

	/* Of a checkpoint the tree's own only, whoever else uses the namespace. */
	if (s && d->opts && s->flight_asked == d->n_ofiles)
		return s->in_flight;
	if (s)
		s->flight_asked = d->n_ofiles;
	for (size_t i = 0; s && i < udiag_count(sock_unix_list(d)); i++) {
		const struct udiag_sock *u = udiag_at(s->unix_socks, i);

		if (u->state != TCP_LISTEN && u->rqueue && (!d->opts || sock_by_ino(d, u->ino)))
			return s->in_flight = true;
	}
	return false;
}

int sock_domain(const struct ofile *f)
{
	int domain;

	if (!S_ISSOCK(f->st.st_mode) || f->lfd < 0 || sock_get_int(f->lfd, SOL_SOCKET, SO_DOMAIN, &domain) < 0)
		return -1;
	return domain;
}

bool sock_is(const struct ofile *f, int *domain, int *type, int *protocol)
{
	if (!S_ISSOCK(f->st.st_mode) || f->lfd < 0)
		return false;
	return sock_get_int(f->lfd, SOL_SOCKET, SO_DOMAIN, domain) == 0 &&
	       sock_get_int(f->lfd, SOL_SOCKET, SO_TYPE, type) == 0 &&
	       sock_get_int(f->lfd, SOL_SOCKET, SO_PROTOCOL, protocol) == 0;
}

int sock_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct sock_dump *s = sock_dump_of(d);
	auto_fd int ns = netns_of_socket(f->lfd);
	socklen_t len = 0;
	struct stat st;

	if (ns >= 0 && fstat(ns, &st) == 0 && st.st_ino != s->netns_ino)
		return ofile_refuse(d, f, "socket of another network namespace",
				    "it was made outside of the container's network");
	if (getsockopt(f->lfd, SOL_SOCKET, SO_GET_FILTER, NULL, &len) < 0 && errno == EACCES)
		return ofile_refuse(d, f, "eBPF socket filter", "an attached BPF program cannot be read back");
	return 0;
}

static int sock_part_check(struct dump *d, struct err *e)
{
	return sock_dump_open(d, e);
}

static int sock_part_frozen(struct dump *d, struct err *e)
{
	return sock_dump_open(d, e);
}

static void sock_part_done(struct dump *d)
{
	size_t at = cr_part_index(&cr_part_sock);

	sock_dump_free(d->part_data[at]);
	d->part_data[at] = NULL;
}

static int sock_end_frozen(struct dump *d, struct err *e)
{
	int r = lists_check(d, e);

	return r < 0 ? r : unix_dump_verify(d, e);
}

/* ========================================== recover =========================================== */

static void sock_recover_one(int fd)
{
	int domain, type, protocol, v;

	if (sock_get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) < 0 ||
	    sock_get_int(fd, SOL_SOCKET, SO_TYPE, &type) < 0 ||
	    sock_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) < 0)
		return;
	if (protocol == IPPROTO_TCP)
		deaf_heal(fd);
	if (protocol == IPPROTO_TCP && sock_get_int(fd, SOL_TCP, TCP_REPAIR, &v) == 0 && v == 1)
		(void)sock_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	/* Hardly any program sets an offset itself; one of ours makes every MSG_PEEK look at the end. */
	if (domain == AF_UNIX && sock_get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &v) == 0 && v >= 0)
		(void)sock_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
}

int sock_recover(pid_t pid, struct err *e)
{
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	char path[64];
	struct dirent *de;
	DIR *dir;

	if (pidfd < 0)
		return errno == ESRCH ? 0 : err_sys(e, -errno, "process %d", pid);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "%s", path);
	while ((de = readdir(dir))) {
		auto_fd int fd = -1;
		struct stat st;
		int number;

		if (parse_int(de->d_name, &number) < 0 ||
		    fstatat(dirfd(dir), de->d_name, &st, 0) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
		if (fd >= 0)
			sock_recover_one(fd);
	}
	closedir(dir);
	return 0;
}

static int sock_part_recover(struct dump *d, struct err *e)
{
	int ret = 0, r;

	for (size_t i = 0; i < d->n_tasks; i++) {
		r = d->tasks[i]->zombie ? 0 : sock_recover(d->tasks[i]->pid, e);

		ret = r < 0 ? r : ret;
	}
	r = netlock_recover(d, e);
	return r < 0 ? r : ret;
}

/* =========================================== restore ========================================== */

struct sock_restore *sock_restore_of(struct restore *r)
{
	return r->part_data[cr_part_index(&cr_part_sock)];
}

const GwSockExtra *sock_extra_of(struct restore *r, const struct rfile *f)
{
	const struct record *rec = image_find(r->image, REC_GW_SOCK, f->id, NULL);

	return rec ? (const GwSockExtra *)rec->msg : NULL;
}

static int sock_part_load(struct restore *r, struct err *e)
{
	struct sock_restore *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sys(e, -ENOMEM, "sockets");
	r->part_data[cr_part_index(&cr_part_sock)] = s;
	return 0;
}

static void sock_part_restore_done(struct restore *r)
{
	size_t at = cr_part_index(&cr_part_sock);

	if (!r->part_data[at])
		return;
	netlock_free(sock_restore_of(r)->lock);
	unix_restore_free(r->part_data[at]);
	inet_restore_free(r->part_data[at]);
	free(r->part_data[at]);
	r->part_data[at] = NULL;
}

static int sock_end_finish(struct restore *r, struct err *e)
{
	int ret = unix_finish(r, e);

	if (ret < 0)
		return ret;
	return inet_finish(r, e);
}

/* Ahead of that of part "files", which builds what is late. */
static int sock_part_finish(struct restore *r, struct err *e)
{
	sock_restore_of(r)->late = true;
	return 0;
}

const struct cr_part cr_part_sock = {
	.name = "sock",
	.finish = sock_part_finish,
	.settled = sock_settled,
	.check = sock_part_check,
	.recover = sock_part_recover,
	.frozen = sock_part_frozen,
	.done = sock_part_done,
	.load = sock_part_load,
	.restore_done = sock_part_restore_done,
};

const struct cr_part cr_part_sock_end = {
	.name = "sock_end",
	.check = lists_check,
	.frozen = sock_end_frozen,
	.finish = sock_end_finish,
};

#include "cr/sock/netlock.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/sock/inet.h"
#include "cr/sock/lock_table.h"
#include "sys/procfs.h"

struct netlock {
	int sock;
	bool whole, on, kept;
	char name[LOCK_NAME_MAX];
	struct lock_conn *v; /* ascending */
	size_t n;
};

struct conns {
	struct lock_conn *v;
	size_t n, cap;
	size_t n_other; /* TCP sockets that are no connections, but have a port */
};

static void lock_off(struct netlock *l)
{
	if (l->on && !l->kept)
		(void)lock_tables_remove(l->sock, &(const char *){ l->name }, 1);
	l->on = false;
}

struct netlock *netlock_free(struct netlock *l)
{
	if (!l)
		return NULL;
	lock_off(l);
	fd_close(&l->sock);
	free(l->v);
	free(l);
	return NULL;
}

static int identity(int proc_fd, pid_t pid, uint64_t *ret_start)
{
	auto_fd int dir = proc_open(proc_fd, pid);
	struct proc_stat st;
	int r = dir < 0 ? dir : proc_stat_read(dir, &st, NULL);

	if (r >= 0)
		*ret_start = st.starttime;
	return r < 0 ? r : 0;
}

static int identity_of_root(const struct dump *d, uint64_t *ret_start)
{
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return proc < 0 ? -errno : identity(proc, d->root_pid, ret_start);
}

static int lock_new(pid_t pid, uint64_t start, int sock, bool whole, struct netlock **ret)
{
	struct netlock *l = sock < 0 ? NULL : calloc(1, sizeof(*l));
	int r = sock < 0 ? sock : l ? 0 : -ENOMEM;

	if (r < 0) {
		fd_close(&sock);
		free(l);
		return r;
	}
	l->sock = sock;
	l->whole = whole;
	lock_name(l->name, pid, start);
	*ret = l;
	return 0;
}

static int failed(int r, struct err *e)
{
	return r < 0 ? err_sys(e, r, "the network cannot be locked by nftables (--network-lock skip leaves it to the "
				     "caller that no packets come)") :
		       0;
}

/* ---- connections ---- */

static void half_set(uint8_t ret_addr[16], uint16_t *ret_port, bool *ret_v6, const union inet_addr *a)
{
	bool mapped = a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr);

	*ret_v6 = a->sa.sa_family == AF_INET6 && !mapped;
	*ret_port = a->sa.sa_family == AF_INET6 ? a->v6.sin6_port : a->v4.sin_port;
	if (a->sa.sa_family == AF_INET)
		memcpy(ret_addr, &a->v4.sin_addr, 4);
	else if (mapped)
		memcpy(ret_addr, (const uint8_t *)&a->v6.sin6_addr + 12, 4);
	else
		memcpy(ret_addr, &a->v6.sin6_addr, 16);
}

static int conns_add(struct conns *c, const union inet_addr *self, const union inet_addr *peer)
{
	struct lock_conn *x;

	if (array_grow(c->v, c->n, c->cap) < 0)
		return -ENOMEM;
	x = &c->v[c->n++];
	memset(x, 0, sizeof(*x)); /* compared as bytes */
	half_set(x->self, &x->sport, &x->v6, self);
	half_set(x->peer, &x->dport, &x->v6, peer);
	return 0;
}

/* getpeername does not tell yet whom it is connecting to. */
static bool peer_listed(struct dump *d, const struct ofile *f, union inet_addr *ret)
{
	const struct idiag_sock *i = NULL;

	for (size_t k = 0; k < 2 && !i; k++)
		i = idiag_find(sock_tcp_list(d, k), (uint32_t)f->st.st_ino);
	if (!i || !i->dport)
		return false;
	*ret = (union inet_addr){ 0 };
	ret->sa.sa_family = i->family;
	if (i->family == AF_INET) {
		ret->v4.sin_port = htons(i->dport);
		memcpy(&ret->v4.sin_addr, i->dst, 4);
	} else {
		ret->v6.sin6_port = htons(i->dport);
		memcpy(&ret->v6.sin6_addr, i->dst, 16);
	}
	return true;
}

static int conns_of_dump(struct dump *d, struct conns *ret)
{
	int r = 0;

	for (size_t i = 0; i < d->n_ofiles && r == 0; i++) {
		const struct ofile *f = d->ofiles[i];
		union inet_addr self = { 0 }, peer = { 0 };
		socklen_t self_len = sizeof(self), peer_len = sizeof(peer);
		int state = inet_tcp_state(f);

		if (state <= 0 || state == TCP_CLOSE || inet_is_dropped(d, (unsigned)state))
			continue;
		if (state == TCP_LISTEN || getsockname(f->lfd, &self.sa, &self_len) < 0 ||
		    (getpeername(f->lfd, &peer.sa, &peer_len) < 0 && !peer_listed(d, f, &peer)))
			ret->n_other++;
		else
			r = conns_add(ret, &self, &peer);
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), lock_conn_cmp);
	return r;
}

static int conns_of_restore(struct restore *r, struct conns *ret)
{
	const struct sock_restore *sr = sock_restore_of(r);
	int x = 0;

	for (size_t i = 0; i < sr->n_inet && x == 0; i++) {
		const struct isk *s = sr->inet_socks[i];

		if (s->i->proto != IPPROTO_TCP)
			continue;
		if (isk_is_connection(s))
			x = conns_add(ret, &s->self, &s->peer);
		else if (s->i->state == TCP_LISTEN)
			ret->n_other++;
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), lock_conn_cmp);
	return x;
}

/* Takes the list over. */
static int lock_on(struct netlock *l, struct conns *c)
{
	int r = lock_table_make(l->sock, l->name, true, l->whole, c->v, c->n);

	l->on = r >= 0;
	l->v = ptr_take(c->v);
	l->n = c->n;
	return r;
}

/* In a namespace of its own a listener counts too: whoever calls it now gets no answer, instead of a "no". */
static bool wants_lock(const struct conns *c, bool whole)
{
	return c->n || (whole && c->n_other);
}

/* ---- dump ---- */

static int lock_more(struct netlock *l, struct conns *c)
{
	struct conns more = { 0 };
	int r = 0;

	for (size_t i = 0; i < c->n && r == 0 && !l->whole; i++) {
		if (l->n && bsearch(&c->v[i], l->v, l->n, sizeof(*l->v), lock_conn_cmp))
			continue;
		r = array_grow(more.v, more.n, more.cap);
		if (r == 0)
			more.v[more.n++] = c->v[i];
	}
	if (r == 0)
		r = lock_table_add(l->sock, l->name, more.v, more.n);
	free(more.v);
	if (r == 0) {
		free(l->v);
		l->v = ptr_take(c->v);
		l->n = c->n;
	}
	return r;
}

int netlock_dump(struct dump *d, struct err *e)
{
	bool whole = d->ns & CLONE_NEWNET;
	struct sock_dump *s = sock_dump_of(d);
	struct conns c = { 0 };
	uint64_t start;
	int r;

	if (!d->opts || d->opts->network_lock == CR_LOCK_SKIP)
		return 0;
	r = conns_of_dump(d, &c);
	if (r == 0 && !s->lock && wants_lock(&c, whole)) {
		r = identity_of_root(d, &start);
		if (r == 0)
			r = lock_new(d->root_pid, start,
				     netns_socket(s->netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), whole, &s->lock);
		if (r == 0)
			r = lock_on(s->lock, &c);
	} else if (r == 0 && s->lock) {
		r = lock_more(s->lock, &c);
	}
	free(c.v);
	return failed(r, e);
}

int netlock_keep(struct dump *d, struct err *e)
{
	struct netlock *l = sock_dump_of(d)->lock;
	int r;

	if (!l)
		return 0;
	r = lock_table_make(l->sock, l->name, false, l->whole, l->v, l->n);
	if (r < 0)
		return failed(r, e);
	l->kept = true;
	log_info("the network stays locked for the tree's connections until it is restored (nftables: table inet %s)",
		 l->name);
	return 0;
}

void netlock_unkeep(struct dump *d)
{
	if (sock_dump_of(d)->lock)
		sock_dump_of(d)->lock->kept = false;
}

struct netlock *netlock_lift(struct dump *d)
{
	struct netlock *l = ptr_take(sock_dump_of(d)->lock);

	if (l)
		lock_off(l);
	return l;
}

int netlock_identity(const struct dump *d, uint32_t *ret_pid, uint64_t *ret_start, struct err *e)
{
	int r = identity_of_root(d, ret_start);

	if (r < 0)
		return err_sys(e, r, "process %d", (int)d->root_pid);
	*ret_pid = (uint32_t)d->root_pid;
	return 0;
}

/* A kernel without nftables has no lock either. */
int netlock_recover(struct dump *d, struct err *e)
{
	auto_fd int ns = openat(d->tasks[0]->proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
	auto_fd int sock = ns < 0 ? -errno : netns_socket(ns, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	char name[LOCK_NAME_MAX];
	uint64_t start;
	int r = sock < 0 ? 0 : identity_of_root(d, &start);

	if (r < 0 || sock < 0)
		return 0;
	lock_name(name, d->root_pid, start);
	r = lock_tables_remove(sock, &(const char *){ name }, 1);
	return r < 0 && r != -EOPNOTSUPP ? err_sys(e, r, "removing the packet filter table %s", name) : 0;
}

/* ---- restore ---- */

/* Of the table that the dump has left: only the numbers come from the image, so that no other can be meant. */
static bool kept_name(struct restore *r, char ret[LOCK_NAME_MAX])
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = rec ? (const GwHeader *)rec->msg : NULL;
	const struct sock_restore *sr = sock_restore_of(r);
	bool any = false;

	for (size_t i = 0; i < sr->n_inet; i++)
		any |= sr->inet_socks[i]->i->proto == IPPROTO_TCP && sr->inet_socks[i]->i->state != TCP_CLOSE;
	if (!any || !h || !h->has_lock_pid || !h->has_lock_start)
		return false;
	lock_name(ret, (pid_t)h->lock_pid, h->lock_start);
	return true;
}

/* The socket is made now, where we stand in the tree's network. */
int netlock_restore(struct restore *r, struct err *e)
{
	bool whole = r->ns & CLONE_NEWNET, wanted;
	struct sock_restore *sr = sock_restore_of(r);
	char kept[LOCK_NAME_MAX];
	struct conns c = { 0 };
	uint64_t start;
	int x, sock;

	if (!r->opts)
		return 0;
	x = conns_of_restore(r, &c);
	wanted = wants_lock(&c, whole) && r->opts->network_lock != CR_LOCK_SKIP;
	if (x == 0 && (wanted || kept_name(r, kept))) {
		sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
		x = sock < 0 ? -errno : identity(r->proc_fd, getpid(), &start);
		if (x < 0)
			fd_close(&sock);
		else
			x = lock_new(getpid(), start, sock, whole, &sr->lock);
		/* Without nftables the dump has left none either. */
		if (x == -EPROTONOSUPPORT && !wanted)
			x = 0;
		else if (x == 0 && wanted)
			x = lock_on(sr->lock, &c);
	}
	free(c.v);
	return failed(x, e);
}

int netlock_unlock(struct restore *r, struct err *e)
{
	struct sock_restore *sr = sock_restore_of(r);
	char kept[LOCK_NAME_MAX];
	const char *names[2];
	size_t n = 0;
	int x;

	if (!sr->lock)
		return 0;
	if (kept_name(r, kept))
		names[n++] = kept;
	if (sr->lock->on)
		names[n++] = sr->lock->name;
	x = n ? lock_tables_remove(sr->lock->sock, names, n) : 0;
	if (x < 0 && !sr->lock->on && (x == -EOPNOTSUPP || x == -EPERM))
		return 0;
	if (x < 0)
		return err_sys(e, x, "unlocking the network (nftables: table inet %s)", names[0]);
	sr->lock->on = false;
	return 0;
}

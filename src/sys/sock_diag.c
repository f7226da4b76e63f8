/* sock_diag - see sock_diag.h. */
#include "sys/sock_diag.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif

int netns_socket(int netns_fd, int family, int type, int protocol)
{
	auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd, saved;

	if (home < 0)
		return -errno;
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	saved = errno;
	if (setns(home, CLONE_NEWNET) < 0) {
		saved = errno;
		fd_close(&fd);
		return -saved;
	}
	return fd < 0 ? -saved : fd;
}

int netns_of_socket(int sock)
{
	int fd = ioctl(sock, SIOCGSKNS);

	return fd < 0 ? -errno : fd;
}

int sock_diag_open(int netns_fd)
{
	return netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

/* Sends a request and gives the body of each answer to fn, until the end of the dump. */
static int diag_dump(int fd, const void *req, size_t req_len,
		     int (*fn)(void *arg, const void *body, size_t len), void *arg)
{
	struct {
		struct nlmsghdr h;
		char body[256];
	} msg = { .h = { .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			 .nlmsg_seq = 1 } };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	auto_free char *buf = malloc(65536);
	ssize_t n;
	int r;

	if (!buf)
		return -ENOMEM;
	if (req_len > sizeof(msg.body))
		return -EINVAL;
	memcpy(msg.body, req, req_len);
	msg.h.nlmsg_len = (uint32_t)NLMSG_LENGTH(req_len);
	if (sendto(fd, &msg, msg.h.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	for (;;) {
		struct nlmsghdr *h;
		int left;

		n = recv(fd, buf, 65536, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		left = (int)n;
		for (h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr *ne = NLMSG_DATA(h);

				if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*ne)))
					return -EPROTO;
				return ne->error ? ne->error : -EPROTO;
			}
			if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
				continue;
			r = fn(arg, NLMSG_DATA(h), NLMSG_PAYLOAD(h, 0));
			if (r < 0)
				return r;
		}
	}
}

/* ---- unix ---- */

#define STATE_LISTEN 10

struct udiag {
	struct udiag_sock *socks;
	size_t n, cap;
	size_t *listeners, n_listeners, cap_listeners; /* where in socks */
};

int udiag_parse(const void *body, size_t len, struct udiag_sock *ret)
{
	const struct unix_diag_msg *m = body;
	struct udiag_sock s = { 0 };
	const struct rtattr *a;
	int left; /* the macros need a sign: the last padding may be missing */

	if (len < NLMSG_ALIGN(sizeof(*m)) || len > INT_MAX)
		return -EPROTO;
	s.ino = m->udiag_ino;
	s.type = m->udiag_type;
	s.state = m->udiag_state;
	left = (int)(len - NLMSG_ALIGN(sizeof(*m)));
	for (a = (const void *)((const char *)body + NLMSG_ALIGN(sizeof(*m))); RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		const void *p = RTA_DATA(a);
		size_t pl = RTA_PAYLOAD(a);

		switch (a->rta_type) {
		case UNIX_DIAG_NAME:
			if (pl >= sizeof(s.name))
				goto bad;
			memcpy(s.name, p, pl);
			s.name_len = pl;
			break;
		case UNIX_DIAG_VFS:
			if (pl < sizeof(struct unix_diag_vfs))
				goto bad;
			s.bound_node = true;
			s.node_ino = ((const struct unix_diag_vfs *)p)->udiag_vfs_ino;
			break;
		case UNIX_DIAG_PEER:
			if (pl < 4)
				goto bad;
			s.has_peer = true;
			memcpy(&s.peer, p, 4);
			break;
		case UNIX_DIAG_ICONS:
			free(s.icons);
			s.n_icons = pl / 4;
			s.icons = malloc(pl ? pl : 1);
			if (!s.icons)
				return -ENOMEM;
			memcpy(s.icons, p, s.n_icons * 4);
			break;
		case UNIX_DIAG_RQLEN:
			if (pl < sizeof(struct unix_diag_rqlen))
				goto bad;
			s.rqueue = ((const struct unix_diag_rqlen *)p)->udiag_rqueue;
			s.wqueue = ((const struct unix_diag_rqlen *)p)->udiag_wqueue;
			break;
		case UNIX_DIAG_SHUTDOWN:
			if (pl < 1)
				goto bad;
			s.shutdown = *(const uint8_t *)p;
			break;
		default:
			break;
		}
	}
	*ret = s;
	return 0;
bad:
	free(s.icons);
	return -EPROTO;
}

static int udiag_one(void *arg, const void *body, size_t len)
{
	struct udiag *u = arg;
	int r = array_grow(u->socks, u->n, u->cap);

	if (r < 0)
		return r;
	r = udiag_parse(body, len, &u->socks[u->n]);
	if (r < 0)
		return r;
	u->n++;
	return 0;
}

static int udiag_cmp(const void *a, const void *b)
{
	const struct udiag_sock *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

int udiag_read(int diag_fd, struct udiag **ret, struct err *e)
{
	struct unix_diag_req req = {
		.sdiag_family = AF_UNIX,
		.udiag_states = ~0u,
		.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS |
			      UDIAG_SHOW_RQLEN,
	};
	struct udiag *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_sys(e, -ENOMEM, "list of unix sockets");
	r = diag_dump(diag_fd, &req, sizeof(req), udiag_one, u);
	if (r < 0) {
		udiag_free(u);
		return err_sys(e, r, "cannot list the unix sockets of the container");
	}
	if (u->n)
		qsort(u->socks, u->n, sizeof(*u->socks), udiag_cmp);
	for (size_t i = 0; i < u->n; i++) {
		if (u->socks[i].state != STATE_LISTEN)
			continue;
		if (array_grow(u->listeners, u->n_listeners, u->cap_listeners) < 0) {
			udiag_free(u);
			return err_sys(e, -ENOMEM, "list of unix sockets");
		}
		u->listeners[u->n_listeners++] = i;
	}
	*ret = u;
	return 0;
}

struct udiag *udiag_free(struct udiag *u)
{
	if (!u)
		return NULL;
	for (size_t i = 0; i < u->n; i++)
		free(u->socks[i].icons);
	free(u->socks);
	free(u->listeners);
	free(u);
	return NULL;
}

size_t udiag_listeners(const struct udiag *u)
{
	return u ? u->n_listeners : 0;
}

const struct udiag_sock *udiag_listener(const struct udiag *u, size_t i)
{
	return &u->socks[u->listeners[i]];
}

size_t udiag_count(const struct udiag *u)
{
	return u ? u->n : 0;
}

const struct udiag_sock *udiag_at(const struct udiag *u, size_t i)
{
	return &u->socks[i];
}

const struct udiag_sock *udiag_find(const struct udiag *u, uint32_t ino)
{
	struct udiag_sock key = { .ino = ino };

	if (!ino || !u || !u->n)
		return NULL;
	return bsearch(&key, u->socks, u->n, sizeof(key), udiag_cmp);
}

const struct udiag_sock *udiag_listener_of(const struct udiag *u, uint32_t client_ino)
{
	for (size_t i = 0; u && i < u->n_listeners; i++) {
		const struct udiag_sock *l = udiag_listener(u, i);

		for (size_t k = 0; k < l->n_icons; k++)
			if (l->icons[k] == client_ino)
				return l;
	}
	return NULL;
}

/* ---- inet ---- */

struct idiag {
	struct idiag_sock *socks;
	size_t n, cap;
};

int idiag_parse(const void *body, size_t len, struct idiag_sock *ret)
{
	const struct inet_diag_msg *m = body;
	struct idiag_sock s = { 0 };
	const struct rtattr *a;
	int left; /* the macros need a sign: the last padding may be missing */

	if (len < NLMSG_ALIGN(sizeof(*m)) || len > INT_MAX)
		return -EPROTO;
	s.ino = m->idiag_inode;
	s.family = m->idiag_family;
	s.state = m->idiag_state;
	s.sport = ntohs(m->id.idiag_sport);
	s.dport = ntohs(m->id.idiag_dport);
	memcpy(s.src, m->id.idiag_src, 16);
	memcpy(s.dst, m->id.idiag_dst, 16);
	s.ifindex = m->id.idiag_if;
	s.rqueue = m->idiag_rqueue;
	s.wqueue = m->idiag_wqueue;
	left = (int)(len - NLMSG_ALIGN(sizeof(*m)));
	for (a = (const void *)((const char *)body + NLMSG_ALIGN(sizeof(*m))); RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		if (a->rta_type == INET_DIAG_SHUTDOWN && RTA_PAYLOAD(a) >= 1)
			s.shutdown = *(const uint8_t *)RTA_DATA(a);
		if (a->rta_type == INET_DIAG_MD5SIG)
			s.md5 = true;
		if (a->rta_type == INET_DIAG_ULP_INFO)
			s.has_ulp = true;
	}
	*ret = s;
	return 0;
}

static int idiag_one(void *arg, const void *body, size_t len)
{
	struct idiag *u = arg;
	int r = array_grow(u->socks, u->n, u->cap);

	if (r < 0)
		return r;
	r = idiag_parse(body, len, &u->socks[u->n]);
	if (r < 0)
		return r;
	u->n++;
	return 0;
}

static int idiag_cmp(const void *a, const void *b)
{
	const struct idiag_sock *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

int idiag_read(int diag_fd, int family, int protocol, uint32_t states, struct idiag **ret, struct err *e)
{
	struct inet_diag_req_v2 req = {
		.sdiag_family = (uint8_t)family,
		.sdiag_protocol = (uint8_t)protocol,
		.idiag_states = states,
		.idiag_ext = 1 << (INET_DIAG_INFO - 1), /* brings MD5 and ULP along */
	};
	struct idiag *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_sys(e, -ENOMEM, "list of internet sockets");
	r = diag_dump(diag_fd, &req, sizeof(req), idiag_one, u);
	if (r == -ENOENT || r == -EAFNOSUPPORT) /* a kernel without IPv6 has none */
		r = 0;
	if (r < 0) {
		idiag_free(u);
		return err_sys(e, r, "cannot list the internet sockets of the container");
	}
	if (u->n)
		qsort(u->socks, u->n, sizeof(*u->socks), idiag_cmp);
	*ret = u;
	return 0;
}

int idiag_destroy(int diag_fd, const struct idiag_sock *s)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} msg = { .h = { .nlmsg_len = sizeof(msg), .nlmsg_type = SOCK_DESTROY,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 1 },
		  .req = { .sdiag_family = s->family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1u << s->state,
			   .id = { .idiag_sport = htons(s->sport), .idiag_dport = htons(s->dport),
				   .idiag_if = s->ifindex,
				   .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } } };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char more[512];
	} answer;
	ssize_t n;

	memcpy(msg.req.id.idiag_src, s->src, 16);
	memcpy(msg.req.id.idiag_dst, s->dst, 16);
	if (sendto(diag_fd, &msg, sizeof(msg), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	do
		n = recv(diag_fd, &answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.h) + sizeof(answer.e) || answer.h.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.e.error;
}

struct idiag *idiag_free(struct idiag *u)
{
	if (u)
		free(u->socks);
	free(u);
	return NULL;
}

size_t idiag_count(const struct idiag *u)
{
	return u ? u->n : 0;
}

const struct idiag_sock *idiag_at(const struct idiag *u, size_t i)
{
	return &u->socks[i];
}

const struct idiag_sock *idiag_find(const struct idiag *u, uint32_t ino)
{
	struct idiag_sock key = { .ino = ino };

	if (!ino || !u || !u->n)
		return NULL;
	return bsearch(&key, u->socks, u->n, sizeof(key), idiag_cmp);
}

#include "engine/page_server.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "pagemap.pb-c.h"

#define MAGIC_COMMON 0x54564319u
#define MAGIC_PAGEMAP 0x56084025u
#define PAGE 4096u
#define OWNERS_MAX 100000u
#define MAP_MAX (64u << 20) /* bytes of one pagemap */

/* One client.  Files are written one owner after the other. */
struct server {
	int sock, dir;
	int pipe[2];
	bool open;
	char map_name[40];
	int pages_fd;
	struct buf map;
	uint64_t end; /* of the last run */
	uint32_t owners;
	struct buf made; /* names of files, each with its NUL; to be removed after a failure */
};

/* ---- files ---- */

static int file_make(struct server *s, const char *name, struct err *e)
{
	int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, -errno, "making %s", name);
	if (buf_add(&s->made, name, strlen(name) + 1) < 0) {
		unlinkat(s->dir, name, 0);
		close(fd);
		return err_sys(e, -ENOMEM, "making %s", name);
	}
	return fd;
}

static void files_remove(struct server *s)
{
	for (size_t at = 0; at < s->made.len; at += strlen(s->made.data + at) + 1)
		unlinkat(s->dir, s->made.data + at, 0);
}

static int entry_add(struct server *s, const ProtobufCMessage *m, struct err *e)
{
	uint32_t len = (uint32_t)protobuf_c_message_get_packed_size(m);
	uint8_t *p;

	if (s->map.len > MAP_MAX)
		return err_set(e, -EFBIG, "%s has more runs than it may have", s->map_name);
	if (buf_add(&s->map, &len, sizeof(len)) < 0 || !(p = buf_reserve(&s->map, len)))
		return err_sys(e, -ENOMEM, "%s", s->map_name);
	s->map.len += protobuf_c_message_pack(m, p);
	return 0;
}

static int owner_close(struct server *s, struct err *e)
{
	auto_fd int fd = -1;
	int r;

	if (!s->open)
		return 0;
	s->open = false;
	fd_close(&s->pages_fd);
	fd = file_make(s, s->map_name, e);
	if (fd < 0)
		return fd;
	r = fd_write_full(fd, s->map.data, s->map.len);
	s->map.len = 0;
	return r < 0 ? err_sys(e, r, "writing %s", s->map_name) : 0;
}

static int owner_open(struct server *s, uint64_t id, struct err *e)
{
	uint32_t magic[2] = { MAGIC_COMMON, MAGIC_PAGEMAP };
	PagemapHead h = PAGEMAP_HEAD__INIT;
	uint64_t number = id >> 8;
	char pages[40];
	int r = owner_close(s, e);

	if (r < 0)
		return r;
	if (((id & 0xff) != PS_OWNER_PID && (id & 0xff) != PS_OWNER_SHM) || number > UINT32_MAX)
		return err_set(e, -EPROTO, "pages of an owner 0x%llx that is neither a process nor shared memory",
			       (unsigned long long)id);
	if (s->owners == OWNERS_MAX)
		return err_set(e, -EFBIG, "pages of more than %u owners", OWNERS_MAX);
	h.pages_id = ++s->owners;
	snprintf(pages, sizeof(pages), "pages-%u.img", h.pages_id);
	snprintf(s->map_name, sizeof(s->map_name), "pagemap-%s%u.img", (id & 0xff) == PS_OWNER_SHM ? "shmem-" : "",
		 (unsigned)number);
	s->pages_fd = file_make(s, pages, e);
	if (s->pages_fd < 0)
		return s->pages_fd;
	s->open = true;
	s->end = 0;
	s->map.len = 0;
	return buf_add(&s->map, magic, sizeof(magic)) < 0 ? err_sys(e, -ENOMEM, "%s", s->map_name) :
							    entry_add(s, &h.base, e);
}

/* ---- runs ---- */

static int pages_take(struct server *s, uint64_t len, struct err *e)
{
	while (len) {
		ssize_t n = splice(s->sock, NULL, s->pipe[1], NULL, len < 1u << 20 ? len : 1u << 20, SPLICE_F_MOVE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_sys(e, -errno, "receiving pages") :
				       err_set(e, -EPIPE, "the connection ended within pages");
		len -= (size_t)n;
		while (n) {
			ssize_t m = splice(s->pipe[0], NULL, s->pages_fd, NULL, (size_t)n, SPLICE_F_MOVE);

			if (m < 0 && errno == EINTR)
				continue;
			if (m <= 0)
				return err_sys(e, m < 0 ? -errno : -EIO, "writing pages");
			n -= m;
		}
	}
	return 0;
}

static int run_add(struct server *s, const struct ps_iov *m, uint32_t flags, struct err *e)
{
	PagemapEntry pe = PAGEMAP_ENTRY__INIT;
	uint64_t len = (uint64_t)m->nr_pages * PAGE, end;
	int r;

	if (!s->open)
		return err_set(e, -EPROTO, "pages of nobody");
	if (flags != PS_FLAG_PRESENT)
		return err_set(e, -EOPNOTSUPP, "pages of incremental and lazy dumps are not served");
	if (!m->nr_pages || m->vaddr % PAGE || __builtin_add_overflow(m->vaddr, len, &end) || m->vaddr < s->end)
		return err_set(e, -EPROTO, "a run of %u pages at 0x%llx is no run, or not behind the one before",
			       m->nr_pages, (unsigned long long)m->vaddr);
	pe.vaddr = m->vaddr;
	pe.nr_pages = m->nr_pages;
	pe.has_flags = 1;
	pe.flags = flags;
	s->end = end;
	r = entry_add(s, &pe.base, e);
	return r < 0 ? r : pages_take(s, len, e);
}

static int say(struct server *s, const void *data, size_t len, struct err *e)
{
	return send(s->sock, data, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : err_sys(e, -errno, "answering the dump");
}

/* 1: that was the last. */
static int message_serve(struct server *s, const struct ps_iov *m, struct err *e)
{
	static const int32_t zero;
	int r;

	switch (m->cmd & 0xffff) {
	case PS_OPEN:
		return owner_open(s, m->dst_id, e);
	case PS_OPEN2:
		r = owner_open(s, m->dst_id, e);
		return r < 0 ? r : say(s, &zero, 1, e);
	case PS_PARENT:
		return say(s, &zero, sizeof(zero), e);
	case PS_ADD:
		return run_add(s, m, PS_FLAG_PRESENT, e);
	case PS_ADD_F:
		return run_add(s, m, m->cmd >> 16, e);
	case PS_CLOSE:
	case PS_FORCE_CLOSE:
		r = owner_close(s, e);
		if (r >= 0)
			r = say(s, &zero, sizeof(zero), e);
		return r < 0 ? r : 1;
	default:
		return err_set(e, -EOPNOTSUPP, "a message of kind %u is not served", m->cmd & 0xffff);
	}
}

int page_server_serve(int sock, int images_fd, struct err *e)
{
	struct server s = { .sock = sock, .dir = images_fd, .pipe = { -1, -1 }, .pages_fd = -1 };
	struct ps_iov m;
	int r = pipe2(s.pipe, O_CLOEXEC) < 0 ? err_sys(e, -errno, "a pipe") : 0;

	if (r >= 0)
		fcntl(s.pipe[0], F_SETPIPE_SZ, 1 << 20);
	while (r == 0) {
		r = fd_read_full(sock, &m, sizeof(m));
		if (r < 0)
			r = r == -EPIPE ? err_set(e, r, "the dump ended without closing") :
					  err_sys(e, r, "waiting for pages");
		else
			r = message_serve(&s, &m, e);
	}
	if (r < 0)
		files_remove(&s);
	fd_close(&s.pipe[0]);
	fd_close(&s.pipe[1]);
	fd_close(&s.pages_fd);
	buf_done(&s.map);
	buf_done(&s.made);
	return r < 0 ? r : 0;
}

/* ---- the socket ---- */

static int address_listen(const struct addrinfo *a)
{
	auto_fd int sk = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (sk < 0)
		return -errno;
	setsockopt(sk, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(sk, a->ai_addr, a->ai_addrlen) < 0 || listen(sk, 1) < 0)
		return -errno;
	return fd_take(&sk);
}

static const char *const everywhere = "0.0.0.0"; /* "everywhere" is IPv4 here, as CRIU's */

int page_server_connect(const struct options *o, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int r, sk = -1, on = 1;
	char port[8];

	if (o->ps_socket >= 0) {
		sk = fcntl(o->ps_socket, F_DUPFD_CLOEXEC, 3);
		return sk < 0 ? err_sys(e, -errno, "--ps-socket %d", o->ps_socket) : sk;
	}
	snprintf(port, sizeof(port), "%d", o->port);
	r = getaddrinfo(o->address, port, &hints, &list);
	if (r != 0)
		return err_set(e, -EADDRNOTAVAIL, "the page server's address %s: %s", o->address, gai_strerror(r));
	r = -EADDRNOTAVAIL;
	for (struct addrinfo *i = list; i && r < 0; i = i->ai_next) {
		sk = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = sk < 0 || connect(sk, i->ai_addr, i->ai_addrlen) < 0 ? -errno : 0;
		if (r < 0 && sk >= 0)
			close(sk);
	}
	freeaddrinfo(list);
	if (r < 0)
		return err_sys(e, r, "connecting to the page server %s port %s", o->address, port);
	/* A run's head and its pages are two writes; the last ones must not wait for more. */
	setsockopt(sk, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return sk;
}

int page_server_listen(const struct options *o, int *ret_port, struct err *e)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *list = NULL;
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a;
	socklen_t len = sizeof(a);
	char port[8];
	int r, sk = -EADDRNOTAVAIL;

	snprintf(port, sizeof(port), "%d", o->port);
	r = getaddrinfo(o->address ? o->address : everywhere, port, &hints, &list);
	if (r != 0)
		return err_set(e, -EADDRNOTAVAIL, "the address %s: %s", o->address ? o->address : everywhere, gai_strerror(r));
	for (struct addrinfo *i = list; i && sk < 0; i = i->ai_next)
		sk = address_listen(i);
	freeaddrinfo(list);
	if (sk < 0)
		return err_sys(e, sk, "listening at %s port %s", o->address ? o->address : everywhere, port);
	if (getsockname(sk, (void *)&a, &len) < 0) {
		r = err_sys(e, -errno, "asking for the port");
		close(sk);
		return r;
	}
	*ret_port = ntohs(a.in.sin_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
	return sk;
}

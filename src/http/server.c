/* The server itself: libmicrohttpd in the event loop, and the listening sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "http/request.h"
#include "http/server_int.h"

#define CONNECTIONS_MAX 1024
#define RUNS_AT_ONCE 16
#define ACCEPTS_AT_ONCE 16

struct http_peer *peer_free(struct http_peer *p)
{
	if (p)
		free(p->cert_pem);
	free(p);
	return NULL;
}

/* MHD keeps a copy of the address it is given and shows it to us again: the peer travels as one.
 * It is the only per-connection value that reaches all callbacks of MHD 0.9.75 for added connections. */
static void peer_to_address(struct http_peer *p, struct sockaddr_un *sa)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, &p, sizeof(p));
}

struct http_peer *server_peer_of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct http_peer *p = NULL;

	if (info && info->client_addr)
		memcpy(&p, ((const struct sockaddr_un *)(const void *)info->client_addr)->sun_path, sizeof(p));
	return p;
}

static void on_connection(void *arg, struct MHD_Connection *c, void **ctx, enum MHD_ConnectionNotificationCode toe)
{
	(void)arg;
	if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
		*ctx = server_peer_of(c);
	} else {
		peer_free(*ctx);
		*ctx = NULL;
	}
}

static void on_log(void *arg, const char *fmt, va_list ap)
{
	char line[512];

	(void)arg;
	vsnprintf(line, sizeof(line), fmt, ap);
	/* MHD tries TCP_CORK on unix sockets and complains each time. */
	if (!strstr(line, "TCP_CORK") && !strstr(line, "Failed to push") && !strstr(line, "TCP_NODELAY"))
		log_debug("http: %s", line);
}

static void timer_arm(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;
	uint64_t now;

	if (MHD_get_timeout(s->mhd, &ms) != MHD_YES) {
		sd_event_source_set_enabled(s->mhd_timer, SD_EVENT_OFF);
		return;
	}
	sd_event_now(s->ev, CLOCK_MONOTONIC, &now);
	sd_event_source_set_time(s->mhd_timer, now + ms * 1000);
	sd_event_source_set_enabled(s->mhd_timer, SD_EVENT_ONESHOT);
}

static void mhd_run(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	s->running = true;
	for (int i = 0; i < RUNS_AT_ONCE; i++) {
		MHD_run(s->mhd);
		if (MHD_get_timeout(s->mhd, &ms) != MHD_YES || ms)
			break;
	}
	s->running = false;
	timer_arm(s);
}

static int on_mhd_io(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	mhd_run(arg);
	return 0;
}

static int on_mhd_timer(sd_event_source *src, uint64_t usec, void *arg)
{
	mhd_run(arg);
	return 0;
}

void server_kick(struct http_server *s)
{
	uint64_t now;

	if (s->ending)
		return;
	sd_event_now(s->ev, CLOCK_MONOTONIC, &now);
	sd_event_source_set_time(s->mhd_timer, now);
	sd_event_source_set_enabled(s->mhd_timer, SD_EVENT_ONESHOT);
}

int server_adopt(struct http_server *s, int fd, struct http_peer *peer)
{
	struct sockaddr_un sa;

	peer_to_address(peer, &sa);
	/* On failure MHD has closed fd; it calls on_connection(CLOSED) only for what it has started. */
	if (MHD_add_connection(s->mhd, fd, (struct sockaddr *)&sa, sizeof(sa)) != MHD_YES) {
		int r = -errno;

		peer_free(peer);
		return r ? r : -EMFILE;
	}
	server_kick(s);
	return 0;
}

static int on_unix(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	struct http_server *s = arg;

	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		auto_fd int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct http_peer *p;

		if (c < 0)
			break;
		p = calloc(1, sizeof(*p));
		if (!p)
			break;
		p->local = true;
		snprintf(p->address, sizeof(p->address), "unix");
		if (server_adopt(s, fd_take(&c), p) < 0)
			log_warn("a connection on the unix socket is refused: too many");
	}
	return 0;
}

static void tcp_options(int fd)
{
	int one = 1, idle = 10, interval = 5, count = 3, user_timeout = 30000;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
}

static int on_tls(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	struct http_server *s = arg;

	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		struct sockaddr_storage sa;
		socklen_t len = sizeof(sa);
		char host[NI_MAXHOST], port[NI_MAXSERV], text[64];
		int c = accept4(fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (c < 0)
			break;
		tcp_options(c);
		if (getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
				NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			strcpy(host, "?"), strcpy(port, "?");
		snprintf(text, sizeof(text), "%.48s:%.8s", host, port);
		tls_conn_start(s, c, text);
	}
	return 0;
}

static int listen_watch(struct http_server *s, int fd, sd_event_io_handler_t fn, sd_event_source **ret,
			struct err *e)
{
	int r = sd_event_add_io(s->ev, ret, fd, EPOLLIN, fn, s);

	return r < 0 ? err_sys(e, r, "cannot watch a listening socket") : 0;
}

int http_server_listen_unix(struct http_server *s, const char *path, const char *group, struct err *e)
{
	auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct group *gr = group ? getgrnam(group) : NULL;
	mode_t old;
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "cannot make a socket");
	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "the path %s is too long for a socket", path);
	strcpy(sa.sun_path, path);
	/* Whoever answers there is a living daemon: taking its place would make two. */
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return err_set(e, -EADDRINUSE, "another daemon is listening at %s", path);
	fd_close(&fd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, -errno, "cannot make a socket");
	unlink(path);
	old = umask(0117);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && gr && lchown(path, (uid_t)-1, gr->gr_gid) < 0)
		log_warn("cannot give %s to the group %s", path, group);
	if (r == 0 && listen(fd, 128) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(e, r, "cannot listen at %s", path);
	r = listen_watch(s, fd, on_unix, &s->unix_io, e);
	if (r < 0)
		return r;
	s->unix_fd = fd_take(&fd);
	s->unix_path = strdup(path);
	return 0;
}

static int tls_bind(const char *address, bool early, struct err *e)
{
	auto_free char *host = NULL;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST }, *list;
	const char *colon = strrchr(address, ':'), *port = "8443";
	auto_fd int fd = -1;
	uint64_t n;
	int r, one = 1, zero = 0;

	if (*address == '[') {
		const char *end = strchr(address, ']');

		if (!end || (end[1] && end[1] != ':'))
			return err_set(e, -EINVAL, "\"%s\" is not an address to listen at", address);
		host = strndup(address + 1, (size_t)(end - address - 1));
		port = end[1] ? end + 2 : port;
	} else if (colon && colon == strchr(address, ':')) {
		host = strndup(address, (size_t)(colon - address));
		port = colon + 1;
	} else {
		host = strdup(address);
	}
	if (!host)
		return err_set(e, -ENOMEM, "out of memory");
	if (parse_u64(port, 10, &n) < 0 || !n || n > 65535)
		return err_set(e, -EINVAL, "\"%s\" has no valid port", address);
	if (getaddrinfo(*host ? host : "::", port, &hints, &list) != 0)
		return err_set(e, -EINVAL, "\"%s\" is not an address to listen at", address);
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (list->ai_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
		if (early)
			setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
		if (bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 128) < 0)
			r = -errno;
	}
	freeaddrinfo(list);
	if (r < 0)
		return err_sys(e, r, "cannot listen at %s", address);
	return fd_take(&fd);
}

static void tls_stop(struct http_server *s)
{
	s->tls_io = sd_event_source_disable_unref(s->tls_io);
	fd_close(&s->tls_fd);
}

int http_server_listen_tls(struct http_server *s, const char *address, bool early, struct err *e)
{
	auto_fd int fd = -1;
	sd_event_source *io = NULL;
	int r;

	if (!address || !*address) {
		tls_stop(s);
		return 0;
	}
	fd = tls_bind(address, early, e);
	if (fd < 0 && (e ? e->code : fd) == -EADDRINUSE && s->tls_fd >= 0) {
		/* Perhaps it is our own old socket that stands in the way (":8443" after "10.0.0.1:8443"):
		 * connections that are established live on. */
		tls_stop(s);
		fd = tls_bind(address, early, e);
	}
	if (fd < 0)
		return fd;
	r = listen_watch(s, fd, on_tls, &io, e);
	if (r < 0)
		return r;
	tls_stop(s);
	s->tls_io = io;
	s->tls_fd = fd_take(&fd);
	return 0;
}

struct sd_event *http_server_event(struct http_server *s)
{
	return s->ev;
}

static int mhd_start(struct http_server *s, struct err *e)
{
	const union MHD_DaemonInfo *info;
	int r;

	s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
					  MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
				  0, NULL, NULL, request_on_access, s,
				  MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
				  MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, s,
				  MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
				  MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
				  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)131072,
				  MHD_OPTION_CONNECTION_TIMEOUT, 120u, MHD_OPTION_END);
	if (!s->mhd)
		return err_set(e, -EIO, "cannot start the HTTP server");
	info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info || info->epoll_fd < 0)
		return err_set(e, -EIO, "the HTTP library has no epoll");
	r = sd_event_add_io(s->ev, &s->mhd_io, info->epoll_fd, EPOLLIN, on_mhd_io, s);
	/* Accuracy 1 µs: with the default of 250 ms uploads fall to a tenth. */
	if (r >= 0)
		r = sd_event_add_time(s->ev, &s->mhd_timer, CLOCK_MONOTONIC, UINT64_MAX, 1, on_mhd_timer, s);
	return r < 0 ? err_sys(e, r, "cannot watch the HTTP server") : 0;
}

int http_server_new(struct sd_event *ev, const char *crt_path, const char *key_path,
		    const struct http_handler *h, void *arg, struct http_server **ret, struct err *e)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->ev = sd_event_ref(ev);
	s->h = *h;
	s->arg = arg;
	s->unix_fd = -1;
	s->tls_fd = -1;
	r = tls_context_new(crt_path, key_path, &s->ssl_ctx, e);
	if (r >= 0)
		r = mhd_start(s, e);
	if (r < 0) {
		http_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct http_server *http_server_free(struct http_server *s)
{
	if (!s)
		return NULL;
	s->ending = true;
	tls_stop(s);
	sd_event_source_disable_unref(s->unix_io);
	fd_close(&s->unix_fd);
	if (s->unix_path)
		unlink(s->unix_path);
	ws_end_all(s);
	if (s->mhd) {
		/* Parked requests hold their connections: MHD must not be stopped with them asleep. */
		request_end_all(s);
		MHD_run(s->mhd);
		sd_event_source_disable_unref(s->mhd_io);
		sd_event_source_disable_unref(s->mhd_timer);
		MHD_stop_daemon(s->mhd);
	}
	tls_conn_end_all(s);
	SSL_CTX_free(s->ssl_ctx);
	free(s->unix_path);
	sd_event_unref(s->ev);
	free(s);
	return NULL;
}

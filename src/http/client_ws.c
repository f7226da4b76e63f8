/* The websocket client: connects, upgrades by hand (libcurl of Debian 12 cannot), frames by wslay. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "http/client.h"
#include "http/pin.h"
#include "http/wskey.h"

#define HEAD_MAX 16384
#define MESSAGE_MAX (16u << 20)

struct message {
	enum ws_kind kind;
	char *data;
	size_t len;
};

struct ws_client {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
	char *seen;
	wslay_event_context_ptr ws;
	struct buf early; /* came with the head of the answer */
	struct message *inbox;
	size_t n, cap;
	bool eof, want_write;
	int error;
};

/* ---- bytes, never blocking: n > 0; 0 the end; -EAGAIN; -errno ---- */

static ssize_t ssl_result(struct ws_client *w, int n)
{
	switch (SSL_get_error(w->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		w->want_write = false;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		w->want_write = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		return -ECONNRESET;
	}
}

static ssize_t bytes_read(struct ws_client *w, void *buf, size_t len)
{
	ssize_t n;

	if (w->early.len) {
		n = (ssize_t)(w->early.len < len ? w->early.len : len);
		memcpy(buf, w->early.data, (size_t)n);
		buf_drop(&w->early, (size_t)n);
		return n;
	}
	w->want_write = false;
	if (w->ssl) {
		int k;

		ERR_clear_error();
		k = SSL_read(w->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
		return k > 0 ? k : ssl_result(w, k);
	}
	do
		n = recv(w->fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t bytes_write(struct ws_client *w, const void *buf, size_t len)
{
	ssize_t n;

	if (w->ssl) {
		int k;

		ERR_clear_error();
		k = SSL_write(w->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
		if (k > 0)
			return k;
		n = ssl_result(w, k);
		return n == 0 ? -EPIPE : n;
	}
	w->want_write = true;
	do
		n = send(w->fd, buf, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Waits for what the last -EAGAIN asked for. 0, -ETIMEDOUT. */
static int bytes_wait(struct ws_client *w, int64_t until_ms)
{
	struct pollfd p = { .fd = w->fd, .events = w->want_write ? POLLOUT : POLLIN };
	int r;

	do {
		int64_t left = until_ms < 0 ? -1 : until_ms - now_ms();

		if (until_ms >= 0 && left <= 0)
			return -ETIMEDOUT;
		r = poll(&p, 1, left > 1000000 ? 1000000 : (int)left);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

/* ---- connecting ---- */

static int connect_one(const struct sockaddr *sa, socklen_t len, int timeout_s)
{
	auto_fd int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .events = POLLOUT };
	socklen_t sl = sizeof(int);
	int soerr = 0, one = 1, r;

	if (fd < 0)
		return -errno;
	if (connect(fd, sa, len) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		p.fd = fd;
		do
			r = poll(&p, 1, timeout_s * 1000);
		while (r < 0 && errno == EINTR);
		if (r == 0)
			return -ETIMEDOUT;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &soerr, &sl) < 0)
			return -errno;
		if (soerr)
			return -soerr;
	}
	if (sa->sa_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
	return fd_take(&fd);
}

static int connect_endpoint(const struct http_endpoint *ep, int timeout_s, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char port[8];
	int r;

	if (ep->unix_path) {
		if (strlen(ep->unix_path) >= sizeof(un.sun_path))
			return err_set(e, -ENAMETOOLONG, "the path %s is too long for a socket", ep->unix_path);
		strcpy(un.sun_path, ep->unix_path);
		r = connect_one((struct sockaddr *)&un, sizeof(un), timeout_s);
		return r < 0 ? err_sys(e, r, "cannot connect to %s", ep->unix_path) : r;
	}
	snprintf(port, sizeof(port), "%u", ep->port);
	r = getaddrinfo(ep->host, port, &hints, &list);
	if (r)
		return err_set(e, -EHOSTUNREACH, "cannot find %s: %s", ep->host, gai_strerror(r));
	r = -EHOSTUNREACH;
	for (struct addrinfo *a = list; a && r < 0; a = a->ai_next)
		r = connect_one(a->ai_addr, a->ai_addrlen, timeout_s);
	freeaddrinfo(list);
	return r < 0 ? err_sys(e, r, "cannot connect to %s port %s", ep->host, port) : r;
}

static int tls_start(struct ws_client *w, const struct http_endpoint *ep, int64_t until, struct err *e)
{
	int n, r;

	w->ctx = SSL_CTX_new(TLS_client_method());
	if (!w->ctx || !SSL_CTX_set_min_proto_version(w->ctx, TLS1_3_VERSION))
		return err_set(e, -ENOMEM, "cannot set up TLS");
	if (pin_install(w->ctx, ep->pin_pem, &w->seen) < 0)
		return err_set(e, -EINVAL, "the server certificate to expect is not in PEM form");
	if (ep->cert_file && (SSL_CTX_use_certificate_chain_file(w->ctx, ep->cert_file) != 1 ||
			      SSL_CTX_use_PrivateKey_file(w->ctx, ep->key_file, SSL_FILETYPE_PEM) != 1))
		return err_set(e, -EINVAL, "cannot use the certificate %s with its key", ep->cert_file);
	w->ssl = SSL_new(w->ctx);
	if (!w->ssl || !SSL_set_fd(w->ssl, w->fd))
		return err_set(e, -ENOMEM, "cannot set up TLS");
	SSL_set_mode(w->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while ((n = SSL_connect(w->ssl)) != 1) {
		r = (int)ssl_result(w, n);
		if (r == -EAGAIN)
			r = bytes_wait(w, until);
		else
			return err_set(e, -EACCES, "the TLS handshake with %s failed%s", ep->host,
				       ep->pin_pem ? " (is its certificate still the one we know?)" : "");
		if (r < 0)
			return err_sys(e, r, "the TLS handshake with %s failed", ep->host);
	}
	return 0;
}

static int write_all(struct ws_client *w, const char *data, size_t len, int64_t until)
{
	while (len) {
		ssize_t n = bytes_write(w, data, len);

		if (n == -EAGAIN)
			n = bytes_wait(w, until);
		if (n < 0)
			return (int)n;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Reads up to the empty line; what is behind it stays in w->early. */
static int head_read(struct ws_client *w, char **ret, int64_t until)
{
	auto_buf head = BUF_INIT;
	char part[2048], *end;

	for (;;) {
		ssize_t n = bytes_read(w, part, sizeof(part));

		if (n == -EAGAIN) {
			int r = bytes_wait(w, until);

			if (r < 0)
				return r;
			continue;
		}
		if (n <= 0)
			return n < 0 ? (int)n : -ECONNRESET;
		if (head.len + (size_t)n > HEAD_MAX || buf_add(&head, part, (size_t)n) < 0)
			return -EPROTO;
		end = memmem(head.data, head.len, "\r\n\r\n", 4);
		if (end)
			break;
	}
	end += 4;
	if (buf_add(&w->early, end, (size_t)(head.data + head.len - end)) < 0)
		return -ENOMEM;
	*end = '\0';
	*ret = buf_take(&head);
	return *ret ? 0 : -ENOMEM;
}

/* A refused upgrade carries an envelope with the reason. */
static int refusal(struct ws_client *w, long status, int64_t until, struct err *e)
{
	char part[4096];
	json_t *env = NULL;
	const char *text;
	size_t have = 0;
	int code = status == 404 ? -ENOENT : status == 403 || status == 401 ? -EACCES : -EIO;

	while (have < sizeof(part) - 1 && !env) {
		ssize_t n = bytes_read(w, part + have, sizeof(part) - 1 - have);

		if (n == -EAGAIN && bytes_wait(w, until) == 0)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
		env = json_loadb(part, have, JSON_DISABLE_EOF_CHECK, NULL);
	}
	text = json_string_value(json_object_get(env, "error"));
	err_set(e, code, "%s", text && *text ? text : "the server refuses a websocket");
	json_decref(env);
	return code;
}

static int upgrade(struct ws_client *w, const struct http_endpoint *ep, const char *path, int64_t until,
		   struct err *e)
{
	auto_free char *head = NULL, *request = NULL;
	unsigned char nonce[16];
	char key[32], want[WSKEY_LEN + 1], *line;
	bool v6 = ep->host && strchr(ep->host, ':');
	long status = 0;
	int r;

	if (strpbrk(path, " \r\n") || RAND_bytes(nonce, sizeof(nonce)) != 1)
		return err_set(e, -EINVAL, "\"%s\" cannot be asked for", path);
	EVP_EncodeBlock((unsigned char *)key, nonce, sizeof(nonce));
	if (asprintf(&request, "GET %s HTTP/1.1\r\nHost: %s%s%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nUser-Agent: godwit\r\n\r\n", path,
		     v6 ? "[" : "", ep->unix_path ? "unix.socket" : ep->host, v6 ? "]" : "", key) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = write_all(w, request, strlen(request), until);
	if (r >= 0)
		r = head_read(w, &head, until);
	if (r < 0)
		return err_sys(e, r, "the server does not answer the request for a websocket");
	if (sscanf(head, "HTTP/1.1 %3ld", &status) != 1 || status != 101)
		return refusal(w, status, until, e);
	r = wskey_accept(key, want);
	if (r < 0)
		return err_sys(e, r, "cannot check the websocket's key");
	for (line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
		if (strncasecmp(line + 2, "Sec-WebSocket-Accept:", 21) != 0)
			continue;
		line += 23;
		line += strspn(line, " \t");
		if (strncmp(line, want, WSKEY_LEN) == 0)
			return 0;
		break;
	}
	return err_set(e, -EPROTO, "the server's answer is not that of a websocket");
}

/* ---- framing ---- */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws_client *w = arg;
	ssize_t n = bytes_read(w, buf, len);

	(void)flags;
	if (n > 0)
		return n;
	if (n == 0)
		w->eof = true;
	else if (n != -EAGAIN)
		w->error = (int)n;
	wslay_event_set_error(ctx, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws_client *w = arg;
	ssize_t n = bytes_write(w, data, len);

	(void)flags;
	if (n >= 0)
		return n;
	if (n != -EAGAIN)
		w->error = (int)n;
	wslay_event_set_error(ctx, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static int on_genmask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *arg)
{
	(void)ctx, (void)arg;
	return RAND_bytes(buf, (int)len) == 1 ? 0 : -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	struct ws_client *w = arg;
	char *data;

	(void)ctx;
	if (m->opcode != WSLAY_TEXT_FRAME && m->opcode != WSLAY_BINARY_FRAME)
		return;
	data = malloc(m->msg_length + 1);
	if (!data || array_grow(w->inbox, w->n, w->cap) < 0) {
		free(data);
		w->error = -ENOMEM;
		return;
	}
	if (m->msg_length)
		memcpy(data, m->msg, m->msg_length);
	data[m->msg_length] = '\0';
	w->inbox[w->n++] = (struct message){ m->opcode == WSLAY_TEXT_FRAME ? WS_TEXT : WS_BINARY, data,
					     m->msg_length };
}

static int framing_start(struct ws_client *w)
{
	static const struct wslay_event_callbacks cb = {
		.recv_callback = on_recv, .send_callback = on_send, .genmask_callback = on_genmask,
		.on_msg_recv_callback = on_message,
	};

	if (wslay_event_context_client_init(&w->ws, &cb, w) != 0)
		return -ENOMEM;
	wslay_event_config_set_max_recv_msg_length(w->ws, MESSAGE_MAX);
	return 0;
}

int ws_client_open(const struct http_endpoint *ep, const char *path, struct ws_client **ret, struct err *e)
{
	int timeout_s = ep->timeout_s > 0 ? ep->timeout_s : 10, r;
	int64_t until = now_ms() + timeout_s * 1000;
	struct ws_client *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->fd = connect_endpoint(ep, timeout_s, e);
	r = w->fd;
	if (r >= 0 && !ep->unix_path)
		r = tls_start(w, ep, until, e);
	if (r >= 0)
		r = upgrade(w, ep, path, until, e);
	if (r >= 0 && framing_start(w) < 0)
		r = err_set(e, -ENOMEM, "out of memory");
	if (r < 0) {
		ws_client_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct ws_client *ws_client_free(struct ws_client *w)
{
	if (!w)
		return NULL;
	if (w->ws) {
		if (!w->error && !w->eof) {
			wslay_event_queue_close(w->ws, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
			wslay_event_send(w->ws);
		}
		wslay_event_context_free(w->ws);
	}
	if (w->ssl && !w->error)
		SSL_shutdown(w->ssl);
	SSL_free(w->ssl);
	SSL_CTX_free(w->ctx);
	fd_close(&w->fd);
	for (size_t i = 0; i < w->n; i++)
		free(w->inbox[i].data);
	free(w->inbox);
	free(w->seen);
	buf_done(&w->early);
	free(w);
	return NULL;
}

static int flush(struct ws_client *w, int64_t until)
{
	while (wslay_event_want_write(w->ws)) {
		size_t before = wslay_event_get_queued_msg_length(w->ws);
		int r;

		if (wslay_event_send(w->ws) != 0)
			return w->error ? w->error : -EPIPE;
		if (!wslay_event_want_write(w->ws))
			return 0;
		if (wslay_event_get_queued_msg_length(w->ws) != before)
			continue;
		r = bytes_wait(w, until);
		if (r < 0)
			return r;
	}
	return 0;
}

int ws_client_send(struct ws_client *w, enum ws_kind kind, const void *data, size_t len, struct err *e)
{
	struct wslay_event_msg m = { .opcode = kind == WS_TEXT ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
				     .msg = data, .msg_length = len };
	int r;

	if (w->error || w->eof || wslay_event_get_close_received(w->ws))
		return err_set(e, -EPIPE, "the server has closed the connection");
	if (wslay_event_queue_msg(w->ws, &m) != 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = flush(w, -1);
	return r < 0 ? err_sys(e, r, "cannot send to the server") : 0;
}

int ws_client_recv(struct ws_client *w, int timeout_ms, enum ws_kind *ret_kind, char **ret, size_t *ret_len,
		   struct err *e)
{
	int64_t until = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	int r;

	for (;;) {
		if (w->n) {
			struct message m = w->inbox[0];

			memmove(w->inbox, w->inbox + 1, --w->n * sizeof(m));
			*ret_kind = m.kind;
			*ret = m.data;
			*ret_len = m.len;
			return 1;
		}
		if (w->eof || (w->ws && wslay_event_get_close_received(w->ws)))
			return 0;
		if (w->error)
			return err_sys(e, w->error, "the connection to the server broke");
		r = wslay_event_recv(w->ws);
		if (wslay_event_want_write(w->ws))
			flush(w, -1);
		if (r != 0 && !w->eof && !w->error)
			w->error = -EPROTO;
		if (w->n || w->eof || w->error || wslay_event_get_close_received(w->ws))
			continue;
		w->want_write = false;
		r = bytes_wait(w, timeout_ms == 0 ? 0 : until);
		if (r == -ETIMEDOUT)
			return err_set(e, -EAGAIN, "nothing came within %d ms", timeout_ms);
		if (r < 0)
			return err_sys(e, r, "cannot wait for the server");
	}
}

int ws_client_fd(const struct ws_client *w)
{
	return w->fd;
}

/* TLS of the server: looks at the ClientHello, hands bulk connections away, terminates the others and
 * pumps their bytes between the peer and a socket pair whose other end is MHD's. */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/hello.h"
#include "http/server_int.h"

#define HELLO_DEADLINE_US (5 * 1000000ull)
#define CONNS_MAX 512
#define PUMP_SIZE 65536

enum tls_state { TLS_PEEK, TLS_HANDSHAKE, TLS_OPEN };

/* Bytes on their way in one direction. */
struct lane {
	char data[PUMP_SIZE];
	size_t at, len;
	bool eof;    /* the reading side has ended */
	bool closed; /* and the writing side was told */
};

struct tls_conn {
	struct http_server *s;
	struct tls_conn *next, **prev;
	enum tls_state state;
	char address[64];
	int fd, plain;
	SSL *ssl;
	sd_event_source *io, *plain_io, *deadline;
	struct lane *in, *out; /* peer to MHD, MHD to peer; allocated when open */
	bool write_blocked, write_wants_read;
};

static struct tls_conn *conn_free(struct tls_conn *c)
{
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->plain_io);
	sd_event_source_disable_unref(c->deadline);
	SSL_free(c->ssl);
	fd_close(&c->fd);
	fd_close(&c->plain);
	free(c->in);
	free(c->out);
	free(c);
	return NULL;
}

void tls_conn_end_all(struct http_server *s)
{
	while (s->conns)
		conn_free(s->conns);
}

/* ---- context ---- */

static int on_verify(int ok, X509_STORE_CTX *store)
{
	/* Who may do what is decided by the fingerprint; the handshake proves the key's possession. */
	(void)ok, (void)store;
	return 1;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
		   unsigned inlen, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl, (void)arg;
	if (SSL_select_next_proto((unsigned char **)out, outlen, ours, sizeof(ours) - 1, in, inlen) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

int tls_context_new(const char *crt_path, const char *key_path, SSL_CTX **ret, struct err *e)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_use_certificate_chain_file(ctx, crt_path) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1) {
		SSL_CTX_free(ctx);
		ERR_clear_error();
		return err_set(e, -EINVAL, "cannot use the server certificate %s with the key %s", crt_path,
			       key_path);
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	/* No resumption: every connection shows its certificate. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	*ret = ctx;
	return 0;
}

/* ---- pump ---- */

/* Moves what can be moved of a lane; true: something moved. -1 in *fatal: the connection is over. */
static bool lane_in(struct tls_conn *c, bool *fatal)
{
	struct lane *l = c->in;
	bool moved = false;
	ssize_t n;

	if (!l->len && !l->eof) {
		int k;

		ERR_clear_error();
		k = SSL_read(c->ssl, l->data, sizeof(l->data));
		if (k > 0) {
			l->at = 0;
			l->len = (size_t)k;
			moved = true;
		} else {
			switch (SSL_get_error(c->ssl, k)) {
			case SSL_ERROR_WANT_READ:
			case SSL_ERROR_WANT_WRITE:
				break;
			case SSL_ERROR_ZERO_RETURN:
				l->eof = true;
				break;
			default:
				*fatal = true;
				return false;
			}
		}
	}
	if (l->len) {
		n = send(c->plain, l->data + l->at, l->len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			l->at += (size_t)n;
			l->len -= (size_t)n;
			moved = true;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			/* MHD has closed: what it said before is still to be delivered. */
			l->len = 0;
			l->eof = true;
			l->closed = true;
		}
	}
	/* Whoever says goodbye wants no answer any more.  Half closed, MHD would keep a body that breaks off, and its
	 * file, for two minutes. */
	if (l->eof && !l->len && !l->closed)
		*fatal = true;
	return moved;
}

static bool lane_out(struct tls_conn *c, bool *fatal)
{
	struct lane *l = c->out;
	bool moved = false;
	ssize_t n;

	if (!l->len && !l->eof) {
		n = recv(c->plain, l->data, sizeof(l->data), MSG_DONTWAIT);
		if (n > 0) {
			l->at = 0;
			l->len = (size_t)n;
			moved = true;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			l->eof = true;
		}
	}
	c->write_blocked = c->write_wants_read = false;
	if (l->len) {
		int k;

		ERR_clear_error();
		k = SSL_write(c->ssl, l->data + l->at, (int)l->len);
		if (k > 0) {
			l->at += (size_t)k;
			l->len -= (size_t)k;
			moved = true;
		} else {
			switch (SSL_get_error(c->ssl, k)) {
			case SSL_ERROR_WANT_WRITE:
				c->write_blocked = true;
				break;
			case SSL_ERROR_WANT_READ:
				c->write_wants_read = true;
				break;
			default:
				*fatal = true;
				return false;
			}
		}
	}
	return moved;
}

static void pump(struct tls_conn *c)
{
	bool fatal = false, moved = true;
	uint32_t peer = 0, plain = 0;

	/* Bounded, so that one connection does not hold the loop; level-triggered events come again. */
	for (int i = 0; i < 16 && moved && !fatal; i++) {
		moved = lane_in(c, &fatal);
		if (!fatal)
			moved |= lane_out(c, &fatal);
	}
	if (!fatal && c->out->eof && !c->out->len) {
		SSL_shutdown(c->ssl);
		fatal = true;
	}
	if (fatal) {
		conn_free(c);
		return;
	}
	if ((!c->in->len && !c->in->eof) || c->write_wants_read)
		peer |= EPOLLIN;
	if (c->write_blocked)
		peer |= EPOLLOUT;
	if (c->in->len)
		plain |= EPOLLOUT;
	if (!c->out->len && !c->out->eof)
		plain |= EPOLLIN;
	sd_event_source_set_io_events(c->io, peer);
	sd_event_source_set_io_events(c->plain_io, plain);
	/* A hang-up is reported whatever is asked for. */
	sd_event_source_set_enabled(c->plain_io, plain ? SD_EVENT_ON : SD_EVENT_OFF);
	/* What OpenSSL has decrypted already shows in no descriptor. */
	if (moved || (!c->in->len && SSL_pending(c->ssl) > 0)) {
		uint64_t now;

		sd_event_now(c->s->ev, CLOCK_MONOTONIC, &now);
		sd_event_source_set_time(c->deadline, now);
		sd_event_source_set_enabled(c->deadline, SD_EVENT_ONESHOT);
	}
}

static int on_plain(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	pump(arg);
	return 0;
}

/* ---- handshake ---- */

static struct http_peer *peer_of(struct tls_conn *c)
{
	struct http_peer *p = calloc(1, sizeof(*p));
	X509 *x = p ? SSL_get1_peer_certificate(c->ssl) : NULL;
	unsigned char *der = NULL;
	int n;

	if (!p)
		return NULL;
	strcpy(p->address, c->address);
	if (!x)
		return p;
	n = i2d_X509(x, &der);
	X509_free(x);
	if (n <= 0 || cert_from_der(der, (size_t)n, &p->cert_pem, p->fingerprint) < 0)
		p = peer_free(p);
	OPENSSL_free(der);
	return p;
}

static int open_up(struct tls_conn *c)
{
	struct http_peer *p = peer_of(c);
	int sv[2], r;

	if (!p)
		return -ENOMEM;
	c->in = calloc(1, sizeof(*c->in));
	c->out = calloc(1, sizeof(*c->out));
	if (!c->in || !c->out || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0) {
		peer_free(p);
		return -ENOMEM;
	}
	c->plain = sv[0];
	r = sd_event_add_io(c->s->ev, &c->plain_io, c->plain, EPOLLIN, on_plain, c);
	if (r < 0) {
		close(sv[1]);
		peer_free(p);
		return r;
	}
	r = server_adopt(c->s, sv[1], p);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(c->deadline, SD_EVENT_OFF);
	c->state = TLS_OPEN;
	return 0;
}

static void handshake(struct tls_conn *c)
{
	int n;

	ERR_clear_error();
	n = SSL_accept(c->ssl);
	if (n == 1) {
		if (open_up(c) < 0)
			conn_free(c);
		else
			pump(c);
		return;
	}
	switch (SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		sd_event_source_set_io_events(c->io, EPOLLIN);
		break;
	case SSL_ERROR_WANT_WRITE:
		sd_event_source_set_io_events(c->io, EPOLLOUT);
		break;
	default:
		log_debug("TLS with %s failed: %s", c->address, ERR_reason_error_string(ERR_peek_error()));
		conn_free(c);
	}
}

/* ---- the first bytes ---- */

static void bulk_hand_over(struct tls_conn *c)
{
	struct http_server *s = c->s;
	int fd = fd_take(&c->fd);
	char address[64];

	strcpy(address, c->address);
	conn_free(c);
	if (s->h.bulk)
		s->h.bulk(fd, address, s->arg);
	else
		close(fd);
}

static void peek(struct tls_conn *c, uint32_t revents)
{
	uint8_t hello[HELLO_MAX];
	size_t need = 0;
	bool bulk = false;
	int low;
	ssize_t n = recv(c->fd, hello, sizeof(hello), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(c);
		return;
	}
	if (hello_look(hello, (size_t)n, &bulk, &need) == 0) {
		/* Half a hello and FIN would be readable for ever. */
		if (revents & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
			conn_free(c);
			return;
		}
		low = (int)n + 1;
		setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
		return;
	}
	low = 1;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	if (bulk) {
		c->io = sd_event_source_disable_unref(c->io);
		bulk_hand_over(c);
		return;
	}
	c->ssl = SSL_new(c->s->ssl_ctx);
	if (!c->ssl || !SSL_set_fd(c->ssl, c->fd)) {
		conn_free(c);
		return;
	}
	c->state = TLS_HANDSHAKE;
	handshake(c);
}

static int on_peer(sd_event_source *src, int fd, uint32_t revents, void *arg)
{
	struct tls_conn *c = arg;

	if (c->state == TLS_PEEK)
		peek(c, revents);
	else if (c->state == TLS_HANDSHAKE)
		handshake(c);
	else if (revents & (EPOLLERR | EPOLLHUP)) /* a reset: nothing can be delivered any more */
		conn_free(c);
	else
		pump(c);
	return 0;
}

static int on_deadline(sd_event_source *src, uint64_t usec, void *arg)
{
	struct tls_conn *c = arg;

	if (c->state == TLS_OPEN) {
		pump(c);
	} else {
		log_debug("%s did not finish its TLS handshake in time", c->address);
		conn_free(c);
	}
	return 0;
}

void tls_conn_start(struct http_server *s, int fd, const char *address)
{
	struct tls_conn *c;
	size_t n = 0;
	uint64_t now;

	for (c = s->conns; c; c = c->next)
		n++;
	c = n < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		log_warn("the connection of %s is refused: too many", address);
		close(fd);
		return;
	}
	c->s = s;
	c->fd = fd;
	c->plain = -1;
	strncpy(c->address, address, sizeof(c->address) - 1);
	c->next = s->conns;
	c->prev = &s->conns;
	if (c->next)
		c->next->prev = &c->next;
	s->conns = c;
	sd_event_now(s->ev, CLOCK_MONOTONIC, &now);
	if (sd_event_add_io(s->ev, &c->io, fd, EPOLLIN | EPOLLRDHUP, on_peer, c) < 0 ||
	    sd_event_add_time(s->ev, &c->deadline, CLOCK_MONOTONIC, now + HELLO_DEADLINE_US, 1000, on_deadline, c) < 0)
		conn_free(c);
}

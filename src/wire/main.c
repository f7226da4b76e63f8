/* godwit-wire - one bulk connection between two hosts.
 *
 *   godwit-wire accept --fd N --ctl N --cert FILE --key FILE
 *   godwit-wire dial --address HOST:PORT --pin FILE --ctl N
 *
 * --ctl is a SOCK_SEQPACKET socket with base/msg packets to the process that started us.
 *   accept: sends "hello id= channel= secret="; gets "accept" with a stream socket, or "refuse text=".
 *   dial:   gets "begin id= channel= secret=" with a stream socket; sends "connected" or
 *           "failed text=".
 * Then bytes are copied between that socket and the connection.  A secret never stands in argv.
 *
 * Threat model: the other end may be anybody until its line was accepted, so everything before is
 * bounded in time (10 s) and size (one line); afterwards bytes are not looked at.  This process holds
 * the server's key; it runs no code of the stream's choosing and touches no file but the two it is
 * given. */
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/msg.h"
#include "base/parse.h"
#include "wire/tls.h"
#include "wire/pump.h"

#define WIRE_DEADLINE_S 10

struct options {
	int fd, ctl;
	const char *cert, *key, *address, *pin;
};

static void socket_tune(int sock)
{
	int one = 1, idle = 5, interval = 2, count = 3;

	/* The migration notices a dead peer by its heartbeats; this only ends our own process then.  No
	 * TCP_USER_TIMEOUT: it also ends a connection whose reader is alive and merely busy (zero
	 * window, seen on 6.18), as an engine is that waits for the disk. */
	setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(sock, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(sock, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(sock, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	/* bbr without fq, the default on some hosts, is 1.4 to 2.9 times slower on short links
	 * (measured, 6.18); not being allowed to choose is no error. */
	setsockopt(sock, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* "GODWIT/1 ID CHANNEL SECRET" */
static int line_split(char *line, char *words[3], struct err *e)
{
	char *save = NULL, *w = strtok_r(line, " ", &save);

	if (!str_eq(w, "GODWIT/1"))
		return err_set(e, -EPROTO, "the first line is not of this protocol");
	for (int i = 0; i < 3; i++) {
		words[i] = strtok_r(NULL, " ", &save);
		if (!words[i])
			return err_set(e, -EPROTO, "the first line is incomplete");
	}
	return 0;
}

static int wire_accept(const struct options *o, struct err *e)
{
	struct msg m = { 0 };
	SSL_CTX *ctx;
	SSL *ssl;
	char line[512], *w[3];
	auto_fd int local = -1;
	int r;

	socket_tune(o->fd);
	fd_set_nonblock(o->fd, 0);
	r = tls_accept_ctx(o->cert, o->key, &ctx, e);
	if (r < 0)
		return r;
	r = tls_handshake(ctx, o->fd, NULL, WIRE_DEADLINE_S, &ssl, e);
	if (r < 0)
		return r;
	alarm(WIRE_DEADLINE_S);
	r = tls_read_line(ssl, line, sizeof(line), e);
	alarm(0);
	if (r == 0)
		r = line_split(line, w, e);
	if (r < 0)
		return r;
	r = msg_send(o->ctl, NULL, 0, "hello", "id", w[0], "channel", w[1], "secret", w[2], NULL);
	if (r < 0)
		return err_sys(e, r, "the daemon is gone");
	r = msg_recv(o->ctl, &m);
	if (r <= 0)
		return err_set(e, -EPIPE, "the daemon is gone");
	if (!msg_is(&m, "accept") || (local = msg_take_fd(&m, 0)) < 0) {
		const char *why = msg_get(&m, "text");

		snprintf(line, sizeof(line), "NO %s\n", why ? why : "refused");
		r = tls_write_all(ssl, line, strlen(line), e);
		SSL_shutdown(ssl);
		msg_done(&m);
		return r;
	}
	msg_done(&m);
	r = tls_write_all(ssl, "OK\n", 3, e);
	return r < 0 ? r : pump_run(ssl, local, e);
}

static int address_try(const char *address, int *ret, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
	char host[256];
	const char *colon = strrchr(address, ':'), *h = host;
	int code, fd = -1, last = ECONNREFUSED;

	if (!colon || (size_t)(colon - address) >= sizeof(host))
		return err_set(e, -EINVAL, "%s is not an address of the form HOST:PORT", address);
	memcpy(host, address, (size_t)(colon - address));
	host[colon - address] = '\0';
	if (host[0] == '[' && str_ends(host, "]")) {
		host[strlen(host) - 1] = '\0';
		h++;
	}
	code = getaddrinfo(h, colon + 1, &hints, &list);
	if (code)
		return err_set(e, -EHOSTUNREACH, "cannot resolve %s: %s", h, gai_strerror(code));
	for (a = list; a && fd < 0; a = a->ai_next) {
		struct timeval tv = { .tv_sec = WIRE_DEADLINE_S };

		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd < 0)
			continue;
		/* SO_SNDTIMEO bounds connect() as well. */
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		socket_tune(fd);
		if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			last = errno == EINPROGRESS ? ETIMEDOUT : errno;
			fd_close(&fd);
		}
	}
	freeaddrinfo(list);
	if (fd < 0)
		return err_sys(e, -last, "cannot reach the other host at %s", address);
	*ret = fd;
	return 0;
}

/* A link that has just been mended, or a neighbour just forgotten, says "no route" for a moment. */
static int address_connect(const char *address, int *ret, struct err *e)
{
	int r = -EHOSTUNREACH;

	for (int i = 0; i < 5 && r == -EHOSTUNREACH; i++) {
		if (i)
			poll(NULL, 0, 500);
		r = address_try(address, ret, e);
	}
	return r;
}

static int wire_dial(const struct options *o, struct err *e)
{
	struct msg m = { 0 };
	auto_fd int sock = -1, local = -1;
	SSL_CTX *ctx;
	SSL *ssl;
	char line[512];
	int r, n;

	r = msg_recv(o->ctl, &m);
	if (r <= 0 || !msg_is(&m, "begin") || (local = msg_take_fd(&m, 0)) < 0)
		return err_set(e, -EPIPE, "no order came");
	n = snprintf(line, sizeof(line), "GODWIT/1 %s %s %s\n", msg_get(&m, "id") ?: "",
		     msg_get(&m, "channel") ?: "", msg_get(&m, "secret") ?: "");
	msg_done(&m);
	if (n < 0 || (size_t)n >= sizeof(line))
		return err_set(e, -EINVAL, "the order is too long");
	r = address_connect(o->address, &sock, e);
	if (r < 0)
		return r;
	r = tls_dial_ctx(&ctx, e);
	if (r < 0)
		return r;
	r = tls_handshake(ctx, sock, o->pin, WIRE_DEADLINE_S, &ssl, e);
	if (r < 0)
		return r;
	r = tls_write_all(ssl, line, strlen(line), e);
	if (r < 0)
		return r;
	alarm(WIRE_DEADLINE_S);
	r = tls_read_line(ssl, line, sizeof(line), e);
	alarm(0);
	if (r < 0)
		return r;
	if (strcmp(line, "OK") != 0)
		return err_set(e, str_starts(line, "NO unknown") ? -ENOENT : -ECONNREFUSED,
			       "the other host refused the connection: %s",
			       str_starts(line, "NO ") ? line + 3 : "it answered something else");
	r = msg_send(o->ctl, NULL, 0, "connected", NULL);
	if (r < 0)
		return err_sys(e, r, "who asked for the connection is gone");
	return pump_run(ssl, local, e);
}

static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "fd", 1, NULL, 'f' },	     { "ctl", 1, NULL, 'c' }, { "cert", 1, NULL, 'C' },
		{ "key", 1, NULL, 'k' },     { "address", 1, NULL, 'a' }, { "pin", 1, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int c, r = 0;

	*o = (struct options){ .fd = -1, .ctl = -1 };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			r = parse_int(optarg, &o->fd);
			break;
		case 'c':
			r = parse_int(optarg, &o->ctl);
			break;
		case 'C':
			o->cert = optarg;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'a':
			o->address = optarg;
			break;
		case 'p':
			o->pin = optarg;
			break;
		default:
			r = -EINVAL;
		}
		if (r < 0)
			return r;
	}
	return o->ctl < 0 ? -EINVAL : 0;
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	struct options o;
	char code[16];
	int r = -EINVAL;

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "godwit-wire");
	if (argc < 2 || options_parse(argc - 1, argv + 1, &o) < 0) {
		fprintf(stderr, "usage: godwit-wire accept|dial --ctl N ... (started by godwitd)\n");
		return 2;
	}
	fd_set_cloexec(o.ctl, 1);
	if (str_eq(argv[1], "accept") && o.fd >= 0 && o.cert && o.key)
		r = wire_accept(&o, &e);
	else if (str_eq(argv[1], "dial") && o.address && o.pin)
		r = wire_dial(&o, &e);
	else
		err_set(&e, -EINVAL, "wrong arguments");
	if (r < 0) {
		snprintf(code, sizeof(code), "%d", -r);
		msg_send(o.ctl, NULL, 0, "failed", "code", code, "text", err_text(&e), NULL);
		fprintf(stderr, "godwit-wire: %s\n", err_text(&e));
		return 1;
	}
	return 0;
}

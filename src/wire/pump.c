#include "wire/pump.h"

#include <openssl/err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define PUMP_BUF (256 * 1024)
#define PUMP_LINGER_S 10

struct flow {
	char *data;
	size_t start, end; /* [start, end) of data waits to be written */
	bool in_ended;     /* the source of this direction has ended, */
	bool ended;        /*   and so has its destination been told */
};

struct pump {
	SSL *ssl;
	int local, net;
	struct flow out, in;        /* local -> TLS, TLS -> local */
	bool tls_wants_write;       /* the last TLS call waits for room in the socket */
	bool tls_wants_read;
};

static int tls_result(struct pump *p, int ret, struct err *e, const char *what)
{
	int code = SSL_get_error(p->ssl, ret);

	if (code == SSL_ERROR_WANT_READ) {
		p->tls_wants_read = true;
		return 0;
	}
	if (code == SSL_ERROR_WANT_WRITE) {
		p->tls_wants_write = true;
		return 0;
	}
	int saved = errno;
	char text[160] = "";
	unsigned long queued = ERR_get_error();

	if (queued)
		ERR_error_string_n(queued, text, sizeof(text));
	else if (code == SSL_ERROR_SYSCALL && saved)
		snprintf(text, sizeof(text), "%s", strerror(saved));
	ERR_clear_error();
	return err_set(e, -ECONNRESET, "the connection to the other host broke while %s: %s", what,
		       text[0] ? text : "it hung up");
}

static int out_step(struct pump *p, struct err *e)
{
	struct flow *f = &p->out;

	if (!f->in_ended && f->start == f->end) {
		ssize_t n = read(p->local, f->data, PUMP_BUF);

		f->start = f->end = 0;
		if (n > 0)
			f->end = (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			f->in_ended = true;
	}
	while (f->start < f->end) {
		size_t n = 0;
		int r = SSL_write_ex(p->ssl, f->data + f->start, f->end - f->start, &n);

		if (r != 1)
			return tls_result(p, r, e, "writing");
		f->start += n;
	}
	if (f->in_ended && !f->ended) {
		SSL_shutdown(p->ssl);
		f->ended = true;
	}
	return 0;
}

static int in_step(struct pump *p, struct err *e)
{
	struct flow *f = &p->in;

	if (f->start == f->end)
		f->start = f->end = 0;
	while (!f->in_ended && f->end < PUMP_BUF) {
		size_t n = 0;
		int r;

		r = SSL_read_ex(p->ssl, f->data + f->end, PUMP_BUF - f->end, &n);
		if (r == 1) {
			f->end += n;
			continue;
		}
		if (SSL_get_error(p->ssl, r) == SSL_ERROR_ZERO_RETURN) {
			f->in_ended = true;
			break;
		}
		r = tls_result(p, r, e, "reading");
		if (r < 0)
			return r;
		break;
	}
	while (f->start < f->end) {
		ssize_t n = write(p->local, f->data + f->start, f->end - f->start);

		if (n > 0) {
			f->start += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		/* Nobody reads any more: what still comes is dropped, the other direction may go on. */
		f->in_ended = true;
		f->start = f->end = 0;
	}
	if (f->in_ended && f->start == f->end && !f->ended) {
		shutdown(p->local, SHUT_WR);
		f->ended = true;
	}
	return 0;
}

static int pump_wait(struct pump *p)
{
	struct pollfd pfd[2] = { { .fd = p->net }, { .fd = p->local } };

	if (!p->in.in_ended && (p->in.start == p->in.end || p->in.end < PUMP_BUF))
		pfd[0].events |= POLLIN;
	if (p->tls_wants_write)
		pfd[0].events |= POLLOUT;
	if (p->tls_wants_read)
		pfd[0].events |= POLLIN;
	if (!p->out.in_ended && p->out.start == p->out.end)
		pfd[1].events |= POLLIN;
	if (p->in.start < p->in.end)
		pfd[1].events |= POLLOUT;
	if (p->in.ended && !pfd[1].events)
		pfd[1].fd = -1;
	if (poll(pfd, 2, -1) < 0 && errno != EINTR)
		return -errno;
	if (pfd[1].revents & POLLHUP) {
		/* Who held the local end has closed it: nobody will ever read what still comes. */
		p->in.start = p->in.end = 0;
		p->in.in_ended = p->in.ended = true;
		/* What is still to be sent gets this long; a cut link must not keep us for ever. */
		alarm(PUMP_LINGER_S);
	}
	return 0;
}

int pump_run(SSL *ssl, int local, struct err *e)
{
	auto_free char *a = malloc(PUMP_BUF), *b = malloc(PUMP_BUF);
	struct pump p = { .ssl = ssl, .local = local, .net = SSL_get_fd(ssl) };
	int r;

	if (!a || !b)
		return err_set(e, -ENOMEM, "out of memory");
	p.out.data = a;
	p.in.data = b;
	fd_set_nonblock(local, 1);
	fd_set_nonblock(p.net, 1);
	while (!p.out.ended || !p.in.ended) {
		p.tls_wants_read = p.tls_wants_write = false;
		r = out_step(&p, e);
		if (r < 0)
			return r;
		r = in_step(&p, e);
		if (r < 0)
			return r;
		if (p.out.ended && p.in.ended)
			break;
		/* Records that OpenSSL has read ahead raise no POLLIN: ask it before sleeping, but only
		 * where it did not just say that it needs more (a part of a record would spin). */
		if (!p.tls_wants_read && !p.in.in_ended && p.in.start == p.in.end && SSL_has_pending(ssl))
			continue;
		r = pump_wait(&p);
		if (r < 0)
			return err_sys(e, r, "cannot wait for the connection");
	}
	return 0;
}

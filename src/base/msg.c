#include "base/msg.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

static int word_add(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		int r;

		if (c > 0x20 && c < 0x7f && c != '%' && c != '=')
			r = buf_add(b, s, 1);
		else
			r = buf_addf(b, "%%%02X", c);
		if (r < 0)
			return r;
	}
	return 0;
}

int msg_send(int sock, const int *fds, size_t n_fds, const char *verb, ...)
{
	auto_buf b = BUF_INIT;
	const char *key;
	va_list ap;
	int r;

	r = word_add(&b, verb);
	va_start(ap, verb);
	while (r >= 0 && (key = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);

		r = buf_adds(&b, " ");
		if (r >= 0)
			r = word_add(&b, key);
		if (r >= 0)
			r = buf_adds(&b, "=");
		if (r >= 0)
			r = word_add(&b, value ? value : "");
	}
	va_end(ap);
	if (r < 0)
		return r;
	if (b.len > MSG_MAX)
		return -EMSGSIZE;
	return fd_send(sock, b.data, b.len, fds, n_fds);
}

int msg_send_u64(int sock, const char *verb, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return msg_send(sock, NULL, 0, verb, key, text, NULL);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes in place; -EPROTO on a bad escape or an escaped NUL. */
static int word_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%') {
			int a = hex(s[1]), b = a < 0 ? -1 : hex(s[2]);

			if (b < 0 || (a == 0 && b == 0))
				return -EPROTO;
			*out++ = (char)(a << 4 | b);
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	return 0;
}

int msg_parse(const char *data, size_t len, struct msg *m)
{
	char *word, *save = NULL;

	*m = (struct msg){ 0 };
	if (!len || len > MSG_MAX || memchr(data, '\0', len))
		return -EPROTO;
	m->mem_ = strndup(data, len);
	if (!m->mem_)
		return -ENOMEM;
	m->verb = strtok_r(m->mem_, " ", &save);
	if (!m->verb || word_decode(m->verb) < 0)
		goto bad;
	while ((word = strtok_r(NULL, " ", &save))) {
		char *eq = strchr(word, '=');

		if (!eq || m->n == MSG_KEYS_MAX)
			goto bad;
		*eq = '\0';
		if (word_decode(word) < 0 || word_decode(eq + 1) < 0)
			goto bad;
		m->kv[m->n].key = word;
		m->kv[m->n++].value = eq + 1;
	}
	return 0;
bad:
	msg_done(m);
	return -EPROTO;
}

int msg_recv(int sock, struct msg *m)
{
	auto_free char *packet = malloc(MSG_MAX);
	int fds[array_len(m->fds)];
	size_t n_fds = array_len(fds);
	ssize_t n;
	int r;

	*m = (struct msg){ 0 };
	if (!packet)
		return -ENOMEM;
	n = fd_recv(sock, packet, MSG_MAX, fds, &n_fds);
	if (n < 0)
		return n == -ECONNRESET ? 0 : (int)n;
	if (n == 0)
		return 0;
	r = msg_parse(packet, (size_t)n, m);
	if (r < 0) {
		for (size_t i = 0; i < n_fds; i++)
			fd_close(&fds[i]);
		return r;
	}
	memcpy(m->fds, fds, sizeof(int) * n_fds);
	m->n_fds = n_fds;
	return 1;
}

void msg_done(struct msg *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		fd_close(&m->fds[i]);
	free(m->mem_);
	*m = (struct msg){ 0 };
}

bool msg_is(const struct msg *m, const char *verb)
{
	return m->verb && strcmp(m->verb, verb) == 0;
}

const char *msg_get(const struct msg *m, const char *key)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->kv[i].key, key) == 0)
			return m->kv[i].value;
	return NULL;
}

int msg_get_u64(const struct msg *m, const char *key, uint64_t *ret)
{
	const char *v = msg_get(m, key);

	return v ? parse_u64(v, 10, ret) : -ENOENT;
}

int msg_take_fd(struct msg *m, size_t i)
{
	return i < m->n_fds ? fd_take(&m->fds[i]) : -1;
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/operation.h"

void reply_sync(struct call *c, json_t *metadata)
{
	http_respond_json(c->q, 200,
			  json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:o}", "type", "sync", "status", "Success",
				    "status_code", 200, "operation", "", "error_code", 0, "error", "", "metadata",
				    metadata ? metadata : json_object()), NULL);
}

void reply_created(struct call *c, const char *fmt, ...)
{
	auto_free char *location = NULL;
	const char *headers[] = { "Location", NULL, NULL };
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&location, fmt, ap) < 0)
		location = NULL;
	va_end(ap);
	headers[1] = location ? location : "";
	http_respond_json(c->q, 201,
			  json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:n}", "type", "sync", "status", "Success",
				    "status_code", 200, "operation", "", "error_code", 0, "error", "", "metadata"),
			  headers);
}

void reply_error(struct http_request *q, int status, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	json_t *env;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_clean(text);
	env = json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:n}", "type", "error", "status", "", "status_code", 0,
			"operation", "", "error_code", status, "error", text, "metadata");
	http_respond_json(q, (unsigned)status, env, NULL);
}

int http_of_errno(int code)
{
	switch (code) {
	case -ENOENT:
		return 404;
	case -EINVAL:
	case -EOPNOTSUPP:
	case -ENAMETOOLONG:
	case -E2BIG:
	case -EADDRINUSE:
	case -EADDRNOTAVAIL:
		return 400;
	case -EACCES:
	case -EPERM:
		return 403;
	case -EEXIST:
	case -EBUSY:
	case -EALREADY:
		return 409;
	case -ESTALE:
		return 412;
	default:
		return 500;
	}
}

void reply_err(struct call *c, const struct err *e)
{
	reply_error(c->q, http_of_errno(e->code), "%s", err_text(e));
}

void reply_operation(struct call *c, struct operation *op)
{
	char location[64];
	const char *headers[] = { "Location", location, NULL };

	snprintf(location, sizeof(location), "/1.0/operations/%s", op->id);
	http_respond_json(c->q, 202,
			  json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:o}", "type", "async", "status",
				    "Operation created", "status_code", 100, "operation", location, "error_code", 0,
				    "error", "", "metadata", op_json(op)), headers);
}

int call_recursion(struct call *c)
{
	const char *s = http_request_query(c->q, "recursion");

	return s && *s >= '0' && *s <= '2' && !s[1] ? *s - '0' : 0;
}

void reply_list(struct call *c, json_t *list, const char *prefix, const char *key)
{
	json_t *urls, *row;
	size_t i;

	if (call_recursion(c)) {
		reply_sync(c, list);
		return;
	}
	urls = json_array();
	json_array_foreach(list, i, row)
		json_array_append_new(urls, json_sprintf("%s/%s", prefix, body_str(row, key, "")));
	json_decref(list);
	reply_sync(c, urls);
}

const char *body_str(const json_t *body, const char *key, const char *dflt)
{
	const char *s = json_string_value(json_object_get(body, key));

	return s ? s : dflt;
}

/* Bytes of the UTF-8 character at s, 0: it is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : *s >= 0xe0 && *s < 0xf0 ? 3 : *s >= 0xf0 && *s < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond the last plane. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void text_clean(char *s)
{
	while (*s) {
		size_t n = utf8_len((const unsigned char *)s);

		if (n) {
			s += n;
		} else {
			*s++ = '?';
		}
	}
}

static int hex_make(char *ret, size_t bytes)
{
	unsigned char raw[64];

	if (bytes > sizeof(raw) || getrandom(raw, bytes, 0) != (ssize_t)bytes)
		return -EIO;
	for (size_t i = 0; i < bytes; i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

int uuid_make(char ret[UUID_LEN + 1])
{
	char hex[33];

	if (hex_make(hex, 16) < 0)
		return -EIO;
	hex[12] = '4';
	hex[16] = "89ab"[hex[16] & 3];
	snprintf(ret, UUID_LEN + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	return 0;
}

int secret_make(char ret[SECRET_LEN + 1])
{
	return hex_make(ret, SECRET_LEN / 2);
}

bool secret_equal(const char *a, const char *b)
{
	size_t n = strlen(a);
	volatile unsigned char diff = 0;

	if (n != strlen(b))
		return false;
	for (size_t i = 0; i < n; i++)
		diff |= (unsigned char)(a[i] ^ b[i]);
	return diff == 0;
}

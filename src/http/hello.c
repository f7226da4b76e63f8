#include "http/hello.h"

#include <string.h>

/* A window into the bytes; every take checks its bound. */
struct span {
	const uint8_t *p;
	size_t n;
};

static bool take(struct span *s, size_t n, struct span *ret)
{
	if (s->n < n)
		return false;
	*ret = (struct span){ s->p, n };
	s->p += n;
	s->n -= n;
	return true;
}

static bool take_num(struct span *s, size_t bytes, size_t *ret)
{
	struct span v;
	size_t x = 0;

	if (!take(s, bytes, &v))
		return false;
	for (size_t i = 0; i < bytes; i++)
		x = x << 8 | v.p[i];
	*ret = x;
	return true;
}

/* A vector with a length of `bytes` bytes before it. */
static bool take_vector(struct span *s, size_t bytes, struct span *ret)
{
	size_t n;

	return take_num(s, bytes, &n) && take(s, n, ret);
}

static bool alpn_has_bulk(struct span ext)
{
	struct span list, name;

	if (!take_vector(&ext, 2, &list))
		return false;
	while (list.n && take_vector(&list, 1, &name))
		if (name.n == strlen(HELLO_BULK_ALPN) && memcmp(name.p, HELLO_BULK_ALPN, name.n) == 0)
			return true;
	return false;
}

static bool hello_has_bulk(struct span record)
{
	struct span body, skip, exts, ext;
	size_t type, kind;

	if (!take_num(&record, 1, &type) || type != 1 || !take_vector(&record, 3, &body))
		return false;
	/* version and random; session id; cipher suites; compression methods */
	if (!take(&body, 34, &skip) || !take_vector(&body, 1, &skip) || !take_vector(&body, 2, &skip) ||
	    !take_vector(&body, 1, &skip) || !take_vector(&body, 2, &exts))
		return false;
	while (exts.n) {
		if (!take_num(&exts, 2, &kind) || !take_vector(&exts, 2, &ext))
			return false;
		if (kind == 16)
			return alpn_has_bulk(ext);
	}
	return false;
}

int hello_look(const uint8_t *data, size_t len, bool *ret_bulk, size_t *ret_need)
{
	size_t record;

	*ret_bulk = false;
	if (len && data[0] != 22)
		return 1;
	if (len < 5) {
		*ret_need = 5;
		return 0;
	}
	record = (size_t)data[3] << 8 | data[4];
	if (record > HELLO_MAX - 5)
		return 1;
	if (len < 5 + record) {
		*ret_need = 5 + record;
		return 0;
	}
	*ret_bulk = hello_has_bulk((struct span){ data + 5, record });
	return 1;
}

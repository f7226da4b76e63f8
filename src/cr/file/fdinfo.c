/* fdinfo - the kernel's text about a descriptor, and the maps of a user namespace.
 * The text comes from the kernel, but names in it come from the container: every bound is
 * checked. */
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/fdinfo.h"

const char *fdinfo_line(const char *text, const char *key, const char *after)
{
	size_t len = strlen(key);
	const char *p = text;

	if (after) {
		p = strchr(after, '\n');
		p = p ? p + 1 : NULL;
	}
	while (p && *p) {
		if (strncmp(p, key, len) == 0 && p[len] == ':') {
			p += len + 1;
			return p + strspn(p, " \t");
		}
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	return NULL;
}

int fdinfo_u64(const char *fdinfo, const char *key, unsigned base, uint64_t *ret)
{
	const char *p = fdinfo_line(fdinfo, key, NULL);

	if (!p)
		return -ENOENT;
	return parse_u64_at(&p, base, ret);
}

int fdinfo_i64(const char *fdinfo, const char *key, int64_t *ret)
{
	const char *p = fdinfo_line(fdinfo, key, NULL);
	uint64_t v;
	bool neg;
	int r;

	if (!p)
		return -ENOENT;
	neg = *p == '-';
	p += neg;
	r = parse_u64_at(&p, 10, &v);
	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX)
		return -ERANGE;
	*ret = neg ? -(int64_t)v : (int64_t)v;
	return 0;
}

static bool word_take(const char **p, const char *word)
{
	size_t len = strlen(word);

	*p += strspn(*p, " \t");
	if (strncmp(*p, word, len) != 0 || ((*p)[len] != ' ' && (*p)[len] != '\t'))
		return false;
	*p += len;
	*p += strspn(*p, " \t");
	return true;
}

static bool word_skip(const char **p)
{
	size_t len = strcspn(*p, " \t\n");

	if (!len)
		return false;
	*p += len;
	*p += strspn(*p, " \t");
	return true;
}

/* "1234 08:01:1234 " */
static int lock_file(const char **p, struct fdinfo_lock *l)
{
	uint64_t pid, maj, min;
	bool none = **p == '-';

	*p += none;
	if (parse_u64_at(p, 10, &pid) < 0 || pid > INT32_MAX || *(*p)++ != ' ')
		return -EINVAL;
	if (parse_u64_at(p, 16, &maj) < 0 || maj > UINT32_MAX || *(*p)++ != ':' ||
	    parse_u64_at(p, 16, &min) < 0 || min > UINT32_MAX || *(*p)++ != ':' ||
	    parse_u64_at(p, 10, &l->ino) < 0)
		return -EINVAL;
	l->pid = none ? -1 : (int)pid;
	l->major = (unsigned)maj;
	l->minor = (unsigned)min;
	*p += strspn(*p, " \t");
	return 0;
}

static int lock_range(const char *p, struct fdinfo_lock *l)
{
	uint64_t last;

	if (parse_u64_at(&p, 10, &l->start) < 0)
		return -EINVAL;
	p += strspn(p, " \t");
	if (strncmp(p, "EOF", 3) != 0) {
		if (parse_u64_at(&p, 10, &last) < 0 || last < l->start ||
		    last - l->start == UINT64_MAX)
			return -EINVAL;
		l->len = last - l->start + 1;
	}
	return l->start > INT64_MAX || l->len > INT64_MAX ? -ERANGE : 0;
}

/* "1: POSIX  ADVISORY  WRITE 1234 08:01:1234 0 EOF", behind "lock:"; "1: -> POSIX ...". */
int fdinfo_lock(const char *line, struct fdinfo_lock *ret, bool *ret_waits)
{
	struct fdinfo_lock l = { 0 };
	const char *p = line;
	uint64_t number;
	bool waits;
	int r;

	if (parse_u64_at(&p, 10, &number) < 0 || *p++ != ':')
		return -EINVAL;
	waits = word_take(&p, "->");
	if (word_take(&p, "POSIX"))
		l.kind = LOCK_POSIX;
	else if (word_take(&p, "OFDLCK"))
		l.kind = LOCK_OFD;
	else if (word_take(&p, "FLOCK"))
		l.kind = LOCK_FLOCK;
	else
		l.kind = LOCK_OTHER;
	if (l.kind != LOCK_OTHER) {
		if (!word_skip(&p)) /* ADVISORY, MANDATORY */
			return -EINVAL;
		if (word_take(&p, "WRITE"))
			l.write = true;
		else if (!word_take(&p, "READ"))
			return -EINVAL;
		r = lock_file(&p, &l);
		if (r >= 0)
			r = lock_range(p, &l);
		if (r < 0)
			return r;
	}
	*ret = l;
	if (ret_waits)
		*ret_waits = waits;
	return 0;
}

bool fdinfo_lock_same(const struct fdinfo_lock *a, const struct fdinfo_lock *b)
{
	return a->kind == b->kind && a->write == b->write && a->start == b->start && a->len == b->len &&
	       a->major == b->major && a->minor == b->minor && a->ino == b->ino;
}

/* "tfd:  5 events: 19 data: ffffffff  pos:0 ino:61 sdev:7", behind "tfd:". */
int fdinfo_epoll(const char *line, struct fdinfo_epoll *ret)
{
	struct fdinfo_epoll t;
	const char *p = line;
	uint64_t fd, events;

	if (parse_u64_at(&p, 10, &fd) < 0 || fd > INT32_MAX || !word_take(&p, "events:") ||
	    parse_u64_at(&p, 16, &events) < 0 || events > UINT32_MAX || !word_take(&p, "data:") ||
	    parse_u64_at(&p, 16, &t.data) < 0)
		return -EINVAL;
	t.fd = (int)fd;
	t.events = (uint32_t)events;
	p += strspn(p, " \t");
	if (!str_starts(p, "pos:"))
		return -EINVAL;
	p += 4;
	p += *p == '-';
	if (parse_u64_at(&p, 10, &t.pos) < 0)
		return -EINVAL;
	p += strspn(p, " \t");
	if (!str_starts(p, "ino:"))
		return -EINVAL;
	p += 4;
	if (parse_u64_at(&p, 16, &t.ino) < 0)
		return -EINVAL;
	p += strspn(p, " \t");
	if (!str_starts(p, "sdev:"))
		return -EINVAL;
	p += 5;
	if (parse_u64_at(&p, 16, &t.sdev) < 0)
		return -EINVAL;
	*ret = t;
	return 0;
}

static int field_at(const char **p, const char *key, unsigned base, uint64_t *ret)
{
	*p += strspn(*p, " \t");
	if (!str_starts(*p, key))
		return -EINVAL;
	*p += strlen(key);
	return parse_u64_at(p, base, ret);
}

/* "wd:2 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1
 * f_handle:7e9e0000640d1b6d", behind "inotify ". */
int fdinfo_inotify(const char *line, struct fdinfo_inotify *ret)
{
	struct fdinfo_inotify w = { 0 };
	const char *p = line;
	uint64_t wd, mask, ignored, bytes, type;

	if (field_at(&p, "wd:", 16, &wd) < 0 || wd > INT32_MAX ||
	    field_at(&p, "ino:", 16, &w.ino) < 0 || field_at(&p, "sdev:", 16, &w.sdev) < 0 ||
	    field_at(&p, "mask:", 16, &mask) < 0 || field_at(&p, "ignored_mask:", 16, &ignored) < 0)
		return -EINVAL;
	w.wd = (int)wd;
	w.mask = (uint32_t)mask;
	w.ignored = (uint32_t)ignored;
	if (field_at(&p, "fhandle-bytes:", 16, &bytes) < 0) {
		*ret = w; /* a file system without handles */
		return 0;
	}
	if (bytes > sizeof(w.handle) || field_at(&p, "fhandle-type:", 16, &type) < 0)
		return -EINVAL;
	w.type = (int)type;
	p += strspn(p, " \t");
	if (!str_starts(p, "f_handle:"))
		return -EINVAL;
	p += 9;
	for (w.bytes = 0; w.bytes < bytes; w.bytes++) {
		char hex[3] = { p[0], p[0] ? p[1] : 0, 0 };
		uint64_t v;

		if (!hex[0] || !hex[1] || parse_u64(hex, 16, &v) < 0)
			return -EINVAL;
		w.handle[w.bytes] = (uint8_t)v;
		p += 2;
	}
	*ret = w;
	return 0;
}

int idmap_parse(const char *text, struct idmap_range *ranges, size_t max, size_t *ret_n)
{
	const char *p = text;
	size_t n = 0;

	while (*p) {
		uint64_t v[3];

		for (size_t i = 0; i < 3; i++) {
			p += strspn(p, " \t");
			if (parse_u64_at(&p, 10, &v[i]) < 0 || v[i] > UINT32_MAX)
				return -EINVAL;
		}
		if (*p == '\n')
			p++;
		else if (*p)
			return -EINVAL;
		if (n == max)
			return -E2BIG;
		if (v[0] + v[2] > 1ull << 32 || v[1] + v[2] > 1ull << 32)
			return -ERANGE;
		ranges[n++] =
			(struct idmap_range){ (uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2] };
	}
	*ret_n = n;
	return 0;
}

#include "cr/file/given.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "cr/file/file.h"

int given_parse(const char *text, const char *kind, unsigned base, size_t n, uint64_t ret[2])
{
	uint64_t v[2] = { 0, 0 };
	const char *p;

	if (!str_starts(text, kind))
		return -EINVAL;
	p = text + strlen(kind);
	p += *p == ':';
	if (*p++ != '[')
		return -EINVAL;
	if (p[0] == ']' && !p[1])
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (base == 16 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
			p += 2;
		if (parse_u64_at(&p, base, &v[i]) < 0 || *p++ != (i + 1 < n ? ':' : ']'))
			return -EINVAL;
	}
	if (*p)
		return -EINVAL;
	memcpy(ret, v, n * sizeof(*v));
	return 1;
}

/* ---- dump ---- */

bool given_names_file(const struct cr_opts *o, int mnt_id, ino_t ino)
{
	uint64_t v[2];

	for (size_t i = 0; o && i < o->externals.n; i++)
		if (given_parse(o->externals.v[i].key, "file", 16, 2, v) == 1 && v[0] == (uint64_t)mnt_id &&
		    v[1] == ino)
			return true;
	return false;
}

void given_file_name(char ret[GIVEN_NAME_MAX], int mnt_id, ino_t ino)
{
	snprintf(ret, GIVEN_NAME_MAX, "/file[%x:%llx]", (unsigned)mnt_id, (unsigned long long)ino);
}

bool given_names_pipe(const struct cr_opts *o, ino_t ino)
{
	for (size_t i = 0; o && i < o->externals.n; i++) {
		uint64_t v[2] = { ino, 0 };

		if (given_parse(o->externals.v[i].key, "pipe", 10, 1, v) >= 0 && v[0] == ino)
			return true;
	}
	return false;
}

/* A name without DEV's number (0) is that of a terminal of which only /dev/tty was open. */
static bool tty_is(const char *key, dev_t rdev, dev_t dev, dev_t *ret_dev)
{
	uint64_t v[2];

	if (given_parse(key, "tty", 16, 2, v) != 1 || v[0] != rdev || (dev && v[1] != dev))
		return false;
	if (ret_dev)
		*ret_dev = (dev_t)v[1];
	return true;
}

bool given_names_tty(const struct cr_opts *o, dev_t rdev, dev_t dev, dev_t *ret_dev)
{
	for (size_t i = 0; o && i < o->externals.n; i++)
		if (tty_is(o->externals.v[i].key, rdev, dev, ret_dev))
			return true;
	return false;
}

/* ---- restore ---- */

bool given_allows(int fd, unsigned access)
{
	int have = fcntl(fd, F_GETFL);

	if (have < 0)
		return false;
	have &= O_ACCMODE;
	return have == O_RDWR || (unsigned)have == access;
}

static bool key_is_path(const char *key, const void *path)
{
	const char *p = path;

	return strcmp(key + (*key == '/'), p + (*p == '/')) == 0;
}

static bool key_is_pipe(const char *key, const void *ino)
{
	uint64_t v[2];

	return given_parse(key, "pipe", 10, 1, v) == 1 && v[0] == *(const uint32_t *)ino;
}

static bool key_is_numbers(const char *key, const void *numbers)
{
	const uint64_t *want = numbers;
	uint64_t v[2];

	return given_parse(key, "file", 16, 2, v) == 1 && v[0] == want[0] && v[1] == want[1];
}

static int find(const struct cr_opts *o, bool (*is)(const char *key, const void *arg), const void *arg,
		unsigned access)
{
	int first = -ENOENT;

	for (size_t i = 0; o && i < o->inherit_fds.n; i++) {
		const struct cr_pair *g = &o->inherit_fds.v[i];

		if (!is(g->key, arg))
			continue;
		if (given_allows(g->fd, access))
			return g->fd;
		if (first < 0)
			first = g->fd;
	}
	return first;
}

int given_file(const struct cr_opts *o, const char *path, unsigned access)
{
	uint64_t numbers[2] = { 0, 0 };

	if (given_parse(path + (*path == '/'), "file", 16, 2, numbers) == 1)
		return find(o, key_is_numbers, numbers, access);
	return find(o, key_is_path, path, access);
}

int given_pipe(const struct cr_opts *o, uint32_t ino, unsigned access)
{
	return find(o, key_is_pipe, &ino, access);
}

int given_tty(const struct cr_opts *o, dev_t rdev, dev_t dev)
{
	for (size_t i = 0; o && i < o->inherit_fds.n; i++)
		if (tty_is(o->inherit_fds.v[i].key, rdev, dev, NULL))
			return o->inherit_fds.v[i].fd;
	return -ENOENT;
}

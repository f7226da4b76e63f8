/* Images of an incremental dump: pages that a child has are taken out of its parents' files, as holes. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "image/priv.h"
#include "pagemap.pb-c.h"

#define PARENTS_MAX 256
#define READ_MAX (256u << 20) /* bytes of one pagemap */

/* A run of a pagemap, and where its pages are; only those that are in this image. */
struct run {
	uint64_t vaddr, end, at;
};
struct runs {
	uint32_t pages_id;
	struct run *v;
	size_t n, cap;
	uint64_t bytes; /* of the pages file */
};

static int run_add(struct runs *rs, uint64_t *last, const PagemapEntry *pe, const char *name, struct err *e)
{
	struct page_range v = { pe->vaddr, pe->nr_pages };
	bool elsewhere = (pe->has_in_parent && pe->in_parent) ||
			 (pe->has_flags && (pe->flags & PE_PARENT || !(pe->flags & PE_PRESENT)));
	int r = page_ranges_check(&v, 1, e);

	if (r < 0)
		return err_context(e, r, "%s", name);
	if (v.vaddr < *last)
		return err_set(e, -EPROTO, "%s: its runs of pages overlap or are not in order", name);
	*last = v.vaddr + v.n_pages * FOLDER_PAGE;
	if (elsewhere)
		return 0;
	if (array_grow(rs->v, rs->n, rs->cap) < 0)
		return err_sys(e, -ENOMEM, "reading %s", name);
	rs->v[rs->n++] = (struct run){ v.vaddr, *last, rs->bytes };
	rs->bytes += v.n_pages * FOLDER_PAGE;
	return 0;
}

static int runs_parse(const char *data, size_t len, const char *name, struct runs *rs, struct err *e)
{
	size_t at = sizeof(uint32_t) * 2, n;
	uint64_t last = 0;
	const uint8_t *p;
	PagemapHead *h;
	int r = folder_magic_check(data, len, PAGEMAP_MAGIC, name, e);

	if (r >= 0)
		r = folder_entry(data, len, &at, &p, &n, name, e);
	if (r < 0)
		return r;
	h = pagemap_head__unpack(NULL, n, p);
	if (!h)
		return err_set(e, -EPROTO, "%s is malformed", name);
	rs->pages_id = h->pages_id;
	pagemap_head__free_unpacked(h, NULL);
	while (at < len) {
		PagemapEntry *pe;

		r = folder_entry(data, len, &at, &p, &n, name, e);
		if (r < 0)
			return r;
		pe = pagemap_entry__unpack(NULL, n, p);
		r = pe ? run_add(rs, &last, pe, name, e) : err_set(e, -EPROTO, "%s is malformed", name);
		if (pe)
			pagemap_entry__free_unpacked(pe, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

static int runs_read(int dir, const char *name, struct runs *ret, struct err *e)
{
	auto_free char *data = NULL;
	struct runs rs = { 0 };
	uint64_t left = READ_MAX;
	size_t len;
	int r = folder_file_read(dir, name, &left, &data, &len, e);

	if (r >= 0)
		r = runs_parse(data, len, name, &rs, e);
	if (r < 0) {
		free(rs.v);
		return r;
	}
	*ret = rs;
	return 0;
}

/* The pages file for writing; it has to be as long as its pagemap says, so that no offset is another's. */
static int pages_open(int dir, const struct runs *rs, struct err *e)
{
	char name[FOLDER_NAME_MAX], self[32];
	uint64_t size = 0;
	auto_fd int fd = -1;
	int rw;

	snprintf(name, sizeof(name), "pages-%u.img", rs->pages_id);
	fd = folder_file_open(dir, name, &size, e);
	if (fd < 0)
		return fd == -ENOENT ? err_set(e, fd, "%s is missing", name) : fd;
	if (size != rs->bytes)
		return err_set(e, -EPROTO, "%s has %llu bytes, and its pagemap promises %llu", name,
			       (unsigned long long)size, (unsigned long long)rs->bytes);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	rw = open(self, O_RDWR | O_CLOEXEC);
	return rw < 0 ? err_sys(e, -errno, "opening %s for writing", name) : rw;
}

/* What both have is taken out of the older one.  Both are in order. */
static int runs_punch(const struct runs *young, const struct runs *old, int fd, uint64_t *ret, struct err *e)
{
	for (size_t i = 0, k = 0; i < young->n && k < old->n;) {
		const struct run *a = &young->v[i], *b = &old->v[k];
		uint64_t from = a->vaddr > b->vaddr ? a->vaddr : b->vaddr, to = a->end < b->end ? a->end : b->end;

		if (from < to && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)(b->at + (from - b->vaddr)), (off_t)(to - from)) < 0)
			return err_sys(e, -errno, "making a hole in pages-%u.img", old->pages_id);
		if (from < to)
			*ret += (to - from) / FOLDER_PAGE;
		if (a->end < b->end)
			i++;
		else
			k++;
	}
	return 0;
}

static int pagemap_dedup(const int *dirs, size_t n_dirs, const char *name, uint64_t *ret, struct err *e)
{
	struct runs young, old;
	int r = runs_read(dirs[0], name, &young, e);

	if (r < 0)
		return r;
	for (size_t i = 1; i < n_dirs && r >= 0; i++) {
		auto_fd int fd = -1;

		r = runs_read(dirs[i], name, &old, e);
		if (r == -ENOENT) { /* a process that was not there yet */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		fd = pages_open(dirs[i], &old, e);
		r = fd < 0 ? fd : runs_punch(&young, &old, fd, ret, e);
		free(old.v);
	}
	free(young.v);
	return r;
}

static bool is_pagemap(const char *name)
{
	const char *s = str_starts(name, "pagemap-shmem-") ? name + 14 : str_starts(name, "pagemap-") ? name + 8 : "";
	uint64_t number;

	return parse_u64_at(&s, 10, &number) >= 0 && strcmp(s, ".img") == 0;
}

/* Each image of the chain against all that are older. */
static int level_dedup(const int *dirs, size_t n_dirs, uint64_t *ret, struct err *e)
{
	int copy = openat(dirs[0], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	if (!d) {
		r = err_sys(e, -errno, "listing the images");
		fd_close(&copy);
		return r;
	}
	for (struct dirent *x; r >= 0 && (x = readdir(d));)
		if (is_pagemap(x->d_name))
			r = pagemap_dedup(dirs, n_dirs, x->d_name, ret, e);
	closedir(d);
	return r;
}

/* The link may lead anywhere: it is what the one who made the dump said. */
static int chain_open(int dir, int *dirs, size_t *n, struct err *e)
{
	dirs[0] = dir;
	for (*n = 1; *n <= PARENTS_MAX; ++*n) {
		int fd = openat(dirs[*n - 1], "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return errno == ENOENT ? 0 : err_sys(e, -errno, "opening the parent of an image");
		if (*n == PARENTS_MAX) {
			close(fd);
			return err_set(e, -ELOOP, "an image has more than %d parents", PARENTS_MAX - 1);
		}
		dirs[*n] = fd;
	}
	return 0;
}

int image_dedup(int dir_fd, uint64_t *ret_pages, struct err *e)
{
	int dirs[PARENTS_MAX], r;
	uint64_t pages = 0;
	size_t n = 0;

	r = chain_open(dir_fd, dirs, &n, e);
	for (size_t i = 0; i + 1 < n && r >= 0; i++)
		r = level_dedup(dirs + i, n - i, &pages, e);
	for (size_t i = 1; i < n; i++)
		close(dirs[i]);
	if (r >= 0)
		*ret_pages = pages;
	return r;
}

/* Files of a folder that somebody else may have made: regular ones only, beneath it, no longer than
 * they may be. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "image/priv.h"
#include "pagemap.pb-c.h"

int folder_file_open(int dir, const char *name, uint64_t *ret_size, struct err *e)
{
	/* Not waiting at a fifo that stands there instead. */
	auto_fd int fd = fd_open_beneath(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	if (fd == -ENOENT)
		return fd;
	if (fd == -ELOOP)
		return err_set(e, -EPROTO, "%s is a symbolic link, where an image should be", name);
	if (fd < 0)
		return err_sys(e, fd, "opening %s", name);
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EPROTO, "%s is not a regular file", name);
	*ret_size = (uint64_t)st.st_size;
	return fd_take(&fd);
}

int folder_file_read(int dir, const char *name, uint64_t *left, char **ret, size_t *ret_len, struct err *e)
{
	uint64_t size = 0;
	auto_fd int fd = folder_file_open(dir, name, &size, e);
	auto_free char *data = NULL;
	int r;

	if (fd < 0)
		return fd;
	if (size > *left)
		return err_set(e, -EFBIG, "%s: the images are longer than they may be", name);
	data = malloc(size + 1);
	if (!data)
		return err_sys(e, -ENOMEM, "reading %s", name);
	r = fd_read_full(fd, data, size);
	if (r < 0)
		return err_sys(e, r, "reading %s", name);
	*left -= size;
	*ret = ptr_take(data);
	*ret_len = size;
	return 0;
}

/* ---- pagemaps ---- */

void pagemap_done(struct pagemap *pm)
{
	free(pm->v);
	*pm = (struct pagemap){ 0 };
}

static int pagemap_add(struct pagemap *pm, const PagemapEntry *pe, const char *name, struct err *e)
{
	struct page_range v = { pe->vaddr, pe->nr_pages };
	uint64_t last = pm->n ? pm->v[pm->n - 1].vaddr + pm->v[pm->n - 1].n_pages * FOLDER_PAGE : 0;
	int r;

	if ((pe->has_in_parent && pe->in_parent) || (pe->has_flags && pe->flags & (PE_PARENT | PE_LAZY)))
		return err_set(e, -EOPNOTSUPP, "%s: its pages are elsewhere (an incremental or lazy image)", name);
	r = page_ranges_check(&v, 1, e);
	if (r < 0)
		return err_context(e, r, "%s", name);
	if (v.vaddr < last)
		return err_set(e, -EPROTO, "%s: its runs of pages overlap or are not in order", name);
	if (array_grow(pm->v, pm->n, pm->cap) < 0)
		return err_sys(e, -ENOMEM, "reading %s", name);
	pm->v[pm->n++] = v;
	pm->pages += v.n_pages; /* 32 bits each, and no more than there are bytes */
	return 0;
}

int folder_entry(const char *data, size_t len, size_t *at, const uint8_t **ret, size_t *ret_len,
		 const char *name, struct err *e)
{
	uint32_t n;

	if (len - *at < sizeof(n))
		return err_set(e, -EPROTO, "%s ends within an entry", name);
	memcpy(&n, data + *at, sizeof(n));
	*at += sizeof(n);
	if (n > len - *at || n > REC_LEN_MAX)
		return err_set(e, -EPROTO, "%s: an entry is longer than the file", name);
	*ret = (const uint8_t *)data + *at;
	*ret_len = n;
	*at += n;
	return 0;
}

static int entries_read(const char *data, size_t len, const char *name, struct pagemap *pm, struct err *e)
{
	size_t at = sizeof(uint32_t) * 2, n;
	const uint8_t *p;
	PagemapHead *h;
	int r = folder_entry(data, len, &at, &p, &n, name, e);

	if (r < 0)
		return r;
	h = pagemap_head__unpack(NULL, n, p);
	if (!h)
		return err_set(e, -EPROTO, "%s is malformed", name);
	pm->pages_id = h->pages_id;
	pagemap_head__free_unpacked(h, NULL);
	while (at < len) {
		PagemapEntry *pe;

		r = folder_entry(data, len, &at, &p, &n, name, e);
		if (r < 0)
			return r;
		pe = pagemap_entry__unpack(NULL, n, p);
		if (!pe)
			return err_set(e, -EPROTO, "%s is malformed", name);
		r = pagemap_add(pm, pe, name, e);
		pagemap_entry__free_unpacked(pe, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

int folder_magic_check(const char *data, size_t len, uint32_t want, const char *name, struct err *e)
{
	uint32_t magic[2] = { IMG_COMMON_MAGIC, want };

	if (len < sizeof(magic) || memcmp(data, magic, sizeof(magic)) != 0)
		return err_set(e, -EPROTO, "%s does not begin like an image of its kind", name);
	return 0;
}

int pagemap_read(int dir, const char *name, uint64_t *left, struct pagemap *ret, struct err *e)
{
	struct pagemap pm = { 0 };
	auto_free char *data = NULL;
	size_t len;
	int r = folder_file_read(dir, name, left, &data, &len, e);

	if (r < 0)
		return r;
	r = folder_magic_check(data, len, PAGEMAP_MAGIC, name, e);
	if (r >= 0)
		r = entries_read(data, len, name, &pm, e);
	if (r < 0) {
		pagemap_done(&pm);
		return r;
	}
	*ret = pm;
	return 0;
}

int pagemap_open(int dir, const struct pagemap *pm, int *ret_fd, struct err *e)
{
	char name[FOLDER_NAME_MAX];
	uint64_t size = 0;
	auto_fd int fd = -1;

	snprintf(name, sizeof(name), "pages-%u.img", pm->pages_id);
	fd = folder_file_open(dir, name, &size, e);
	if (fd == -ENOENT)
		return err_set(e, -ENOENT, "%s is missing", name);
	if (fd < 0)
		return fd;
	if (size != pm->pages * FOLDER_PAGE)
		return err_set(e, -EPROTO, "%s has %llu bytes, and its pagemap promises %llu pages", name,
			       (unsigned long long)size, (unsigned long long)pm->pages);
	*ret_fd = fd_take(&fd);
	return 0;
}

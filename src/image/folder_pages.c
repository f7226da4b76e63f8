/* Pages of a folder: its pagemaps one after the other, as frames. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "image/priv.h"
#include "mm.pb-c.h"
#include "pstree.pb-c.h"

#define FRAME_RANGES 1024u
#define VMA_ANON_SHARED (1u << 8) /* vma_entry.status */

struct part {
	uint32_t id; /* for image_next_pages */
	struct pagemap pm;
};

struct folder_pages {
	int dir; /* our own */
	struct part *v;
	size_t n, cap;
	size_t part, range; /* where we are */
	uint64_t total;
};

struct folder_pages *folder_pages_free(struct folder_pages *fp)
{
	if (!fp)
		return NULL;
	for (size_t i = 0; i < fp->n; i++)
		pagemap_done(&fp->v[i].pm);
	free(fp->v);
	fd_close(&fp->dir);
	free(fp);
	return NULL;
}
AUTO_OF_DEFINE(folder_pages)

static int part_add(struct folder_pages *fp, uint32_t id, bool shm, uint32_t number, uint64_t *left,
		    struct err *e)
{
	struct part p = { .id = id };
	char name[FOLDER_NAME_MAX];
	int r;

	pagemap_name(name, shm, number);
	r = pagemap_read(fp->dir, name, left, &p.pm, e);
	if (r == -ENOENT)
		return shm ? 0 : err_set(e, r, "%s is missing", name);
	if (r < 0)
		return r;
	if (array_grow(fp->v, fp->n, fp->cap) < 0) {
		pagemap_done(&p.pm);
		return err_sys(e, -ENOMEM, "reading %s", name);
	}
	fp->total += p.pm.pages;
	fp->v[fp->n++] = p;
	return 0;
}

static int u32_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int shared_add(struct folder_pages *fp, const struct image *im, uint64_t *left, struct err *e)
{
	auto_free uint32_t *ids = NULL;
	const struct record *rec;
	size_t pos = 0, n = 0, cap = 0;
	int r = 0;

	while ((rec = image_find(im, REC_MM, REC_ANY, &pos))) {
		const MmEntry *mm = (const MmEntry *)rec->msg;

		for (size_t i = 0; i < mm->n_vmas; i++) {
			if (!(mm->vmas[i]->status & VMA_ANON_SHARED))
				continue;
			if (!mm->vmas[i]->shmid || mm->vmas[i]->shmid > ~REC_SHM_ID(0))
				return err_set(e, -EPROTO, "shared memory has an impossible number");
			if (array_grow(ids, n, cap) < 0)
				return err_sys(e, -ENOMEM, "reading pagemaps");
			ids[n++] = (uint32_t)mm->vmas[i]->shmid;
		}
	}
	if (n)
		qsort(ids, n, sizeof(*ids), u32_cmp);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (!i || ids[i - 1] != ids[i])
			r = part_add(fp, REC_SHM_ID(ids[i] - 1), true, ids[i], left, e);
	return r;
}

int folder_pages_new(int dir, struct image *im, uint64_t *left, const uint64_t *want, struct err *e)
{
	auto_of(folder_pages) *fp = calloc(1, sizeof(*fp));
	const struct record *rec;
	size_t pos = 0;
	int r;

	if (!fp)
		return err_sys(e, -ENOMEM, "reading pagemaps");
	fp->dir = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	if (fp->dir < 0)
		return err_sys(e, -errno, "the folder of images");
	r = shared_add(fp, im, left, e);
	while (r >= 0 && (rec = image_find(im, REC_PSTREE, REC_ANY, &pos)))
		if (rec->id & REC_SHM_ID(0))
			r = err_set(e, -EPROTO, "the image has a process with an impossible pid");
		else if (image_find(im, REC_MM, rec->id, NULL))
			r = part_add(fp, rec->id, false, rec->id, left, e);
	if (r >= 0 && want && fp->total != *want)
		r = err_set(e, -EPROTO, "the checkpoint was written with %llu pages, and has %llu: a file of it is "
			    "missing or was changed", (unsigned long long)*want, (unsigned long long)fp->total);
	if (r < 0)
		return r;
	im->pages = ptr_take(fp);
	return 0;
}

int folder_pages_next(struct image *im, uint32_t *ret_id, struct page_range **ret, size_t *ret_n,
		      struct err *e)
{
	struct folder_pages *fp = im->pages;
	const struct pagemap *pm;
	struct page_range *v;
	size_t n;

	while (fp->part < fp->n && fp->range == fp->v[fp->part].pm.n) {
		fp->part++;
		fp->range = 0;
	}
	if (fp->part == fp->n) {
		im->ended = true;
		return 0;
	}
	pm = &fp->v[fp->part].pm;
	if (!fp->range) {
		int r;

		fd_close(&im->data_fd);
		r = pagemap_open(fp->dir, pm, &im->data_fd, e);
		if (r < 0)
			return r;
	}
	n = pm->n - fp->range < FRAME_RANGES ? pm->n - fp->range : FRAME_RANGES;
	v = malloc(n * sizeof(*v));
	if (!v)
		return err_sys(e, -ENOMEM, "reading pagemaps");
	memcpy(v, pm->v + fp->range, n * sizeof(*v));
	fp->range += n;
	*ret_id = fp->v[fp->part].id;
	*ret = v;
	*ret_n = n;
	return 1;
}

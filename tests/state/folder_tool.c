/* folder_tool - between the two engines of a move: what comes as a stream is kept as a folder of images, and a
 * folder is sent as a stream.
 *
 *	folder_tool save DIR <stream        folder_tool load DIR >stream */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/mem/priv.h"
#include "image/folder.h"

static int run_copy(struct image *im, struct sink *s, uint32_t id, struct page_range v, const MmEntry *mm,
		    struct err *e)
{
	static char buf[COPY_LEN];
	struct kept k = { .n = 0 };
	size_t len = v.n_pages * PAGE;
	int r = fd_read_full(image_data_fd(im), buf, len), to;

	if (r < 0)
		return err_sys(e, r, "reading pages");
	/* As a dump into a folder does. */
	if (sink_piecewise(s))
		pages_keep(&k, mm, v.vaddr, buf, len);
	else
		k = (struct kept){ .v = { v }, .data = { { buf, len } }, .n = 1, .n_data = 1 };
	if (!k.n)
		return 0;
	r = sink_pages(s, id, k.v, k.n, e);
	to = r < 0 ? r : sink_fd(s);
	for (size_t i = 0; i < k.n_data && to >= 0 && r >= 0; i++)
		r = fd_write_full(to, k.data[i].iov_base, k.data[i].iov_len);
	return r < 0 || to < 0 ? err_sys(e, r < 0 ? r : to, "writing pages") : 0;
}

static int pages_copy(struct image *im, struct sink *s, struct err *e)
{
	struct page_range *v = NULL;
	uint32_t id;
	size_t n;
	int r;

	while ((r = image_next_pages(im, image_data_fd(im), &id, &v, &n, e)) > 0) {
		const struct record *mm = id & REC_SHM_ID(0) ? NULL : image_find(im, REC_MM, id, NULL);

		for (size_t i = 0; i < n && r >= 0; i++)
			while (v[i].n_pages && r >= 0) {
				uint64_t take = v[i].n_pages < COPY_LEN / PAGE ? v[i].n_pages : COPY_LEN / PAGE;

				r = run_copy(im, s, id, (struct page_range){ v[i].vaddr, take },
					     mm ? (const MmEntry *)mm->msg : NULL, e);
				v[i].vaddr += take * PAGE;
				v[i].n_pages -= take;
			}
		free(v);
		if (r < 0)
			return r;
	}
	return r;
}

static int copy(struct image *im, struct sink *s, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < image_count(im) && r >= 0; i++) {
		const struct record *rec = image_at(im, i);

		r = sink_put(s, rec->kind, rec->id, rec->msg, e);
	}
	if (r >= 0)
		r = pages_copy(im, s, e);
	return r < 0 ? r : sink_end(s, e);
}

int main(int argc, char **argv)
{
	bool save = argc == 3 && strcmp(argv[1], "save") == 0;
	struct image *im = NULL;
	struct sink *s = NULL;
	struct err e = { 0 };
	auto_fd int dir = argc == 3 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int r;

	if (dir < 0) {
		fprintf(stderr, "folder_tool: save|load DIR\n");
		return 2;
	}
	r = save ? image_read_stream(0, &im, &e) : image_read_folder(dir, &im, &e);
	if (r >= 0)
		r = save ? sink_folder_new(dir, &s, &e) : sink_stream_new(1, &s, &e);
	if (r >= 0)
		r = copy(im, s, &e);
	if (r < 0)
		fprintf(stderr, "folder_tool %s: %s\n", argv[1], err_text(&e));
	sink_free(s);
	image_free(im);
	return r < 0;
}

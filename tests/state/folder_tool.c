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
#include "image/folder.h"

static int pages_copy(struct image *im, struct sink *s, struct err *e)
{
	static char buf[1 << 20];
	struct page_range *v = NULL;
	uint32_t id;
	size_t n;
	int r;

	while ((r = image_next_pages(im, image_data_fd(im), &id, &v, &n, e)) > 0) {
		uint64_t left = 0;
		int to;

		r = sink_pages(s, id, v, n, e);
		for (size_t i = 0; i < n; i++)
			left += v[i].n_pages * 4096;
		free(v);
		to = r < 0 ? r : sink_fd(s);
		while (to >= 0 && left && r >= 0) {
			size_t len = left < sizeof(buf) ? (size_t)left : sizeof(buf);

			r = fd_read_full(image_data_fd(im), buf, len);
			if (r >= 0)
				r = fd_write_full(to, buf, len);
			left -= len;
		}
		if (r < 0)
			return err_sys(e, r, "copying pages");
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

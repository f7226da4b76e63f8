#include "sys/pagemap.h"

#include <errno.h>
#include <unistd.h>

int pagemap_scan(int fd, uint64_t start, uint64_t end, const struct pagemap_query *q,
		 int (*each)(void *arg, uint64_t from, uint64_t to), void *arg)
{
	struct pagemap_region vec[1024];
	uint64_t from = 0, to = 0;
	struct pagemap_scan_arg a = {
		.size = sizeof(a),
		.end = end,
		.vec = (uintptr_t)vec,
		.vec_len = sizeof(vec) / sizeof(vec[0]),
		.category_inverted = q->none,
		.category_mask = q->all | q->none,
		.category_anyof_mask = q->any,
		/* Regions are split where a returned category changes: ask for one that we have fixed. */
		.return_mask = q->all ? q->all : q->any,
	};
	int n, r;

	for (a.start = start; a.start < end; a.start = a.walk_end) {
		n = ioctl(fd, PAGEMAP_IOC_SCAN, &a);
		if (n < 0)
			return -errno;
		if (a.walk_end <= a.start)
			return -EIO;
		for (int i = 0; i < n; i++) {
			if (vec[i].start == to) {
				to = vec[i].end;
				continue;
			}
			if (to > from && (r = each(arg, from, to)) < 0)
				return r;
			from = vec[i].start;
			to = vec[i].end;
		}
	}
	return to > from ? each(arg, from, to) : 0;
}

int pagemap_entries(int fd, uint64_t start, uint64_t *ret, size_t n)
{
	size_t len = n * sizeof(*ret), done = 0;
	off_t at = (off_t)(start / 4096 * sizeof(*ret));

	while (done < len) {
		ssize_t got = pread(fd, (char *)ret + done, len - done, at + (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENXIO;
		done += (size_t)got;
	}
	return 0;
}

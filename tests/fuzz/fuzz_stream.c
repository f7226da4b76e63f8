/* A stream of records from a stranger, and the tree that it describes. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cr/task/plan.h"
#include "image/record.h"
#include "pstree.pb-c.h"
#include "sys/procfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void tree(const struct image *im)
{
	struct plan_node nodes[64];
	const struct record *rec;
	size_t order[64], n = 0, pos = 0;

	while (n < 64 && (rec = image_find(im, REC_PSTREE, REC_ANY, &pos))) {
		const PstreeEntry *p = (const PstreeEntry *)rec->msg;

		nodes[n++] = (struct plan_node){ .pid = (pid_t)p->pid, .ppid = (pid_t)p->ppid,
						 .sid = (pid_t)p->sid };
	}
	plan_tree(nodes, n, order, NULL);
}

static void text(const uint8_t *data, size_t len)
{
	char *s = malloc(len + 1);
	struct proc_status st;
	struct proc_stat ps;

	if (!s)
		return;
	memcpy(s, data, len);
	s[len] = '\0';
	proc_status_parse(s, &st);
	proc_stat_parse(s, &ps);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct page_range *rg;
	struct image *im;
	uint32_t id;
	size_t n;
	int fd;

	text(data, len);
	fd = memfd_create("stream", MFD_CLOEXEC);
	if (fd < 0 || write(fd, "GWSTRM01", 8) != 8 || write(fd, data, len) != (ssize_t)len)
		abort();
	lseek(fd, 0, SEEK_SET);
	if (image_read_stream(fd, &im, NULL) >= 0) {
		tree(im);
		while (image_next_pages(im, fd, &id, &rg, &n, NULL) > 0)
			free(rg);
		image_free(im);
	}
	close(fd);
	return 0;
}

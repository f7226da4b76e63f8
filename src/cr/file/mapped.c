/* mapped - deleted files that are only mapped, looked at in the check.
 *
 * The plan of the memory registers mapped files when the tree stands (dump_ofile_of); what can be
 * refused there, a file too large to travel in records or a lost name, is found here before. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/table.h"
#include "cr/mem/vma.h"

/* Shared anonymous memory is a file to the kernel, too, and the memory's own affair. */
static bool is_memory(const char *path)
{
	return str_starts(path, "/dev/zero (deleted)") || str_starts(path, "/SYSV") ||
	       str_starts(path, "/[aio]");
}

static int mapping_check(struct dump *d, struct task *t, const struct vma *v, struct err *e)
{
	struct ofile *f;
	int fd;

	if (!v->ino || !str_ends(v->path, " (deleted)") || is_memory(v->path))
		return 0;
	fd = vma_open(t->proc_fd, v, O_RDONLY);
	if (fd < 0)
		return 0; /* gone since; the plan opens it anew and says why it cannot */
	return dump_ofile_of_path(d, t, fd, &f, e);
}

int mapped_check_tables(struct dump *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n_tasks; i++) {
		struct task *t = d->tasks[i];
		struct vma_list l = { 0 };

		if (t->zombie || vma_read_plain(t->proc_fd, &l, NULL) < 0)
			continue;
		for (size_t k = 0; r == 0 && k < l.n; k++)
			r = mapping_check(d, t, &l.v[k], e);
		vma_list_done(&l);
	}
	return r;
}

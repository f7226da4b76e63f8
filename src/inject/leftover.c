/* leftover - what a killed engine may have left in a process: slots and stubs of its further
 * threads (the last one out cannot unmap the code that others still run to their end), and, killed
 * at a few instructions, the blob.
 *
 * A stub at the site tells that there was one.  Then the next who comes looks for the mappings,
 * makes sure that no thread stands in them, and has them unmapped. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "inject/internal.h"

#define MAPS_MAX (64u << 20)

static bool is_blob(struct agent_proc *p, uint64_t at)
{
	uint8_t head[AGENT_BLOB_HEAD];

	return proc_read(p, at, head, sizeof(head), NULL) >= 0 && proc_blob_is(head);
}

static bool is_chunk(struct agent_proc *p, uint64_t at)
{
	uint64_t magic;

	return proc_read(p, at + AGENT_CHUNK_STUBS, &magic, sizeof(magic), NULL) >= 0 &&
	       magic == AGENT_SLOT_MAGIC;
}

int leftovers_find(struct agent_proc *p, struct leftovers *ret)
{
	auto_free char *maps = NULL;
	char path[32], *line, *save = NULL;
	int r;

	ret->n = 0;
	snprintf(path, sizeof(path), "%d/maps", p->pid);
	r = fd_read_file_at(p->proc_fd, path, MAPS_MAX, &maps, NULL);
	if (r < 0)
		return r;
	for (line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long start, end, inode;
		char perm[5], name[8] = "";
		uint64_t len = 0;

		if (sscanf(line, "%llx-%llx %4s %*s %*s %llu %7s", &start, &end, perm, &inode,
			   name) < 4)
			continue;
		if (perm[2] != 'x' || perm[3] != 'p' || inode || *name || ret->n == LEFTOVERS_MAX)
			continue;
		if (end - start == AGENT_CHUNK_STUBS && is_chunk(p, start))
			len = AGENT_CHUNK_LEN;
		else if ((end - start == AGENT_SPAN || end - start == AGENT_TEXT) &&
			 is_blob(p, start))
			len = AGENT_SPAN;
		if (len)
			ret->list[ret->n++] = (struct leftover){ start, len };
	}
	return 0;
}

static bool inside(const struct leftovers *l, uint64_t site, uint64_t rip)
{
	if (rip - site < ARCH_STUB_MAX)
		return true;
	for (size_t i = 0; i < l->n; i++)
		if (rip - l->list[i].start < l->list[i].len)
			return true;
	return false;
}

/* A thread that we have not stopped may be anywhere. */
bool leftovers_used(struct agent_proc *p, const struct leftovers *l, uint64_t site)
{
	struct dirent *de;
	bool used = false;
	char path[32];
	DIR *d;
	int fd;

	snprintf(path, sizeof(path), "%d/task", p->pid);
	fd = openat(p->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d) {
		fd_close(&fd);
		return true;
	}
	while (!used && (de = readdir(d))) {
		struct user_regs_struct gp;

		if (de->d_name[0] == '.')
			continue;
		used = seize_get_gp(atoi(de->d_name), &gp, NULL) < 0 || inside(l, site, gp.rip);
	}
	closedir(d);
	return used;
}

int leftovers_remove(struct agent *a, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < a->p->stale.n && r >= 0; i++)
		r = AGENT_CALL(a, NULL, e, SYS_munmap, a->p->stale.list[i].start,
			       a->p->stale.list[i].len);
	a->p->stale.n = 0;
	return r;
}

#include "cr/sock/owned.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/procfs.h"

static int cmp(const void *a, const void *b)
{
	const struct owned_sock *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int process_read(int dir, pid_t pid, struct owned *o)
{
	auto_free int *fds = NULL;
	size_t n = 0;

	if (proc_fds(dir, &fds, &n, NULL) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		char path[32], link[64];
		ssize_t len;
		uint32_t ino;

		snprintf(path, sizeof(path), "fd/%d", fds[i]);
		len = readlinkat(dir, path, link, sizeof(link) - 1);
		if (len < 0)
			continue;
		link[len] = 0;
		if (sscanf(link, "socket:[%u]", &ino) != 1 || !ino)
			continue;
		if (array_grow(o->v, o->n, o->cap) < 0)
			return -ENOMEM;
		o->v[o->n++] = (struct owned_sock){ ino, pid, fds[i] };
	}
	return 0;
}

static void sort(struct owned *o)
{
	size_t kept = 0;

	if (!o->n)
		return;
	qsort(o->v, o->n, sizeof(*o->v), cmp);
	for (size_t i = 0; i < o->n; i++)
		if (!kept || o->v[kept - 1].ino != o->v[i].ino)
			o->v[kept++] = o->v[i];
	o->n = kept;
}

int owned_read(pid_t root, struct owned *ret)
{
	auto_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free pid_t *pids = NULL;
	size_t n = 0, cap = 0;
	int r = proc < 0 ? -errno : array_grow(pids, n, cap);

	*ret = (struct owned){ 0 };
	if (r == 0)
		pids[n++] = root;
	for (size_t i = 0; i < n && r == 0; i++) {
		auto_fd int dir = proc_open(proc, pids[i]);
		auto_free pid_t *kids = NULL;
		size_t n_kids = 0;

		if (dir < 0)
			continue;
		r = process_read(dir, pids[i], ret);
		if (r < 0 || proc_children(dir, pids[i], &kids, &n_kids, NULL) < 0)
			continue;
		for (size_t k = 0; k < n_kids && r == 0; k++) {
			r = array_grow(pids, n, cap);
			if (r == 0)
				pids[n++] = kids[k];
		}
	}
	sort(ret);
	if (r < 0)
		owned_done(ret);
	return r;
}

const struct owned_sock *owned_find(const struct owned *o, uint32_t ino)
{
	struct owned_sock key = { .ino = ino };

	return ino && o->n ? bsearch(&key, o->v, o->n, sizeof(key), cmp) : NULL;
}

void owned_done(struct owned *o)
{
	free(o->v);
	*o = (struct owned){ 0 };
}

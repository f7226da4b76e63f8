#include "cr/ns/home.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/ns/ns.h"

int home_note(struct home *h, unsigned flag, struct err *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_file(flag));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "opening our %s namespace", ns_file(flag));
	h->v[h->n].flag = flag;
	h->v[h->n++].fd = fd;
	if (flag != CLONE_NEWNS)
		return 0;
	h->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	h->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return h->root < 0 || h->cwd < 0 ? err_sys(e, -errno, "opening our root and working folder") : 0;
}

void home_forget(struct home *h)
{
	for (size_t i = 0; i < h->n; i++)
		fd_close(&h->v[i].fd);
	h->n = 0;
	fd_close(&h->root);
	fd_close(&h->cwd);
}

int home_return(struct home *h, struct err *e)
{
	int x = 0;

	for (size_t i = 0; i < h->n; i++) {
		unsigned flag = h->v[i].flag;

		if (setns(h->v[i].fd, (int)flag) < 0 ||
		    (flag == CLONE_NEWNS && (fchdir(h->root) < 0 || chroot(".") < 0 || fchdir(h->cwd) < 0)))
			x = err_sys(e, -errno, "returning to our %s namespace", ns_file(flag));
	}
	home_forget(h);
	return x;
}

#include "api/running.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api/instance.h"
#include "api/operation.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "runtime/runpid.h"

struct runner {
	struct api *a;
	struct runner *next, **prev;
	char *name;
	int pidfd;
	sd_event_source *io;
};

static struct runner *runner_find(struct api *a, const char *name)
{
	for (struct runner *r = a->runners; r; r = r->next)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

static void runner_free(struct runner *r)
{
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	sd_event_source_disable_unref(r->io);
	fd_close(&r->pidfd);
	free(r->name);
	free(r);
}

static int on_end(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct runner *r = arg;
	struct api *a = r->a;
	auto_free char *name = ptr_take(r->name);

	runner_free(r);
	/* A restart may have put another monitor into its place. */
	if (!running_scan(a, name))
		instance_stopped(a, name);
	return 0;
}

bool running_scan(struct api *a, const char *name)
{
	struct runner *r = runner_find(a, name);
	auto_free char *dir = NULL;
	auto_fd int fd = -1;

	if (asprintf(&dir, "%s/%s", a->run_dir, name) < 0)
		return r != NULL;
	fd = runpid_open_file(dir, "monitor", NULL);
	if (fd < 0) {
		if (r)
			runner_free(r);
		return false;
	}
	if (r)
		runner_free(r);
	r = calloc(1, sizeof(*r));
	if (!r || !(r->name = strdup(name))) {
		free(r);
		return true;
	}
	r->a = a;
	r->pidfd = fd_take(&fd);
	r->next = a->runners;
	r->prev = &a->runners;
	if (r->next)
		r->next->prev = &r->next;
	a->runners = r;
	if (sd_event_add_io(a->ev, &r->io, r->pidfd, EPOLLIN, on_end, r) < 0)
		log_error("cannot watch the container %s", name);
	return true;
}

bool running_is(struct api *a, const char *name)
{
	return runner_find(a, name) || running_scan(a, name);
}

pid_t running_init(struct api *a, const char *name)
{
	auto_free char *dir = NULL;
	auto_fd int fd = -1;
	pid_t pid = 0;

	if (asprintf(&dir, "%s/%s", a->run_dir, name) < 0)
		return 0;
	fd = runpid_open_file(dir, "init", &pid);
	return fd < 0 ? 0 : pid;
}

void running_free_all(struct api *a)
{
	while (a->runners)
		runner_free(a->runners);
}

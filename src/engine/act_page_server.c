#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "engine/action.h"
#include "engine/folders.h"
#include "engine/page_server.h"

static int connection_serve(int listener, int images_fd, struct err *e)
{
	struct pollfd gone = { .events = POLLIN };
	auto_fd int sk = -1;
	int r;

	while ((sk = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
		if (errno != EINTR && errno != ECONNABORTED)
			return err_sys(e, -errno, "waiting for a dump");
	r = page_server_serve(sk, images_fd, e);
	/* The dump hangs up first: so the port is free again when we have gone. */
	gone.fd = sk;
	if (r >= 0)
		poll(&gone, 1, 1000);
	return r;
}

/* Where nobody is to wait for it, it is our child's child, and the one in between says who it is. */
static pid_t process_start(bool child)
{
	pid_t pid, inner = -1;
	int ends[2];

	fflush(NULL);
	if (child)
		return fork();
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		setsid();
		inner = fork();
		if (inner != 0)
			_exit(inner < 0 || write(ends[1], &inner, sizeof(inner)) != sizeof(inner));
	}
	close(ends[1]);
	if (pid > 0) {
		if (fd_read_full(ends[0], &inner, sizeof(inner)) < 0)
			inner = -1;
		waitpid(pid, NULL, 0);
	}
	close(ends[0]);
	return pid > 0 ? inner : pid;
}

/* Whoever reads what its child says must not wait for this one. */
static void stdio_leave(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	fd_close(&null);
}

int page_server_start(struct options *o, bool child, int ours, pid_t *ret_pid, int *ret_port, struct err *e)
{
	auto_fd int listener = page_server_listen(o, ret_port, e);
	struct err why = { 0 };
	int r;
	pid_t pid;

	if (listener < 0)
		return listener;
	pid = process_start(child);
	if (pid < 0)
		return err_sys(e, -errno, "starting the page server");
	if (pid > 0) {
		*ret_pid = pid;
		return 0;
	}
	fd_close(&ours);
	if (!child)
		stdio_leave();
	r = connection_serve(listener, o->cr.images_fd, &why);
	if (r < 0)
		log_error("%s", err_text(&why));
	_exit(r < 0 ? EXIT_FAILED : EXIT_OK);
}

static int foreground(struct options *o, struct err *e)
{
	auto_fd int listener = -1;
	int port, r;

	if (o->ps_socket >= 0) {
		r = status_say(o, e);
		return r < 0 ? r : page_server_serve(o->ps_socket, o->cr.images_fd, e);
	}
	listener = page_server_listen(o, &port, e);
	if (listener < 0)
		return listener;
	if (!o->port) {
		printf("port %d\n", port);
		fflush(stdout);
	}
	r = o->pidfile ? pidfile_write(o->pidfile, getpid(), e) : 0;
	if (r >= 0)
		r = status_say(o, e);
	return r < 0 ? r : connection_serve(listener, o->cr.images_fd, e);
}

int action_page_server(struct options *o, struct err *e)
{
	pid_t pid;
	int port, r;

	if (!o->daemon)
		return foreground(o, e);
	r = page_server_start(o, false, -1, &pid, &port, e);
	if (r < 0)
		return r;
	if (!o->port)
		printf("port %d\n", port);
	return o->pidfile ? pidfile_write(o->pidfile, pid, e) : 0;
}

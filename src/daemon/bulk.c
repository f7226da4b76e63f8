#include "daemon/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "runtime/program.h"

#define WIRES_MAX 64
#define FD_WIRE 3
#define FD_CTL 4

struct wire {
	struct api *api;
	struct wire *next, **prev;
	char address[64];
	pid_t pid;
	int pidfd, ctl;
	sd_event_source *child, *io;
};

/* Set up once by main; the paths live as long as the daemon. */
static struct {
	const char *crt, *key;
	struct wire *wires;
} bulk;

void bulk_setup(const char *crt_path, const char *key_path)
{
	bulk.crt = crt_path;
	bulk.key = key_path;
}

static void wire_free(struct wire *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	sd_event_source_disable_unref(w->child);
	sd_event_source_disable_unref(w->io);
	fd_close(&w->pidfd);
	fd_close(&w->ctl);
	free(w);
}

static int on_exit_(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct wire *w = arg;
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, (id_t)w->pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
		return 0;
	wire_free(w);
	return 0;
}

/* "hello id= channel= secret=": the job that it is for gets one end of a stream, wire the other. */
static void hello(struct wire *w, const struct msg *m)
{
	const char *id = msg_get(m, "id"), *channel = msg_get(m, "channel"), *secret = msg_get(m, "secret");
	auto_fd int ours = -1, theirs = -1;
	struct err e = { 0 };
	int sv[2], r;

	if (!id || !channel || !secret) {
		r = err_set(&e, -EPROTO, "the hello is incomplete");
	} else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0) {
		r = err_sys(&e, -errno, "cannot make a socket pair");
	} else {
		ours = sv[0];
		theirs = sv[1];
		r = api_channel(w->api, id, channel, secret, theirs, &e);
	}
	if (r < 0) {
		log_warn("the bulk connection from %s is refused: %s", w->address, err_text(&e));
		/* Who does not know the secret learns nothing of what there is. */
		msg_send(w->ctl, NULL, 0, "refuse", "text", r == -ENOENT ? "unknown" : err_text(&e), NULL);
		return;
	}
	log_debug("bulk connection %s of %s from %s", channel, id, w->address);
	msg_send(w->ctl, &ours, 1, "accept", NULL);
}

static int on_ctl(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct wire *w = arg;
	struct msg m;
	int r = msg_recv(w->ctl, &m);

	if (r == -EAGAIN)
		return 0;
	if (r <= 0) {
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
		return 0;
	}
	if (msg_is(&m, "hello"))
		hello(w, &m);
	else if (msg_is(&m, "failed"))
		log_info("the bulk connection from %s ended: %s", w->address, msg_get(&m, "text") ?: "");
	msg_done(&m);
	return 0;
}

/* Both descriptors come to fixed numbers whatever they are now. */
static _Noreturn void child(const char *program, int fd, int ctl)
{
	char fd_text[8], ctl_text[8];
	const char *argv[] = { program, "accept", "--fd", fd_text, "--ctl", ctl_text, "--cert", bulk.crt, "--key",
			       bulk.key, NULL };
	sigset_t none;
	int a = fcntl(fd, F_DUPFD, 10), b = fcntl(ctl, F_DUPFD, 10), null = open("/dev/null", O_RDWR);

	snprintf(fd_text, sizeof(fd_text), "%d", FD_WIRE);
	snprintf(ctl_text, sizeof(ctl_text), "%d", FD_CTL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (a < 0 || b < 0 || null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0 || dup2(a, FD_WIRE) < 0 ||
	    dup2(b, FD_CTL) < 0)
		_exit(126);
	syscall(SYS_close_range, FD_CTL + 1, ~0u, 0);
	execv(program, (char *const *)argv);
	_exit(127);
}

static int wire_start(struct api *a, int fd, const char *address, struct err *e)
{
	auto_free char *program = NULL;
	auto_fd int ours = -1, theirs = -1;
	struct wire *w;
	size_t n = 0;
	int sv[2], r = program_find("godwit-wire", &program, e);

	if (r < 0)
		return r;
	for (w = bulk.wires; w; w = w->next)
		n++;
	if (n >= WIRES_MAX)
		return err_set(e, -EMFILE, "too many bulk connections");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(e, -errno, "cannot make a socket pair");
	ours = sv[0];
	theirs = sv[1];
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->api = a;
	w->ctl = -1;
	w->pidfd = -1;
	strncpy(w->address, address, sizeof(w->address) - 1);
	w->next = bulk.wires;
	w->prev = &bulk.wires;
	if (w->next)
		w->next->prev = &w->next;
	bulk.wires = w;
	w->pid = fork();
	if (w->pid == 0)
		child(program, fd, theirs);
	if (w->pid < 0) {
		r = err_sys(e, -errno, "cannot start godwit-wire");
		wire_free(w);
		return r;
	}
	w->ctl = fd_take(&ours);
	w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	r = w->pidfd < 0 ? -errno : fd_set_nonblock(w->ctl, 1);
	if (r >= 0)
		r = sd_event_add_io(api_event(a), &w->io, w->ctl, EPOLLIN, on_ctl, w);
	if (r >= 0)
		r = sd_event_add_io(api_event(a), &w->child, w->pidfd, EPOLLIN, on_exit_, w);
	if (r < 0) {
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
		wire_free(w);
		return err_sys(e, r, "cannot watch godwit-wire");
	}
	return 0;
}

void bulk_accept(int fd, const char *address, void *arg)
{
	struct err e = { 0 };

	if (wire_start(arg, fd, address, &e) < 0)
		log_error("the bulk connection from %s: %s", address, err_text(&e));
	close(fd);
}

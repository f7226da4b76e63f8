/* The daemon's side of a job: start it, hear it, see its end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "job/job.h"

struct job_handle {
	pid_t pid;
	int sock, pidfd;
	sd_event_source *io, *child;
	struct job_events ev;
	void *arg;
	json_t *result;   /* of "done" */
	int fail_code;    /* of "failed"; 0: it has not said so */
	char *fail_text;
};

static void handle_free(struct job_handle *h)
{
	sd_event_source_disable_unref(h->io);
	sd_event_source_disable_unref(h->child);
	fd_close(&h->sock);
	fd_close(&h->pidfd);
	json_decref(h->result);
	free(h->fail_text);
	free(h);
}

static json_t *json_of(struct msg *m)
{
	const char *text = msg_get(m, "json");

	return text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static void hear(struct job_handle *h, struct msg *m)
{
	uint64_t code;

	if (msg_is(m, "metadata")) {
		json_t *obj = json_of(m);

		if (json_is_object(obj) && h->ev.metadata)
			h->ev.metadata(h, obj, h->arg);
		json_decref(obj);
	} else if (msg_is(m, "lifecycle")) {
		if (h->ev.lifecycle && msg_get(m, "action") && msg_get(m, "source"))
			h->ev.lifecycle(h, msg_get(m, "action"), msg_get(m, "source"), h->arg);
	} else if (msg_is(m, "committed")) {
		if (h->ev.committed)
			h->ev.committed(h, h->arg);
	} else if (msg_is(m, "done")) {
		json_decref(h->result);
		h->result = json_of(m);
		if (!json_is_object(h->result)) {
			json_decref(h->result);
			h->result = json_object();
		}
	} else if (msg_is(m, "failed")) {
		h->fail_code = msg_get_u64(m, "code", &code) == 0 && code >= 400 && code <= 599 ?
				       (int)code : 500;
		free(h->fail_text);
		h->fail_text = strdup(msg_get(m, "text") ? msg_get(m, "text") : "");
	} else if (h->ev.message) {
		h->ev.message(h, m, h->arg);
	}
}

/* All that is there now.  0: the job has closed its end. */
static int drain(struct job_handle *h)
{
	for (;;) {
		struct msg m;
		int r = msg_recv(h->sock, &m);

		if (r == -EAGAIN)
			return 1;
		if (r <= 0)
			return 0;
		hear(h, &m);
		msg_done(&m);
	}
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct job_handle *h = arg;

	if (drain(h) == 0)
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
	return 0;
}

static void finish(struct job_handle *h, const siginfo_t *si)
{
	char text[128];

	if (h->fail_code) {
		h->ev.ended(h, h->fail_code, h->fail_text ? h->fail_text : "", NULL, h->arg);
	} else if (h->result) {
		h->ev.ended(h, 0, "", h->result, h->arg);
	} else {
		snprintf(text, sizeof(text), "the job ended without a result (%s %d)",
			 si->si_code == CLD_EXITED ? "exit status" : "signal", si->si_status);
		h->ev.ended(h, 500, text, NULL, h->arg);
	}
	handle_free(h);
}

static int on_exit_(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct job_handle *h = arg;
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, (id_t)h->pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
		return 0;
	drain(h);
	finish(h, &si);
	return 0;
}

static _Noreturn void child(const char *self, const char *verb, int sock)
{
	const char *argv[] = { self, "job", verb, NULL };
	sigset_t none;
	int null;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	null = open("/dev/null", O_RDWR);
	/* stdout is the log as well: what a library prints must not get lost in silence. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
		_exit(126);
	if (sock == JOB_FD ? fd_set_cloexec(sock, 0) < 0 : dup2(sock, JOB_FD) < 0)
		_exit(126);
	syscall(SYS_close_range, JOB_FD + 1, ~0u, 0);
	execv(self, (char *const *)argv);
	_exit(127);
}

static int send_begin(int sock, const char *state_dir, json_t *spec, const int *fds, size_t n_fds)
{
	auto_free char *text = NULL;

	if (json_object_set_new(spec, "state_dir", json_string(state_dir)) < 0)
		return -ENOMEM;
	text = json_dumps(spec, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	return msg_send(sock, fds, n_fds, "begin", "json", text, NULL);
}

int job_start(struct sd_event *ev, const char *self, const char *state_dir, const char *verb, json_t *spec,
	      const int *fds, size_t n_fds, const struct job_events *events, void *arg,
	      struct job_handle **ret, struct err *e)
{
	auto_fd int ours = -1, theirs = -1;
	struct job_handle *h;
	int sv[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(e, -errno, "cannot make a socket pair");
	ours = sv[0];
	theirs = sv[1];
	/* Sent before the fork: it waits in the socket, and a failure costs no process. */
	r = send_begin(ours, state_dir, spec, fds, n_fds);
	if (r < 0)
		return err_sys(e, r, "cannot hand the job its description");
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	h->ev = *events;
	h->arg = arg;
	h->sock = -1;
	h->pidfd = -1;
	h->pid = fork();
	if (h->pid < 0) {
		r = err_sys(e, -errno, "cannot start the job %s", verb);
		handle_free(h);
		return r;
	}
	if (h->pid == 0)
		child(self, verb, theirs);
	h->sock = fd_take(&ours);
	h->pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
	r = h->pidfd < 0 ? -errno : fd_set_nonblock(h->sock, 1);
	if (r >= 0)
		r = sd_event_add_io(ev, &h->io, h->sock, EPOLLIN, on_io, h);
	if (r >= 0)
		r = sd_event_add_io(ev, &h->child, h->pidfd, EPOLLIN, on_exit_, h);
	/* The messages before the end: `on_exit_` drains anyway, this only keeps their order natural. */
	if (r >= 0)
		r = sd_event_source_set_priority(h->child, SD_EVENT_PRIORITY_NORMAL + 10);
	if (r < 0) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, NULL, 0);
		handle_free(h);
		return err_sys(e, r, "cannot watch the job %s", verb);
	}
	*ret = h;
	return 0;
}

int job_tell(struct job_handle *h, const int *fds, size_t n_fds, const char *verb, const char *key,
	     const char *value)
{
	return key ? msg_send(h->sock, fds, n_fds, verb, key, value, NULL) :
		     msg_send(h->sock, fds, n_fds, verb, NULL);
}

void job_cancel(struct job_handle *h)
{
	job_tell(h, NULL, 0, "cancel", NULL, NULL);
}

pid_t job_pid(const struct job_handle *h)
{
	return h->pid;
}

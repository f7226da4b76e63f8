#include "migrate/session.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/disk.h"
#include "runtime/program.h"

int session_open(struct session *s, struct job *job, struct err *e)
{
	const char *id = json_string_value(json_object_get(job->spec, "id"));
	const char *name = json_string_value(json_object_get(job->spec, "name"));

	*s = (struct session){ .job = job, .engine_ctl = -1, .child_err = -1, .child_text = BUF_INIT };
	control_init(&s->ctl);
	s->id = strdup(id ? id : "");
	s->name = strdup(name ? name : "");
	if (!s->id || !s->name)
		return err_set(e, -ENOMEM, "out of memory");
	return db_open(job->state_dir, &s->db, e);
}

static void child_reap(pid_t *pid, int sig)
{
	if (*pid <= 0)
		return;
	kill(*pid, sig);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

void session_close(struct session *s)
{
	session_engine_kill(s);
	session_child_kill(s);
	buf_done(&s->child_text);
	control_close(&s->ctl);
	for (size_t i = 0; i < s->n_channels; i++)
		fd_close(&s->channels[i].fd);
	s->n_channels = 0;
	for (size_t i = 0; i < s->n_engine_queue; i++)
		msg_done(&s->engine_queue[i]);
	s->n_engine_queue = 0;
	db_free(ptr_take(s->db));
	free(ptr_take(s->id));
	free(ptr_take(s->name));
}

/* ---------------------------------------- what may come ---------------------------------------- */

static void progress_tell(struct session *s)
{
	uint64_t now = now_ms();

	if (now - s->progress_ms < 200)
		return;
	s->progress_ms = now;
	job_progress(s->job, "memory", "memory: %llu of %llu MiB",
		     (unsigned long long)(s->bytes >> 20), (unsigned long long)(s->total >> 20));
}

static int engine_message(struct session *s, struct err *e)
{
	struct msg m;
	int r = msg_recv(s->engine_ctl, &m);

	if (r == -EAGAIN)
		return 0;
	if (r <= 0) {
		fd_close(&s->engine_ctl);
		return 0; /* its status says the rest */
	}
	if (msg_is(&m, "progress")) {
		msg_get_u64(&m, "bytes", &s->bytes);
		msg_get_u64(&m, "total", &s->total);
		progress_tell(s);
	} else if (msg_is(&m, "failed") || msg_is(&m, "refused")) {
		const char *text = msg_get(&m, "text");

		r = err_set(e, msg_is(&m, "refused") ? -EOPNOTSUPP : -EIO, "%s",
			    text ? text : "the engine failed and did not say why");
		msg_done(&m);
		return r;
	} else if (s->n_engine_queue < array_len(s->engine_queue)) {
		s->engine_queue[s->n_engine_queue++] = m;
		return 0;
	}
	msg_done(&m);
	return 0;
}

static int job_message(struct session *s, struct err *e)
{
	struct msg m;
	int r = msg_recv(s->job->fd, &m);

	if (r == -EAGAIN)
		return 0;
	if (r <= 0) {
		if (!s->detached)
			return err_set(e, -ECANCELED, "the daemon of this host went away");
		fd_close(&s->job->fd);
		return 0;
	}
	if (msg_is(&m, "cancel") && !s->detached)
		r = err_set(e, -ECANCELED, "the move was cancelled");
	if (msg_is(&m, "channel") && m.n_fds && s->n_channels < array_len(s->channels)) {
		const char *name = msg_get(&m, "name");

		snprintf(s->channels[s->n_channels].name, sizeof(s->channels[0].name), "%s",
			 name ? name : "");
		s->channels[s->n_channels++].fd = msg_take_fd(&m, 0);
	}
	msg_done(&m);
	return r < 0 ? r : 0;
}

static void child_output(struct session *s)
{
	char text[4096];
	ssize_t n = read(s->child_err, text, sizeof(text));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		fd_close(&s->child_err);
	if (n > 0) {
		buf_add(&s->child_text, text, (size_t)n);
		if (s->child_text.len > 8192)
			buf_drop(&s->child_text, s->child_text.len - 4096);
	}
}

/* An rsync that serves tells its own host what went wrong; the other one knows the exit status only. */
static void child_words_add(struct session *s, struct err *e)
{
	auto_free char *before = NULL;
	size_t len;

	do {
		len = s->child_text.len;
		if (s->child_err >= 0)
			child_output(s);
	} while (s->child_text.len > len);
	if (!len)
		return;
	before = strdup(err_text(e));
	err_set(e, -EREMOTEIO, "%s; here rsync said: %.*s", before ? before : "", (int)strcspn(s->child_text.data, "\n"),
		s->child_text.data);
}

static int control_message(struct session *s, struct err *e)
{
	json_t *failed;
	int r = control_fill(&s->ctl, e);

	failed = s->ctl.queue ? control_take(&s->ctl, "failed") : NULL;
	if (failed) {
		const char *text = json_string_value(json_object_get(failed, "text"));

		r = err_set(e, -EREMOTEIO, "the other host gave up: %s", text ? text : "no reason given");
		child_words_add(s, e);
		json_decref(failed);
	}
	return r;
}

static void children_check(struct session *s)
{
	if (s->engine && !s->engine_ended && waitpid(s->engine, &s->engine_status, WNOHANG) == s->engine)
		s->engine_ended = true;
	if (s->child && !s->child_ended && waitpid(s->child, &s->child_status, WNOHANG) == s->child)
		s->child_ended = true;
}

/* One round of waiting, at most `ms` milliseconds. */
static int session_poll(struct session *s, int ms, struct err *e)
{
	struct pollfd p[4] = {
		{ .fd = s->ctl.fd, .events = POLLIN },
		{ .fd = s->engine_ctl, .events = POLLIN },
		{ .fd = s->job->fd, .events = POLLIN },
		{ .fd = s->child_err, .events = POLLIN },
	};
	int r;

	if (poll(p, 4, ms) < 0 && errno != EINTR)
		return err_sys(e, -errno, "cannot wait");
	/* The engine first: its reason is worth more than the peer's hearing of it. */
	if (p[1].revents) {
		r = engine_message(s, e);
		if (r < 0)
			return r;
	}
	if (p[3].revents)
		child_output(s);
	if (p[2].revents) {
		r = job_message(s, e);
		if (r < 0)
			return r;
	}
	if (p[0].revents) {
		r = control_message(s, e);
		if (r < 0)
			return r;
	}
	children_check(s);
	return control_check_silence(&s->ctl, e);
}

int session_look(struct session *s, struct err *e)
{
	int r = 0;

	/* One message a round. */
	for (int i = 0; i < 8 && r == 0; i++)
		r = session_poll(s, 0, e);
	return r;
}

/* ------------------------------------------- waiting ------------------------------------------- */

/* How long one poll may take: the ends of children are seen by asking, so a short while. */
#define POLL_MS 20

static int wait_more(struct session *s, uint64_t end_ms, const char *what, struct err *e)
{
	if (now_ms() >= end_ms)
		return err_set(e, -ETIMEDOUT, "%s did not come in time", what);
	return session_poll(s, s->child && !s->child_ended ? 2 : POLL_MS, e);
}

int session_expect(struct session *s, const char *type, int timeout_ms, json_t **ret, struct err *e)
{
	uint64_t end = now_ms() + (uint64_t)timeout_ms;

	for (int r = 0;;) {
		json_t *o = control_take(&s->ctl, type);

		if (o) {
			if (ret)
				*ret = o;
			else
				json_decref(o);
			return 0;
		}
		/* Only now: what the other side said last may have come together with its end. */
		if (r < 0)
			return r;
		if (s->engine_ended && s->engine_status) {
			int sig = WIFSIGNALED(s->engine_status) ? WTERMSIG(s->engine_status) : 0;

			return err_set(e, -EIO, "the engine ended unexpectedly (%s %d)",
				       sig ? "signal" : "status",
				       sig ? sig : WEXITSTATUS(s->engine_status));
		}
		r = wait_more(s, end, type, e);
	}
}

int session_expect_engine(struct session *s, const char *verb, int timeout_ms, struct msg *ret, struct err *e)
{
	uint64_t end = now_ms() + (uint64_t)timeout_ms;

	for (;;) {
		int r;

		for (size_t i = 0; i < s->n_engine_queue; i++) {
			if (!msg_is(&s->engine_queue[i], verb))
				continue;
			*ret = s->engine_queue[i];
			memmove(&s->engine_queue[i], &s->engine_queue[i + 1],
				(s->n_engine_queue - i - 1) * sizeof(struct msg));
			s->n_engine_queue--;
			return 0;
		}
		if (s->engine_ended && s->engine_ctl < 0)
			return err_set(e, -EIO, "the engine ended without a word (%s %d)",
				       WIFSIGNALED(s->engine_status) ? "signal" : "status",
				       WIFSIGNALED(s->engine_status) ? WTERMSIG(s->engine_status) :
								       WEXITSTATUS(s->engine_status));
		r = wait_more(s, end, verb, e);
		if (r < 0)
			return r;
	}
}

int session_engine_end(struct session *s, int timeout_ms, struct err *e)
{
	uint64_t end = now_ms() + (uint64_t)timeout_ms;

	while (!s->engine_ended) {
		int r = wait_more(s, end, "the engine's end", e);

		if (r < 0)
			return r;
	}
	if (s->engine_status)
		return err_set(e, -EIO, "the engine ended with an error");
	s->engine = 0;
	fd_close(&s->engine_ctl);
	return 0;
}

static int child_failed(const struct session *s, int status, struct err *e)
{
	if (s->child_text.len)
		return err_set(e, -EIO, "%s failed: %s", s->child_what, s->child_text.data);
	if (WIFEXITED(status) && WEXITSTATUS(status) == RSYNC_FILE_IO)
		return err_set(e, -EIO, "rsync could not read or write a file at one of the two hosts");
	return err_set(e, -EIO, "%s ended with %s %d and did not say why", s->child_what,
		       WIFEXITED(status) ? "status" : "signal",
		       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

void session_child_set(struct session *s, pid_t pid, int err_fd, const char *what)
{
	fd_close(&s->child_err);
	buf_done(&s->child_text);
	fd_set_nonblock(err_fd, 1);
	s->child_err = err_fd;
	s->child = pid;
	s->child_what = what;
	s->child_ended = false;
}

int session_child_end(struct session *s, bool while_running, int timeout_ms, struct err *e)
{
	uint64_t end = now_ms() + (uint64_t)timeout_ms;
	int status;

	while (!s->child_ended) {
		int r = wait_more(s, end, "the copying of the disk", e);

		if (r < 0)
			return r;
	}
	while (s->child_err >= 0)
		child_output(s);
	status = s->child_status;
	s->child = 0;
	s->child_ended = false;
	if (status && !(while_running && WIFEXITED(status) &&
			(WEXITSTATUS(status) == RSYNC_VANISHED || WEXITSTATUS(status) == RSYNC_PARTIAL)))
		return child_failed(s, status, e);
	return 0;
}

int session_channel(struct session *s, const char *name, int timeout_ms, int *ret, struct err *e)
{
	uint64_t end = now_ms() + (uint64_t)timeout_ms;

	for (;;) {
		int r;

		for (size_t i = 0; i < s->n_channels; i++) {
			if (strcmp(s->channels[i].name, name) != 0)
				continue;
			*ret = s->channels[i].fd;
			s->channels[i] = s->channels[--s->n_channels];
			return 0;
		}
		r = wait_more(s, end, "the connection of the other host", e);
		if (r < 0)
			return r;
	}
}

/* ------------------------------------------ programs ------------------------------------------- */

/* Between fork and exec: `a` and `b` become 3 and 4 (either may be -1), everything above is closed. */
static void exec_with(const char *path, char *const argv[], int a, int b)
{
	int x = a >= 0 ? fcntl(a, F_DUPFD, 10) : -1, y = b >= 0 ? fcntl(b, F_DUPFD, 10) : -1;

	if (x >= 0)
		dup2(x, 3);
	if (y >= 0)
		dup2(y, 4);
	close_range(5, ~0u, 0);
	signal(SIGPIPE, SIG_DFL);
	execv(path, argv);
	_exit(127);
}

#define ARGS_MAX 24

int session_engine_start(struct session *s, const char *mode, int data_fd, const char *const *args, struct err *e)
{
	auto_free char *path = NULL;
	auto_fd int ours = -1, theirs = -1;
	const char *argv[ARGS_MAX] = { "godwit-criu", mode, "--ctl-fd", "3", "--data-fd", "4" };
	size_t n = 6;
	int pair[2], r;
	pid_t pid;

	r = program_find("godwit-criu", &path, e);
	if (r < 0)
		return r;
	for (; *args && n < ARGS_MAX - 1; args++)
		argv[n++] = *args;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot start the engine");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "cannot start the engine");
	if (pid == 0)
		exec_with(path, (char *const *)argv, theirs, data_fd);
	fd_set_nonblock(ours, 1);
	s->engine = pid;
	s->engine_ended = false;
	s->engine_ctl = fd_take(&ours);
	return 0;
}

void session_engine_kill(struct session *s)
{
	if (!s->engine)
		return;
	if (!s->engine_ended) {
		uint64_t end = now_ms() + 3000;

		kill(s->engine, SIGTERM);
		fd_close(&s->engine_ctl);
		while (!s->engine_ended && now_ms() < end) {
			poll(NULL, 0, 5);
			children_check(s);
		}
		if (!s->engine_ended)
			child_reap(&s->engine, SIGKILL);
	}
	s->engine = 0;
	s->engine_ended = false;
	fd_close(&s->engine_ctl);
}

void session_child_kill(struct session *s)
{
	pid_t group = s->child;

	if (group > 0) {
		kill(-group, SIGKILL);
		if (!s->child_ended)
			child_reap(&s->child, SIGKILL);
		/* rsync's receiver is a child of its own, which is not ours to wait for. */
		for (int i = 0; i < 2000 && kill(-group, 0) == 0; i++)
			poll(NULL, 0, 1);
	}
	s->child = 0;
	s->child_ended = false;
	fd_close(&s->child_err);
}

int session_engine_run(struct session *s, const char *const *args, char **ret_out, int *ret_status, struct err *e)
{
	auto_free char *path = NULL;
	auto_buf out = BUF_INIT;
	auto_fd int in = -1, outw = -1;
	const char *argv[ARGS_MAX] = { "godwit-criu" };
	size_t n = 1;
	int p[2], status, r;
	pid_t pid;

	r = program_find("godwit-criu", &path, e);
	if (r < 0)
		return r;
	for (; *args && n < ARGS_MAX - 1; args++)
		argv[n++] = *args;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot start the engine");
	in = p[0];
	outw = p[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "cannot start the engine");
	if (pid == 0) {
		dup2(outw, 1);
		exec_with(path, (char *const *)argv, -1, -1);
	}
	fd_close(&outw);
	for (;;) {
		char *q = buf_reserve(&out, 4096);
		ssize_t got = q ? read(in, q, 4096) : -1;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || out.len > (1u << 20))
			break;
		out.len += (size_t)got;
		out.data[out.len] = '\0';
	}
	fd_close(&in);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "cannot wait for the engine");
	if (WIFSIGNALED(status))
		return err_set(e, -EIO, "the engine was killed by signal %d", WTERMSIG(status));
	*ret_status = WEXITSTATUS(status);
	if (*ret_status == 127)
		return err_set(e, -ENOENT, "the engine (godwit-criu) cannot be started");
	if (ret_out)
		*ret_out = buf_take(&out);
	return 0;
}

static int wire_start(const char *address, const char *pin_file, int *ret_ctl, pid_t *ret_pid, struct err *e)
{
	auto_free char *path = NULL;
	const char *argv[] = { "godwit-wire", "dial", "--ctl", "3", "--address", address, "--pin", pin_file,
			       NULL };
	int pair[2], r;
	pid_t pid;

	r = program_find("godwit-wire", &path, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot start the connection");
	/* Twice: the connection must not become a child that this job has to wait for. */
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			exec_with(path, (char *const *)argv, pair[1], -1);
		_exit(0);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_sys(e, -errno, "cannot start the connection");
	}
	waitpid(pid, NULL, 0);
	*ret_ctl = pair[0];
	*ret_pid = 0;
	return 0;
}

int session_dial(struct session *s, const char *address, const char *pin_file, const char *channel,
		 const char *secret, int *ret, struct err *e)
{
	auto_fd int ctl = -1, ours = -1, theirs = -1;
	struct msg m = { 0 };
	int pair[2], r, size = 4 << 20;
	pid_t pid;

	r = wire_start(address, pin_file, &ctl, &pid, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot connect");
	ours = pair[0];
	theirs = pair[1];
	setsockopt(ours, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	setsockopt(theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	r = msg_send(ctl, &theirs, 1, "begin", "id", s->id, "channel", channel, "secret", secret, NULL);
	fd_close(&theirs);
	if (r == 0)
		r = msg_recv(ctl, &m);
	if (r <= 0)
		return err_set(e, -EPIPE, "the connection to the other host could not be made");
	if (!msg_is(&m, "connected")) {
		const char *text = msg_get(&m, "text");
		uint64_t code = EIO;

		msg_get_u64(&m, "code", &code);
		r = err_set(e, -(int)(code & 0xfff), "%s", text ? text : "the connection failed");
		msg_done(&m);
		return r;
	}
	msg_done(&m);
	*ret = fd_take(&ours);
	return 0;
}

static bool point_wanted(struct session *s, const char *name)
{
	auto_free char *path = NULL, *text = NULL;

	if (asprintf(&path, "%s/migrations/stop-at", s->job->state_dir) < 0)
		return false;
	if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, name) == 0;
}

int session_point(struct session *s, const char *name, struct err *e)
{
	auto_free char *path = NULL;
	int r = 0;

	if (!point_wanted(s, name))
		return 0;
	if (asprintf(&path, "%s/migrations/stopped", s->job->state_dir) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	log_info("%s: stopped at %s, as migrations/stop-at says", s->name, name);
	fd_replace_file_at(AT_FDCWD, path, name, strlen(name), 0600);
	while (r == 0 && point_wanted(s, name))
		r = session_poll(s, POLL_MS, e);
	unlink(path);
	return r;
}

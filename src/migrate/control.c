#include "migrate/control.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
	return now_us() / 1000;
}

void control_init(struct control *c)
{
	*c = (struct control){ .fd = -1, .in = BUF_INIT };
}

static int line_write(int fd, const char *line, size_t len)
{
	while (len) {
		ssize_t n = send(fd, line, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

static void beater_main(int fd, pid_t parent)
{
	static const char beat[] = "{\"t\":\"beat\"}\n";
	struct timespec second = { .tv_sec = 1 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "godwit-beat");
	if (getppid() != parent)
		_exit(0);
	/* Only the connection is kept: the other ends of everything else must see it close when the job
	 * that forked us is killed. */
	if (dup2(fd, 0) < 0 || syscall(SYS_close_range, 1u, ~0u, 0) < 0)
		_exit(1);
	while (line_write(0, beat, sizeof(beat) - 1) == 0)
		nanosleep(&second, NULL);
	_exit(0);
}

int control_open(struct control *c, int fd, struct err *e)
{
	pid_t parent = getpid();

	c->fd = fd;
	c->heard_ms = now_ms();
	c->queue = json_array();
	if (!c->queue)
		return err_set(e, -ENOMEM, "out of memory");
	c->beater = fork();
	if (c->beater < 0)
		return err_sys(e, -errno, "cannot start the heartbeat");
	if (c->beater == 0)
		beater_main(fd, parent);
	return 0;
}

void control_close(struct control *c)
{
	if (c->beater > 0) {
		kill(c->beater, SIGKILL);
		waitpid(c->beater, NULL, 0);
	}
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
	fd_close(&c->fd);
	buf_done(&c->in);
	json_decref(c->queue);
	control_init(c);
}

int control_send(struct control *c, const char *type, json_t *obj_taken, struct err *e)
{
	json_t *o = obj_taken ? obj_taken : json_object();
	auto_buf line = BUF_INIT;
	char *text;
	int r;

	if (!o || json_object_set_new(o, "t", json_string(type)) < 0) {
		json_decref(o);
		return err_set(e, -ENOMEM, "out of memory");
	}
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	r = text ? buf_adds(&line, text) : -ENOMEM;
	free(text);
	if (r >= 0)
		r = buf_adds(&line, "\n");
	if (r < 0)
		return err_sys(e, r, "cannot say \"%s\" to the other host", type);
	/* Beats come from another process; a line is one send() where it is small, and the large ones
	 * (the offer) are written before anything is due. */
	r = line_write(c->fd, line.data, line.len);
	return r < 0 ? err_sys(e, r, "cannot say \"%s\" to the other host", type) : 0;
}

static int line_take(struct control *c, const char *line, size_t len, struct err *e)
{
	json_error_t je;
	json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &je);
	const char *t = json_string_value(json_object_get(o, "t"));

	if (!t) {
		json_decref(o);
		return err_set(e, -EPROTO, "the other host sent something that is not this protocol");
	}
	if (strcmp(t, "beat") == 0) {
		json_decref(o);
		return 0;
	}
	if (json_array_size(c->queue) >= 256) {
		json_decref(o);
		return err_set(e, -EPROTO, "the other host sends more than was asked");
	}
	return json_array_append_new(c->queue, o) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int control_fill(struct control *c, struct err *e)
{
	for (;;) {
		char *p = buf_reserve(&c->in, 65536), *nl;
		ssize_t n;

		if (!p)
			return err_set(e, -ENOMEM, "out of memory");
		n = recv(c->fd, p, 65536, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
			return err_set(e, -EPIPE, "the connection to the other host ended");
		c->heard_ms = now_ms();
		c->in.len += (size_t)n;
		while ((nl = memchr(c->in.data, '\n', c->in.len))) {
			int r = line_take(c, c->in.data, (size_t)(nl - c->in.data), e);

			if (r < 0)
				return r;
			buf_drop(&c->in, (size_t)(nl - c->in.data) + 1);
		}
		if (c->in.len > CONTROL_LINE_MAX)
			return err_set(e, -EPROTO, "the other host sends a line without an end");
	}
}

json_t *control_take(struct control *c, const char *type)
{
	json_t *o;
	size_t i;

	json_array_foreach(c->queue, i, o) {
		if (strcmp(json_string_value(json_object_get(o, "t")), type) != 0)
			continue;
		json_incref(o);
		json_array_remove(c->queue, i);
		return o;
	}
	return NULL;
}

int control_check_silence(struct control *c, struct err *e)
{
	if (c->fd >= 0 && now_ms() - c->heard_ms > CONTROL_SILENCE_MS)
		return err_set(e, -ETIMEDOUT, "nothing was heard from the other host for %d s",
			       CONTROL_SILENCE_MS / 1000);
	return 0;
}

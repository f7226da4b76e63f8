#include "cr/live.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "cr/dump.h"
#include "cr/restore.h"

struct live {
	int ctl;
};

#define NUMBER(name, v) \
	char name[24];  \
	snprintf(name, sizeof(name), "%" PRIu64, (uint64_t)(v))

static int told(int r, struct err *e)
{
	return r < 0 ? err_sys(e, r, "the one who asked for this has gone") : 0;
}

/* Waits for the answer `verb`; anything else, and the end, is an abort. */
static int await(int ctl, const char *verb, struct err *e)
{
	struct msg m = { 0 };
	int r = msg_recv(ctl, &m), ret = 0;

	if (r == 0)
		return err_set(e, -ECANCELED, "the one who asked for this has gone");
	if (r < 0)
		return err_sys(e, r, "waiting for \"%s\"", verb);
	if (msg_is(&m, "abort"))
		ret = err_set(e, -ECANCELED, "it was told to stop");
	else if (!msg_is(&m, verb))
		ret = err_set(e, -EPROTO, "\"%s\" came instead of \"%s\"", m.verb, verb);
	msg_done(&m);
	return ret;
}

/* Progress; between two pieces of memory is also where an abort is noticed. */
static int progress(void *arg, uint64_t bytes, uint64_t total)
{
	struct live *l = arg;
	struct pollfd p = { .fd = l->ctl, .events = POLLIN };
	struct err e;

	NUMBER(b, bytes);
	NUMBER(t, total);
	if (poll(&p, 1, 0) > 0) {
		await(l->ctl, "abort", &e);
		return -ECANCELED;
	}
	return msg_send(l->ctl, NULL, 0, "progress", "bytes", b, "total", t, NULL);
}

/* ---- source ---- */

/* A write into a stalled stream does not end by a signal (it is tried again), so the handler takes the
 * stream away: /dev/null opened for reading in its place makes the next write fail. */
static volatile int abort_stream = -1, abort_null = -1;

static void abort_handler(int sig)
{
	int saved = errno;

	if (abort_stream >= 0 && abort_null >= 0)
		dup2(abort_null, abort_stream);
	errno = saved;
}

static void abort_arm(int data_fd)
{
	struct sigaction sa = { .sa_handler = abort_handler };

	abort_null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	abort_stream = data_fd;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int on_frozen(void *arg, struct err *e)
{
	struct live *l = arg;

	return told(msg_send(l->ctl, NULL, 0, "frozen", NULL), e);
}

static int wait_go(void *arg, struct err *e)
{
	struct live *l = arg;

	return await(l->ctl, "go", e);
}

static int on_captured(void *arg, uint64_t pages, struct err *e)
{
	struct live *l = arg;

	return told(msg_send_u64(l->ctl, "captured", "pages", pages), e);
}

static int say_refused(int ctl, const struct refusals *rf)
{
	auto_free char *text = refusals_text(rf), *json = refusals_json(rf);

	log_info("refused:\n%s", text ? text : "");
	/* Both grow with the container; a packet does not. */
	if (msg_send(ctl, NULL, 0, "refused", "text", text, "json", json, NULL) < 0) {
		if (text)
			text[20000 < strlen(text) ? 20000 : strlen(text)] = '\0';
		msg_send(ctl, NULL, 0, "refused", "text", text, "json", "[]", NULL);
	}
	return LIVE_REFUSED;
}

static int say_failed(int ctl, const struct err *e)
{
	log_error("%s", err_text(e));
	msg_send(ctl, NULL, 0, "failed", "text", err_text(e), NULL);
	return LIVE_FAILED;
}

int live_dump(pid_t pid, const char *cgroup, int ctl_fd, int data_fd)
{
	struct live l = { ctl_fd };
	struct dump_opts o = { .subject = { .pid = pid, .cgroup = cgroup }, .data_fd = data_fd, .on_frozen = on_frozen,
			       .wait_go = wait_go, .on_captured = on_captured, .progress = progress,
			       .arg = &l };
	struct refusals rf = REFUSALS_INIT;
	struct dump_times times;
	struct err e = { 0 };
	uint64_t bytes;
	int r;

	abort_arm(data_fd);
	r = dump_run(&o, &rf, &bytes, &times, &e);
	if (r < 0) {
		r = rf.n ? say_refused(ctl_fd, &rf) : say_failed(ctl_fd, &e);
		refusals_done(&rf);
		return r;
	}
	NUMBER(b, bytes);
	NUMBER(f, times.freeze_us);
	NUMBER(c, times.capture_us);
	NUMBER(p, times.pages_us);
	/* The stream is complete; nobody hearing this is the caller's affair: it thaws or kills. */
	msg_send(ctl_fd, NULL, 0, "done", "bytes", b, "freeze_us", f, "capture_us", c, "pages_us", p, NULL);
	return LIVE_OK;
}

/* ---- target ---- */

static int on_plan(void *arg, size_t tasks, uint64_t pages, struct err *e)
{
	struct live *l = arg;

	NUMBER(t, tasks);
	NUMBER(p, pages);
	return told(msg_send(l->ctl, NULL, 0, "plan", "tasks", t, "pages", p, NULL), e);
}

static int wait_disk(void *arg, struct err *e)
{
	struct live *l = arg;
	int r = told(msg_send(l->ctl, NULL, 0, "need-disk", NULL), e);

	return r < 0 ? r : await(l->ctl, "disk-ready", e);
}

int live_restore(pid_t init, const char *cgroup, int ctl_fd, int data_fd)
{
	struct live l = { ctl_fd };
	struct restore_opts o = { .init = init, .cgroup = cgroup, .data_fd = data_fd, .on_plan = on_plan,
				  .wait_disk = wait_disk, .progress = progress, .arg = &l };
	struct restore_times times;
	struct err e = { 0 };

	signal(SIGPIPE, SIG_IGN);
	if (restore_run(&o, &times, NULL, &e) < 0)
		return say_failed(ctl_fd, &e);
	NUMBER(b, times.build_us);
	NUMBER(p, times.pages_us);
	NUMBER(f, times.finish_us);
	if (msg_send(ctl_fd, NULL, 0, "ready", "build_us", b, "pages_us", p, "finish_us", f, NULL) < 0) {
		log_error("the tree stands, but nobody hears it");
		return LIVE_FAILED;
	}
	return LIVE_OK;
}

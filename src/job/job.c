/* The side inside a job: receiving, reporting, running helpers. */
#include "job/job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define INBOX_MAX 64

struct job_inbox {
	struct msg m[INBOX_MAX];
	size_t n;
	bool cancelled, gone, done_sent;
};

/* Reads what is there (waiting up to timeout_ms for the first): 1 something came, 0 nothing. */
static int inbox_fill(struct job *j, int timeout_ms)
{
	struct job_inbox *in = j->inbox_;
	struct pollfd p = { .fd = j->fd, .events = POLLIN };
	int got = 0;

	while (!in->gone && in->n < INBOX_MAX) {
		struct msg m;
		int r;

		do
			r = poll(&p, 1, got ? 0 : timeout_ms);
		while (r < 0 && errno == EINTR);
		if (r <= 0)
			return got;
		r = msg_recv(j->fd, &m);
		if (r <= 0) {
			in->gone = true;
		} else if (msg_is(&m, "cancel")) {
			in->cancelled = true;
			msg_done(&m);
		} else {
			in->m[in->n++] = m;
		}
		got = 1;
	}
	return got;
}

int job_recv(struct job *j, struct msg *m, int timeout_ms)
{
	struct job_inbox *in = j->inbox_;

	inbox_fill(j, in->n || in->cancelled ? 0 : timeout_ms);
	if (in->n) {
		*m = in->m[0];
		memmove(in->m, in->m + 1, --in->n * sizeof(in->m[0]));
		return 1;
	}
	if (in->cancelled)
		return -ECANCELED;
	return in->gone ? -EPIPE : 0;
}

int job_cancelled(struct job *j)
{
	inbox_fill(j, 0);
	return j->inbox_->cancelled || j->inbox_->gone ? -ECANCELED : 0;
}

static int json_send(struct job *j, const char *verb, json_t *obj)
{
	auto_free char *text = obj ? json_dumps(obj, JSON_COMPACT) : NULL;

	json_decref(obj);
	if (!text)
		return -ENOMEM;
	return msg_send(j->fd, NULL, 0, verb, "json", text, NULL);
}

int job_metadata(struct job *j, json_t *obj)
{
	return json_send(j, "metadata", obj);
}

int job_progress(struct job *j, const char *key, const char *fmt, ...)
{
	char name[64], text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(name, sizeof(name), "%s_progress", key);
	return json_send(j, "metadata", json_pack("{s:s}", name, text));
}

int job_done_json(struct job *j, json_t *obj)
{
	j->inbox_->done_sent = true;
	return json_send(j, "done", obj);
}

int job_lifecycle(struct job *j, const char *action, const char *source)
{
	return msg_send(j->fd, NULL, 0, "lifecycle", "action", action, "source", source, NULL);
}

int job_committed(struct job *j)
{
	return msg_send(j->fd, NULL, 0, "committed", NULL);
}

/* What an error is for a REST client. */
static const char *http_code(int code)
{
	switch (code) {
	case -ENOENT:
		return "404";
	case -EINVAL:
	case -EPROTO:
	case -E2BIG:
	case -EOPNOTSUPP:
		return "400";
	case -EPERM:
	case -EACCES:
		return "403";
	case -EEXIST:
	case -EBUSY:
	case -EALREADY:
	case -EADDRINUSE:
		return "409";
	case -ECANCELED:
		return "401";
	}
	return "500";
}

static int begin(struct job *j, struct err *e)
{
	json_error_t je;
	const char *text;
	char *self;
	int r = msg_recv(j->fd, &j->begin);

	if (r <= 0)
		return err_set(e, r < 0 ? r : -EPIPE, "a job is started by godwitd, not by hand");
	text = msg_get(&j->begin, "json");
	if (!msg_is(&j->begin, "begin") || !text)
		return err_set(e, -EPROTO, "the first message is not \"begin\"");
	j->spec = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(j->spec))
		return err_set(e, -EPROTO, "the job's description is not JSON");
	j->state_dir = json_string_value(json_object_get(j->spec, "state_dir"));
	if (!j->state_dir)
		return err_set(e, -EPROTO, "the job's description names no state folder");
	self = realpath("/proc/self/exe", NULL);
	if (!self)
		return err_sys(e, -errno, "cannot find my own program");
	j->self = self;
	return 0;
}

static const struct job_verb *verb_find(const struct job_verb *const *verbs, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

int job_main(const struct job_verb *const *verbs, size_t n, const char *name)
{
	const struct job_verb *verb = verb_find(verbs, n, name);
	auto_free struct job_inbox *inbox = calloc(1, sizeof(*inbox));
	struct job j = { .fd = JOB_FD, .inbox_ = inbox };
	struct err e = { 0 };
	char prefix[48];
	int r;

	if (!inbox)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	fd_set_cloexec(j.fd, 1);
	snprintf(prefix, sizeof(prefix), "job %s", name);
	log_set_prefix(prefix);
	r = begin(&j, &e);
	if (r >= 0 && !verb)
		r = err_set(&e, -EOPNOTSUPP, "this godwitd knows no job \"%s\"", name);
	if (r >= 0)
		r = verb->run(&j, &e);
	if (r < 0) {
		/* A verb that failed without a sentence still says which error it was. */
		if (!e.code)
			err_sys(&e, r, "%s failed", name);
		log_warn("%s", err_text(&e));
		msg_send(j.fd, NULL, 0, "failed", "code", http_code(r), "text", err_text(&e), NULL);
	} else if (!inbox->done_sent) {
		r = job_done_json(&j, json_object());
	}
	for (size_t i = 0; i < inbox->n; i++)
		msg_done(&inbox->m[i]);
	msg_done(&j.begin);
	json_decref(j.spec);
	free((char *)j.self);
	return r < 0 ? 1 : 0;
}

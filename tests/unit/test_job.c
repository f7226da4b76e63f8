/* Jobs: both sides; this program is also the job that it starts. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "job/job.h"

/* ---- the verbs ---- */

static int run_ok(struct job *j, struct err *e)
{
	job_progress(j, "work", "%d%%", 50);
	job_lifecycle(j, "thing-made", "/1.0/things/x");
	job_committed(j);
	return job_done_json(j, json_pack("{s:s, s:O}", "dir", j->state_dir, "got", json_object_get(j->spec, "n")));
}

static int run_plain(struct job *j, struct err *e)
{
	return 0;
}

static int run_fail(struct job *j, struct err *e)
{
	return err_set(e, -EEXIST, "it is \"there\" = 100%% already");
}

static int run_silent(struct job *j, struct err *e)
{
	return -ENOSPC;
}

static int run_crash(struct job *j, struct err *e)
{
	raise(SIGKILL);
	return 0;
}

static int run_wait(struct job *j, struct err *e)
{
	struct msg m;
	int r;

	while ((r = job_recv(j, &m, -1)) >= 0)
		msg_done(&m);
	return err_set(e, r, "woken by %d", r);
}

/* Answers what it is asked, with what came through the descriptor. */
static int run_talk(struct job *j, struct err *e)
{
	char text[16] = "";
	struct msg m;
	int fd, r = job_recv(j, &m, 10000);

	if (r <= 0)
		return err_set(e, -EIO, "nothing came");
	fd = msg_take_fd(&m, 0);
	if (read(fd, text, sizeof(text) - 1) < 0)
		return err_sys(e, -errno, "read");
	close(fd);
	r = job_done_json(j, json_pack("{s:s, s:s, s:s}", "verb", m.verb, "name", msg_get(&m, "name"), "text", text));
	msg_done(&m);
	return r;
}

static int run_program(struct job *j, struct err *e)
{
	const char *script = json_string_value(json_object_get(j->spec, "script"));
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	int p[2], r;
	char text[64] = "";

	if (pipe(p) < 0)
		return err_sys(e, -errno, "pipe");
	fd_set_cloexec(p[0], 1);
	r = job_run(j, argv, -1, p[1], NULL, 0, e);
	close(p[1]);
	if (r < 0)
		return r;
	if (read(p[0], text, sizeof(text) - 1) < 0)
		return err_sys(e, -errno, "read");
	return job_done_json(j, json_pack("{s:s}", "out", text));
}

static const struct job_verb v_ok = { "ok", run_ok }, v_plain = { "plain", run_plain }, v_fail = { "fail", run_fail },
			     v_silent = { "silent", run_silent }, v_crash = { "crash", run_crash },
			     v_wait = { "wait", run_wait }, v_talk = { "talk", run_talk },
			     v_program = { "program", run_program };
static const struct job_verb *const verbs[] = { &v_ok, &v_plain, &v_fail, &v_silent, &v_crash, &v_wait, &v_talk,
						&v_program };

/* ---- the daemon's side ---- */

struct seen {
	sd_event *ev;
	struct job_handle *h;
	int ended, committed, code;
	char text[256];
	json_t *result, *metadata;
	char action[64];
};

static void on_metadata(struct job_handle *h, json_t *obj, void *arg)
{
	struct seen *s = arg;

	json_object_update(s->metadata, obj);
}

static void on_lifecycle(struct job_handle *h, const char *action, const char *source, void *arg)
{
	struct seen *s = arg;

	snprintf(s->action, sizeof(s->action), "%s %s", action, source);
}

static void on_committed(struct job_handle *h, void *arg)
{
	struct seen *s = arg;

	s->committed++;
}

static void on_ended(struct job_handle *h, int code, const char *text, json_t *result, void *arg)
{
	struct seen *s = arg;

	s->ended++;
	s->code = code;
	snprintf(s->text, sizeof(s->text), "%s", text);
	s->result = json_incref(result);
	sd_event_exit(s->ev, 0);
}

static const struct job_events events = { .metadata = on_metadata, .lifecycle = on_lifecycle,
					 .committed = on_committed, .ended = on_ended };

static void start(struct seen *s, const char *verb, json_t *spec)
{
	char *self = realpath("/proc/self/exe", NULL);
	struct err e = { 0 };

	*s = (struct seen){ .metadata = json_object() };
	assert_int_equal(sd_event_new(&s->ev), 0);
	if (job_start(s->ev, self, "/state", verb, spec, NULL, 0, &events, s, &s->h, &e) < 0)
		fail_msg("%s", err_text(&e));
	json_decref(spec);
	free(self);
}

static void finish(struct seen *s)
{
	sd_event_loop(s->ev);
	assert_int_equal(s->ended, 1);
}

static void drop(struct seen *s)
{
	json_decref(s->metadata);
	json_decref(s->result);
	sd_event_unref(s->ev);
}

static const char *result(struct seen *s, const char *key)
{
	const char *v = json_string_value(json_object_get(s->result, key));

	return v ? v : "";
}

static void test_ok(void **state)
{
	struct seen s;

	start(&s, "ok", json_pack("{s:i}", "n", 42));
	finish(&s);
	assert_int_equal(s.code, 0);
	assert_string_equal(result(&s, "dir"), "/state");
	assert_int_equal(json_integer_value(json_object_get(s.result, "got")), 42);
	assert_string_equal(json_string_value(json_object_get(s.metadata, "work_progress")), "50%");
	assert_string_equal(s.action, "thing-made /1.0/things/x");
	assert_int_equal(s.committed, 1);
	drop(&s);
}

static void test_plain(void **state)
{
	struct seen s;

	start(&s, "plain", json_object());
	finish(&s);
	assert_int_equal(s.code, 0);
	assert_int_equal(json_object_size(s.result), 0);
	drop(&s);
}

static void test_failures(void **state)
{
	struct seen s;

	start(&s, "fail", json_object());
	finish(&s);
	assert_int_equal(s.code, 409);
	assert_string_equal(s.text, "it is \"there\" = 100% already");
	drop(&s);
	start(&s, "silent", json_object());
	finish(&s);
	assert_int_equal(s.code, 500);
	assert_non_null(strstr(s.text, "silent"));
	drop(&s);
	start(&s, "crash", json_object());
	finish(&s);
	assert_int_equal(s.code, 500);
	assert_non_null(strstr(s.text, "signal 9"));
	drop(&s);
	start(&s, "no-such-verb", json_object());
	finish(&s);
	assert_int_equal(s.code, 400);
	drop(&s);
}

static void test_cancel(void **state)
{
	struct seen s;

	start(&s, "wait", json_object());
	job_cancel(s.h);
	finish(&s);
	assert_int_equal(s.code, 401);
	drop(&s);
}

static void test_talk(void **state)
{
	struct seen s;
	int p[2];

	start(&s, "talk", json_object());
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "through", 7), 7);
	assert_int_equal(job_tell(s.h, &p[0], 1, "channel", "name", "mem"), 0);
	close(p[0]);
	close(p[1]);
	finish(&s);
	assert_int_equal(s.code, 0);
	assert_string_equal(result(&s, "verb"), "channel");
	assert_string_equal(result(&s, "name"), "mem");
	assert_string_equal(result(&s, "text"), "through");
	drop(&s);
}

static void test_program(void **state)
{
	struct seen s;

	start(&s, "program", json_pack("{s:s}", "script", "echo one; ls /proc/self/fd | wc -l >&2"));
	finish(&s);
	assert_int_equal(s.code, 0);
	assert_string_equal(result(&s, "out"), "one\n");
	drop(&s);
	start(&s, "program", json_pack("{s:s}", "script", "echo first >&2; echo the reason >&2; exit 3"));
	finish(&s);
	assert_int_equal(s.code, 500);
	assert_non_null(strstr(s.text, "exit status 3"));
	assert_non_null(strstr(s.text, "the reason"));
	drop(&s);
	/* Nothing of ours above stderr gets into it. */
	start(&s, "program", json_pack("{s:s}", "script", "cd /proc/self/fd; for f in *; do [ $f -gt 3 ] && [ -e $f ] && exit 9; done; exit 0"));
	finish(&s);
	assert_int_equal(s.code, 0);
	drop(&s);
}

static int on_soon(sd_event_source *src, uint64_t usec, void *arg)
{
	job_cancel(arg);
	return 0;
}

static void test_program_cancel(void **state)
{
	struct timespec a, b;
	struct seen s;
	uint64_t now;

	start(&s, "program", json_pack("{s:s}", "script", "exec sleep 60"));
	sd_event_now(s.ev, CLOCK_MONOTONIC, &now);
	assert_true(sd_event_add_time(s.ev, NULL, CLOCK_MONOTONIC, now + 200000, 1, on_soon, s.h) >= 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	finish(&s);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_int_equal(s.code, 401);
	assert_true(b.tv_sec - a.tv_sec < 20);
	drop(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ok), cmocka_unit_test(test_plain), cmocka_unit_test(test_failures),
		cmocka_unit_test(test_cancel), cmocka_unit_test(test_talk), cmocka_unit_test(test_program),
		cmocka_unit_test(test_program_cancel),
	};

	if (argc == 3 && strcmp(argv[1], "job") == 0)
		return job_main(verbs, sizeof(verbs) / sizeof(verbs[0]), argv[2]);
	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}

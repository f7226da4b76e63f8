/* The conversation of two sides of a migration, and what a foreign rsync may ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate/control.h"
#include "migrate/side.h"

struct pair {
	struct control c;
	int other;
};

static int pair_setup(void **state)
{
	static struct pair p;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	control_init(&p.c);
	p.other = fds[1];
	assert_int_equal(control_open(&p.c, fds[0], NULL), 0);
	*state = &p;
	return 0;
}

static int pair_teardown(void **state)
{
	struct pair *p = *state;

	control_close(&p->c);
	close(p->other);
	return 0;
}

static void say(struct pair *p, const char *text)
{
	assert_int_equal(write(p->other, text, strlen(text)), (ssize_t)strlen(text));
}

static void lines_are_queued_and_taken_by_type(void **state)
{
	struct pair *p = *state;
	struct err e = { 0 };
	json_t *o;

	say(p, "{\"t\":\"b\",\"n\":2}\n{\"t\":\"beat\"}\n{\"t\":\"a\"");
	assert_int_equal(control_fill(&p->c, &e), 0);
	assert_null(control_take(&p->c, "a"));
	assert_null(control_take(&p->c, "beat"));
	o = control_take(&p->c, "b");
	assert_non_null(o);
	assert_int_equal(json_integer_value(json_object_get(o, "n")), 2);
	json_decref(o);
	say(p, "}\n");
	assert_int_equal(control_fill(&p->c, &e), 0);
	o = control_take(&p->c, "a");
	assert_non_null(o);
	json_decref(o);
}

static void what_is_not_the_protocol_is_an_error(void **state)
{
	static const char *const bad[] = { "hello\n", "[1]\n", "{\"x\":1}\n", "{\"t\":\"a\",\"t\":\"b\"}\n" };
	struct pair *p = *state;
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		p->c.in.len = 0;
		say(p, bad[i]);
		assert_int_equal(control_fill(&p->c, &e), -EPROTO);
	}
}

static void an_ended_connection_is_an_error(void **state)
{
	struct pair *p = *state;
	struct err e = { 0 };

	shutdown(p->other, SHUT_RDWR);
	assert_int_equal(control_fill(&p->c, &e), -EPIPE);
}

static void a_beat_comes_at_once(void **state)
{
	struct pair *p = *state;
	char line[64] = "";

	assert_true(read(p->other, line, sizeof(line) - 1) > 0);
	assert_string_equal(line, "{\"t\":\"beat\"}\n");
}

static void silence_is_a_failure(void **state)
{
	struct pair *p = *state;
	struct err e = { 0 };

	assert_int_equal(control_check_silence(&p->c, &e), 0);
	p->c.heard_ms = now_ms() - CONTROL_SILENCE_MS - 1;
	assert_int_equal(control_check_silence(&p->c, &e), -ETIMEDOUT);
}

static void addresses_come_out_of_urls(void **state)
{
	char *a = NULL;

	assert_int_equal(target_address("https://10.0.0.1:8443/1.0/operations/x", &a, NULL), 0);
	assert_string_equal(a, "10.0.0.1:8443");
	free(a);
	assert_int_equal(target_address("https://[fd00::1]:8443/1.0/operations/x", &a, NULL), 0);
	assert_string_equal(a, "[fd00::1]:8443");
	free(a);
	assert_true(target_address("http://10.0.0.1/", &a, NULL) < 0);
	assert_true(target_address("https:///x", &a, NULL) < 0);
	assert_true(target_address("https://host", &a, NULL) < 0);
	assert_true(target_address(NULL, &a, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines_are_queued_and_taken_by_type, pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(what_is_not_the_protocol_is_an_error, pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(an_ended_connection_is_an_error, pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(a_beat_comes_at_once, pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(silence_is_a_failure, pair_setup, pair_teardown),
		cmocka_unit_test(addresses_come_out_of_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Names of files from outside, and what is given for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "cr/file/given.h"

static void names(void **state)
{
	static const char *const wrong[] = { "tty", "tty[", "tty[]x", "tty[88]", "tty[88:]", "tty[88:18", "tty[88:18]x", "tty[88:18:1]",
					     "tty(88:18)", "xtty[88:18]", "tty[-1:18]", "tty[88: 18]", "tty[g:18]", "",
					     "tty[fffffffffffffffff:1]", "TTY[88:18]", "tty::[88:18]" };
	uint64_t v[2];

	assert_int_equal(given_parse("tty[8800:1a]", "tty", 16, 2, v), 1);
	assert_true(v[0] == 0x8800 && v[1] == 0x1a);
	assert_int_equal(given_parse("tty[0x8800:0X1A]", "tty", 16, 2, v), 1);
	assert_true(v[0] == 0x8800 && v[1] == 0x1a);
	assert_int_equal(given_parse("pipe[4294967295]", "pipe", 10, 1, v), 1);
	assert_int_equal(v[0], UINT32_MAX);
	assert_int_equal(given_parse("pipe:[17]", "pipe", 10, 1, v), 1);
	assert_int_equal(v[0], 17);
	assert_int_equal(given_parse("pipe[]", "pipe", 10, 1, v), 0);
	assert_int_equal(given_parse("pipe[1a]", "pipe", 10, 1, v), -EINVAL);
	for (size_t i = 0; i < array_len(wrong); i++)
		assert_int_equal(given_parse(wrong[i], "tty", 16, 2, v), -EINVAL);
}

static void dump(void **state)
{
	struct cr_pair list[] = { { "mnt[/x]", "y", -1 }, { "file[1f:2a]", "", -1 }, { "tty[8800:1a]", "", -1 }, { "pipe[7]", "", -1 } };
	struct cr_pair all[] = { { "pipe[]", "", -1 } };
	struct cr_opts o = { .externals = { list, array_len(list) } }, every = { .externals = { all, 1 } };
	char name[GIVEN_NAME_MAX];
	dev_t dev;

	assert_true(given_names_file(&o, 0x1f, 0x2a));
	assert_false(given_names_file(&o, 0x2a, 0x1f));
	assert_false(given_names_file(NULL, 0x1f, 0x2a));
	assert_true(given_names_pipe(&o, 7) && !given_names_pipe(&o, 8));
	assert_true(given_names_pipe(&every, 8) && !given_names_file(&every, 0x1f, 8));
	assert_true(given_names_tty(&o, 0x8800, 0x1a, &dev));
	assert_false(given_names_tty(&o, 0x8800, 0x1b, &dev));
	assert_false(given_names_tty(&o, 0x8801, 0x1a, &dev));
	assert_true(given_names_tty(&o, 0x8800, 0, &dev)); /* only /dev/tty is known */
	assert_int_equal(dev, 0x1a);
	given_file_name(name, 0x1f, 0x2a);
	assert_string_equal(name, "/file[1f:2a]");
}

static void restore(void **state)
{
	int r = open("/dev/null", O_RDONLY | O_CLOEXEC), w = open("/dev/null", O_WRONLY | O_CLOEXEC),
	    rw = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct cr_pair list[] = { { "pipe:[7]", "", r }, { "pipe[7]", "", w }, { "a/b", "", rw }, { "/c", "", r },
				  { "file[01f:2A]", "", w }, { "tty[8800:1a]", "", rw } };
	struct cr_opts o = { .inherit_fds = { list, array_len(list) } };

	assert_true(r >= 0 && w >= 0 && rw >= 0);
	assert_int_equal(given_pipe(&o, 7, O_RDONLY), r);
	assert_int_equal(given_pipe(&o, 7, O_WRONLY), w);
	assert_int_equal(given_pipe(&o, 7, O_RDWR), r); /* the first, to be opened again */
	assert_int_equal(given_pipe(&o, 8, O_RDONLY), -ENOENT);
	assert_int_equal(given_file(&o, "/a/b", O_RDONLY), rw);
	assert_int_equal(given_file(&o, "/c", O_RDONLY), r);
	assert_int_equal(given_file(&o, "/a", O_RDONLY), -ENOENT);
	assert_int_equal(given_file(&o, "/a/bc", O_RDONLY), -ENOENT);
	assert_int_equal(given_file(&o, "/file[1f:2a]", O_WRONLY), w);
	assert_int_equal(given_file(&o, "/file[1f:2b]", O_WRONLY), -ENOENT);
	assert_int_equal(given_file(NULL, "/a/b", O_RDONLY), -ENOENT);
	assert_int_equal(given_tty(&o, 0x8800, 0x1a), rw);
	assert_int_equal(given_tty(&o, 0x8800, 0x1b), -ENOENT);
	assert_int_equal(given_tty(NULL, 0x8800, 0x1a), -ENOENT);
	assert_true(given_allows(r, O_RDONLY) && !given_allows(r, O_WRONLY) && !given_allows(r, O_RDWR));
	assert_true(given_allows(rw, O_RDONLY) && given_allows(rw, O_WRONLY) && given_allows(rw, O_RDWR));
	close(r);
	assert_false(given_allows(r, O_RDONLY));
	close(w);
	close(rw);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(names), cmocka_unit_test(dump), cmocka_unit_test(restore) };

	return cmocka_run_group_tests_name("given", tests, NULL, NULL);
}

/* The page server: what comes in order becomes images, what does not leaves nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "engine/page_server.h"

static char dir[] = "/tmp/godwit-pages.XXXXXX";
static int dir_fd;

#define OWNER(n) ((uint64_t)(n) << 8 | PS_OWNER_PID)
#define ADD (PS_ADD_F | PS_FLAG_PRESENT << 16)

/* Sends messages (ADDs with pages of their number), and gives the server's result. */
static int serve(const struct ps_iov *m, size_t n, size_t cut, struct err *e)
{
	int ends[2], r, status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid = fork();
	if (pid == 0) {
		char page[4096];

		close(ends[1]);
		for (size_t i = 0; i < n; i++) {
			if (fd_write_full(ends[0], &m[i], sizeof(m[i])) < 0)
				_exit(0);
			memset(page, 'a' + (int)i, sizeof(page));
			for (uint32_t k = 0; (m[i].cmd & 0xffff) == PS_ADD_F && k < m[i].nr_pages && k < 16; k++)
				if (fd_write_full(ends[0], page, cut && i + 1 == n ? cut : sizeof(page)) < 0)
					_exit(0);
		}
		shutdown(ends[0], SHUT_WR);
		while (read(ends[0], page, sizeof(page)) > 0)
			;
		_exit(0);
	}
	close(ends[0]);
	r = page_server_serve(ends[1], dir_fd, e);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return r;
}

static int files(void)
{
	char cmd[96];
	FILE *f;
	int n = -1;

	snprintf(cmd, sizeof(cmd), "ls %s | wc -l", dir);
	f = popen(cmd, "r");
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

static void test_order(void **state)
{
	static const struct ps_iov m[] = {
		{ PS_PARENT, 0, 0, OWNER(7) },
		{ PS_OPEN2, 0, 0, OWNER(7) },
		{ ADD, 2, 0x1000, 0 },
		{ ADD, 1, 0x7000, 0 },
		{ PS_OPEN2, 0, 0, 3 << 8 | PS_OWNER_SHM },
		{ ADD, 1, 0, 0 },
		{ PS_FORCE_CLOSE, 0, 0, 0 },
	};
	struct err e = { 0 };
	struct stat st;
	char *data, cmd[256];
	size_t len;

	if (serve(m, array_len(m), 0, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(files(), 4);
	assert_int_equal(fd_read_file_at(dir_fd, "pages-1.img", 1 << 20, &data, &len), 0);
	assert_int_equal(len, 3 * 4096);
	assert_true(data[0] == 'c' && data[4096] == 'c' && data[8192] == 'd');
	free(data);
	assert_int_equal(fstatat(dir_fd, "pages-2.img", &st, 0), 0);
	assert_int_equal(st.st_size, 4096);
	/* CRIU's own tool reads them. */
	if (access("/usr/bin/crit", X_OK) == 0) {
		snprintf(cmd, sizeof(cmd), "/usr/bin/python3 /usr/bin/crit show %s/pagemap-7.img | tr -d ' \\n' | grep -q "
			 "'\"pages_id\":1.*\"nr_pages\":2,\"flags\":\"PE_PRESENT\".*0x7000.*\"nr_pages\":1'", dir);
		assert_int_equal(system(cmd), 0);
	}
	/* Nothing is written over. */
	assert_int_equal(serve(m, array_len(m), 0, &e), -EEXIST);
	assert_int_equal(files(), 4);
	snprintf(cmd, sizeof(cmd), "rm %s/*", dir);
	assert_int_equal(system(cmd), 0);
}

static void test_refused(void **state)
{
	static const struct {
		struct ps_iov m[3];
		const char *why;
	} cases[] = {
		{ { { ADD, 1, 0x1000, 0 } }, "nobody" },
		{ { { 99, 0, 0, 0 } }, "kind 99" },
		{ { { PS_GET, 1, 0x1000, OWNER(7) } }, "not served" },
		{ { { PS_OPEN2, 0, 0, 7 << 8 } }, "owner" },
		{ { { PS_OPEN2, 0, 0, 7 << 8 | 9 } }, "owner" },
		{ { { PS_OPEN2, 0, 0, 1ull << 50 | 1 } }, "owner" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD, 0, 0x1000, 0 } }, "no run" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD, 1, 0x1001, 0 } }, "no run" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD, 2, 0xfffffffffffff000, 0 } }, "no run" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD, 2, 0x1000, 0 }, { ADD, 1, 0x2000, 0 } }, "behind the one before" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD | PS_FLAG_PARENT << 16, 1, 0x1000, 0 } }, "incremental" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { PS_ADD_F | PS_FLAG_LAZY << 16, 1, 0x1000, 0 } }, "lazy" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { PS_HOLE, 1, 0x1000, 0 } }, "kind 2" },
		{ { { PS_OPEN2, 0, 0, OWNER(7) }, { PS_OPEN2, 0, 0, OWNER(7) }, { PS_CLOSE, 0, 0, 0 } }, "pagemap-7.img" },
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct err e = { 0 };
		size_t n = 1;

		while (n < 3 && cases[i].m[n].cmd)
			n++;
		assert_true(serve(cases[i].m, n, 0, &e) < 0);
		if (!strstr(e.text, cases[i].why))
			fail_msg("%zu: '%s' says nothing of '%s'", i, e.text, cases[i].why);
		assert_int_equal(files(), 0);
	}
}

/* An end anywhere but behind CLOSE. */
static void test_truncated(void **state)
{
	static const struct ps_iov m[] = { { PS_OPEN2, 0, 0, OWNER(7) }, { ADD, 1, 0x1000, 0 } };
	struct err e = { 0 };

	assert_int_equal(serve(m, 2, 0, &e), -EPIPE);
	assert_non_null(strstr(e.text, "without closing"));
	assert_int_equal(serve(m, 2, 100, &e), -EPIPE);
	assert_non_null(strstr(e.text, "within pages"));
	assert_int_equal(serve(m, 0, 0, &e), -EPIPE);
	assert_int_equal(files(), 0);
}

static int group_up(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int group_down(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}

/* The client's own parts: remotes, names, tables, image tarballs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/token.h"
#include "cli/conf.h"
#include "cli/image_build.h"
#include "cli/image_ref.h"
#include "cli/image_tar.h"
#include "cli/table.h"

static char dir[64];

static int set_up(void **state)
{
	strcpy(dir, "/tmp/gw-test-cli.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	setenv("GODWIT_CONF", dir, 1);
	setenv("GODWIT_SOCKET", "/nowhere/sock", 1);
	return 0;
}

static int tear_down(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static void put_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void remotes_live_on(void **state)
{
	struct conf *c = NULL;
	struct err e = { 0 };
	char *pem = NULL;

	assert_int_equal(conf_open(&c, &e), 0);
	assert_string_equal(conf_default(c), "local");
	assert_string_equal(conf_remote_addr(c, "local"), "unix:/nowhere/sock");
	assert_int_equal(conf_remote_put(c, "h1", "https://10.0.0.1:8443", "PEM\n", &e), 0);
	assert_int_equal(conf_set_default(c, "h1", &e), 0);
	assert_int_equal(conf_save(c, &e), 0);
	conf_free(c);

	assert_int_equal(conf_open(&c, &e), 0);
	assert_string_equal(conf_default(c), "h1");
	assert_string_equal(conf_remote_addr(c, "h1"), "https://10.0.0.1:8443");
	assert_int_equal(conf_remote_cert(c, "h1", &pem, &e), 0);
	assert_string_equal(pem, "PEM\n");
	free(pem);
	assert_int_equal(conf_remote_put(c, "h1", "https://10.0.0.2:8443", "PEM\n", &e), -EEXIST);
	assert_int_equal(conf_remote_put(c, "../x", "https://10.0.0.2:8443", "PEM\n", &e), -EINVAL);
	assert_int_equal(conf_remote_put(c, "local", "https://10.0.0.2:8443", "PEM\n", &e), -EEXIST);
	assert_int_equal(conf_remote_remove(c, "local", &e), -EINVAL);
	assert_int_equal(conf_remote_remove(c, "h2", &e), -ENOENT);
	assert_int_equal(conf_remote_remove(c, "h1", &e), 0);
	assert_string_equal(conf_default(c), "local");
	assert_null(conf_remote_addr(c, "h1"));
	conf_free(c);
}

static void bad_remotes_are_refused(void **state)
{
	static const char *const bad[] = { "", "[]", "{", "{\"default\":1}", "{\"remotes\":[]}",
					   "{\"remotes\":{},\"remotes\":{}}" };
	struct conf *c = NULL;

	for (size_t i = 0; i < array_len(bad); i++) {
		struct err e = { 0 };

		put_file("remotes.json", bad[i]);
		assert_int_equal(conf_open(&c, &e), -EINVAL);
		assert_non_null(strstr(e.text, "remotes.json"));
	}
}

static void names_are_split(void **state)
{
	struct conf *c = NULL;
	struct err e = { 0 };
	char *remote, *name;

	assert_int_equal(conf_open(&c, &e), 0);
	assert_int_equal(conf_remote_put(c, "h1", "https://10.0.0.1:8443", "PEM\n", &e), 0);
	assert_int_equal(conf_split(c, "h1:c1", &remote, &name, &e), 0);
	assert_string_equal(remote, "h1");
	assert_string_equal(name, "c1");
	free(remote);
	free(name);
	assert_int_equal(conf_split(c, "h1:", &remote, &name, &e), 0);
	assert_string_equal(name, "");
	free(remote);
	free(name);
	assert_int_equal(conf_split(c, "c1", &remote, &name, &e), 0);
	assert_string_equal(remote, "local");
	free(remote);
	free(name);
	assert_int_equal(conf_split(c, "h9:c1", &remote, &name, &e), -ENOENT);
	assert_non_null(strstr(e.text, "h9"));
	assert_int_equal(conf_split(c, "h1:a/b", &remote, &name, &e), -EINVAL);
	assert_int_equal(conf_split(c, "h1:a:b", &remote, &name, &e), -EINVAL);
	assert_int_equal(image_ref_split(c, "h1:debian/12", &remote, &name, &e), 0);
	assert_string_equal(name, "debian/12");
	free(remote);
	free(name);
	assert_int_equal(image_ref_split(c, "h1:", &remote, &name, &e), -EINVAL);
	conf_free(c);
}

static void images_are_escaped(void **state)
{
	char *s = image_escape("debian/12?a=b&c d");

	assert_string_equal(s, "debian%2F12%3Fa%3Db%26c%20d");
	free(s);
}

/* What fn prints, by way of a file. */
static char *printed(struct table *t, enum table_format format)
{
	char path[128], *text;
	int saved = dup(1), fd;
	struct stat st;

	fflush(stdout);
	snprintf(path, sizeof(path), "%s/out", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(fd, 1);
	table_print(t, format);
	fflush(stdout);
	dup2(saved, 1);
	close(saved);
	fstat(fd, &st);
	text = calloc(1, (size_t)st.st_size + 1);
	assert_int_equal(pread(fd, text, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	return text;
}

static void tables_are_printed(void **state)
{
	static const char *const headers[] = { "NAME", "WHAT IT IS" };
	static const char *const one[] = { "zeta", "a \"b\", c" }, *const two[] = { "al\033[1m", NULL };
	struct table *t = table_new(headers, 2);
	json_t *j;
	char *s;

	assert_int_equal(table_row(t, one), 0);
	assert_int_equal(table_row(t, two), 0);
	s = printed(t, TABLE_CSV);
	assert_string_equal(s, "al\033[1m,\nzeta,\"a \"\"b\"\", c\"\n");
	free(s);
	s = printed(t, TABLE_PLAIN);
	assert_string_equal(s, "NAME    WHAT IT IS\nal?[1m  \nzeta    a \"b\", c\n");
	free(s);
	s = printed(t, TABLE_JSON);
	j = json_loads(s, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(json_array_get(j, 1), "what_it_is")), "a \"b\", c");
	json_decref(j);
	free(s);
	table_free(t);
}

static bool all_but_shadow(const char *path)
{
	return strcmp(path, "etc/shadow") != 0;
}

/* A tar made by hand comes out below rootfs/, hard links too, devices and the unwanted left out. */
static void tar_is_taken_over(void **state)
{
	struct {
		const char *path;
		mode_t type;
		const char *link;
	} in[] = { { "./", AE_IFDIR, NULL },	      { "./etc/", AE_IFDIR, NULL },
		   { "./etc/a", AE_IFREG, NULL },     { "./etc/b", AE_IFREG, "./etc/a" },
		   { "./etc/shadow", AE_IFREG, NULL }, { "./dev/null", AE_IFCHR, NULL } };
	char tar[128], out[128], seen[512] = "";
	struct archive *a = archive_write_new();
	struct archive_entry *en;
	struct image_tar *t = NULL;
	struct err e = { 0 };
	int fd;

	snprintf(tar, sizeof(tar), "%s/in.tar", dir);
	snprintf(out, sizeof(out), "%s/out.tar", dir);
	archive_write_set_format_ustar(a);
	assert_int_equal(archive_write_open_filename(a, tar), ARCHIVE_OK);
	for (size_t i = 0; i < array_len(in); i++) {
		en = archive_entry_new();
		archive_entry_set_pathname(en, in[i].path);
		archive_entry_set_filetype(en, in[i].type);
		archive_entry_set_perm(en, 0755);
		if (in[i].link)
			archive_entry_set_hardlink(en, in[i].link);
		archive_entry_set_size(en, in[i].type == AE_IFREG && !in[i].link ? 5 : 0);
		assert_int_equal(archive_write_header(a, en), ARCHIVE_OK);
		if (in[i].type == AE_IFREG && !in[i].link)
			assert_int_equal(archive_write_data(a, "hello", 5), 5);
		archive_entry_free(en);
	}
	archive_write_free(a);

	fd = open(tar, O_RDONLY);
	assert_int_equal(image_tar_open(out, &t, &e), 0);
	assert_int_equal(image_tar_copy(t, fd, all_but_shadow, &e), 0);
	assert_int_equal(image_tar_finish(t, &e), 0);
	close(fd);
	a = archive_read_new();
	archive_read_support_format_all(a);
	archive_read_support_filter_all(a);
	assert_int_equal(archive_read_open_filename(a, out, 10240), ARCHIVE_OK);
	while (archive_read_next_header(a, &en) == ARCHIVE_OK) {
		char data[8] = "";
		const char *hard = archive_entry_hardlink(en);

		archive_read_data(a, data, 5);
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s%s%s=%s ", archive_entry_pathname(en),
			 hard ? ">" : "", hard ? hard : "", data);
	}
	archive_read_free(a);
	assert_string_equal(seen, "rootfs/= rootfs/etc/= rootfs/etc/a=hello rootfs/etc/b>rootfs/etc/a= ");
}

static void broken_tar_is_refused(void **state)
{
	struct image_tar *t = NULL;
	struct err e = { 0 };
	char path[128], out[128];
	int fd;

	put_file("bad.tar", "this is no tar at all, but long enough to be looked at ......................");
	snprintf(path, sizeof(path), "%s/bad.tar", dir);
	snprintf(out, sizeof(out), "%s/out.tar", dir);
	fd = open(path, O_RDONLY);
	assert_int_equal(image_tar_open(out, &t, &e), 0);
	assert_true(image_tar_copy(t, fd, all_but_shadow, &e) < 0);
	close(fd);
	image_tar_abort(t);
	assert_int_equal(access(out, F_OK), -1);
	assert_true(image_build_debian("bookworm", "a b;c", "sysvinit", out, NULL, NULL, &e) < 0);
	assert_true(image_build_debian("bookworm", "--evil", "sysvinit", out, NULL, NULL, &e) < 0);
}

static void token_of(const char *json, char *ret)
{
	EVP_EncodeBlock((unsigned char *)ret, (const unsigned char *)json, (int)strlen(json));
}

#define FP "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void tokens(void **state)
{
	static const char good[] = "{\"client_name\":\"c\",\"fingerprint\":\"" FP "\",\"addresses\":[\"10.0.0.1:8443\"],"
				   "\"secret\":\"abc\"}";
	static const char *const no_token[] = { "host", "host.example.org", "10.83.0.1:8443", "https://h:1", "[::1]:8443",
						"eyJ.example.org", "a-name-with-a-dash", "" };
	static const char *const wrong[] = {
		"{\"a\":1}", "{\"fingerprint\":\"" FP "\",\"addresses\":[\"a\"]}",
		"{\"fingerprint\":\"0123\",\"addresses\":[\"a\"],\"secret\":\"x\"}",
		"{\"fingerprint\":\"" FP "\",\"addresses\":[],\"secret\":\"x\"}",
		"{\"fingerprint\":\"" FP "\",\"addresses\":[7],\"secret\":\"x\"}", "{\"secret\"}",
	};
	char text[512], broken[1024], *clean;
	struct err e = { 0 };
	json_t *o;

	token_of(good, text);
	assert_int_equal(token_parse(text, &o, &clean, &e), 1);
	assert_string_equal(json_string_value(json_object_get(o, "secret")), "abc");
	assert_string_equal(clean, text);
	json_decref(o);
	free(clean);
	snprintf(broken, sizeof(broken), " %.30s\n  %s\n", text, text + 30);
	assert_int_equal(token_parse(broken, &o, &clean, &e), 1);
	assert_string_equal(clean, text);
	json_decref(o);
	free(clean);
	for (size_t i = 0; i < array_len(no_token); i++)
		assert_int_equal(token_parse(no_token[i], &o, &clean, &e), 0);
	for (size_t i = 0; i < array_len(wrong); i++) {
		token_of(wrong[i], text);
		assert_int_equal(token_parse(text, &o, &clean, &e), -EINVAL);
		assert_non_null(strstr(e.text, "looks like a token"));
	}
	/* Cut off at any place, at either end, or with a letter lost in the middle. */
	token_of(good, text);
	for (size_t n = 4; n < strlen(text); n++) {
		snprintf(broken, sizeof(broken), "%.*s", (int)n, text);
		assert_int_equal(token_parse(broken, &o, &clean, &e), -EINVAL);
		snprintf(broken, sizeof(broken), "%.*s%s", (int)n, text, text + n + 1);
		assert_int_equal(token_parse(broken, &o, &clean, &e), -EINVAL);
		if (strlen(text) - n > 63)
			assert_int_equal(token_parse(text + n, &o, &clean, &e), -EINVAL);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens),
		cmocka_unit_test_setup_teardown(remotes_live_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_remotes_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names_are_split, set_up, tear_down),
		cmocka_unit_test(images_are_escaped),
		cmocka_unit_test_setup_teardown(tables_are_printed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tar_is_taken_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(broken_tar_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Archives as strangers make them: names that climb, links that lead out, damaged ones; and good ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "image_store/metadata.h"
#include "image_store/store.h"
#include "image_store/tarpath.h"
#include "image_store/unpack.h"
#include "storage/folder.h"

static char top[64], tar[96], to[96], outside[96];

struct item {
	const char *path;
	int type; /* AE_IF… ; 0: hard link */
	const char *data; /* content, or target of a link */
	int mode;
	int64_t uid, gid; /* gid 0: as uid */
};

static void tar_write(const struct item *items, size_t n)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	archive_write_add_filter_gzip(a);
	assert_int_equal(archive_write_open_filename(a, tar), ARCHIVE_OK);
	for (size_t i = 0; i < n; i++) {
		struct archive_entry *en = archive_entry_new();

		archive_entry_set_pathname(en, items[i].path);
		archive_entry_set_filetype(en, items[i].type ? (unsigned)items[i].type : AE_IFREG);
		archive_entry_set_perm(en, (mode_t)(items[i].mode ? items[i].mode : 0755));
		archive_entry_set_uid(en, items[i].uid);
		archive_entry_set_gid(en, items[i].gid ? items[i].gid : items[i].uid);
		archive_entry_set_mtime(en, 1700000000, 5);
		if (items[i].type == 0)
			archive_entry_set_hardlink(en, items[i].data);
		else if (items[i].type == AE_IFLNK)
			archive_entry_set_symlink(en, items[i].data);
		else if (items[i].type == AE_IFREG)
			archive_entry_set_size(en, (int64_t)strlen(items[i].data));
		assert_int_equal(archive_write_header(a, en), ARCHIVE_OK);
		if (items[i].type == AE_IFREG)
			archive_write_data(a, items[i].data, strlen(items[i].data));
		archive_entry_free(en);
	}
	archive_write_close(a);
	archive_write_free(a);
}

static int unpack(struct err *e)
{
	/* One id, mapped to who we are: works without being root. */
	struct unpack u = { .file = tar, .below = "rootfs", .to = to, .idmap_base = getuid(), .idmap_size = 1 };

	folder_remove(to, NULL);
	assert_int_equal(folder_make(to, 0755, NULL), 0);
	return unpack_run(&u, e);
}

static bool has_init;

static int check(bool *root, struct err *e)
{
	struct unpack_look l = { .file = tar, .below = "rootfs" };
	int r = unpack_check(&l, e);

	*root = l.has_root;
	has_init = l.has_init;
	if (r == 0)
		free(l.metadata);
	return r;
}

static int always(void *arg)
{
	++*(int *)arg;
	return -1;
}

static void inits(void **state)
{
	static const struct {
		struct item items[3];
		bool there;
	} cases[] = {
		{ { { "rootfs/sbin/init", AE_IFREG, "x" }, { "rootfs/a", AE_IFDIR }, { "rootfs/b", AE_IFDIR } }, true },
		{ { { "rootfs/sbin/init", AE_IFLNK, "../bin/busybox" }, { "rootfs/a", AE_IFDIR }, { "b", AE_IFDIR } }, true },
		{ { { "rootfs/sbin", AE_IFLNK, "usr/sbin" }, { "rootfs/usr/sbin/init", AE_IFREG, "x" }, { "a", AE_IFDIR } }, true },
		{ { { "rootfs/usr/bin/init", AE_IFREG, "x" }, { "rootfs/sbin", AE_IFLNK, "/usr/bin" }, { "a", AE_IFDIR } }, true },
		{ { { "rootfs/usr/sbin/init", AE_IFREG, "x" }, { "rootfs/sbin", AE_IFDIR }, { "a", AE_IFDIR } }, false },
		{ { { "sbin/init", AE_IFREG, "x" }, { "rootfs/sbin", AE_IFDIR }, { "a", AE_IFDIR } }, false },
		{ { { "rootfs/sbin/init", AE_IFDIR }, { "rootfs/a", AE_IFDIR }, { "a", AE_IFDIR } }, false },
		{ { { "rootfs/init", AE_IFREG, "x" }, { "rootfs/a", AE_IFDIR }, { "a", AE_IFDIR } }, false },
	};
	struct err e;
	bool root;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tar_write(cases[i].items, 3);
		assert_int_equal(check(&root, &e), 0);
		assert_int_equal(has_init, cases[i].there);
	}
}

static void owners(void **state)
{
	static const struct {
		int64_t uid, gid;
		bool foreign;
		int64_t id;
	} cases[] = { { 0, 0, false, 0 },	    { 65535, 65535, false, 0 },	   { 65536, 0, true, 65536 },
		      { 0, 100000, true, 100000 }, { 4294967294, 7, true, 4294967294 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct item items[] = { { "rootfs/a", AE_IFREG, "x" },
					{ "rootfs/b", AE_IFREG, "x", .uid = cases[i].uid, .gid = cases[i].gid },
					{ "elsewhere", AE_IFREG, "x", .uid = 70000 } };
		struct unpack_look l = { .file = tar, .below = "rootfs" };

		tar_write(items, 3);
		assert_int_equal(unpack_check(&l, NULL), 0);
		free(l.metadata);
		assert_int_equal(l.foreign, cases[i].foreign);
		if (cases[i].foreign) {
			assert_string_equal(l.foreign_name, "b");
			assert_int_equal(l.foreign_id, cases[i].id);
		}
	}
}

static void check_is_cancelled(void **state)
{
	struct item items[200];
	char names[200][32];
	int asked = 0;
	struct unpack_look l = { .file = tar, .below = "rootfs", .cancelled = always, .arg = &asked };
	struct err e;

	for (int i = 0; i < 200; i++) {
		snprintf(names[i], sizeof(names[i]), "rootfs/%d", i);
		items[i] = (struct item){ names[i], AE_IFREG, "x" };
	}
	tar_write(items, 200);
	assert_int_equal(unpack_check(&l, &e), -ECANCELED);
	assert_int_equal(asked, 1);
	assert_null(l.metadata);
}

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/godwit-image-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(tar, sizeof(tar), "%s/x.tar.gz", top);
	snprintf(to, sizeof(to), "%s/root", top);
	snprintf(outside, sizeof(outside), "%s/outside", top);
	return mkdir(outside, 0755);
}

static int teardown(void **state)
{
	return folder_remove(top, NULL);
}

static void paths(void **state)
{
	char p[4096], longer[300];

	assert_int_equal(tarpath_clean("./a//b/./c/", p, sizeof(p)), 0);
	assert_string_equal(p, "a/b/c");
	assert_int_equal(tarpath_clean("./", p, sizeof(p)), 0);
	assert_string_equal(p, "");
	assert_int_equal(tarpath_clean("/a", p, sizeof(p)), -EINVAL);
	assert_int_equal(tarpath_clean("a/../b", p, sizeof(p)), -EINVAL);
	assert_int_equal(tarpath_clean("..", p, sizeof(p)), -EINVAL);
	assert_int_equal(tarpath_clean("a/..b", p, sizeof(p)), 0);
	assert_int_equal(tarpath_clean(NULL, p, sizeof(p)), -EINVAL);
	assert_int_equal(tarpath_clean("abcdef", p, 5), -EINVAL);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	assert_int_equal(tarpath_clean(longer, p, sizeof(p)), -EINVAL);
	assert_string_equal(tarpath_below("rootfs/a", "rootfs"), "a");
	assert_string_equal(tarpath_below("rootfs", "rootfs"), "");
	assert_null(tarpath_below("rootfsx/a", "rootfs"));
	assert_string_equal(tarpath_below("a", ""), "a");
}

static void good(void **state)
{
	const struct item items[] = {
		{ "metadata.yaml", AE_IFREG, "architecture: x86_64\n" },
		{ "rootfs", AE_IFDIR, NULL, 0750 },
		{ "./rootfs/bin", AE_IFLNK, "usr/bin" },
		{ "rootfs/usr/bin/", AE_IFDIR, NULL, 0711 },
		{ "rootfs/bin/tool", AE_IFREG, "hello", 04755 },
		{ "rootfs/usr/bin/tool2", 0, "rootfs/usr/bin/tool" },
		{ "rootfs/abs", AE_IFLNK, "/etc/passwd" },
		{ "rootfs/deep/er/file", AE_IFREG, "x", 0600 },
		{ "rootfs/fifo", AE_IFIFO, NULL, 0622 },
	};
	struct stat st, st2;
	struct err e;
	char path[160], text[16] = "";
	bool root;
	int fd;

	tar_write(items, sizeof(items) / sizeof(items[0]));
	assert_int_equal(check(&root, &e), 0);
	assert_true(root);
	assert_int_equal(unpack(&e), 0);
	snprintf(path, sizeof(path), "%s/usr/bin/tool", to);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 04755);
	assert_int_equal(st.st_mtime, 1700000000);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	close(fd);
	assert_string_equal(text, "hello");
	snprintf(path, sizeof(path), "%s/usr/bin/tool2", to);
	assert_int_equal(lstat(path, &st2), 0);
	assert_int_equal(st.st_ino, st2.st_ino);
	snprintf(path, sizeof(path), "%s/usr/bin", to);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(st.st_mtime, 1700000000);
	assert_int_equal(stat(to, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	snprintf(path, sizeof(path), "%s/fifo", to);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0622);
	snprintf(path, sizeof(path), "%s/metadata.yaml", to);
	assert_int_equal(access(path, F_OK), -1);
}

static void climbing_names(void **state)
{
	static const char *const names[] = { "rootfs/../../outside/x", "/rootfs/x", "rootfs/a/../../../x" };
	struct err e;
	bool root;

	for (size_t i = 0; i < 3; i++) {
		const struct item items[] = { { "rootfs", AE_IFDIR, NULL }, { names[i], AE_IFREG, "x" } };

		tar_write(items, 2);
		assert_int_equal(check(&root, &e), -EINVAL);
		assert_non_null(strstr(e.text, "leads out"));
		assert_int_equal(unpack(&e), -EINVAL);
	}
}

/* A symbolic link to a folder outside, then a file through it: lands inside, or nowhere. */
static void through_a_link(void **state)
{
	const struct item absolute[] = { { "rootfs", AE_IFDIR, NULL },
					 { "rootfs/evil", AE_IFLNK, outside },
					 { "rootfs/evil/x", AE_IFREG, "x" } };
	const struct item relative[] = { { "rootfs", AE_IFDIR, NULL },
					 { "rootfs/evil", AE_IFLNK, "../outside" },
					 { "rootfs/evil/x", AE_IFREG, "x" } };
	const struct item file[] = { { "rootfs", AE_IFDIR, NULL },
				     { "rootfs/f", AE_IFLNK, "../outside/x" },
				     { "rootfs/f", AE_IFREG, "x" } };
	char path[160];
	struct err e;

	snprintf(path, sizeof(path), "%s/x", outside);
	tar_write(absolute, 3);
	unpack(&e);
	assert_int_equal(access(path, F_OK), -1);
	tar_write(relative, 3);
	unpack(&e);
	assert_int_equal(access(path, F_OK), -1);
	tar_write(file, 3);
	assert_int_equal(unpack(&e), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void hard_links_out(void **state)
{
	const struct item items[] = { { "metadata.yaml", AE_IFREG, "a: b" },
				      { "rootfs", AE_IFDIR, NULL },
				      { "rootfs/p", 0, "../../../etc/passwd" } };
	const struct item sideways[] = { { "metadata.yaml", AE_IFREG, "a: b" },
					 { "rootfs", AE_IFDIR, NULL },
					 { "rootfs/p", 0, "metadata.yaml" } };
	struct err e;
	bool root;

	tar_write(items, 3);
	assert_int_equal(check(&root, &e), -EINVAL);
	assert_int_equal(unpack(&e), -EINVAL);
	tar_write(sideways, 3);
	assert_int_equal(check(&root, &e), -EINVAL);
	assert_int_equal(unpack(&e), -EINVAL);
}

static void foreign_owner(void **state)
{
	const struct item items[] = { { "rootfs", AE_IFDIR, NULL }, { "rootfs/x", AE_IFREG, "x", 0, 70000 } };
	struct err e;

	tar_write(items, 2);
	assert_int_equal(unpack(&e), -ERANGE);
	assert_non_null(strstr(e.text, "70000"));
}

static void later_wins(void **state)
{
	const struct item items[] = { { "rootfs", AE_IFDIR, NULL },
				      { "rootfs/x", AE_IFREG, "one" },
				      { "rootfs/x", AE_IFREG, "second" },
				      { "rootfs/d", AE_IFDIR, NULL },
				      { "rootfs/d", AE_IFLNK, "x" } };
	struct stat st;
	char path[160];
	struct err e;

	tar_write(items, 5);
	assert_int_equal(unpack(&e), 0);
	snprintf(path, sizeof(path), "%s/x", to);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 6);
	snprintf(path, sizeof(path), "%s/d", to);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

/* cap_net_raw=ep of the host's kind becomes one of the container's root.  Needs root. */
static void file_capability(void **state)
{
	static const unsigned char v2[20] = { 1, 0, 0, 2, 0, 0x20 };
	struct unpack u = { .file = tar, .below = "rootfs", .to = to, .idmap_base = 100000, .idmap_size = 65536 };
	struct archive *a;
	struct archive_entry *en;
	unsigned char got[64];
	char path[160];
	struct stat st;
	struct err e;

	if (geteuid() != 0) {
		skip();
		return;
	}
	a = archive_write_new();
	en = archive_entry_new();
	archive_write_set_format_pax(a);
	assert_int_equal(archive_write_open_filename(a, tar), ARCHIVE_OK);
	archive_entry_set_pathname(en, "rootfs/ping");
	archive_entry_set_filetype(en, AE_IFREG);
	archive_entry_set_perm(en, 0755);
	archive_entry_set_uid(en, 3);
	archive_entry_set_gid(en, 4);
	archive_entry_set_size(en, 0);
	archive_entry_xattr_add_entry(en, "security.capability", v2, sizeof(v2));
	archive_entry_xattr_add_entry(en, "trusted.evil", "x", 1);
	assert_int_equal(archive_write_header(a, en), ARCHIVE_OK);
	archive_entry_free(en);
	archive_write_close(a);
	archive_write_free(a);
	folder_remove(to, NULL);
	assert_int_equal(folder_make(to, 0755, NULL), 0);
	assert_int_equal(unpack_run(&u, &e), 0);
	snprintf(path, sizeof(path), "%s/ping", to);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 100003);
	assert_int_equal(st.st_gid, 100004);
	assert_int_equal(getxattr(path, "security.capability", got, sizeof(got)), 24);
	assert_int_equal(got[3], 3); /* version 3, with the id of the container's root behind it */
	assert_int_equal(got[5], 0x20);
	assert_int_equal(got[20] | got[21] << 8 | got[22] << 16, 100000);
	assert_int_equal(getxattr(path, "trusted.evil", got, sizeof(got)), -1);
}

static void not_an_archive(void **state)
{
	int fd = open(tar, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err e;
	bool root;

	assert_int_equal(write(fd, "this is not a tar archive at all\n", 33), 33);
	assert_int_equal(check(&root, &e), -EINVAL);
	assert_true(strlen(e.text) > 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	assert_int_equal(check(&root, &e), -EINVAL);
}

static void cut_short(void **state)
{
	char big[200001];
	const struct item items[] = { { "metadata.yaml", AE_IFREG, "a: b" },
				      { "rootfs", AE_IFDIR, NULL },
				      { "rootfs/big", AE_IFREG, big } };
	struct stat st;
	struct err e;

	for (size_t i = 0; i < sizeof(big) - 1; i++)
		big[i] = (char)('a' + (i * 2654435761u >> 13) % 26);
	big[sizeof(big) - 1] = '\0';
	tar_write(items, 3);
	assert_int_equal(stat(tar, &st), 0);
	assert_int_equal(truncate(tar, st.st_size / 2), 0);
	assert_int_equal(unpack(&e), -EINVAL);
}

static void yaml(void **state)
{
	static const char text[] = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n"
				   "  os: Debian\n  release: '12'\ntemplates:\n  /etc/hosts:\n    when: [create]\n";
	static const char *const bad[] = { "- a\n- b\n", "architecture: [x]\n", "creation_date: soon\n",
					   "properties:\n  a: {b: c}\n", "a: &x b\nproperties:\n  c: *x\n",
					   "architecture: 'open\n", "" };
	json_t *m;
	struct err e;

	assert_int_equal(metadata_parse(text, strlen(text), &m, &e), 0);
	assert_string_equal(json_string_value(json_object_get(m, "architecture")), "x86_64");
	assert_int_equal(json_integer_value(json_object_get(m, "creation_date")), 1700000000);
	assert_string_equal(json_string_value(json_object_get(json_object_get(m, "properties"), "release")),
			    "12");
	json_decref(m);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(metadata_parse(bad[i], strlen(bad[i]), &m, &e), -EINVAL);
}

static void import_and_delete(void **state)
{
	const struct item items[] = { { "metadata.yaml", AE_IFREG, "architecture: x86_64\nproperties: {os: T}\n" },
				      { "rootfs", AE_IFDIR, NULL } };
	const struct item no_meta[] = { { "rootfs", AE_IFDIR, NULL } };
	const struct item no_root[] = { { "metadata.yaml", AE_IFREG, "architecture: x86_64\n" } };
	struct image_import in = { .file = tar, .filename = "x.tar.gz" };
	struct db *db;
	struct err e;
	json_t *r, *row;
	const char *fp;
	char path[200];

	assert_int_equal(db_open(top, &db, &e), 0);
	tar_write(no_meta, 1);
	assert_int_equal(image_import(db, top, &in, &r, &e), -EINVAL);
	tar_write(no_root, 1);
	assert_int_equal(image_import(db, top, &in, &r, &e), -EINVAL);
	tar_write(items, 2);
	assert_int_equal(image_import(db, top, &in, &r, &e), 0);
	fp = json_string_value(json_object_get(r, "fingerprint"));
	snprintf(path, sizeof(path), "%s/images/%s", top, fp);
	assert_int_equal(access(path, R_OK), 0);
	assert_int_equal(db_image_get(db, fp, &row, &e), 0);
	assert_string_equal(json_string_value(json_object_get(json_object_get(row, "properties"), "os")), "T");
	json_decref(row);
	assert_int_equal(image_delete(db, top, "../../etc", &e), -EINVAL);
	assert_int_equal(image_delete(db, top, fp, &e), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_true(image_delete(db, top, fp, &e) < 0);
	json_decref(r);
	db_free(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inits),
		cmocka_unit_test(owners),
		cmocka_unit_test(check_is_cancelled),
		cmocka_unit_test(paths),	  cmocka_unit_test(good),
		cmocka_unit_test(climbing_names), cmocka_unit_test(through_a_link),
		cmocka_unit_test(hard_links_out), cmocka_unit_test(foreign_owner),
		cmocka_unit_test(later_wins),	  cmocka_unit_test(not_an_archive),
		cmocka_unit_test(cut_short),	  cmocka_unit_test(yaml),
		cmocka_unit_test(import_and_delete), cmocka_unit_test(file_capability),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

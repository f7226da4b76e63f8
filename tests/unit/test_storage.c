/* Folders and the dir driver's space check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/folder.h"
#include "storage/storage.h"

static char top[64];

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/godwit-storage-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
	return folder_remove(top, NULL);
}

static void file_make(const char *path, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char block[4096];

	assert_true(fd >= 0);
	memset(block, 1, sizeof(block));
	for (size_t at = 0; at < len; at += sizeof(block))
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	close(fd);
}

static void make_and_mode(void **state)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b/c", top);
	assert_int_equal(folder_make(path, 0750, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(folder_make(path, 0700, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

/* Deeper than descriptors allow, with a link that leads out: the link's target stays. */
static void remove_deep(void **state)
{
	char path[128], outside[128];
	int fd, up;

	snprintf(outside, sizeof(outside), "%s/outside", top);
	file_make(outside, 0);
	snprintf(path, sizeof(path), "%s/deep", top);
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 1500; i++) {
		assert_int_equal(mkdirat(fd, "folder-with-a-name", 0700), 0);
		assert_int_equal(symlinkat(outside, fd, "link"), 0);
		up = fd;
		fd = openat(fd, "folder-with-a-name", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(up);
		assert_true(fd >= 0);
	}
	close(fd);
	assert_int_equal(folder_remove(path, NULL), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(outside, F_OK), 0);
	assert_int_equal(folder_remove(path, NULL), 0);
}

static void usage_counts_links_once(void **state)
{
	uint64_t bytes, files, bytes2, files2;
	char dir[128], a[160], b[160];

	snprintf(dir, sizeof(dir), "%s/usage", top);
	assert_int_equal(folder_make(dir, 0700, NULL), 0);
	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	file_make(a, 1 << 20);
	assert_int_equal(folder_usage(dir, &bytes, &files, NULL), 0);
	assert_true(bytes >= 1 << 20);
	assert_int_equal(files, 2);
	assert_int_equal(link(a, b), 0);
	assert_int_equal(folder_usage(dir, &bytes2, &files2, NULL), 0);
	assert_int_equal(files2, 3);
	assert_int_equal(bytes2, bytes);
	assert_true(folder_usage("/nonexistent-godwit", &bytes, &files, NULL) < 0);
}

static void pool_row(struct db *db, const char *name, const char *driver)
{
	json_t *row = json_pack("{s:s, s:s}", "name", name, "driver", driver);

	assert_int_equal(db_pool_put(db, row, true, NULL), 0);
	json_decref(row);
}

static void pool_volumes(void **state)
{
	uint64_t bytes, files;
	struct pool *p;
	struct stat st;
	struct err e;
	struct db *db;
	char *rootfs;

	assert_int_equal(db_open(top, &db, &e), 0);
	pool_row(db, "default", "dir");
	pool_row(db, "odd", "zfs");
	assert_int_equal(pool_open(db, top, "odd", &p, &e), -EOPNOTSUPP);
	assert_int_equal(pool_open(db, top, "none", &p, &e), -ENOENT);
	assert_int_equal(pool_open(db, top, "../x", &p, &e), -EINVAL);
	assert_int_equal(pool_open(db, top, "default", &p, &e), 0);
	assert_int_equal(volume_create(p, "c1", getuid(), &e), 0);
	assert_int_equal(volume_create(p, "c1", getuid(), &e), -EEXIST);
	assert_int_equal(volume_create(p, "../c1", getuid(), &e), -EINVAL);
	rootfs = volume_rootfs(p, "c1");
	assert_int_equal(stat(rootfs, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	free(rootfs);
	assert_null(volume_rootfs(p, "a/b"));
	assert_int_equal(volume_rename(p, "c1", "c2", &e), 0);
	assert_false(volume_exists(p, "c1"));
	assert_true(volume_exists(p, "c2"));
	assert_int_equal(pool_space(p, &bytes, &files, &e), 0);
	assert_int_equal(pool_check_space(p, 0, 0, &e), bytes > 64 << 20 ? 0 : -ENOSPC);
	assert_int_equal(pool_check_space(p, bytes, 0, &e), -ENOSPC);
	assert_int_equal(pool_check_space(p, UINT64_MAX, 0, &e), -ENOSPC);
	assert_int_equal(volume_delete(p, "c2", &e), 0);
	assert_false(volume_exists(p, "c2"));
	pool_free(p);
	db_free(db);
}

/* On ext4 a volume that is made again does not lie where the one of before lay. */
static void volumes_are_spread(void **state)
{
	ino_t first = ~(ino_t)0, last = 0;
	struct statvfs vfs;
	struct statfs fs;
	struct pool *p;
	struct err e;
	struct db *db;
	char dir[128];

	assert_int_equal(db_open(top, &db, &e), 0);
	assert_int_equal(pool_open(db, top, "default", &p, &e), 0);
	for (int i = 0; i < 16; i++) {
		char *rootfs = volume_rootfs(p, "again");
		struct stat st;

		assert_int_equal(volume_create(p, "again", getuid(), &e), 0);
		assert_int_equal(stat(rootfs, &st), 0);
		first = st.st_ino < first ? st.st_ino : first;
		last = st.st_ino > last ? st.st_ino : last;
		assert_int_equal(volume_delete(p, "again", &e), 0);
		free(rootfs);
	}
	assert_int_equal(statfs(top, &fs), 0);
	assert_int_equal(statvfs(top, &vfs), 0);
	/* A block group has at most 64 Ki inodes. */
	if (fs.f_type == 0xef53 && vfs.f_files > 64 * 65536)
		assert_true(last - first > 65536);
	/* A killed creation's folder goes with the next one. */
	snprintf(dir, sizeof(dir), "%s/containers/.new-again-AbCdEf", pool_path(p));
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(volume_create(p, "again", getuid(), &e), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(volume_delete(p, "again", &e), 0);
	pool_free(p);
	db_free(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(make_and_mode),
		cmocka_unit_test(remove_deep),
		cmocka_unit_test(usage_counts_links_once),
		cmocka_unit_test(pool_volumes),
		cmocka_unit_test(volumes_are_spread),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

/* Regular files, folders, O_PATH, deleted files, devices; offsets that are shared and that are
 * not. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib.h"

static void link_is(int fd, const char *want)
{
	char path[64], text[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = MUST(readlink(path, text, sizeof(text) - 1));
	text[n] = 0;
	CHECK(strcmp(text, want) == 0, "fd %d is %s instead of %s", fd, text, want);
}

static int file_make(const char *path, int flags, const char *text)
{
	int fd = MUST(open(path, O_RDWR | O_CREAT | flags, 0640));

	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "writing %s", path);
	return fd;
}

static void text_is(int fd, off_t at, const char *want)
{
	char buf[64] = "";

	CHECK(pread(fd, buf, sizeof(buf) - 1, at) == (ssize_t)strlen(want) &&
		      strcmp(buf, want) == 0,
	      "fd %d holds \"%s\" instead of \"%s\"", fd, buf, want);
}

int main(void)
{
	int a = file_make("/work/a", O_APPEND | O_NONBLOCK, "hello"), a2 = dup(a), a3, ro, dir,
	    path, gone, gone2, shm;
	int null, zero, wo, big, gdir, sparse;
	struct stat st, st2;
	char c, *map;

	a3 = MUST(open("/work/a", O_RDONLY));
	MUST(lseek(a3, 2, SEEK_SET));
	ro = MUST(open("/work/a", O_RDONLY | O_CLOEXEC));
	dir = MUST(open("/work", O_RDONLY | O_DIRECTORY));
	path = MUST(open("/work/a", O_PATH));
	wo = MUST(open("/work/w", O_WRONLY | O_CREAT, 0200));
	CHECK(write(wo, "xyz", 3) == 3, "write");
	gone = file_make("/work/gone", 0, "deleted on disk");
	gone2 = MUST(open("/work/gone", O_RDONLY));
	MUST(lseek(gone2, 8, SEEK_SET));
	MUST(fchmod(gone, 0604));
	MUST(unlink("/work/gone"));
	shm = file_make("/dev/shm/gone", 0, "deleted in memory");
	MUST(unlink("/dev/shm/gone"));
	big = file_make("/work/mapped", 0, "mapped");
	MUST(ftruncate(big, 8192));
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, big, 0);
	CHECK(map != MAP_FAILED, "mmap");
	strcpy(map + 4096, "page");
	MUST(close(big));
	MUST(unlink("/work/mapped"));
	sparse = file_make("/work/sparse", 0, "s");
	CHECK(pwrite(sparse, "end", 3, 100 << 20) == 3, "sparse");
	MUST(unlink("/work/sparse"));
	MUST(mkdir("/work/dir", 0700));
	gdir = MUST(open("/work/dir", O_RDONLY | O_DIRECTORY));
	MUST(rmdir("/work/dir"));
	null = MUST(open("/dev/null", O_RDWR));
	zero = MUST(open("/dev/zero", O_RDONLY | O_NONBLOCK));

	state_wait();

	CHECK(fcntl(a, F_GETFL) == (O_RDWR | O_APPEND | O_NONBLOCK | 0100000), "flags are %#o",
	      fcntl(a, F_GETFL));
	CHECK(lseek(a, 0, SEEK_CUR) == 5, "position of a");
	CHECK(lseek(a, 1, SEEK_SET) == 1 && lseek(a2, 0, SEEK_CUR) == 1,
	      "a dup has its own position");
	CHECK(read(a2, &c, 1) == 1 && c == 'e', "read %c", c);
	CHECK(lseek(a3, 0, SEEK_CUR) == 2, "position of a3");
	CHECK(lseek(ro, 0, SEEK_CUR) == 0 && fcntl(ro, F_GETFD) == FD_CLOEXEC, "ro");
	CHECK(fcntl(a, F_GETFD) == 0, "a is close-on-exec");
	CHECK(write(a, "!", 1) == 1, "append");
	text_is(ro, 0, "hello!");
	MUST(fstat(dir, &st));
	CHECK(S_ISDIR(st.st_mode), "dir");
	MUST(fstatat(dir, "a", &st, 0));
	MUST(fstat(path, &st2));
	CHECK(st.st_ino == st2.st_ino && (fcntl(path, F_GETFL) & O_PATH), "O_PATH");
	CHECK(read(path, &c, 1) < 0, "O_PATH can be read");
	CHECK(write(wo, "4", 1) == 1 && read(wo, &c, 1) < 0, "write-only");
	MUST(fstat(wo, &st));
	CHECK(st.st_size == 4, "write-only has %ld bytes", (long)st.st_size);

	text_is(gone, 0, "deleted on disk");
	text_is(gone2, 8, "on disk");
	CHECK(lseek(gone, 0, SEEK_CUR) == 15 && lseek(gone2, 0, SEEK_CUR) == 8,
	      "positions of a deleted file");
	MUST(fstat(gone, &st));
	MUST(fstat(gone2, &st2));
	CHECK(st.st_nlink == 0 && st.st_ino == st2.st_ino && (st.st_mode & 0777) == 0604 &&
		      st.st_uid == 0,
	      "deleted file: links %lu mode %o uid %u", (unsigned long)st.st_nlink, st.st_mode,
	      st.st_uid);
	link_is(gone, "/work/gone (deleted)");
	CHECK(access("/work/gone", F_OK) < 0, "the deleted file came back");
	CHECK(pwrite(gone, "X", 1, 0) == 1, "write");
	text_is(gone2, 0, "Xeleted on disk");
	text_is(shm, 0, "deleted in memory");
	link_is(shm, "/dev/shm/gone (deleted)");
	CHECK(strcmp(map, "mapped") == 0 && strcmp(map + 4096, "page") == 0, "mapped deleted file");
	MUST(fstat(sparse, &st));
	CHECK(st.st_size == (100 << 20) + 3 && st.st_blocks < 1000, "sparse: %ld bytes, %ld blocks",
	      (long)st.st_size, (long)st.st_blocks);
	MUST(fstat(gdir, &st));
	CHECK(S_ISDIR(st.st_mode) && st.st_nlink == 0, "deleted folder");

	MUST(fstat(null, &st));
	CHECK(st.st_rdev == makedev(1, 3) && write(null, "x", 1) == 1 && read(null, &c, 1) == 0,
	      "null");
	CHECK(read(zero, &c, 1) == 1 && c == 0 && (fcntl(zero, F_GETFL) & O_NONBLOCK), "zero");
	MUST(fstat(0, &st));
	CHECK(st.st_rdev == makedev(1, 3), "stdin");
	state_pass();
}

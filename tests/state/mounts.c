/* Mounts that a container makes for itself: tmpfs with content of every kind, binds, proc,
 * read-only remounts, one on another, and one that it unmounted. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib.h"

#define BIG (20u << 20)

static void put(const char *path, const char *text)
{
	int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));

	MUST(write(fd, text, strlen(text)));
	close(fd);
}

static void has(const char *path, const char *text)
{
	char got[256] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0, "%s: %m", path);
	MUST(read(fd, got, sizeof(got) - 1));
	close(fd);
	CHECK(strcmp(got, text) == 0, "%s has \"%s\"", path, got);
}

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

static void big_put(const char *path)
{
	int fd = MUST(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	unsigned char *p = malloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		p[i] = pattern(i);
	CHECK(write(fd, p, BIG) == BIG, "writing %s", path);
	free(p);
	close(fd);
}

static void big_has(const char *path)
{
	int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
	unsigned char *p = malloc(BIG);

	CHECK(read(fd, p, BIG) == BIG, "reading %s", path);
	for (size_t i = 0; i < BIG; i++)
		CHECK(p[i] == pattern(i), "%s differs at %zu", path, i);
	free(p);
	close(fd);
}

static char *line_of(const char *path, char *buf, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char point[256], *found = NULL;

	CHECK(f, "mountinfo: %m");
	while (fgets(buf, (int)size, f)) {
		if (sscanf(buf, "%*s %*s %*s %*s %255s", point) == 1 && strcmp(point, path) == 0)
			found = buf;
		if (found)
			break;
	}
	fclose(f);
	return found;
}

static void prepare(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/run/dir/sock" };
	struct timeval tv[2] = { { 1000000, 0 }, { 2000000, 0 } };
	int fd;

	MUST(mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0755"));
	MUST(mkdir("/run/dir", 0750));
	MUST(chown("/run/dir", 33, 44));
	put("/run/dir/file", "content");
	MUST(chown("/run/dir/file", 1000, 1001));
	MUST(chmod("/run/dir/file", 04755));
	MUST(link("/run/dir/file", "/run/hard"));
	MUST(symlink("dir/file", "/run/soft"));
	MUST(mkfifo("/run/fifo", 0622));
	MUST(chmod("/run/fifo", 0622));
	fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(bind(fd, (struct sockaddr *)&un, sizeof(un)));
	close(fd);
	fd = MUST(open("/run/sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(ftruncate(fd, 1 << 30));
	MUST(pwrite(fd, "deep", 4, 500 << 20));
	close(fd);
	big_put("/run/big");
	put("/run/dir/old", "x");
	MUST(utimes("/run/dir/old", tv));
	MUST(utimes("/run/dir", tv));
	/* on the tmpfs, another one */
	MUST(mkdir("/run/lock", 01777));
	MUST(mount("lock", "/run/lock", "tmpfs", MS_NOEXEC | MS_NOSUID, "size=1m"));
	put("/run/lock/held", "1234");
	/* over a file that stays hidden below it */
	MUST(mkdir("/work/over", 0755));
	put("/work/over/below", "below");
	MUST(mount("/run/dir", "/work/over", NULL, MS_BIND, NULL));
	MUST(mkdir("/work/ro", 0755));
	MUST(mount("/work/ro", "/work/ro", NULL, MS_BIND, NULL));
	MUST(mount(NULL, "/work/ro", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL));
	MUST(mkdir("/mnt/proc", 0755));
	MUST(mount("proc", "/mnt/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	MUST(mount(NULL, "/run", NULL, MS_SHARED, NULL));
	/* What the target's /dev has as well, changed. */
	MUST(mkdir("/dev/mine", 0700));
	put("/dev/shm/segment", "shared memory");
	MUST(unlink("/dev/fd"));
	MUST(umount2("/sys", MNT_DETACH) < 0 && errno != EINVAL ? -1 : 0);
}

static void check(bool sys_there)
{
	struct stat st, other;
	struct statvfs fs;
	char line[1024];
	int fd;

	has("/run/dir/file", "content");
	MUST(stat("/run/dir/file", &st));
	CHECK(st.st_uid == 1000 && st.st_gid == 1001 && (st.st_mode & 07777) == 04755,
	      "owner or mode: %u %u %o", st.st_uid, st.st_gid, st.st_mode);
	MUST(stat("/run/hard", &other));
	CHECK(st.st_ino == other.st_ino && st.st_nlink == 2, "hard link lost");
	MUST(readlink("/run/soft", line, sizeof(line)) == 8 ? 0 : -1);
	MUST(stat("/run/fifo", &st));
	CHECK(S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0622, "fifo: %o", st.st_mode);
	MUST(stat("/run/dir/sock", &st));
	CHECK(S_ISSOCK(st.st_mode), "socket: %o", st.st_mode);
	MUST(stat("/run/sparse", &st));
	CHECK(st.st_size == 1 << 30 && st.st_blocks < 100, "sparse: %ld blocks",
	      (long)st.st_blocks);
	fd = MUST(open("/run/sparse", O_RDONLY | O_CLOEXEC));
	CHECK(pread(fd, line, 4, 500 << 20) == 4 && memcmp(line, "deep", 4) == 0, "sparse content");
	close(fd);
	big_has("/run/big");
	MUST(stat("/run/dir/old", &st));
	CHECK(st.st_mtime == 2000000 && st.st_atime == 1000000, "times of a file");
	MUST(stat("/run/dir", &st));
	CHECK(st.st_mtime == 2000000 && st.st_uid == 33 && st.st_gid == 44,
	      "a folder's time or owner");
	MUST(statvfs("/run", &fs));
	CHECK(fs.f_blocks * fs.f_frsize == 64 << 20, "size of /run");
	CHECK((fs.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC)) == (ST_NOSUID | ST_NODEV),
	      "flags of /run");
	has("/run/lock/held", "1234");
	MUST(statvfs("/run/lock", &fs));
	CHECK(fs.f_flag & ST_NOEXEC, "flags of /run/lock");
	has("/work/over/file", "content");
	CHECK(access("/work/over/below", F_OK) < 0, "the bind is gone");
	CHECK(open("/work/ro/x", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS,
	      "/work/ro is writable");
	MUST(access("/mnt/proc/self/status", R_OK));
	CHECK(line_of("/run", line, sizeof(line)) && strstr(line, "shared:"), "/run is not shared");
	CHECK(line_of("/work/over", line, sizeof(line)), "the bind is no mount");
	MUST(stat("/dev/mine", &st));
	has("/dev/shm/segment", "shared memory");
	CHECK(lstat("/dev/fd", &st) < 0, "what was removed came back");
	fd = MUST(open("/dev/null", O_WRONLY | O_CLOEXEC));
	CHECK(write(fd, "x", 1) == 1, "/dev/null");
	close(fd);
	CHECK((line_of("/sys", line, sizeof(line)) != NULL) == sys_there, "/sys");
	MUST(mkdir("/run/new", 0755));
	MUST(rmdir("/run/new"));
	MUST(umount("/work/over"));
	has("/work/over/below", "below");
	MUST(mount("/run/dir", "/work/over", NULL, MS_BIND, NULL));
	/* It is the container's own: it may change it. */
	MUST(mount("run", "/run", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=65m"));
	MUST(mount("run", "/run", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=64m"));
}

int main(void)
{
	char line[1024];
	bool sys_there;

	prepare();
	sys_there = line_of("/sys", line, sizeof(line)) != NULL;
	state_wait();
	check(sys_there);
	state_pass();
}

/* An open file whose name was deleted, but not another one in the same folder; files that never had
 * a name (O_TMPFILE) and get one later. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

int main(void)
{
	int fd = MUST(open("/work/name1", O_RDWR | O_CREAT, 0600));
	struct stat st, st2;
	char buf[8] = "", path[64];
	int tmp = MUST(open("/work", O_RDWR | O_TMPFILE, 0640)),
	    shm = MUST(open("/dev/shm", O_RDWR | O_TMPFILE, 0600));

	CHECK(write(fd, "text", 4) == 4, "write");
	MUST(link("/work/name1", "/work/name2"));
	MUST(unlink("/work/name1"));
	CHECK(write(tmp, "nameless", 8) == 8 && write(shm, "memory", 6) == 6, "write");

	state_wait();

	MUST(fstat(fd, &st));
	MUST(stat("/work/name2", &st2));
	CHECK(st.st_ino == st2.st_ino && st.st_nlink == 1, "another file, or %lu links",
	      (unsigned long)st.st_nlink);
	CHECK(pread(fd, buf, 7, 0) == 4 && strcmp(buf, "text") == 0 && lseek(fd, 0, SEEK_CUR) == 4,
	      "content");
	CHECK(access("/work/name1", F_OK) < 0, "the deleted name came back");
	CHECK(pread(shm, buf, 6, 0) == 6 && memcmp(buf, "memory", 6) == 0, "O_TMPFILE in memory");
	MUST(fstat(tmp, &st));
	CHECK(st.st_nlink == 0 && (st.st_mode & 07777) == 0640 && lseek(tmp, 0, SEEK_CUR) == 8,
	      "O_TMPFILE");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tmp);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, "/work/named", AT_SYMLINK_FOLLOW));
	MUST(stat("/work/named", &st2));
	CHECK(st2.st_size == 8 && st2.st_ino == st.st_ino, "linked");
	state_pass();
}

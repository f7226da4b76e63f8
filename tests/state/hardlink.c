/* An open file whose name was deleted, but not another one in the same folder. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

int main(void)
{
	int fd = MUST(open("/work/name1", O_RDWR | O_CREAT, 0600));
	struct stat st, st2;
	char buf[8] = "";

	CHECK(write(fd, "text", 4) == 4, "write");
	MUST(link("/work/name1", "/work/name2"));
	MUST(unlink("/work/name1"));

	state_wait();

	MUST(fstat(fd, &st));
	MUST(stat("/work/name2", &st2));
	CHECK(st.st_ino == st2.st_ino && st.st_nlink == 1, "another file, or %lu links",
	      (unsigned long)st.st_nlink);
	CHECK(pread(fd, buf, 7, 0) == 4 && strcmp(buf, "text") == 0 && lseek(fd, 0, SEEK_CUR) == 4,
	      "content");
	CHECK(access("/work/name1", F_OK) < 0, "the deleted name came back");
	state_pass();
}

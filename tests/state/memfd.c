/* memfd: content, holes, seals, position, several opens, mappings, the name. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

int main(void)
{
	int fd = MUST(memfd_create("some name", MFD_ALLOW_SEALING | MFD_CLOEXEC)), ro, plain,
	    sealed;
	char link[64], buf[16] = "", *map, *later;
	struct stat st, st2;
	ssize_t n;

	CHECK(write(fd, "content", 7) == 7, "write");
	MUST(ftruncate(fd, 1 << 20));
	CHECK(pwrite(fd, "far", 3, 900000) == 3, "write");
	MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
	snprintf(buf, sizeof(buf), "%d", fd);
	strcpy(link, "/proc/self/fd/");
	strcat(link, buf);
	ro = MUST(open(link, O_RDONLY));
	MUST(lseek(ro, 3, SEEK_SET));
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED, "mmap");
	plain = MUST(memfd_create("plain", 0));
	sealed = MUST(memfd_create("sealed", MFD_ALLOW_SEALING));
	MUST(ftruncate(sealed, 4096));
	later = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0);
	CHECK(later != MAP_FAILED, "mmap");
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));

	state_wait();

	CHECK(lseek(fd, 0, SEEK_CUR) == 7 && lseek(ro, 0, SEEK_CUR) == 3, "positions");
	MUST(fstat(fd, &st));
	MUST(fstat(ro, &st2));
	CHECK(st.st_ino == st2.st_ino && st.st_size == 1 << 20 && st.st_blocks <= 64,
	      "%ld bytes, %ld blocks", (long)st.st_size, (long)st.st_blocks);
	CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK), "seals %#x",
	      fcntl(fd, F_GET_SEALS));
	CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL, "seals %#x", fcntl(plain, F_GET_SEALS));
	CHECK(fcntl(sealed, F_GET_SEALS) == F_SEAL_FUTURE_WRITE, "seals %#x",
	      fcntl(sealed, F_GET_SEALS));
	CHECK(strcmp(map, "content") == 0 && strcmp(map + 900000, "far") == 0, "mapping");
	map[0] = 'C';
	CHECK(pread(ro, buf, 7, 0) == 7 && memcmp(buf, "Content", 7) == 0,
	      "mapping and file are not the same");
	later[0] = 'x';
	CHECK(pread(sealed, buf, 1, 0) == 1 && buf[0] == 'x', "sealed mapping");
	n = MUST(readlink(link, buf, sizeof(buf) - 1));
	CHECK(n > 10 && memcmp(buf, "/memfd:some na", 14) == 0, "name");
	MUST(fstat(fd, &st));
	CHECK(st.st_uid == 0, "owner %u", st.st_uid);
	state_pass();
}

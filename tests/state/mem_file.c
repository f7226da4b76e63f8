/* Mapped files: private with changed pages, shared, deleted, a memfd, and the program's own text. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

#define P 4096ul

static int file(const char *name, int seed)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
	char page[P];

	for (int i = 0; i < 16; i++) {
		memset(page, seed + i, P);
		MUST(write(fd, page, P));
	}
	return fd;
}

static unsigned char *map(int fd, int flags, int prot, off_t off)
{
	return MUST(mmap(NULL, 8 * P, prot, flags, fd, off));
}

int main(void)
{
	int a = file("private", 10), b = file("shared", 40), c = file("gone", 70);
	int m = MUST(memfd_create("state", MFD_CLOEXEC));
	unsigned char *priv, *priv_ro, *shared, *shared_ro, *gone, *mem;
	volatile char text_before = *(volatile char *)(void *)main;
	char exe[256], exe2[256];
	struct stat st;
	ssize_t n;

	MUST(ftruncate(m, 16 * P));
	priv = map(a, MAP_PRIVATE, PROT_READ | PROT_WRITE, 4 * P);
	priv[0] = 99;
	priv[3 * P] = 98;
	priv_ro = map(a, MAP_PRIVATE, PROT_READ, 0);
	shared = map(b, MAP_SHARED, PROT_READ | PROT_WRITE, 0);
	shared[P] = 97;
	shared_ro = map(b, MAP_SHARED, PROT_READ, 8 * P);
	gone = map(c, MAP_SHARED, PROT_READ | PROT_WRITE, 0);
	gone[2 * P] = 96;
	mem = map(m, MAP_SHARED, PROT_READ | PROT_WRITE, 2 * P);
	mem[5 * P] = 95;
	MUST(unlink("gone"));
	close(a);
	close(b);
	n = MUST(readlink("/proc/self/exe", exe, sizeof(exe) - 1));
	exe[n] = '\0';

	state_wait();

	CHECK(priv[0] == 99 && priv[1] == 14 && priv[P] == 15 && priv[3 * P] == 98, "private differs");
	CHECK(priv_ro[2 * P] == 12, "read-only private differs");
	CHECK(shared[P] == 97 && shared[0] == 40 && shared[5 * P] == 45, "shared differs");
	CHECK(shared_ro[0] == 48, "second shared mapping differs");
	CHECK(gone[2 * P] == 96 && gone[3 * P] == 73, "deleted file differs");
	MUST(fstat(c, &st));
	CHECK(st.st_nlink == 0 && st.st_size == 16 * (off_t)P, "deleted file: %ld links", (long)st.st_nlink);
	gone[7 * P] = 33;
	{
		char byte;

		MUST(pread(c, &byte, 1, 7 * P));
		CHECK(byte == 33, "mapping and descriptor of a deleted file are not one file");
		shared[6 * P] = 34;
		b = MUST(open("shared", O_RDONLY));
		MUST(pread(b, &byte, 1, 6 * P));
		CHECK(byte == 34, "a shared mapping does not write its file");
		MUST(pread(m, &byte, 1, 7 * P));
		CHECK(byte == 95, "mapping and descriptor of a memfd are not one file");
	}
	CHECK(*(volatile char *)(void *)main == text_before, "text differs");
	n = MUST(readlink("/proc/self/exe", exe2, sizeof(exe2) - 1));
	exe2[n] = '\0';
	CHECK(strcmp(exe, exe2) == 0, "exe was %s, is %s", exe, exe2);
	state_pass();
}

/* Anonymous shared memory between processes, in parts and at different addresses. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define P 4096ul

/* Shared memory by files of a tmpfs, as the C library makes it: with a name, and without one any more. */
static unsigned char *object(const char *name, int gone)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	unsigned char *p;

	MUST(ftruncate(fd, 8 * P));
	p = MUST(mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	for (size_t i = 0; i < 8; i += 2)
		memset(p + i * P, (int)i + 100, P);
	if (gone)
		MUST(unlink(name));
	close(fd);
	return p;
}

int main(void)
{
	unsigned char *named = object("/dev/object", 0), *nameless = object("/dev/gone", 1);
	unsigned char *a = MUST(mmap(NULL, 64 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	unsigned char *only_child, *b;
	int to[2], from[2], st;
	char c;
	pid_t pid;

	for (size_t i = 0; i < 64; i++)
		memset(a + i * P, (int)i + 1, P);
	memset(a + 20 * P, 0, P);
	MUST(pipe(to));
	MUST(pipe(from));
	pid = MUST(fork());
	if (pid == 0) {
		/* The child sees the second half elsewhere, and has an object that is nobody else's. */
		b = MUST(mmap(NULL, 32 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		b = MUST(mremap(a + 32 * P, 32 * P, 32 * P, MREMAP_MAYMOVE | MREMAP_FIXED, b));
		munmap(a, 32 * P);
		only_child = MUST(mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
		memset(only_child, 77, 4 * P);
		MUST(write(from[1], "r", 1));
		MUST(read(to[0], &c, 1));
		for (size_t i = 0; i < 4 * P; i++)
			if (only_child[i] != 77)
				_exit(2);
		for (size_t i = 0; i < 32; i++)
			if (b[i * P] != i + 33 && i != 5)
				_exit(3);
		if (b[5 * P] != 200)
			_exit(4);
		b[6 * P] = 201;
		for (size_t i = 0; i < 8; i++)
			if (named[i * P] != (i % 2 ? 0 : i + 100) || nameless[i * P] != (i % 2 ? 0 : i + 100))
				_exit(5);
		named[7 * P] = 55;
		nameless[7 * P] = 56;
		_exit(0);
	}
	MUST(read(from[0], &c, 1));
	/* Pages that nobody maps any more come back by mremap: the object has them still. */
	munmap(a + 16 * P, 16 * P);
	state_wait();
	for (size_t i = 0; i < 64; i++)
		CHECK((i >= 16 && i < 32) || a[i * P + 9] == i + 1, "page %zu is %d", i, a[i * P]);
	b = MUST(mremap(a + 15 * P, 0, 17 * P, MREMAP_MAYMOVE));
	for (size_t i = 1; i < 17; i++)
		CHECK(b[i * P] == (i + 15 == 20 ? 0 : i + 16), "hidden page %zu is %d", i + 15, b[i * P]);
	a[37 * P] = 200;
	MUST(write(to[1], "g", 1));
	MUST(waitpid(pid, &st, 0));
	CHECK(st == 0, "the child says %x", st);
	CHECK(a[38 * P] == 201, "what the child wrote is not here");
	CHECK(named[7 * P] == 55 && nameless[7 * P] == 56, "files of a tmpfs are not shared any more");
	state_pass();
}

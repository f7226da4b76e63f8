/* Private anonymous memory in all sorts: patterns, holes, protections, advice, locks, guard pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib.h"

#define P 4096ul
#define BIG (24ul << 20)

static void fill(unsigned char *p, size_t pages, unsigned seed)
{
	for (size_t i = 0; i < pages; i++)
		for (size_t k = 0; k < P; k += 8) {
			uint64_t v = (i * P + k) * 0x9e3779b97f4a7c15ull + seed;

			memcpy(p + i * P + k, &v, 8);
		}
}

static void verify(const unsigned char *p, size_t pages, unsigned seed, const char *what)
{
	for (size_t i = 0; i < pages; i++)
		for (size_t k = 0; k < P; k += 8) {
			uint64_t v = (i * P + k) * 0x9e3779b97f4a7c15ull + seed, got;

			memcpy(&got, p + i * P + k, 8);
			CHECK(got == v, "%s: page %zu byte %zu differs", what, i, k);
		}
}

static void *map(size_t len, int prot, int flags)
{
	return MUST(mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0));
}

/* The line of smaps that begins with `key`, of the mapping that starts at p. */
static void smaps(const void *p, const char *key, char *ret, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	int in = 0;

	CHECK(f, "smaps: %m");
	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	*ret = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (line[0] < 'A' || line[0] > 'Z')
			in = strncmp(line, start, strlen(start)) == 0;
		else if (in && strncmp(line, key, strlen(key)) == 0)
			snprintf(ret, len, "%s", line);
	}
	fclose(f);
}

static void has_flag(const void *p, const char *flag)
{
	char line[512];

	smaps(p, "VmFlags:", line, sizeof(line));
	CHECK(strstr(line, flag), "mapping %p lost flag %s: %s", p, flag, line);
}

int main(void)
{
	unsigned char *big, *holes, *ro, *none, *dontdump, *huge, *locked, *guard, *down, *reserve, *wipe;
	unsigned char *heap = malloc(300000), *zero, *drop, *sealed;
	void *brk_was = sbrk(0);
	char line[512];
	int guards, seals;

	big = map(BIG, PROT_READ | PROT_WRITE, 0);
	fill(big, BIG / P, 1);
	holes = map(64 * P, PROT_READ | PROT_WRITE, 0);
	for (int i = 0; i < 64; i += 3)
		fill(holes + (size_t)i * P, 1, (unsigned)i);
	munmap(holes + 32 * P, P);
	ro = map(5 * P, PROT_READ | PROT_WRITE, 0);
	fill(ro, 5, 3);
	mprotect(ro, 5 * P, PROT_READ);
	none = map(7 * P, PROT_READ | PROT_WRITE, 0);
	fill(none, 7, 4);
	mprotect(none, 7 * P, PROT_NONE);
	dontdump = map(3 * P, PROT_READ | PROT_WRITE, 0);
	fill(dontdump, 3, 5);
	MUST(madvise(dontdump, 3 * P, MADV_DONTDUMP));
	MUST(madvise(dontdump, 3 * P, MADV_DONTFORK));
	huge = map(4ul << 20, PROT_READ | PROT_WRITE, 0);
	(void)madvise(huge, 4ul << 20, MADV_HUGEPAGE);
	fill(huge, 1024, 6);
	locked = map(2 * P, PROT_READ | PROT_WRITE, 0);
	fill(locked, 2, 7);
	MUST(mlock(locked, 2 * P));
	guard = map(8 * P, PROT_READ | PROT_WRITE, 0);
	fill(guard, 8, 8);
	guards = madvise(guard + 2 * P, P, 102 /* MADV_GUARD_INSTALL */) == 0;
	down = map(16 * P, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
	fill(down, 16, 9);
	reserve = map(1ul << 36, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	fill(reserve + (1ul << 35), 2, 10);
	wipe = map(2 * P, PROT_READ | PROT_WRITE, 0);
	fill(wipe, 2, 11);
	MUST(madvise(wipe, 2 * P, MADV_WIPEONFORK));
	zero = map(100 * P, PROT_READ | PROT_WRITE, 0);
	for (int i = 0; i < 100; i++)
		CHECK(!((volatile unsigned char *)zero)[(size_t)i * P], "fresh memory is not empty");
	memset(heap, 0x5a, 300000);
	drop = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, 0x08 /* MAP_DROPPABLE */ | MAP_ANONYMOUS, -1, 0);
	sealed = map(2 * P, PROT_READ | PROT_WRITE, 0);
	fill(sealed, 2, 12);
	seals = syscall(462 /* mseal */, sealed, 2 * P, 0) == 0;

	state_wait();

	if (drop != MAP_FAILED)
		has_flag(drop, " dp");
	verify(sealed, 2, 12, "sealed");
	if (seals)
		CHECK(munmap(sealed, 2 * P) < 0, "a sealed mapping can be unmapped");

	verify(big, BIG / P, 1, "big");
	for (int i = 0; i < 64; i += 3)
		if (i != 32)
			verify(holes + (size_t)i * P, 1, (unsigned)i, "holes");
	for (int i = 1; i < 64; i += 3)
		CHECK(i == 32 || holes[(size_t)i * P] == 0, "an untouched page is not empty");
	CHECK(msync(holes + 32 * P, P, MS_ASYNC) < 0, "an unmapped page is mapped");
	verify(ro, 5, 3, "read-only");
	smaps(none, "VmFlags:", line, sizeof(line));
	CHECK(!strstr(line, " rd"), "PROT_NONE became readable: %s", line);
	mprotect(none, 7 * P, PROT_READ);
	verify(none, 7, 4, "PROT_NONE");
	verify(dontdump, 3, 5, "dontdump");
	has_flag(dontdump, " dd");
	has_flag(dontdump, " dc");
	verify(huge, 1024, 6, "huge");
	verify(locked, 2, 7, "locked");
	has_flag(locked, " lo");
	verify(guard, 2, 8, "before the guard");
	if (guards) {
		int fds[2];

		MUST(pipe(fds));
		CHECK(write(fds[1], guard + 2 * P, 1) < 0, "a guard page can be read");
		close(fds[0]);
		close(fds[1]);
	}
	verify(down, 16, 9, "growsdown");
	has_flag(down, " gd");
	verify(reserve + (1ul << 35), 2, 10, "noreserve");
	has_flag(reserve, " nr");
	verify(wipe, 2, 11, "wipeonfork");
	has_flag(wipe, " wf");
	for (int i = 0; i < 100; i++)
		CHECK(zero[(size_t)i * P] == 0, "the zero page is not empty");
	for (int i = 0; i < 300000; i++)
		CHECK(heap[i] == 0x5a, "heap differs at %d", i);
	CHECK(sbrk(0) == brk_was, "brk moved");
	CHECK(sbrk(100 * (long)P) == brk_was, "brk cannot grow: %m");
	memset(brk_was, 1, 100 * P);
	state_pass();
}

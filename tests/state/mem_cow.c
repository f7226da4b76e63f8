/* Memory that forks left shared is shared after the move as well, and private where it was. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

#define P 4096ul
#define PAGES 2048ul
#define KIDS 4

static unsigned char *mem;

/* KiB of `key` in the mapping of mem. */
static unsigned long smaps(const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	unsigned long start, end, v = 0;
	int in = 0;

	CHECK(f, "smaps: %m");
	while (fgets(line, sizeof(line), f)) {
		if (line[0] < 'A' || line[0] > 'Z')
			in = sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= (unsigned long)mem &&
			     end > (unsigned long)mem;
		else if (in && strncmp(line, key, strlen(key)) == 0)
			v = strtoul(line + strlen(key), NULL, 10);
	}
	fclose(f);
	return v;
}

static int verify(int kid)
{
	for (size_t i = 0; i < PAGES; i++) {
		unsigned char want = (unsigned char)(i % 251);

		if (kid >= 0 && i % 64 == (size_t)kid)
			want = (unsigned char)(200 + kid);
		if (kid >= 0 && i >= 1000 && i < 1010)
			want = 0;
		if (mem[i * P] != want)
			return (int)i + 1;
	}
	return 0;
}

static void kid_main(int kid, int from, int to)
{
	char c;
	int bad;

	for (size_t i = 0; i < PAGES; i++)
		if (i % 64 == (size_t)kid)
			mem[i * P] = (unsigned char)(200 + kid);
	MUST(madvise(mem + 1000 * P, 10 * P, MADV_DONTNEED));
	if (kid == 1) {
		/* A grandchild that shares with the child. */
		pid_t pid = MUST(fork());
		int st;

		if (pid == 0) {
			MUST(write(to, "r", 1));
			MUST(read(from, &c, 1));
			_exit(verify(1) ? 1 : 0);
		}
		MUST(write(to, "r", 1));
		MUST(read(from, &c, 1));
		bad = verify(1);
		MUST(waitpid(pid, &st, 0));
		_exit(bad || st ? 1 : 0);
	}
	MUST(write(to, "r", 1));
	MUST(read(from, &c, 1));
	if (verify(kid))
		_exit(1);
	/* Almost all of it is still shared with others. */
	_exit(smaps("Private_Dirty:") > PAGES * 4 / 8 ? 2 : 0);
}

int main(void)
{
	pid_t kid[KIDS];
	int from[2], to[2];
	char c;

	MUST(pipe(from));
	MUST(pipe(to));
	mem = MUST(mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < PAGES; i++)
		mem[i * P] = (unsigned char)(i % 251);
	for (int i = 0; i < KIDS; i++) {
		kid[i] = MUST(fork());
		if (kid[i] == 0)
			kid_main(i, to[0], from[1]);
	}
	for (int i = 0; i < KIDS + 1; i++)
		MUST(read(from[0], &c, 1));
	CHECK(smaps("Private_Dirty:") < PAGES * 4 / 8, "the test does not share");
	state_wait();
	CHECK(verify(-1) == 0, "page %d of the parent differs", verify(-1) - 1);
	CHECK(smaps("Private_Dirty:") < PAGES * 4 / 8, "nothing is shared any more: %lu KiB are private",
	      smaps("Private_Dirty:"));
	MUST(write(to[1], "ggggg", KIDS + 1));
	for (int i = 0; i < KIDS; i++) {
		int st;

		MUST(waitpid(kid[i], &st, 0));
		CHECK(st == 0, "child %d says %x", i, st);
	}
	state_pass();
}

/* Parsers and small parts of cr/mem and cr/task. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "cr/mem/priv.h"
#include "cr/mem/sha256.h"
#include "cr/task/limits_parse.h"
#include "cr/task/timers_parse.h"

static int parse(const char *text, struct vma_list *l)
{
	char *copy = strdup(text);

	return vma_parse(copy, strlen(copy), l, NULL);
}

static void vma_smaps(void **state)
{
	struct vma_list l;

	assert_int_equal(parse("00400000-00402000 r-xp 00001000 fe:01 1234       /bin/a b (deleted)\n"
			       "Size:                  8 kB\n"
			       "ProtectionKey:         3\n"
			       "VmFlags: rd ex mr mw me dd lo gd zz xy \n"
			       "7ffff0000000-7ffff0001000 rw-s 00000000 00:01 9    /dev/zero (deleted)\n"
			       "VmFlags: rd wr sh \n"
			       "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n",
			       &l), 0);
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[0].start, 0x400000);
	assert_int_equal(l.v[0].end, 0x402000);
	assert_int_equal(l.v[0].prot, PROT_READ | PROT_EXEC);
	assert_false(l.v[0].shared);
	assert_int_equal(l.v[0].pgoff, 0x1000);
	assert_int_equal(l.v[0].major, 0xfe);
	assert_int_equal(l.v[0].ino, 1234);
	assert_string_equal(l.v[0].path, "/bin/a b (deleted)");
	assert_int_equal(l.v[0].pkey, 3);
	assert_true(l.v[0].flags == (VMF(RD) | VMF(EX) | VMF(MR) | VMF(MW) | VMF(ME) | VMF(DD) | VMF(LO) |
				     VMF(GD)));
	assert_string_equal(l.v[0].unknown, "zz");
	assert_true(l.v[1].shared);
	assert_true(l.v[2].end == 0xffffffffff601000);
	vma_list_done(&l);
}

static void vma_hostile(void **state)
{
	static const char *const bad[] = {
		"VmFlags: rd\n",
		"00402000-00400000 r-xp 00000000 00:00 0\n",
		"00400000-00400000 r-xp 00000000 00:00 0\n",
		"00400001-00402000 r-xp 00000000 00:00 0\n",
		"00400000-00402000 r?xp 00000000 00:00 0\n",
		"00400000-00402000 r-x",
		"00400000-",
		"fffffffffffffffff-00402000 r-xp 00000000 00:00 0\n",
		"00400000-00402000 r-xp 00000000 00:00 0\n00401000-00403000 r-xp 00000000 00:00 0\n",
		"00400000-00402000 r-xp 00000000 100000000:00 0\n",
		"\n",
	};
	struct vma_list l;

	for (size_t i = 0; i < array_len(bad); i++)
		assert_true(parse(bad[i], &l) < 0);
	assert_int_equal(parse("", &l), 0);
	assert_int_equal(l.n, 0);
	vma_list_done(&l);
}

static void vma_own(void **state)
{
	int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct vdso_block b;
	struct vma_list l;
	bool stack = false;

	assert_int_equal(vma_read(self, &l, NULL), 0);
	for (size_t i = 0; i < l.n; i++) {
		/* The table of flags knows all that this kernel shows. */
		assert_string_equal(l.v[i].unknown, "");
		stack = stack || strcmp(l.v[i].path, "[stack]") == 0;
	}
	assert_true(stack);
	assert_int_equal(vdso_find(&l, &b), 0);
	assert_true(b.size >= 2 * PAGE);
	vma_list_done(&l);
	close(self);
}

static void range_lists(void **state)
{
	struct ranges rs = { 0 }, back;
	GwRanges *pb;

	assert_int_equal(ranges_add(&rs, 0x1000, 2), 0);
	assert_int_equal(ranges_add(&rs, 0x3000, 1), 0);
	assert_int_equal(ranges_add(&rs, 0x8000, 4), 0);
	assert_int_equal(rs.n, 2);
	assert_int_equal(rs.pages, 7);
	assert_int_equal(ranges_to_pb(&rs, &pb), 0);
	assert_int_equal(ranges_from_pb(pb, MEM_TASK_END, &back), 0);
	assert_int_equal(back.n, 2);
	assert_int_equal(back.v[1].vaddr, 0x8000);
	ranges_done(&back);
	pb->v[2] = 0x2000; /* overlaps */
	assert_true(ranges_from_pb(pb, MEM_TASK_END, &back) < 0);
	pb->v[2] = 0x8001;
	assert_true(ranges_from_pb(pb, MEM_TASK_END, &back) < 0);
	pb->v[2] = 0x8000;
	pb->v[3] = UINT64_MAX / 4096;
	assert_true(ranges_from_pb(pb, MEM_TASK_END, &back) < 0);
	pb->n_v = 3;
	assert_true(ranges_from_pb(pb, MEM_TASK_END, &back) < 0);
	gw_ranges__free_unpacked(pb, NULL);
	ranges_done(&rs);
	assert_int_equal(ranges_from_pb(NULL, MEM_TASK_END, &back), 0);
	assert_int_equal(back.n, 0);
}

static int count_run(void *arg, uint64_t from, uint64_t to)
{
	return ranges_add(arg, from, (to - from) / PAGE);
}

static void scan_own(void **state)
{
	static const struct pagemap_query q = { .none = PMC_FILE | PMC_PFNZERO,
						.any = PMC_PRESENT | PMC_SWAPPED };
	char *p = mmap(NULL, 5000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), r;
	struct ranges rs = { 0 };

	madvise(p, 5000 * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < 5000; i += 2)
		p[i * PAGE] = 1;
	(void)((volatile char *)p)[PAGE]; /* the zero page */
	r = pagemap_scan(fd, (uintptr_t)p, (uintptr_t)p + 5000 * PAGE, &q, count_run, &rs);
	if (r == -ENOTTY)
		skip();
	assert_int_equal(r, 0);
	assert_int_equal(rs.n, 2500);
	assert_int_equal(rs.pages, 2500);
	ranges_done(&rs);
	close(fd);
	munmap(p, 5000 * PAGE);
}

static void hash(void **state)
{
	static const char *const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char *const want_long =
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
	char text[65];
	uint8_t h[32];

	sha256("abc", 3, h);
	for (int i = 0; i < 32; i++)
		sprintf(text + 2 * i, "%02x", h[i]);
	assert_string_equal(text, want);
	sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, h);
	for (int i = 0; i < 32; i++)
		sprintf(text + 2 * i, "%02x", h[i]);
	assert_string_equal(text, want_long);
}

static void timers(void **state)
{
	struct timer_list l;

	assert_int_equal(timers_parse("ID: 7\nsignal: 10/00000000deadbeef\nnotify: signal/pid.12\nClockID: 1\n"
				      "ID: 0\nsignal: 34/0\nnotify: signal/tid.13\nClockID: -2\n", &l), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].id, 7);
	assert_int_equal(l.v[0].value, 0xdeadbeef);
	assert_int_equal(l.v[0].notify, 0);
	assert_int_equal(l.v[1].notify, 4);
	assert_int_equal(l.v[1].tid, 13);
	assert_int_equal(l.v[1].clock, -2);
	free(l.v);
	assert_true(timers_parse("ID: 7\nsignal: 10/0\n", &l) < 0);
	assert_true(timers_parse("ID: 7\nsignal: 10/0\nnotify: x/pid.1\nClockID: 1\n", &l) < 0);
	assert_true(timers_parse("ID: 99999999999\n", &l) < 0);
}

static void limits(void **state)
{
	struct limit v[LIMITS_MAX];
	char *text = NULL;

	assert_int_equal(fd_read_file_at(AT_FDCWD, "/proc/self/limits", 65536, &text, NULL), 0);
	assert_int_equal(limits_parse(text, v), LIMITS_MAX);
	assert_true(v[7].soft > 0 && v[7].soft <= v[7].hard);
	text[600] = '\0';
	assert_true(limits_parse(text, v) < 0);
	free(text);
	assert_true(limits_parse("", v) < 0);
}

/* Zeros are left out where nothing put there reads as zeros, and nowhere else. */
static void zeros(void **state)
{
	static char data[8 * PAGE] __attribute__((aligned(4096)));
	VmaEntry file = VMA_ENTRY__INIT, anon = VMA_ENTRY__INIT, *list[] = { &file, &anon };
	MmEntry mm = MM_ENTRY__INIT;
	struct kept k = { .n = 0 };

	file.start = 0x10000;
	file.end = anon.start = 0x12000;
	anon.end = 0x20000;
	file.status = MS_FILE_PRIVATE;
	anon.status = MS_ANON_PRIVATE;
	mm.vmas = list;
	mm.n_vmas = 2;
	data[4 * PAGE - 1] = 1; /* only the last byte of the fourth */
	data[6 * PAGE + 40] = 1;
	data[7 * PAGE] = 1;
	pages_keep(&k, &mm, 0x10000, data, sizeof(data));
	assert_int_equal(k.pages, 5);
	assert_int_equal(k.n, 3);
	assert_int_equal(k.v[0].vaddr, 0x10000);
	assert_int_equal(k.v[0].n_pages, 2);
	assert_int_equal(k.v[1].vaddr, 0x13000);
	assert_int_equal(k.v[2].vaddr, 0x16000);
	assert_int_equal(k.v[2].n_pages, 2);
	assert_ptr_equal(k.data[2].iov_base, data + 6 * PAGE);
	assert_int_equal(k.data[2].iov_len, 2 * PAGE);
	k.n = k.n_data = 0;
	pages_keep(&k, NULL, 0, data, 3 * PAGE);
	assert_int_equal(k.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vma_smaps), cmocka_unit_test(vma_hostile), cmocka_unit_test(vma_own),
		cmocka_unit_test(range_lists), cmocka_unit_test(scan_own), cmocka_unit_test(hash),
		cmocka_unit_test(timers), cmocka_unit_test(limits), cmocka_unit_test(zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

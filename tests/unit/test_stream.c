/* The stream of records: what is written is read, and nothing else is. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core.pb-c.h"
#include "godwit.pb-c.h"
#include "image/record.h"
#include "pstree.pb-c.h"

static int file_new(void)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* 3 processes, a blob of 300 KiB (longer than a batch), 2 runs of pages. */
static int stream_new(void)
{
	struct page_range rg[2] = { { 0x1000, 1 }, { 0x7000, 2 } };
	static char page[4096], big[300 << 10];
	int fd = file_new();
	struct sink *s = NULL;
	GwBlob b = GW_BLOB__INIT;

	assert_int_equal(sink_stream_new(fd, &s, NULL), 0);
	for (uint32_t i = 1; i <= 3; i++) {
		PstreeEntry p = PSTREE_ENTRY__INIT;

		p.pid = i;
		p.n_threads = 1;
		p.threads = &i;
		assert_int_equal(sink_put(s, REC_PSTREE, i, &p.base, NULL), 0);
	}
	b.has_data = 1;
	b.data.data = (uint8_t *)big;
	b.data.len = sizeof(big);
	assert_int_equal(sink_put(s, REC_GW_BLOB, 2, &b.base, NULL), 0);
	assert_int_equal(sink_pages(s, 7, rg, 2, NULL), 0);
	for (int i = 0; i < 3; i++) {
		memset(page, 'a' + i, sizeof(page));
		assert_int_equal(write(sink_fd(s), page, sizeof(page)), sizeof(page));
	}
	assert_int_equal(sink_end(s, NULL), 0);
	sink_free(s);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void test_round_trip(void **state)
{
	struct image *im = NULL;
	struct page_range *rg;
	const struct record *rec;
	int fd = stream_new();
	size_t n, pos = 0;
	char pages[3 * 4096];
	uint32_t id;

	assert_int_equal(image_read_stream(fd, &im, NULL), 0);
	assert_int_equal(image_count(im), 4);
	for (uint32_t i = 1; i <= 3; i++) {
		rec = image_find(im, REC_PSTREE, REC_ANY, &pos);
		assert_non_null(rec);
		assert_int_equal(((PstreeEntry *)rec->msg)->pid, i);
	}
	assert_null(image_find(im, REC_PSTREE, REC_ANY, &pos));
	pos = 0;
	assert_non_null(image_find(im, REC_PSTREE, 2, &pos));
	assert_null(image_find(im, REC_PSTREE, 2, &pos));
	assert_null(image_find(im, REC_PSTREE, 4, NULL));
	rec = image_find(im, REC_GW_BLOB, 2, NULL);
	assert_non_null(rec);
	assert_int_equal(((GwBlob *)rec->msg)->data.len, 300 << 10);
	assert_int_equal(image_next_pages(im, fd, &id, &rg, &n, NULL), 1);
	assert_int_equal(id, 7);
	assert_int_equal(n, 2);
	assert_int_equal(rg[1].vaddr, 0x7000);
	free(rg);
	assert_int_equal(read(fd, pages, sizeof(pages)), sizeof(pages));
	assert_int_equal(pages[2 * 4096], 'c');
	assert_int_equal(image_next_pages(im, fd, &id, &rg, &n, NULL), 0);
	image_free(im);
	close(fd);
}

/* Cut off anywhere, it is an error, and never success. */
static void test_truncated(void **state)
{
	int fd = stream_new();
	off_t len = lseek(fd, 0, SEEK_END);

	for (off_t cut = len - 1; cut >= 0; cut -= cut > 13000 && cut < len - 13000 ? 997 : 1) {
		struct image *im = NULL;
		struct page_range *rg;
		uint32_t id;
		size_t n;
		int r;

		assert_int_equal(ftruncate(fd, cut), 0);
		lseek(fd, 0, SEEK_SET);
		r = image_read_stream(fd, &im, NULL);
		while (r >= 0 && (r = image_next_pages(im, fd, &id, &rg, &n, NULL)) > 0) {
			free(rg);
			lseek(fd, 3 * 4096, SEEK_CUR);
		}
		assert_true(r < 0);
		image_free(im);
	}
	close(fd);
}

static void put(int fd, const void *data, size_t len)
{
	assert_int_equal(write(fd, data, len), (ssize_t)len);
}

static int read_of(const void *frames, size_t len)
{
	struct image *im = NULL;
	struct err e = { 0 };
	int fd = file_new(), r;

	put(fd, "GWSTRM01", 8);
	put(fd, frames, len);
	lseek(fd, 0, SEEK_SET);
	r = image_read_stream(fd, &im, &e);
	assert_true(r >= 0 || e.text[0]);
	image_free(im);
	close(fd);
	return r;
}

static void test_malformed(void **state)
{
	struct head {
		uint32_t kind, id;
		uint64_t len;
	} h = { 250, 0, 0 }, batch[2] = { { REC_BATCH, 0, 16 }, { REC_PSTREE, 0, UINT64_MAX } },
	  huge = { REC_BATCH, 0, 1ull << 60 }, unknown[2] = { { REC_BATCH, 0, 16 }, { 99, 0, 0 } };

	assert_true(read_of(&h, sizeof(h)) < 0);
	assert_true(read_of(batch, sizeof(batch)) < 0);
	assert_true(read_of(&huge, sizeof(huge)) < 0);
	assert_true(read_of(unknown, sizeof(unknown)) < 0);
	/* A message whose required fields are missing. */
	batch[1].len = 0;
	assert_true(read_of(batch, sizeof(batch)) < 0);
}

static void test_bad_pages(void **state)
{
	static const struct page_range bad[] = { { 0x1001, 1 }, { 0x1000, 0 }, { 1ull << 60, 1 },
						 { 0x1000, UINT64_MAX }, { 0xfffffffffffff000ull, 1 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct image *im = NULL;
		struct page_range *rg;
		struct sink *s = NULL;
		int fd = file_new();
		uint32_t id;
		size_t n;

		assert_int_equal(sink_stream_new(fd, &s, NULL), 0);
		assert_int_equal(sink_pages(s, 1, &bad[i], 1, NULL), 0);
		sink_end(s, NULL);
		sink_free(s);
		lseek(fd, 0, SEEK_SET);
		assert_int_equal(image_read_stream(fd, &im, NULL), 0);
		assert_true(image_next_pages(im, fd, &id, &rg, &n, NULL) < 0);
		image_free(im);
		close(fd);
	}
}

static void test_wrong_type(void **state)
{
	PstreeEntry p = PSTREE_ENTRY__INIT;
	struct sink *s = NULL;
	int fd = file_new();

	assert_int_equal(sink_stream_new(fd, &s, NULL), 0);
	assert_true(sink_put(s, REC_CORE, 1, &p.base, NULL) < 0);
	sink_free(s);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_malformed),  cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_wrong_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

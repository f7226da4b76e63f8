/* What a restore accepts as records of memory, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "cr/mem/priv.h"

#define AREAS 4

/* Two processes of one kind, the second one a child; written, read back and loaded. */
struct world {
	MmEntry mm[2];
	GwMem gw[2];
	VmaEntry va[2][AREAS], *pva[2][AREAS];
	GwVmaExtra x[2][AREAS], *px[2][AREAS];
	GwRanges inherited;
	uint64_t inherited_v[4];
	GwHeader header;
	uint8_t hash[MEM_HASH_LEN];
	bool leave_out; /* the second one's memory */
};

static void area(struct world *w, int t, int i, uint64_t start, uint64_t end, uint32_t kind)
{
	VmaEntry *v = &w->va[t][i];
	GwVmaExtra *x = &w->x[t][i];

	vma_entry__init(v);
	gw_vma_extra__init(x);
	w->pva[t][i] = v;
	w->px[t][i] = x;
	v->start = x->start = start;
	v->end = end;
	v->prot = PROT_READ | PROT_WRITE;
	v->status = MS_REGULAR | kind;
	x->has_start = x->has_vmflags = x->has_has_pages = true;
	x->has_pages = kind & (MS_ANON_PRIVATE | MS_FILE_PRIVATE);
}

static void world_make(struct world *w)
{
	memset(w, 0, sizeof(*w));
	gw_header__init(&w->header);
	assert_int_equal(mem_vdso_hash(w->hash, NULL), 0);
	w->header.has_vdso_sha256 = true;
	w->header.vdso_sha256 = (ProtobufCBinaryData){ sizeof(w->hash), w->hash };
	for (int t = 0; t < 2; t++) {
		mm_entry__init(&w->mm[t]);
		gw_mem__init(&w->gw[t]);
		area(w, t, 0, 0x400000, 0x410000, MS_FILE_PRIVATE);
		w->va[t][0].shmid = 1;
		area(w, t, 1, 0x7f0000000000, 0x7f0000100000, MS_ANON_PRIVATE);
		area(w, t, 2, 0x7f0000100000, 0x7f0000102000, MS_ANON_SHARED);
		w->x[t][2].has_shm = w->x[t][2].has_shm_size = true;
		w->x[t][2].shm_size = 0x2000;
		area(w, t, 3, 0x7ffff0000000, 0x7ffff0021000, MS_ANON_PRIVATE | MS_STACK);
		w->mm[t].exe_file_id = 1;
		w->mm[t].vmas = w->pva[t];
		w->gw[t].vmas = w->px[t];
		w->mm[t].n_vmas = w->gw[t].n_vmas = AREAS;
	}
	gw_ranges__init(&w->inherited);
	w->inherited.v = w->inherited_v;
	w->inherited.n_v = 4;
	w->inherited_v[0] = 0x400000;
	w->inherited_v[1] = 3;
	w->inherited_v[2] = 0x7f0000005000;
	w->inherited_v[3] = 16;
	w->gw[1].has_cow_parent = true;
	w->gw[1].cow_parent = 1;
	w->gw[1].inherited = &w->inherited;
}

static struct image *world_image(const struct world *w)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct image *im;
	struct sink *s;

	assert_int_equal(sink_stream_new(fd, &s, NULL), 0);
	assert_true(sink_put(s, REC_GW_HEADER, 0, &w->header.base, NULL) >= 0);
	for (uint32_t t = 0; t < (w->leave_out ? 1 : 2); t++) {
		assert_true(sink_put(s, REC_MM, t + 1, &w->mm[t].base, NULL) >= 0);
		assert_true(sink_put(s, REC_GW_MEM, t + 1, &w->gw[t].base, NULL) >= 0);
	}
	assert_true(sink_end(s, NULL) >= 0);
	sink_free(s);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(image_read_stream(fd, &im, NULL), 0);
	close(fd);
	return im;
}

/* Loads; 0 or the error.  With `more`, it is looked at before it is given back. */
static int load(const struct world *w, void (*more)(struct restore *r))
{
	struct rtask a = { .nspid = 1 }, b = { .nspid = 2, .nsppid = 1, .parent = &a };
	struct rtask *tasks[2] = { &a, &b };
	struct rfile file = { .id = 1, .fd = -1 }, *files[1] = { &file };
	struct restore r = { .tasks = tasks, .n_tasks = 2, .files = files, .n_files = 1 };
	struct err e = { 0 };
	int ret;

	r.image = world_image(w);
	ret = cr_part_mem.load(&r, &e);
	if (ret < 0)
		assert_true(e.text[0] != '\0');
	else if (more)
		more(&r);
	cr_part_mem.restore_done(&r);
	image_free(r.image);
	return ret;
}

static void look(struct restore *r)
{
	struct piece_walk w = { 0 };
	struct piece pc;
	size_t kept = 0;

	assert_int_equal(mem_cow_of_parent(r, r->tasks[0]), 0);
	assert_int_equal(mem_cow_of_parent(r, r->tasks[1]), 1);
	while (piece_next(r->tasks[1]->rmem, &w, &pc))
		kept += pc.kept;
	assert_int_equal(kept, 3); /* all but the shared one */
	assert_int_equal(area_find(r->tasks[0]->rmem, 0x410000), 1);
	assert_int_equal(area_find(r->tasks[0]->rmem, 0x7f0000100fff), 2);
	assert_int_equal(r->tasks[0]->rmem->all->n_shms, 1);
}

static void good(void **state)
{
	struct world w;

	world_make(&w);
	assert_int_equal(load(&w, look), 0);
}

#define BAD(change)                           \
	do {                                  \
		struct world w;               \
                                              \
		world_make(&w);               \
		change;                       \
		assert_true(load(&w, NULL) < 0); \
	} while (0)

static void addresses(void **state)
{
	BAD(w.va[0][1].start = w.x[0][1].start = 0x400000);
	BAD(w.va[0][1].end = 0x7f0000100001);
	BAD(w.va[0][1].end = w.va[0][1].start);
	BAD(w.va[0][0].start = w.x[0][0].start = 0);
	BAD(w.va[0][3].end = 0x800000000000);
	BAD(w.va[0][3].end = UINT64_MAX & ~4095ull);
	BAD(w.va[0][0].pgoff = 5);
	BAD(w.x[0][1].start = 0);
	BAD(w.mm[0].n_vmas = 3);
	BAD(w.va[0][1].prot = 0xff);
}

static void references(void **state)
{
	uint64_t auxv[200] = { 0 };

	BAD(w.va[0][0].shmid = 2);
	BAD(w.va[0][0].shmid = 1ull << 32 | 1);
	BAD(w.mm[0].exe_file_id = 7);
	BAD(w.x[0][2].shm = 1);
	BAD(w.x[1][2].shm_size = 0x3000);
	BAD(w.x[0][2].shm_size = 1ull << 60);
	BAD(w.va[0][1].status = MS_REGULAR);
	BAD(w.va[0][1].status = MS_REGULAR | MS_ANON_PRIVATE | MS_FILE_SHARED);
	BAD(w.x[0][1].vmflags = VMF(HT));
	BAD(w.leave_out = true);
	BAD((w.mm[0].n_mm_saved_auxv = 200, w.mm[0].mm_saved_auxv = auxv));
}

static void inheritance(void **state)
{
	BAD(w.gw[1].cow_parent = 2);
	BAD(w.gw[1].cow_parent = 0);
	BAD((w.gw[0].has_cow_parent = true, w.gw[0].cow_parent = 1));
	BAD(w.inherited_v[0] = 0x3ff000);
	BAD(w.inherited_v[1] = 0x1000);
	BAD(w.inherited_v[2] = 0x7f0000100000); /* shared */
	BAD(w.inherited_v[2] = 0x7fff00000000); /* nothing there */
	BAD(w.inherited_v[3] = UINT64_MAX / 2);
	BAD(w.inherited.n_v = 3);
	BAD(w.x[1][1].vmflags = VMF(WF)); /* not what a fork brings along */
	BAD(w.va[1][0].pgoff = 0x1000);
}

static void vdso(void **state)
{
	BAD((w.gw[0].has_vdso_size = w.gw[0].has_vdso_start = true, w.gw[0].vdso_size = 0x1000,
	     w.gw[0].vdso_start = 0x7fff00000000));
	BAD((w.gw[0].has_vdso_size = w.gw[0].has_vdso_start = true, w.gw[0].vdso_size = UINT64_MAX,
	     w.gw[0].vdso_start = 0x7fff00000000));
	{
		int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
		struct vma_list l;
		struct vdso_block b;
		struct world w;

		assert_int_equal(vma_read_plain(self, &l, NULL), 0);
		assert_int_equal(vdso_find(&l, &b), 0);
		vma_list_done(&l);
		close(self);
		world_make(&w);
		w.gw[0].has_vdso_size = w.gw[0].has_vdso_start = true;
		w.gw[0].vdso_size = b.size;
		w.gw[0].vdso_start = 0x7fff00000000;
		assert_int_equal(load(&w, NULL), 0);
		w.hash[7] ^= 1; /* another kernel */
		assert_int_equal(load(&w, NULL), -EXDEV);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(addresses), cmocka_unit_test(references),
		cmocka_unit_test(inheritance), cmocka_unit_test(vdso),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Inside of cr/mem. */
#pragma once
#include <sys/uio.h>

#include "base/mem.h"
#include "cr/mem/mem.h"
#include "cr/mem/vma.h"
#include "sys/pagemap.h"

#define PAGE 4096ull
/* End of what a 64-bit process can map (47-bit addresses; the last page is never given out). */
#define MEM_TASK_END 0x7ffffffff000ull
#define MEM_VMAS_MAX 1000000u
#define MEM_SHM_MAX (1ull << 42) /* bytes of one anonymous shared object */

/* Kinds of mappings in vma_entry.status: numbers of CRIU's image format. */
enum mem_status {
	MS_REGULAR = 1 << 0,
	MS_STACK = 1 << 1,
	MS_VSYSCALL = 1 << 2,
	MS_VDSO = 1 << 3,
	MS_HEAP = 1 << 5,
	MS_FILE_PRIVATE = 1 << 6,
	MS_FILE_SHARED = 1 << 7,
	MS_ANON_SHARED = 1 << 8,
	MS_ANON_PRIVATE = 1 << 9,
	MS_VVAR = 1 << 12,
};
#define MS_KIND (MS_FILE_PRIVATE | MS_FILE_SHARED | MS_ANON_SHARED | MS_ANON_PRIVATE)

/* Advice bits in vma_entry.madv are 1 << MADV_x. */

/* ---- lists of page ranges ---- */
struct ranges {
	struct page_range *v;
	size_t n, cap;
	uint64_t pages; /* of all */
};
int ranges_add(struct ranges *rs, uint64_t vaddr, uint64_t n_pages); /* joins with the last */
void ranges_done(struct ranges *rs);
int ranges_to_pb(const struct ranges *rs, GwRanges **ret);
/* Checks order, alignment and bounds on the way; the result is ascending and does not overlap. */
int ranges_from_pb(const GwRanges *pb, uint64_t end, struct ranges *ret);

/* ---- dump ---- */
enum mem_kind { MK_ANON, MK_SHM, MK_FILE, MK_VDSO, MK_VVAR, MK_LEFT_OUT };

/* What a mapping is; *ret_what NULL: it can be carried, else its name and *ret_why a reason. */
int mem_classify(int proc_fd, const struct vma *v, enum mem_kind *ret_kind, const char **ret_what,
		 const char **ret_why, struct err *e);

struct mem {
	/* phase inside */
	uint64_t brk;
	int dumpable;
	bool thp_disabled;
	/* mem_plan */
	struct vma_list vmas; /* of the source, text owned */
	MmEntry *mm;          /* the records, owned; without vdso, vvar, vsyscall, which are added when written */
	GwMem *gw;
	struct ranges pages;  /* to be sent */
	struct mem_all *all;  /* of the whole dump; owned by the first task's */
};

struct shm {
	uint32_t major, minor;
	uint64_t ino, size;
	int fd; /* map_files of one of its mappings */
	struct ranges pages;
};

struct mapped_file { /* so that a library mapped by all is one open file in the records */
	uint32_t major, minor, id;
	uint64_t ino;
	int access;
	char *path;
};

struct mem_all {
	struct shm *shms;
	size_t n_shms, cap_shms;
	struct mapped_file *files;
	size_t n_files, cap_files;
	uint64_t pages;
	uint64_t written, shm_written; /* pages that are in the image; of processes, of shared objects */
};

int mem_check(struct dump *d, struct err *e);
struct mem *mem_of(struct task *t); /* made when absent; NULL: no memory */
int mem_plan_task(struct dump *d, struct mem_all *all, struct task *t, struct err *e);
int mem_plan_shms(struct mem_all *all, struct err *e);
int mem_plan_cow(struct task *t, struct err *e);

/* What of some copied pages is worth keeping (zero.c). */
#define COPY_LEN (1u << 20)
struct kept {
	struct page_range v[COPY_LEN / PAGE];
	struct iovec data[COPY_LEN / PAGE];
	size_t n, n_data;
	uint64_t pages;
};
/* Adds `len` bytes that were read at `at`, without pages of zeros.  At most COPY_LEN in all.  mm: of the
 * process; NULL: a shared object, `at` being the offset. */
void pages_keep(struct kept *k, const MmEntry *mm, uint64_t at, char *data, size_t len);

/* ---- both ---- */

/* Whether area a of one task can be the same memory as area b of its parent where both overlap. */
bool mem_areas_alike(const VmaEntry *a, const GwVmaExtra *ax, const VmaEntry *b, const GwVmaExtra *bx);

struct vdso_block {
	uint64_t start, size; /* from the first vvar to the end of the vdso; size 0: there is none */
};
/* Finds it among mappings; -ENOTSUP: its parts are torn apart. */
int vdso_find(const struct vma_list *l, struct vdso_block *ret);
bool vdso_is_part(const char *path);

/* ---- restore ---- */
int mem_load(struct restore *r, struct err *e);
void mem_restore_done(struct restore *r);
struct rshm {
	uint64_t size;
	int fd; /* of the engine's; -1 before it is made */
};

struct rmem_all { /* of the whole restore */
	struct rshm *shms;
	size_t n_shms, cap_shms;
	uint64_t total; /* bytes of pages to come */
	bool huge_on_request; /* THP are given to those who ask only ("madvise"), and come fast */
	unsigned huge_slow;   /* how many came slowly, in a row */
};

struct rmem {
	const MmEntry *mm;
	const GwMem *gw;
	struct rtask *cow_parent;
	struct ranges guards, inherited;
	struct rmem_all *all; /* owned by the first task's */
};

/* Filling one process; huge.c. */
#define READ_BYTES (16ull << 20) /* of one program: the engine stays able to answer */
#define HUGE (2ull << 20)
struct filler {
	struct rmem_all *all;
	struct rtask *t;
	int data;         /* the stream's number in the task */
	int uffd;         /* there too; -1 */
	uint64_t staging; /* 0: not mapped */
	bool refused;     /* this task or kernel cannot */
	size_t registered; /* index + 1 of the last area registered */
};
/* How many of these bytes should be read by way of huge pages: a multiple of 2 MiB, or 0. */
uint64_t huge_length(struct filler *f, uint64_t at, uint64_t len);
/* Reads them.  1: done; 0: nothing was read, the task or kernel cannot. */
int huge_read(struct filler *f, uint64_t at, uint64_t len, struct err *e);
int huge_done(struct filler *f, struct err *e);
size_t area_find(const struct rmem *m, uint64_t at); /* the area at or behind an address */

/* A stretch of an area of t that is (`kept`) or is not what a fork of its parent brought along. */
struct piece {
	uint64_t start, end;
	size_t area;        /* index in mm->vmas */
	bool kept;
	size_t parent_area; /* where kept */
};
/* The piece at *at or behind it, moving *at to its end; false: no more. */
struct piece_walk {
	size_t area, parent_area;
	uint64_t at;
};
bool piece_next(const struct rmem *m, struct piece_walk *w, struct piece *ret);

int rshm_open(struct restore *r, uint32_t index, int *ret_fd, struct err *e);
/* Protection of an area while its pages arrive. */
int area_fill_prot(const struct rmem *m, size_t area);

/* A program that runs by itself whenever it is long enough. */
struct batch {
	struct agent *a;
	struct aprog *p;
	size_t n;
	uint64_t bytes; /* to be read by it */
};
int batch_call(struct batch *b, unsigned flags, struct err *e, long nr, size_t n_args,
	       const struct aarg *args);
#define BATCH(b, flags, e, nr, ...)                                              \
	batch_call((b), (flags), (e), (nr),                                      \
		   sizeof((struct aarg[]){ __VA_ARGS__ }) / sizeof(struct aarg), \
		   (struct aarg[]){ __VA_ARGS__ })
struct aprog *batch_prog(struct batch *b); /* to append by hand; NULL: no memory */
int batch_flush(struct batch *b, struct err *e);
void batch_done(struct batch *b);

/* Where vdso and vvar wait while the layout changes: behind the agent. */
#define VDSO_PARK_SPAN MEM_SCRATCH_SPAN
/* Moves the block, as it is mapped now, to `to`. */
int vdso_move(struct agent *a, const struct vma_list *now, uint64_t to, struct err *e);

#include "engine/cpuinfo.h"

#include <cpuid.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpuinfo.pb-c.h"
#include "engine/action.h"

/* pycriu's magic.py: IMG_COMMON, CPUINFO. */
#define MAGIC_COMMON 0x54564319u
#define MAGIC_CPUINFO 0x61404013u
#define IMAGE_MAX (64u << 10)

/* Feature words in the order of the kernel's cpufeatures.h; those that the kernel fills by itself stay 0. */
enum { WORDS = 19, VERSION = 2 };
static const struct {
	uint32_t leaf, sub;
	unsigned char word, reg; /* eax ebx ecx edx */
	bool old;                /* the same in every version of the format */
	uint32_t ignore;         /* bits that no instruction depends on */
} leaves[] = {
	{ 1, 0, 0, 3, true, 0 },
	{ 0x80000001, 0, 1, 3, true, 0 },
	{ 1, 0, 4, 2, true, 1u << 31 }, /* "there is a hypervisor" */
	{ 0x80000001, 0, 6, 2, true, 0 },
	{ 7, 0, 9, 1, true, 0 },
	{ 0xd, 1, 10, 0, true, 0 },
	{ 0x80000008, 0, 13, 1, false, 0 },
	{ 7, 0, 16, 2, false, 0 },
	{ 7, 0, 18, 3, false, 0 },
};

struct cpu {
	CpuinfoX86Entry x;
	uint32_t words[WORDS];
	char model[49];
};

static void leaf_get(uint32_t leaf, uint32_t sub, uint32_t regs[4])
{
	memset(regs, 0, 4 * sizeof(*regs));
	__get_cpuid_count(leaf, sub, &regs[0], &regs[1], &regs[2], &regs[3]);
}

static uint64_t xfeatures(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static void name_fill(struct cpu *c)
{
	uint32_t r[4];

	leaf_get(0, 0, r);
	c->x.vendor_id = memcmp(&r[1], "Genu", 4) == 0 ? CPUINFO_X86_ENTRY__VENDOR__INTEL :
			 memcmp(&r[1], "Auth", 4) == 0 ? CPUINFO_X86_ENTRY__VENDOR__AMD :
							 CPUINFO_X86_ENTRY__VENDOR__UNKNOWN;
	leaf_get(1, 0, r);
	c->x.stepping = r[0] & 0xf;
	c->x.model = (r[0] >> 4 & 0xf) | (r[0] >> 12 & 0xf0);
	c->x.cpu_family = r[0] >> 8 & 0xf;
	if (c->x.cpu_family == 0xf)
		c->x.cpu_family += r[0] >> 20 & 0xff;
	for (uint32_t i = 0; i < 3; i++) {
		leaf_get(0x80000002 + i, 0, r);
		memcpy(c->model + 16 * i, r, 16);
	}
	c->x.model_id = c->model;
}

static void cpu_look(struct cpu *c)
{
	uint32_t r[4];

	*c = (struct cpu){ .x = CPUINFO_X86_ENTRY__INIT };
	name_fill(c);
	for (size_t i = 0; i < array_len(leaves); i++) {
		leaf_get(leaves[i].leaf, leaves[i].sub, r);
		c->words[leaves[i].word] = r[leaves[i].reg];
	}
	c->x.capability_ver = VERSION;
	c->x.capability = c->words;
	c->x.n_capability = WORDS;
	if (!(c->words[4] & 1u << 27)) /* OSXSAVE */
		return;
	leaf_get(0xd, 0, r);
	c->x.has_xfeatures_mask = c->x.has_xsave_size = c->x.has_xsave_size_max = 1;
	c->x.xfeatures_mask = xfeatures();
	c->x.xsave_size = r[1];
	c->x.xsave_size_max = r[2];
}

int cpuinfo_write(int images_fd, struct err *e)
{
	CpuinfoEntry entry = CPUINFO_ENTRY__INIT;
	CpuinfoX86Entry *list[1];
	uint32_t head[3] = { MAGIC_COMMON, MAGIC_CPUINFO };
	auto_buf b = BUF_INIT;
	auto_fd int fd = -1;
	struct cpu c;
	uint8_t *p;
	int r;

	cpu_look(&c);
	list[0] = &c.x;
	entry.x86_entry = list;
	entry.n_x86_entry = 1;
	head[2] = (uint32_t)cpuinfo_entry__get_packed_size(&entry);
	r = buf_add(&b, head, sizeof(head));
	p = r < 0 ? NULL : buf_reserve(&b, head[2]);
	if (!p)
		return err_sys(e, -ENOMEM, "writing " CPUINFO_IMG);
	b.len += cpuinfo_entry__pack(&entry, p);
	fd = openat(images_fd, CPUINFO_IMG, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : fd_write_full(fd, b.data, b.len);
	return r < 0 ? err_sys(e, r, "writing " CPUINFO_IMG) : 0;
}

/* The first x86 entry of the image; *ret_all owns it. */
static int image_read(int images_fd, CpuinfoEntry **ret_all, struct err *e)
{
	auto_fd int fd = fd_open_beneath(images_fd, CPUINFO_IMG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	auto_free uint8_t *data = NULL;
	uint32_t head[3];
	struct stat st;
	int r;

	if (fd < 0)
		return err_sys(e, fd, "opening " CPUINFO_IMG);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, CPUINFO_IMG " is no regular file");
	r = fd_read_full(fd, head, sizeof(head));
	if (r < 0 || head[0] != MAGIC_COMMON || head[1] != MAGIC_CPUINFO || head[2] > IMAGE_MAX)
		return err_set(e, -EINVAL, CPUINFO_IMG " is no image of a processor");
	data = malloc(head[2] + 1);
	if (!data)
		return err_sys(e, -ENOMEM, "reading " CPUINFO_IMG);
	r = fd_read_full(fd, data, head[2]);
	if (r < 0)
		return err_sys(e, r, "reading " CPUINFO_IMG);
	*ret_all = cpuinfo_entry__unpack(NULL, head[2], data);
	if (*ret_all && (*ret_all)->n_x86_entry == 0) {
		cpuinfo_entry__free_unpacked(*ret_all, NULL);
		*ret_all = NULL;
		return err_set(e, -ENOTSUP, "the image was made on another architecture");
	}
	return *ret_all ? 0 : err_set(e, -EINVAL, CPUINFO_IMG " is damaged");
}

static int fpu_compare(const CpuinfoX86Entry *img, const struct cpu *c, struct err *e)
{
	uint64_t lacks = img->has_xfeatures_mask ? img->xfeatures_mask & ~c->x.xfeatures_mask : 0;

	if (lacks)
		return err_set(e, -ENOTSUP, "this processor lacks register state 0x%llx of the image's",
			       (unsigned long long)lacks);
	if (img->has_xsave_size && img->xsave_size > c->x.xsave_size)
		return err_set(e, -ENOTSUP, "this processor's register area has %u bytes, the image's %u", c->x.xsave_size,
			       img->xsave_size);
	return 0;
}

static int words_compare(const CpuinfoX86Entry *img, const struct cpu *c, bool exactly, struct err *e)
{
	for (size_t i = 0; i < array_len(leaves); i++) {
		unsigned w = leaves[i].word;
		uint32_t theirs, ours = c->words[w];

		if (w >= img->n_capability || (!leaves[i].old && img->capability_ver != VERSION))
			continue;
		theirs = img->capability[w] & ~leaves[i].ignore;
		if (theirs & ~ours)
			return err_set(e, -ENOTSUP, "this processor lacks features 0x%x of word %u of the image's",
				       theirs & ~ours, w);
		if (exactly && theirs != (ours & ~leaves[i].ignore))
			return err_set(e, -ENOTSUP, "this processor has features 0x%x of word %u that the image's has not",
				       ours & ~theirs, w);
	}
	return 0;
}

int cpuinfo_compare(int images_fd, unsigned caps, bool needed, struct err *e)
{
	CpuinfoEntry *all = NULL;
	struct cpu c;
	int r;

	if (!caps)
		return 0;
	r = image_read(images_fd, &all, e);
	if (r == -ENOENT && !needed)
		return 0;
	if (r < 0)
		return r;
	cpu_look(&c);
	if (all->x86_entry[0]->vendor_id != c.x.vendor_id && caps & CPU_CAP_CPU)
		r = err_set(e, -ENOTSUP, "the image was made on a processor of another maker");
	if (r >= 0 && caps & CPU_CAP_FPU)
		r = fpu_compare(all->x86_entry[0], &c, e);
	if (r >= 0 && caps & (CPU_CAP_INS | CPU_CAP_CPU))
		r = words_compare(all->x86_entry[0], &c, caps & CPU_CAP_CPU, e);
	cpuinfo_entry__free_unpacked(all, NULL);
	return r;
}

int action_cpuinfo_dump(const struct options *o, struct err *e)
{
	return cpuinfo_write(o->cr.images_fd, e);
}

int action_cpuinfo_check(const struct options *o, struct err *e)
{
	return cpuinfo_compare(o->cr.images_fd, o->cpu_cap_given ? o->cpu_cap : CPU_CAP_FPU | CPU_CAP_INS, true, e);
}

/* The vdso and its data pages (vvar).
 *
 * Code and data of the kernel, mapped into every process at a random address; return addresses into
 * it stand on stacks and in the C library's tables, so the restored process must find it where it
 * was.  The content is the target kernel's own and is not carried: it is moved there by mremap (the
 * kernel follows the move), all parts at unchanged distances.  A target whose vdso is not the very
 * same code is refused (hash in gw_header): the functions would stand at other offsets. */
#include <linux/auxvec.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/mem/priv.h"
#include "cr/mem/sha256.h"

bool vdso_is_part(const char *path)
{
	/* Linux 6.13 split the clock pages off into a mapping of their own. */
	return str_eq(path, "[vdso]") || str_eq(path, "[vvar]") || str_eq(path, "[vvar_vclock]");
}

int vdso_find(const struct vma_list *l, struct vdso_block *ret)
{
	uint64_t end = 0;
	bool code = false;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < l->n; i++) {
		const struct vma *v = &l->v[i];

		if (!vdso_is_part(v->path))
			continue;
		if (end && v->start != end)
			return -ENOTSUP;
		if (!end)
			ret->start = v->start;
		end = v->end;
		code = code || str_eq(v->path, "[vdso]");
	}
	if (end && !code)
		return -ENOTSUP;
	ret->size = end - ret->start;
	return 0;
}

int mem_vdso_hash(uint8_t ret_hash[MEM_HASH_LEN], struct err *e)
{
	auto_fd int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct vma_list l = { 0 };
	int r = -ENOENT;

	if (self < 0)
		return err_sys(e, -errno, "opening /proc/self");
	r = vma_read_plain(self, &l, e);
	if (r < 0)
		return r;
	r = err_set(e, -ENOENT, "this kernel gives its processes no vdso");
	for (size_t i = 0; i < l.n; i++) {
		if (!str_eq(l.v[i].path, "[vdso]"))
			continue;
		sha256((const void *)(uintptr_t)l.v[i].start, l.v[i].end - l.v[i].start, ret_hash);
		r = 0;
	}
	vma_list_done(&l);
	return r;
}

uint64_t mem_scratch(const struct agent *a)
{
	uint64_t start, end;

	agent_range(a, &start, &end);
	return start + AGENT_SPAN + PAGE;
}

int vdso_move(struct agent *a, const struct vma_list *now, uint64_t to, struct err *e)
{
	struct aprog *p = aprog_new();
	struct vdso_block block;
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "no memory");
	r = vdso_find(now, &block);
	if (r < 0)
		err_set(e, r, "the parts of the vdso have been moved apart");
	for (size_t i = 0; r == 0 && block.start != to && i < now->n; i++) {
		const struct vma *v = &now->v[i];
		uint64_t size = v->end - v->start;

		if (vdso_is_part(v->path))
			APROG_CALL(p, 0, SYS_mremap, aarg_imm(v->start), aarg_imm(size), aarg_imm(size),
				   aarg_imm(MREMAP_MAYMOVE | MREMAP_FIXED),
				   aarg_imm(to + (v->start - block.start)));
	}
	if (r == 0)
		r = agent_run(a, p, e);
	if (r < 0)
		r = err_context(e, r, "moving the vdso");
	aprog_free(p);
	return r;
}

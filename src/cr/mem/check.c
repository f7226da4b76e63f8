/* Which mappings can be carried.
 *
 * Carried: private anonymous memory, anonymous shared memory, private and shared mappings of regular
 * files (memfds and deleted files among them: the file's own kind carries it), vdso and vvar.
 * Everything else is refused here by its name; what the table does not know is refused too. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/parse.h"
#include "cr/mem/priv.h"

struct named_refusal {
	const char *prefix, *what, *why;
};

static const struct named_refusal by_path[] = {
	{ "anon_inode:[io_uring]", "io_uring", "a ring shared with the kernel cannot be carried" },
	{ "anon_inode:[perf_event]", "perf_event", "a perf buffer cannot be carried" },
	{ "anon_inode:", "anon_inode", "a mapping of a kernel object cannot be carried" },
	{ "/[aio]", "aio", "the ring of an asynchronous I/O context (io_setup) cannot be carried" },
	{ "[uprobes]", "uprobes", "a probe is set on this process; remove it first" },
	{ "/SYSV", "System V shared memory", "System V shared memory is not carried yet" },
	{ "/secretmem", "secretmem", "memfd_secret memory cannot be read by anyone else" },
	{ "/anon_hugepage", "hugetlb", "huge pages of hugetlbfs are not carried yet" },
	{ "socket:", "packet socket ring", "a ring of a packet socket is not carried" },
	{ "/dmabuf:", "dma-buf", "device memory cannot be carried" },
};

static const struct {
	uint64_t flag;
	const char *what, *why;
} by_flag[] = {
	{ VMF(PF), "device memory", "memory without pages of its own (VM_PFNMAP) cannot be carried" },
	{ VMF(IO), "device memory", "memory of a device (VM_IO) cannot be carried" },
	{ VMF(MM), "device memory", "a mapping of device pages (VM_MIXEDMAP) cannot be carried" },
	{ VMF(HT), "hugetlb", "huge pages of hugetlbfs are not carried yet" },
	{ VMF(UM), "userfaultfd", "the process handles faults of this memory itself" },
	{ VMF(UW), "userfaultfd", "the process tracks writes to this memory itself" },
	{ VMF(UI), "userfaultfd", "the process handles faults of this memory itself" },
	{ VMF(SS), "shadow stack", "hardware shadow stacks are not carried yet" },
	{ VMF(SF), "synchronous DAX", "a mapping with MAP_SYNC is not carried" },
};

static const char unreachable[] =
	"it has no name any more (or another file has it), and opening it by its mapping needs CAP_CHECKPOINT_RESTORE in the "
	"first user namespace";

static int classify_file(int proc_fd, const struct vma *v, enum mem_kind *ret_kind,
			 const char **ret_what, const char **ret_why, struct err *e)
{
	struct stat st;
	int r = vma_stat(proc_fd, v, &st);

	if (r == -EPERM) {
		*ret_what = "mapped file";
		*ret_why = unreachable;
		return 0;
	}
	if (r < 0)
		return err_sys(e, r, "asking for the file mapped at %llx (%s)", (unsigned long long)v->start, v->path);
	if (S_ISREG(st.st_mode))
		return 0;
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5) && !v->shared) {
		*ret_kind = MK_ANON; /* private /dev/zero is anonymous memory with a name */
		return 0;
	}
	*ret_what = "device mapping";
	*ret_why = "only regular files and /dev/zero can be mapped by a process that moves";
	return 0;
}

/* 1: a file, of which the text does not say what it is. */
static int mem_classify_text(int proc_fd, const struct vma *v, enum mem_kind *ret_kind, const char **ret_what,
			     const char **ret_why)
{
	*ret_what = NULL;
	*ret_kind = MK_FILE;
	if (str_eq(v->path, "[vsyscall]")) {
		*ret_kind = MK_LEFT_OUT; /* every process has it, at the same address */
		return 0;
	}
	if (vdso_is_part(v->path)) {
		*ret_kind = str_eq(v->path, "[vdso]") ? MK_VDSO : MK_VVAR;
		return 0;
	}
	for (size_t i = 0; i < array_len(by_path); i++) {
		if (str_starts(v->path, by_path[i].prefix)) {
			*ret_what = by_path[i].what;
			*ret_why = by_path[i].why;
			return 0;
		}
	}
	for (size_t i = 0; i < array_len(by_flag); i++) {
		if (v->flags & by_flag[i].flag) {
			*ret_what = by_flag[i].what;
			*ret_why = by_flag[i].why;
			return 0;
		}
	}
	if (v->unknown[0]) {
		*ret_what = "unknown mapping flag";
		*ret_why = "the kernel shows a flag of this mapping that this version does not know";
	} else if (v->pkey) {
		*ret_what = "protection key";
		*ret_why = "memory protection keys are not carried yet";
	} else if (v->end > MEM_TASK_END) {
		*ret_what = "57-bit address";
		*ret_why = "mappings above 47-bit addresses are not carried yet";
	} else if (v->ino == 0) {
		/* [heap], [stack], [anon:NAME] and nothing at all. */
		*ret_kind = MK_ANON;
		if (v->path[0] == '[' && !str_eq(v->path, "[heap]") && !str_eq(v->path, "[stack]") &&
		    !str_starts(v->path, "[anon:")) {
			*ret_what = "special mapping";
			*ret_why = "the kernel's own mapping of this name is not known to this version";
		} else if (v->shared) {
			*ret_what = "shared mapping without a file";
			*ret_why = "the kernel does not say what is shared";
		}
	} else if (v->shared && (str_eq(v->path, "/dev/zero (deleted)") ||
				 str_starts(v->path, "[anon_shmem:"))) {
		struct stat st;

		*ret_kind = MK_SHM;
		if (vma_stat(proc_fd, v, &st) == -EPERM) {
			*ret_what = "shared memory";
			*ret_why = "its object can only be had with CAP_CHECKPOINT_RESTORE in the first user namespace";
		}
	} else {
		return 1;
	}
	return 0;
}

int mem_classify(int proc_fd, const struct vma *v, enum mem_kind *ret_kind, const char **ret_what,
		 const char **ret_why, struct err *e)
{
	return mem_classify_text(proc_fd, v, ret_kind, ret_what, ret_why) ?
		       classify_file(proc_fd, v, ret_kind, ret_what, ret_why, e) :
		       0;
}

/* Files that were looked at before: a library is mapped by all, in several pieces.  As in the plan, a file is
 * its number, device and path. */
#define SEEN_MAX 256
struct seen {
	struct seen_file {
		uint64_t ino;
		uint32_t major, minor;
		char *path;
	} v[SEEN_MAX];
	size_t n;
};

static bool seen_is(const struct seen *s, const struct vma *v)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].ino == v->ino && s->v[i].major == v->major && s->v[i].minor == v->minor &&
		    str_eq(s->v[i].path, v->path))
			return true;
	return false;
}

static void seen_note(struct seen *s, const struct vma *v)
{
	char *path = s->n < SEEN_MAX ? strdup(v->path) : NULL;

	if (path)
		s->v[s->n++] = (struct seen_file){ v->ino, v->major, v->minor, path };
}

static int classify_seen(struct seen *s, const struct task *t, struct vma *v, const char **ret_what,
			 const char **ret_why, struct err *e)
{
	enum mem_kind kind;
	int r = mem_classify_text(t->proc_fd, v, &kind, ret_what, ret_why);
	bool ask = r > 0 && !seen_is(s, v);

	if (ask)
		r = classify_file(t->proc_fd, v, &kind, ret_what, ret_why, e);
	if (r < 0)
		return r;
	if (ask && !*ret_what && kind == MK_FILE)
		seen_note(s, v);
	if (!*ret_what)
		v->carried = (uint8_t)(kind + 1);
	return 0;
}

/* The mappings and their flags.  Reading flags makes the kernel walk over all pages (17 ms for a GiB of
 * small ones), so what the check of a frozen tree has read is kept for the plan. */
static int check_task(struct dump *d, struct seen *s, struct task *t, struct err *e)
{
	struct vma_list l = { 0 };
	struct vdso_block block;
	int r;

	r = vma_read(t->proc_fd, &l, e);
	if (r < 0)
		return err_context(e, r, "process %d", (int)t->nspid);
	for (size_t i = 0; i < l.n && r >= 0; i++) {
		const char *what, *why;
		char where[64];

		r = classify_seen(s, t, &l.v[i], &what, &why, e);
		if (r == -ENOENT) {
			r = 0; /* unmapped since: the tasks still run */
			continue;
		}
		if (r < 0 || !what)
			continue;
		snprintf(where, sizeof(where), "mapping %llx-%llx", (unsigned long long)l.v[i].start,
			 (unsigned long long)l.v[i].end);
		r = refusals_add(&d->refusals, t->nspid, where, what, "%s (%s)", why,
				 l.v[i].path[0] ? l.v[i].path : "anonymous");
	}
	if (r >= 0 && vdso_find(&l, &block) < 0)
		r = refusals_add(&d->refusals, t->nspid, "mappings", "vdso",
				 "the parts of the vdso have been moved apart");
	if (r >= 0 && !d->check_only && mem_of(t)) {
		vma_list_done(&t->mem->vmas);
		t->mem->vmas = l;
		return 0;
	}
	vma_list_done(&l);
	return r;
}

int mem_check(struct dump *d, struct err *e)
{
	struct seen s = { .n = 0 };
	int r = 0;

	for (size_t i = 0; i < d->n_tasks && r >= 0; i++) {
		r = d->tasks[i]->zombie ? 0 : check_task(d, &s, d->tasks[i], e);
		/* A process that ended meanwhile has no mappings to refuse. */
		if (r == -ESRCH || r == -ENOENT)
			r = 0;
	}
	for (size_t i = 0; i < s.n; i++)
		free(s.v[i].path);
	return r;
}

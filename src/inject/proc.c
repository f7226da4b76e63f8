/* proc - a process with agents in it: its memory, the blob and the slots there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <elf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "inject/internal.h"
#include "sys/abi.h"

#include "agent_blob.h"

#define MAPS_MAX (64u << 20)

int mem_read_pid(pid_t pid, uint64_t addr, void *data, size_t len)
{
	struct iovec here = { data, len }, there = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EFAULT;
}

int proc_new(pid_t pid, int proc_fd, int pidfd, struct agent_proc **ret, struct err *e)
{
	struct agent_proc *p = calloc(1, sizeof(*p));
	int code;

	if (!p)
		return err_sys(e, -ENOMEM, "agent of process %d", pid);
	p->refs = 1;
	p->pid = pid;
	p->mem_fd = -1;
	p->pidfd = pidfd >= 0 ? pidfd : (int)syscall(SYS_pidfd_open, pid, 0);
	if (p->pidfd >= 0)
		p->proc_fd = proc_fd >= 0 ? fcntl(proc_fd, F_DUPFD_CLOEXEC, 0)
					  : open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	else
		p->proc_fd = -1;
	if (p->proc_fd < 0) {
		code = -errno;
		if (pidfd >= 0)
			p->pidfd = -1; /* still the caller's */
		proc_unref(p);
		return err_sys(e, code, "process %d", pid);
	}
	*ret = p;
	return 0;
}

struct agent_proc *proc_unref(struct agent_proc *p)
{
	if (!p || --p->refs)
		return NULL;
	fd_close(&p->pidfd);
	fd_close(&p->mem_fd);
	fd_close(&p->proc_fd);
	free(p->chunks);
	free(p->agents);
	free(p);
	return NULL;
}

static int mem_open(struct agent_proc *p, struct err *e)
{
	char path[32];

	if (p->mem_fd >= 0)
		return 0;
	snprintf(path, sizeof(path), "%d/mem", p->pid);
	p->mem_fd = openat(p->proc_fd, path, O_RDWR | O_CLOEXEC);
	if (p->mem_fd < 0)
		return err_sys(e, -errno, "cannot open the memory of process %d", p->pid);
	return 0;
}

/* By /proc/PID/mem and not process_vm_writev: it also writes where the task itself may not (the
 * kernel makes a private copy of the page), which is how code gets into text. */
int proc_write(struct agent_proc *p, uint64_t addr, const void *data, size_t len, struct err *e)
{
	ssize_t n;
	int r = mem_open(p, e);

	if (r < 0)
		return r;
	n = pwrite(p->mem_fd, data, len, (off_t)addr);
	if (n < 0)
		return err_sys(e, -errno, "cannot write to the memory of process %d at %llx",
			       p->pid, (unsigned long long)addr);
	if ((size_t)n != len)
		return err_set(e, -EFAULT, "short write to the memory of process %d", p->pid);
	return 0;
}

int proc_read(struct agent_proc *p, uint64_t addr, void *data, size_t len, struct err *e)
{
	ssize_t n;
	int r = mem_open(p, e);

	if (r < 0)
		return r;
	n = pread(p->mem_fd, data, len, (off_t)addr);
	if (n < 0)
		return err_sys(e, -errno, "cannot read the memory of process %d at %llx", p->pid,
			       (unsigned long long)addr);
	if ((size_t)n != len)
		return err_set(e, -EFAULT, "short read of the memory of process %d", p->pid);
	return 0;
}

/* ---- the site: a piece of executable memory that nobody uses ---- */

bool proc_blob_is(const uint8_t head[AGENT_BLOB_HEAD])
{
	return memcmp(head, agent_blob, AGENT_BLOB_HEAD) == 0;
}

/* A stub that a killed injection left. */
static bool site_is_left(const uint8_t *tail)
{
	struct arch_stub_tail t;

	memcpy(&t, tail + ARCH_STUB_MAX - sizeof(t), sizeof(t));
	return t.magic == ARCH_STUB_MAGIC;
}

/* True: the last ARCH_STUB_MAX bytes of [start, end) are zero (the linker's padding of a last
 * page), or have been used by us. */
static bool site_try(struct agent_proc *p, uint64_t start, uint64_t end, uint64_t *ret,
		     bool *ret_left)
{
	uint8_t tail[ARCH_STUB_MAX];
	uint64_t at = end - sizeof(tail);

	if (end - start < 4096 || proc_read(p, at, tail, sizeof(tail), NULL) < 0)
		return false;
	*ret = at;
	if (site_is_left(tail)) {
		*ret_left = true;
		return true;
	}
	for (size_t i = 0; i < sizeof(tail); i++)
		if (tail[i])
			return false;
	return true;
}

/* The vdso by the address that the kernel gave at exec, and one question instead of the whole list.
 */
static bool vdso_find(struct agent_proc *p, uint64_t *ret_start, uint64_t *ret_end)
{
	struct procmap_query q = { .size = sizeof(q) };
	auto_free char *auxv = NULL;
	auto_fd int maps = -1;
	char path[32];
	size_t len;

	snprintf(path, sizeof(path), "%d/auxv", p->pid);
	if (fd_read_file_at(p->proc_fd, path, 65536, &auxv, &len) < 0)
		return false;
	for (size_t at = 0; at + 16 <= len; at += 16) {
		uint64_t pair[2];

		memcpy(pair, auxv + at, sizeof(pair));
		if (pair[0] == AT_SYSINFO_EHDR)
			q.query_addr = pair[1];
	}
	snprintf(path, sizeof(path), "%d/maps", p->pid);
	maps = openat(p->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (!q.query_addr || maps < 0 || ioctl(maps, PROCMAP_QUERY, &q) < 0)
		return false;
	if (q.vma_start != q.query_addr || q.inode || q.vma_flags & PROCMAP_QUERY_VMA_SHARED ||
	    !(q.vma_flags & PROCMAP_QUERY_VMA_READABLE) ||
	    !(q.vma_flags & PROCMAP_QUERY_VMA_EXECUTABLE))
		return false;
	*ret_start = q.vma_start;
	*ret_end = q.vma_end;
	return true;
}

static int site_search(struct agent_proc *p, uint64_t *ret, bool *ret_left)
{
	auto_free char *maps = NULL;
	char path[32], *line, *save = NULL;
	uint64_t fallback = 0;
	int r;

	snprintf(path, sizeof(path), "%d/maps", p->pid);
	r = fd_read_file_at(p->proc_fd, path, MAPS_MAX, &maps, NULL);
	if (r < 0)
		return r;
	for (line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long start, end;
		char perm[5], name[16] = "";
		uint64_t at;

		if (sscanf(line, "%llx-%llx %4s %*s %*s %*s %15s", &start, &end, perm, name) < 3)
			continue;
		if (perm[0] != 'r' || perm[2] != 'x' || perm[3] != 'p' || end <= start)
			continue;
		if (!site_try(p, start, end, &at, ret_left))
			continue;
		if (strcmp(name, "[vdso]") == 0)
			*ret = at;
		else if (!fallback)
			fallback = at;
	}
	if (!*ret)
		*ret = fallback;
	return 0;
}

/* The end of the vdso's last page is best: every process has one, it belongs to no file.  Else the
 * padding of any private executable mapping. */
int proc_site_find(struct agent_proc *p, uint64_t *ret, struct err *e)
{
	uint64_t start, end, found = 0;
	bool left = false;
	int r = 0;

	if (!vdso_find(p, &start, &end) || !site_try(p, start, end, &found, &left)) {
		found = 0;
		r = site_search(p, &found, &left);
	}
	if (r >= 0 && left)
		r = leftovers_find(p, &p->stale);
	if (r < 0)
		return err_sys(e, r, "cannot read the mappings of process %d", p->pid);
	if (left && leftovers_used(p, &p->stale, found))
		return err_set(e, -EAGAIN,
			       "process %d is on its way out of a killed checkpoint; let it go on "
			       "and try again",
			       p->pid);
	if (!found)
		return err_set(e, -ENOSPC,
			       "process %d has no executable memory with room for %d bytes of code",
			       p->pid, ARCH_STUB_MAX);
	/* site_saved is zeros: that is what a site was before us. */
	*ret = found;
	return 0;
}

/* ---- blob and slots ---- */

int proc_blob_write(struct agent_proc *p, struct err *e)
{
	struct agent_head head = { .users = p->users };
	int r;

	_Static_assert(sizeof(agent_blob) <= AGENT_TEXT, "the blob fits its place");
	_Static_assert(AGENT_USED <= AGENT_SPAN, "the mapping fits its span");
	_Static_assert(AGENT_STUB_LEN == ARCH_STUB_MAX, "stubs fit their place");
	_Static_assert(sizeof(struct agent_slot) <= AGENT_SLOT_DATA, "slot before its data");
	r = proc_write(p, p->base, agent_blob, sizeof(agent_blob), e);
	if (r < 0)
		return r;
	return proc_write(p, p->base + AGENT_TEXT, &head, sizeof(head), e);
}

int proc_slot_write(struct agent_proc *p, uint64_t slot, bool leader, uint64_t stub, int channel,
		    struct err *e)
{
	struct agent_slot s = {
		.magic = AGENT_SLOT_MAGIC,
		.stub = stub,
		.data = slot + (leader ? AGENT_SLOT0_DATA : AGENT_SLOT_DATA),
		.data_len = leader ? AGENT_SLOT0_DATA_LEN : AGENT_SLOT_DATA_LEN,
		.leave = p->returns ? AGENT_LEAVE_RETURN : AGENT_LEAVE_EXIT,
		.channel = channel,
		.pair = { -1, -1 },
	};

	return proc_write(p, slot, &s, sizeof(s), e);
}

struct agent *proc_leader(struct agent_proc *p)
{
	for (size_t i = 0; i < p->n_agents; i++)
		if (p->agents[i]->leader)
			return p->agents[i];
	return NULL;
}

/* In one program, which the agent runs to its end whatever becomes of us: a chunk without its magic
 * would not be found again. */
static int chunk_new(struct agent_proc *p, struct err *e)
{
	const uint64_t slots = (uint64_t)AGENT_CHUNK_STUBS << 32, magic = AGENT_SLOT_MAGIC;
	struct agent *l = proc_leader(p);
	struct aprog *prog;
	struct aarg at;
	int r;

	if (!l)
		return err_set(e, -EINVAL, "process %d has no agent in its leader", p->pid);
	prog = aprog_new();
	if (!prog || array_grow(p->chunks, p->n_chunks, p->cap_chunks) < 0) {
		aprog_free(prog);
		return err_sys(e, -ENOMEM, "agents of process %d", p->pid);
	}
	APROG_CALL(prog, 0, SYS_mmap, aarg_imm(0), aarg_imm(AGENT_CHUNK_LEN),
		   aarg_imm(PROT_READ | PROT_EXEC), aarg_imm(MAP_PRIVATE | MAP_ANONYMOUS),
		   aarg_imm((uint64_t)-1), aarg_imm(0));
	at = aarg_result(slots);
	APROG_CALL(prog, 0, SYS_mprotect, at, aarg_imm(AGENT_CHUNK_LEN - AGENT_CHUNK_STUBS),
		   aarg_imm(PROT_READ | PROT_WRITE));
	aprog_op(prog, 0, AGENT_OP_POKE, 3,
		 (struct aarg[]){ at, aprog_in(prog, &magic, sizeof(magic)),
				  aarg_imm(sizeof(magic)) });
	r = agent_run(l, prog, e);
	if (r >= 0)
		p->chunks[p->n_chunks++] =
			(struct agent_chunk){ .addr = (uint64_t)aprog_result(prog, 0) };
	aprog_free(prog);
	return r;
}

int proc_slot_new(struct agent_proc *p, uint64_t *ret_slot, uint64_t *ret_stub, struct err *e)
{
	struct agent_chunk *c;
	int r;

	if (!p->n_chunks || p->chunks[p->n_chunks - 1].used == AGENT_CHUNK_SLOTS) {
		r = chunk_new(p, e);
		if (r < 0)
			return r;
	}
	c = &p->chunks[p->n_chunks - 1];
	*ret_stub = c->addr + (uint64_t)c->used * AGENT_STUB_LEN;
	*ret_slot = c->addr + AGENT_CHUNK_STUBS + (uint64_t)c->used * AGENT_SLOT_LEN;
	c->used++;
	return 0;
}

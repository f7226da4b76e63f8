#include "cr/task/attr.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "cr/mem/mem.h"

size_t attr_part_index(const struct cr_part *part)
{
	size_t i = 0;

	while (i + 1 < cr_parts_n && cr_parts[i] != part)
		i++;
	return i;
}

TaskCoreEntry *attr_task_core(struct thread *leader)
{
	if (!leader->core->tc)
		leader->core->tc = ATTR_NEW(TaskCoreEntry, task_core_entry);
	return leader->core->tc;
}

ThreadCoreEntry *attr_thread_core(struct thread *th)
{
	if (!th->core->thread_core)
		th->core->thread_core = ATTR_NEW(ThreadCoreEntry, thread_core_entry);
	return th->core->thread_core;
}

int attr_thread_file(const struct task *t, const struct thread *th, const char *name, size_t max,
		     char **ret, size_t *ret_len, struct err *e)
{
	char path[64];
	int r;

	snprintf(path, sizeof(path), "task/%d/%s", (int)th->tid, name);
	r = fd_read_piece_at(t->proc_fd, path, max, ret, ret_len);
	return r < 0 ? err_sys(e, r, "reading %s of thread %d", name, (int)th->nstid) : 0;
}

int scratch_map(struct rtask *t, size_t len, struct scratch *ret, struct err *e)
{
	len = (len + 4095) & ~(size_t)4095;
	*ret = (struct scratch){ t->agent, mem_scratch(t->agent), len };
	if (len > MEM_SCRATCH_SPAN)
		return err_set(e, -EMSGSIZE, "%zu bytes are too many to hand to a task", len);
	return AGENT_CALL(t->agent, NULL, e, SYS_mmap, ret->addr, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);
}

int scratch_unmap(struct scratch *s, struct err *e)
{
	return AGENT_CALL(s->leader, NULL, e, SYS_munmap, s->addr, s->len, 0, 0, 0, 0);
}

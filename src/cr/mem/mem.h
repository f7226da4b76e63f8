/* mem - the memory of processes: mappings, page content, the vdso, mm attributes.
 *
 * Calls of the spine (dump.c, restore.c), in this order.
 *
 * Dump:
 *   cr_part_mem.check            all mappings that cannot be carried are refused
 *   cr_part_attrs.inside         brk, THP and dumpable switches among all attributes (task/attr.h)
 *   mem_plan                     once, cgroup frozen, engine out of the tasks, BEFORE the header and
 *                                before part "files" captures: reads mappings, registers mapped files
 *                                by dump_ofile_of, decides which pages travel
 *   mem_pages                    for gw_header.pages; mem_vdso_hash for gw_header.vdso_sha256
 *   cr_part_mem.frozen           writes REC_MM, REC_GW_MEM and REC_GW_VMA
 *   mem_send_pages               after the last record; then sink_end
 *
 * Restore:
 *   cr_part_mem.load             bounds and plan; sets t->rmem; checks the vdso
 *   mem_agent_address            where agent_take_over puts the blob: free in gw-init as it is and in
 *                                the layout of EVERY task, so that no agent ever has to be moved
 *   for each task, parents first, that is not mem_cow_of_parent: agent_fork, task_begin, then
 *   mem_prepare + mem_map        (mapped files are built: r->files[].fd)
 *   mem_receive                  reads the whole rest of the stream; calls back with each task in
 *                                order once its memory is filled; there the spine forks those
 *                                children of it that are mem_cow_of_parent (agent_fork, task_begin,
 *                                mem_prepare, mem_map) before it returns
 *   task_filled hooks; descriptors; threads
 *   mem_protect_final            each task (not zombies), before thread_end: protections, advice,
 *                                locks, brk and the like, the exe link
 *
 * gw-init must have no rseq area registered when it waits (it unregisters its own), because its
 * memory goes away in mem_prepare while its thread lives on. */
#pragma once
#include "cr/cr.h"

extern const struct cr_part cr_part_mem;

/* ---- dump ---- */

int mem_plan(struct dump *d, struct err *e);
/* Pages that mem_send_pages will send; valid after mem_plan. */
uint64_t mem_pages(const struct dump *d);
/* `progress` (may be NULL) is told the bytes so far and in all, at most every few MiB; a negative
 * value from it aborts. */
typedef int (*mem_progress)(void *arg, uint64_t bytes, uint64_t total);
int mem_send_pages(struct dump *d, mem_progress progress, void *arg, struct err *e);

/* Pages of processes and of shared objects: planned, and (after mem_send_pages) in the image, which are fewer
 * where pages of zeros are left out (a folder). */
struct mem_counts {
	uint64_t pages, written, shm_pages, shm_written;
};
struct mem_counts mem_counts(const struct dump *d);

#define MEM_HASH_LEN 32
/* Of this kernel's vdso as this process sees it. */
int mem_vdso_hash(uint8_t ret_hash[MEM_HASH_LEN], struct err *e);

/* ---- restore ---- */

/* `pid` is gw-init. */
int mem_agent_address(const struct restore *r, pid_t pid, uint64_t *ret_addr, struct err *e);

/* 1: has to be forked by its parent after that parent's memory is filled (inside mem_receive's
 * callback); 0: before. */
int mem_cow_of_parent(const struct restore *r, const struct rtask *t);

/* Unmaps everything but the agent (and what a copy-on-write child keeps of its parent). */
int mem_prepare(struct restore *r, struct rtask *t, struct err *e);
/* Maps everything, private memory writable for the time being. */
int mem_map(struct restore *r, struct rtask *t, struct err *e);

struct mem_receiver {
	int (*filled)(struct restore *r, struct rtask *t, void *arg, struct err *e);
	mem_progress progress; /* may be NULL */
	void *arg;             /* of both */
};
int mem_receive(struct restore *r, const struct mem_receiver *rc, struct err *e);

int mem_protect_final(struct restore *r, struct rtask *t, struct err *e);

/* Address space behind the agent that is free from mem_map to agent_finish, in every task. */
#define MEM_SCRATCH_SPAN 0x20000ull
uint64_t mem_scratch(const struct agent *a);

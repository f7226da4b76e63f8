/* The order of the parts in each phase.  A part that comes into being gets its line here: where it
 * stands is decided by what it needs of the others. */
#include "cr/cr.h"

extern const struct cr_part cr_part_tree, cr_part_regs, cr_part_mem;
extern const struct cr_part cr_part_rlimits, cr_part_sched, cr_part_rseq, cr_part_signals,
	cr_part_timers, cr_part_seccomp, cr_part_creds, cr_part_misc, cr_part_attrs, cr_part_arm;
extern const struct cr_part cr_part_same, cr_part_userns, cr_part_time, cr_part_pidns, cr_part_uts,
	cr_part_ipc, cr_part_mounts, cr_part_net, cr_part_cgroup;
extern const struct cr_part cr_part_sock, cr_part_sock_end, cr_part_files, cr_part_locks, cr_part_fs;

const struct cr_part *const cr_parts[] = {
	&cr_part_tree,
	&cr_part_regs,
	/* Namespaces before files: paths need mounts. */
	&cr_part_same, &cr_part_userns, &cr_part_time, &cr_part_pidns, &cr_part_uts, &cr_part_ipc,
	&cr_part_mounts, &cr_part_net, &cr_part_cgroup,

	/* Memory plans mapped files before the files are captured (mem_plan); maps them after. */
	&cr_part_mem,

	/* Files, then what hangs on them.  Sockets need their namespace's lists before their kinds are
	 * called by files, and their queues and connections wait until all files stand. */
	&cr_part_sock, &cr_part_files, &cr_part_locks, &cr_part_fs, &cr_part_sock_end,

	/* Attributes; those that take rights away last, and behind all what would go off (task/attr.h). */
	&cr_part_rlimits,
	&cr_part_sched,
	&cr_part_rseq,
	&cr_part_signals,
	&cr_part_timers,
	&cr_part_seccomp,
	&cr_part_creds,
	&cr_part_misc,
	&cr_part_attrs,
	&cr_part_arm,
};
const size_t cr_parts_n = sizeof(cr_parts) / sizeof(cr_parts[0]);

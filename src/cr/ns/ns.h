/* ns - what the parts of this folder share. */
#pragma once
#include <sched.h>
#include <sys/types.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* Linux 5.6 */
#endif

/* Positions in part_data of a dump and of a restore; the end of the array, away from the others'.
 */
enum {
	NS_DATA_UTS = 26,
	NS_DATA_MOUNTS,
	NS_DATA_CGROUP,
	NS_DATA_PID,
	NS_DATA_NET,
};

/* Ids of REC_GW_MISC records. */
enum {
	GW_MISC_LAST_PID = 0x6e730001, /* decimal text */
};

#define NS_ALL (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWUSER | \
		CLONE_NEWCGROUP | CLONE_NEWTIME)
struct restore;
struct err;

/* Which namespaces of this process are not ours: CLONE_NEW*. */
int ns_own(pid_t pid, unsigned *ret, struct err *e);

int mounts_build(struct restore *r, struct err *e);

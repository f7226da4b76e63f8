/* ns - what the parts of this folder share. */
#pragma once
#include <sched.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

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
struct dump;
struct restore;
struct err;

/* Which namespaces of this process are not ours: CLONE_NEW*. */
int ns_own(pid_t pid, unsigned *ret, struct err *e);

int mounts_build(struct restore *r, struct err *e);
/* While we stand in the host's mounts: takes hold of those that the tree has from outside. */
int mounts_outside_open(struct restore *r, struct err *e);
/* In the first process, its namespaces made and the host's mounts still seen: sends messages with mounts it has made;
 * and their receiver. */
struct msg;
int mounts_born_give(const struct restore *r, int sock);
int mounts_born_take(struct restore *r, struct msg *m, struct err *e);
void mounts_restore_done(struct restore *r);

/* Of a restore that makes its namespaces itself (seed.c): the maps of r->init_pid's user namespace; a time
 * namespace for children of this process, in which the clocks go on where they were; the seed's cgroups. */
int userns_maps_write(struct restore *r, struct err *e);
int timens_make(struct restore *r, struct err *e);
/* Links that join the first process' network with the host's, in which we stand. */
int net_links_make(struct restore *r, struct err *e);
/* Of a network without content, in which we stand. */
int net_loopback_up(struct err *e);
int cgroup_seed(struct restore *r, struct err *e);
/* After a failure, when all of the tree is gone: what was made of them goes. */

/* Instants of a clock, in ns: from our time namespace to the container's, and back.  Clocks that have no
 * namespaces are the same. */
int64_t clock_theirs(const struct dump *d, clockid_t clock, int64_t ours);
int64_t clock_ours(const struct restore *r, clockid_t clock, int64_t theirs);
/* 0, or (negative) how far the container's clock is behind the dump's: that of a tree without a time namespace
 * of its own, after a restart of the machine.  Then nothing has passed.  clock_ours has it in it. */
int64_t clock_shift(const struct restore *r, clockid_t clock);

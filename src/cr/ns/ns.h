/* ns - what the parts of this folder share. */
#pragma once

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

struct restore;
struct err;
int mounts_build(struct restore *r, struct err *e);

/* container - a container by liblxc.  Everything here blocks and is called in jobs only (job/job.h):
 * the daemon itself never calls liblxc nor enters a container.
 *
 * Runtime state of a container lives in STATE/run/NAME/ (on /run-like storage, gone at reboot):
 *   monitor   "PID STARTTIME" of liblxc's monitor, written by our start hook
 *   init      "PID STARTTIME" of the container's init in the host, rewritten at each reboot inside
 *   job/      bind-mounted read-only into the container at /.godwit: gw-init, and `wait` while a
 *             restore is to come (gw-init then waits; without the file it executes the real init) */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "db/db.h"

struct container;

/* Two settings of the daemon reach its jobs by the environment: GODWIT_RUN_DIR (--run-dir; else STATE/run) and
 * GODWIT_CGROUP_DIR (--cgroup-dir; else "godwit"). */

/* Of a row of the database (profiles applied). */
int container_open(struct db *db, const char *state_dir, const char *name, struct container **ret, struct err *e);
struct container *container_free(struct container *c);

const char *container_name(const struct container *c);
const char *container_rootfs(const struct container *c);   /* host path of the root file system */
const char *container_cgroup(const struct container *c);   /* its own v2 cgroup folder, absolute; exists while it runs */
const char *container_host_link(const struct container *c); /* host end of eth0's veth; NULL: no network card */
const char *container_bridge(const struct container *c);    /* the bridge it belongs in; NULL */
bool container_privileged(const struct container *c);
uint32_t container_ipv4(const struct container *c);         /* network order; 0: none */
/* After a start: a sentence when it could not keep its address; NULL. */
const char *container_note(const struct container *c);
const char *container_hwaddr(const struct container *c);    /* "00:16:3e:…"; NULL: no network card */
void container_idmap(const struct container *c, uint32_t *ret_base, uint32_t *ret_size); /* size 0: privileged */
const char *container_run_dir(const struct container *c);
struct pool *container_pool(const struct container *c);     /* storage/storage.h; stays the container's */
/* Asked while something is waited for; a negative errno ends the waiting with it. */
void container_set_cancel(struct container *c, int (*check)(void *arg), void *arg);

enum start_mode {
	START_NORMAL,
	START_WAITING, /* gw-init waits for a restore; the veth is up but in no bridge; clocks by offsets */
};
struct start_options {
	enum start_mode mode;
	/* START_WAITING: the container's clocks go on from here (its own CLOCK_MONOTONIC and
	 * CLOCK_BOOTTIME, nanoseconds, at the moment of the call); 0: fresh clocks (offset so that they begin at 0).
	 * Exact to the moment of the call: what passed since the values were read is the caller's to add.
	 * START_WAITING keeps the row's address without asking who else answers for it. */
	uint64_t monotonic_ns, boottime_ns;
};

/* By who holds the instance's lock (runtime/lock.h), or whose row is OWN_INCOMING: what was left of the name is
 * removed first, and would be removed from under another start.  -EALREADY: it runs.  After success it runs (RUNNING for liblxc) and run/NAME/ is written. */
int container_start(struct container *c, const struct start_options *o, struct err *e);
/* timeout_s: how long a clean shutdown may take, -1 for ever; force: at once. */
int container_stop(struct container *c, bool force, int timeout_s, struct err *e);
/* Ends everything by cgroup.kill and waits for the monitor; removes what is left (cgroups, veth).
 * For roll-backs and for the original after a move; works on a frozen container. */
int container_destroy_run(struct container *c, struct err *e);
bool container_running(struct container *c); /* its monitor lives */
/* Pids in the host; 0: not running. */
pid_t container_init_pid(struct container *c);
/* The container's own clocks now. */
int container_clocks(struct container *c, uint64_t *ret_monotonic_ns, uint64_t *ret_boottime_ns, struct err *e);
/* START_WAITING is over: removes `wait`, so that a reboot inside executes the real init. */
int container_wait_over(struct container *c, struct err *e);

/* v2 freezer of the whole container; waits until "frozen 1". */
int container_freeze(struct container *c, struct err *e);
int container_thaw(struct container *c, struct err *e);

/* The id map and everything else that decides whether another host can take it (for the offer):
 * {architecture, config, devices, profiles_expanded..., idmap_size, rootfs_bytes, rootfs_files}. */
int container_describe(struct container *c, json_t **ret, struct err *e);

/* Removes everything of it, the volume and the row included; what runs is ended (container_destroy_run). */
int container_delete(struct container *c, struct err *e);

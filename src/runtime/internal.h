/* internal - what the files of this room share about a container. */
#pragma once
#include <lxc/lxccontainer.h>
#include <lxc/attach_options.h>

#include "base/buf.h"
#include "network/bridge.h"
#include "runtime/cgroup.h"
#include "runtime/container.h"
#include "storage/storage.h"

/* The network card: device "eth0" of the row, as it will be given to liblxc. */
struct nic {
	bool there;
	char *network;    /* name of the bridge */
	char *hwaddr, *host_name, *mtu;
	char *note;       /* after nic_assign: why it has another address; NULL: it kept its own */
	uint32_t address; /* network order; 0: none */
	struct bridge_net net;
};

struct container {
	struct db *db;
	char *name, *state_dir;
	json_t *row, *config, *devices; /* config and devices expanded */
	struct pool *pool;
	char *rootfs;
	char *run_dir;  /* run/NAME */
	char *lxcpath;  /* STATE/lxc */
	char *log_file;
	char *prefix;   /* of the cgroups */
	char *cgroup;   /* v2 folder, absolute; NULL: no v2 here */
	uint32_t idmap_base, idmap_size; /* size 0: privileged */
	struct nic nic;
	int (*cancelled)(void *arg);
	void *cancelled_arg;
};

const char *container_config_str(const struct container *c, const char *key); /* NULL: not set */
int container_check_cancelled(struct container *c);

enum init_kind { INIT_SYSVINIT, INIT_BUSYBOX, INIT_SYSTEMD };
/* What /sbin/init of the rootfs is; image.init (a property of the image) overrules. */
enum init_kind init_kind_of(const struct container *c);
int init_halt_signal(enum init_kind k);

/* init_check.c.  What the container starts with: of raw.lxc's lines the last lxc.init.cmd (/sbin/init without one);
 * the other lines are *ret_rest.  Our gw-init is in front of it in any case, else the container could not move. */
int init_command(const char *raw, struct buf *ret_command, struct buf *ret_rest);
/* -ENOEXEC with what is missing: the program, its interpreter or loader in this root, a right architecture. */
int init_check(const char *rootfs, const char *program, struct err *e);

/* nic.c: reads the device and its volatile keys; makes and writes down what is missing. */
int nic_read(struct container *c, struct err *e);
int nic_assign(struct container *c, bool moving_in, struct err *e);
void nic_done(struct nic *n);

/* config.c: liblxc's configuration of this start, written to LXCPATH/NAME/config. */
int config_write(struct container *c, struct err *e);

/* A liblxc handle of it (config loaded), to be given to lxc_container_put. */
struct lxc_container *container_lxc(struct container *c, struct err *e);

/* lxclog.c: position in the log now; the errors after it as e's sentence. */
int64_t lxclog_mark(const struct container *c);
int lxclog_fail(const struct container *c, int64_t mark, int code, const char *what, struct err *e);

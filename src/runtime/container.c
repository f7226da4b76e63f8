#include "runtime/container.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/clocks.h"
#include "runtime/expand.h"
#include "runtime/internal.h"
#include "runtime/runpid.h"

#define FREEZE_TIMEOUT_MS 10000

const char *container_config_str(const struct container *c, const char *key)
{
	const char *s = json_string_value(json_object_get(c->config, key));

	return s && *s ? s : NULL;
}

struct container *container_free(struct container *c)
{
	if (!c)
		return NULL;
	json_decref(c->row);
	json_decref(c->config);
	json_decref(c->devices);
	pool_free(c->pool);
	nic_done(&c->nic);
	free(c->name);
	free(c->state_dir);
	free(c->rootfs);
	free(c->run_dir);
	free(c->lxcpath);
	free(c->log_file);
	free(c->prefix);
	free(c->cgroup);
	free(c);
	return NULL;
}

AUTO_OF_DEFINE(container)

/* Letters, digits and hyphens, as host names: the name becomes part of paths, cgroups and the host name. */
static bool name_is_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > 63 || !isalpha((unsigned char)*name))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '-')
			return false;
	return true;
}

static const char *env_or(const char *name, const char *otherwise)
{
	const char *s = getenv(name);

	return s && *s ? s : otherwise;
}

static int paths_fill(struct container *c, struct err *e)
{
	const char *run = getenv("GODWIT_RUN_DIR");
	auto_cgroup_mounts ms = { 0 };
	const struct cgroup_mount *v2;
	int r;

	c->prefix = strdup(env_or("GODWIT_CGROUP_DIR", "godwit"));
	if ((run && *run ? asprintf(&c->run_dir, "%s/%s", run, c->name) :
			   asprintf(&c->run_dir, "%s/run/%s", c->state_dir, c->name)) < 0)
		c->run_dir = NULL;
	if (asprintf(&c->lxcpath, "%s/lxc", c->state_dir) < 0)
		c->lxcpath = NULL;
	if (asprintf(&c->log_file, "%s/logs/%s/lxc.log", c->state_dir, c->name) < 0)
		c->log_file = NULL;
	if (!c->prefix || !c->run_dir || !c->lxcpath || !c->log_file)
		return err_sys(e, -ENOMEM, "instance %s", c->name);
	r = cgroup_mounts_read(&ms, e);
	if (r < 0)
		return r;
	v2 = cgroup_mounts_v2(&ms);
	if (v2 && asprintf(&c->cgroup, "%s/%s/%s", v2->base, c->prefix, c->name) < 0) {
		c->cgroup = NULL;
		return err_sys(e, -ENOMEM, "instance %s", c->name);
	}
	return 0;
}

/* The only disk there is so far is the root one; it may name the pool. */
static int devices_check(struct container *c, const char **ret_pool, struct err *e)
{
	const char *key;
	json_t *d;

	json_object_foreach(c->devices, key, d) {
		const char *type = json_string_value(json_object_get(d, "type"));
		const char *path = json_string_value(json_object_get(d, "path"));
		const char *pool = json_string_value(json_object_get(d, "pool"));

		if (type && strcmp(type, "nic") == 0)
			continue;
		if (!type || strcmp(type, "disk") != 0)
			return err_set(e, -EOPNOTSUPP, "device %s: type %s is not supported", key,
				       type ? type : "(none)");
		if (!path || strcmp(path, "/") != 0)
			return err_set(e, -EOPNOTSUPP, "device %s: only the root disk (path /) is supported",
				       key);
		if (pool && *pool)
			*ret_pool = pool;
	}
	return 0;
}

static int container_fill(struct container *c, const char *name, const char *state_dir, struct err *e)
{
	const char *privileged, *nesting, *pool = NULL, *row_pool;
	int r;

	c->name = strdup(name);
	c->state_dir = realpath(state_dir, NULL);
	if (!c->name || !c->state_dir)
		return err_sys(e, -errno, "state folder %s", state_dir);
	r = db_instance_get(c->db, name, &c->row, e);
	if (r == 0)
		r = instance_expand(c->db, c->row, &c->config, &c->devices, e);
	if (r == 0)
		r = devices_check(c, &pool, e);
	if (r < 0)
		return r;
	row_pool = json_string_value(json_object_get(c->row, "pool"));
	if (row_pool && *row_pool)
		pool = row_pool;
	r = pool_open(c->db, c->state_dir, pool ? pool : "default", &c->pool, e);
	if (r == 0)
		r = paths_fill(c, e);
	if (r < 0)
		return r;
	c->rootfs = volume_rootfs(c->pool, name);
	if (!c->rootfs)
		return err_sys(e, -ENOMEM, "instance %s", name);
	nesting = container_config_str(c, "security.nesting");
	if (nesting && strcmp(nesting, "true") == 0)
		return err_set(e, -EOPNOTSUPP, "security.nesting is not supported yet");
	privileged = container_config_str(c, "security.privileged");
	if (!privileged || strcmp(privileged, "true") != 0) {
		c->idmap_base = (uint32_t)json_integer_value(json_object_get(c->row, "idmap_base"));
		c->idmap_size = (uint32_t)json_integer_value(json_object_get(c->row, "idmap_size"));
		if (!c->idmap_base || !c->idmap_size)
			return err_set(e, -EINVAL, "its row has no id range (idmap_base, idmap_size)");
	}
	return nic_read(c, e);
}

int container_open(struct db *db, const char *state_dir, const char *name, struct container **ret,
		   struct err *e)
{
	auto_of(container) *c = NULL;
	int r;

	if (!name || !name_is_valid(name))
		return err_set(e, -EINVAL, "\"%s\" is no name for an instance (letters, digits, hyphens)",
			       name ? name : "");
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_sys(e, -ENOMEM, "instance %s", name);
	c->db = db;
	r = container_fill(c, name, state_dir, e);
	if (r < 0)
		return err_context(e, r, "instance %s", name);
	*ret = ptr_take(c);
	return 0;
}

void container_set_cancel(struct container *c, int (*check)(void *arg), void *arg)
{
	c->cancelled = check;
	c->cancelled_arg = arg;
}

int container_check_cancelled(struct container *c)
{
	return c->cancelled ? c->cancelled(c->cancelled_arg) : 0;
}

const char *container_name(const struct container *c)
{
	return c->name;
}

const char *container_rootfs(const struct container *c)
{
	return c->rootfs;
}

const char *container_cgroup(const struct container *c)
{
	return c->cgroup;
}

const char *container_host_link(const struct container *c)
{
	return c->nic.there ? c->nic.host_name : NULL;
}

const char *container_bridge(const struct container *c)
{
	return c->nic.there ? c->nic.network : NULL;
}

uint32_t container_ipv4(const struct container *c)
{
	return c->nic.there ? c->nic.address : 0;
}

const char *container_note(const struct container *c)
{
	return c->nic.note;
}

const char *container_hwaddr(const struct container *c)
{
	return c->nic.there ? c->nic.hwaddr : NULL;
}

bool container_privileged(const struct container *c)
{
	return c->idmap_size == 0;
}

void container_idmap(const struct container *c, uint32_t *ret_base, uint32_t *ret_size)
{
	*ret_base = c->idmap_base;
	*ret_size = c->idmap_size;
}

const char *container_run_dir(const struct container *c)
{
	return c->run_dir;
}

struct pool *container_pool(const struct container *c)
{
	return c->pool;
}

pid_t container_init_pid(struct container *c)
{
	pid_t pid;
	auto_fd int fd = runpid_open_file(c->run_dir, "init", &pid);

	return fd >= 0 ? pid : 0;
}

int container_clocks(struct container *c, uint64_t *ret_monotonic_ns, uint64_t *ret_boottime_ns, struct err *e)
{
	pid_t pid = container_init_pid(c);
	int r;

	if (!pid)
		return err_set(e, -ESRCH, "instance %s is not running", c->name);
	r = clock_of(pid, CLOCK_MONOTONIC, ret_monotonic_ns, e);
	return r < 0 ? r : clock_of(pid, CLOCK_BOOTTIME, ret_boottime_ns, e);
}

static int freeze(struct container *c, bool frozen, struct err *e)
{
	int r;

	if (!c->cgroup)
		return err_set(e, -EOPNOTSUPP, "this host has no cgroup2 hierarchy mounted");
	r = cgroup_freeze(c->cgroup, frozen, FREEZE_TIMEOUT_MS);
	return r < 0 ? err_sys(e, r, "cannot %s instance %s", frozen ? "freeze" : "thaw", c->name) : 0;
}

int container_freeze(struct container *c, struct err *e)
{
	int r = freeze(c, true, e);

	/* Half frozen is nothing anybody wants. */
	if (r < 0 && c->cgroup)
		cgroup_freeze(c->cgroup, false, FREEZE_TIMEOUT_MS);
	return r;
}

int container_thaw(struct container *c, struct err *e)
{
	return freeze(c, false, e);
}

int container_describe(struct container *c, json_t **ret, struct err *e)
{
	uint64_t bytes = 0, files = 0;
	json_t *o;
	int r = volume_usage(c->pool, c->name, &bytes, &files, e);

	if (r < 0)
		return r;
	o = json_pack("{s:O, s:O, s:O, s:O, s:O, s:O, s:I, s:b, s:I, s:I}", "architecture",
		      json_object_get(c->row, "architecture"), "config", json_object_get(c->row, "config"),
		      "devices", json_object_get(c->row, "devices"), "profiles",
		      json_object_get(c->row, "profiles"), "expanded_config", c->config, "expanded_devices",
		      c->devices, "idmap_size", (json_int_t)c->idmap_size, "privileged",
		      container_privileged(c), "rootfs_bytes", (json_int_t)bytes, "rootfs_files",
		      (json_int_t)files);
	if (!o)
		return err_sys(e, -ENOMEM, "instance %s", c->name);
	*ret = o;
	return 0;
}

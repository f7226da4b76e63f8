/* config - what liblxc is told about a container, written anew at each start.
 *
 * Distribution defaults come first (common.conf: devices, capabilities, the seccomp profile; userns.conf
 * for unprivileged ones), then what we do not want of them is taken back: mounts and hooks that depend on
 * what else is installed on the host (lxcfs, fuse), consoles and ttys, none of which another host need
 * have.  The veth is put into its bridge by our start hook (gw-hook), not by liblxc: at the target of a
 * move it must stay outside until COMMIT, and a reboot inside must find it a bridge afterwards. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/clocks.h"
#include "runtime/internal.h"
#include "runtime/program.h"

/* liblxc's configuration is lines: a value with a line break would be a line of its own. */
static int line(struct buf *b, const char *key, const char *value)
{
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return -EINVAL;
	return buf_addf(b, "%s = %s\n", key, value);
}

/* A path as fstab wants it. */
static int mount_path(struct buf *b, const char *path)
{
	int r = 0;

	for (; *path && r == 0; path++)
		r = strchr(" \t\\#", *path) ? buf_addf(b, "\\%03o", (unsigned char)*path) :
					      buf_add(b, path, 1);
	return r;
}

static int part_common(struct container *c, struct buf *b, const char *init)
{
	auto_free char *rootfs = NULL;
	int r;

	if (asprintf(&rootfs, "dir:%s", c->rootfs) < 0)
		return -ENOMEM;
	r = buf_addf(b, "lxc.include = %s/common.conf\n", LXC_SHARE_CONFIG);
	if (r == 0 && c->idmap_size)
		r = buf_addf(b, "lxc.include = %s/userns.conf\nlxc.idmap = u 0 %u %u\nlxc.idmap = g 0 %u %u\n",
			     LXC_SHARE_CONFIG, c->idmap_base, c->idmap_size, c->idmap_base, c->idmap_size);
	if (r == 0)
		r = buf_adds(b, "lxc.mount.entry =\nlxc.hook.mount =\nlxc.hook.post-stop =\n"
				"lxc.hook.clone =\nlxc.hook.version = 1\n"
				"lxc.console.path = none\nlxc.tty.max = 0\nlxc.pty.max = 1024\n"
				"lxc.autodev = 1\nlxc.log.level = WARN\n");
	if (r == 0)
		r = line(b, "lxc.log.file", c->log_file);
	if (r == 0)
		r = line(b, "lxc.uts.name", c->name);
	if (r == 0)
		r = line(b, "lxc.rootfs.path", rootfs);
	if (r == 0)
		r = buf_addf(b, "lxc.init.cmd = /.godwit/gw-init %s\nlxc.signal.halt = %d\n", init,
			     init_halt_signal(init_kind_of(c)));
	if (r == 0)
		r = buf_adds(b, "lxc.mount.entry = ");
	if (r == 0)
		r = mount_path(b, c->run_dir);
	return r < 0 ? r : buf_adds(b, "/job .godwit none bind,ro,create=dir 0 0\n");
}

/* The shell that liblxc runs hooks with gets our own paths only, in single quotes.  liblxc strips a pair of
 * quotes around a whole value: the word at the end keeps ours. */
static int part_hooks(struct container *c, struct buf *b, struct err *e)
{
	auto_free char *hook = NULL;
	int64_t offset;
	int r = program_find("gw-hook", &hook, e);

	if (r == 0)
		r = clock_boottime_offset(&offset, e);
	if (r < 0)
		return r;
	if (strchr(hook, '\'') || strchr(c->run_dir, '\''))
		return err_set(e, -EINVAL, "a quote in %s or %s cannot be used", hook, c->run_dir);
	r = buf_addf(b, "lxc.hook.start-host = '%s' '%s' %lld\nlxc.hook.post-stop = '%s' '%s' %lld\n", hook,
		     c->run_dir, (long long)offset, hook, c->run_dir, (long long)offset);
	return r < 0 ? err_sys(e, r, "configuration") : 0;
}

static int part_cgroups(struct container *c, struct buf *b)
{
	return buf_addf(b,
			"lxc.cgroup.dir.container = %s/%s\nlxc.cgroup.dir.monitor = %s/%s.monitor\n"
			"lxc.cgroup.dir.monitor.pivot = %s/%s.pivot\n",
			c->prefix, c->name, c->prefix, c->name, c->prefix, c->name);
}

static int limit(struct buf *b, const struct cgroup_mounts *ms, const char *controller, const char *v1,
		 const char *v2, const char *value, const char *key, struct err *e)
{
	const struct cgroup_mount *m = cgroup_mounts_with(ms, controller);
	int r;

	if (!m)
		return err_set(e, -EOPNOTSUPP, "%s: this host's kernel offers no %s controller", key,
			       controller);
	r = buf_addf(b, "lxc.%s.%s = %s\n", m->v2 ? "cgroup2" : "cgroup", m->v2 ? v2 : v1, value);
	return r < 0 ? err_sys(e, r, "configuration") : 0;
}

static int limit_cpu(struct buf *b, const struct cgroup_mounts *ms, const char *text, struct err *e)
{
	const struct cgroup_mount *m = cgroup_mounts_with(ms, "cpu");
	uint32_t n;
	int r;

	if (text[strspn(text, "0123456789")] && !text[strspn(text, "0123456789,-")])
		return limit(b, ms, "cpuset", "cpuset.cpus", "cpuset.cpus", text, "limits.cpu", e);
	if (parse_u32(text, 10, &n) < 0 || n == 0 || n > 8192)
		return err_set(e, -EINVAL, "limits.cpu \"%s\" is not a number of processors or a list like 0-2,5",
			       text);
	if (!m)
		return err_set(e, -EOPNOTSUPP, "limits.cpu: this host's kernel offers no cpu controller");
	/* So much time of a period of 100 ms; which processors is the scheduler's business. */
	r = m->v2 ? buf_addf(b, "lxc.cgroup2.cpu.max = %u 100000\n", n * 100000) :
		    buf_addf(b, "lxc.cgroup.cpu.cfs_period_us = 100000\nlxc.cgroup.cpu.cfs_quota_us = %u\n",
			     n * 100000);
	return r < 0 ? err_sys(e, r, "configuration") : 0;
}

static int part_limits(struct container *c, struct buf *b, struct err *e)
{
	const char *memory = container_config_str(c, "limits.memory");
	const char *cpu = container_config_str(c, "limits.cpu");
	const char *pids = container_config_str(c, "limits.processes");
	auto_cgroup_mounts ms = { 0 };
	char text[32];
	uint64_t v;
	int r = cgroup_mounts_read(&ms, e);

	if (r == 0 && memory) {
		if (parse_size(memory, &v) < 0 || v < (1 << 20))
			return err_set(e, -EINVAL, "limits.memory \"%s\" is not a size like 512MiB", memory);
		snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
		r = limit(b, &ms, "memory", "memory.limit_in_bytes", "memory.max", text, "limits.memory", e);
	}
	if (r == 0 && pids) {
		if (parse_u64(pids, 10, &v) < 0 || v == 0)
			return err_set(e, -EINVAL, "limits.processes \"%s\" is not a number", pids);
		r = limit(b, &ms, "pids", "pids.max", "pids.max", pids, "limits.processes", e);
	}
	return r == 0 && cpu ? limit_cpu(b, &ms, cpu, e) : r;
}

static int part_network(struct container *c, struct buf *b)
{
	const struct nic *n = &c->nic;
	int r;

	if (!n->there)
		return buf_adds(b, "lxc.net.0.type = empty\n");
	r = buf_adds(b, "lxc.net.0.type = veth\nlxc.net.0.name = eth0\nlxc.net.0.flags = up\n");
	if (r == 0)
		r = line(b, "lxc.net.0.veth.pair", n->host_name);
	if (r == 0)
		r = line(b, "lxc.net.0.hwaddr", n->hwaddr);
	if (r == 0 && n->mtu)
		r = line(b, "lxc.net.0.mtu", n->mtu);
	if (r == 0 && n->address && n->net.prefix) {
		/* liblxc 5.0.2 computes a wrong broadcast address (0.0.0.255) when none is given. */
		uint32_t cast = n->address | htonl(~(~0u << (32 - n->net.prefix)));
		char a[INET_ADDRSTRLEN], s[INET_ADDRSTRLEN], g[INET_ADDRSTRLEN];

		inet_ntop(AF_INET, &n->address, a, sizeof(a));
		inet_ntop(AF_INET, &cast, s, sizeof(s));
		inet_ntop(AF_INET, &n->net.address, g, sizeof(g));
		r = buf_addf(b, "lxc.net.0.ipv4.address = %s/%u %s\nlxc.net.0.ipv4.gateway = %s\n", a,
			     n->net.prefix, s, g);
	}
	return r;
}

static int part_environment(struct container *c, struct buf *b, struct err *e)
{
	const char *key;
	json_t *value;

	json_object_foreach(c->config, key, value) {
		auto_free char *pair = NULL;

		if (!str_starts(key, "environment.") || !json_is_string(value))
			continue;
		if (asprintf(&pair, "%s=%s", key + strlen("environment."), json_string_value(value)) < 0)
			return err_sys(e, -ENOMEM, "configuration");
		if (line(b, "lxc.environment", pair) < 0)
			return err_set(e, -EINVAL, "%s holds a line break or control character", key);
	}
	return 0;
}

static int config_text(struct container *c, struct buf *b, struct err *e)
{
	auto_buf init = BUF_INIT, raw = BUF_INIT;
	int r;

	if (init_command(container_config_str(c, "raw.lxc"), &init, &raw) < 0)
		return err_sys(e, -ENOMEM, "configuration");
	if (part_common(c, b, init.data) < 0 || part_cgroups(c, b) < 0 || part_network(c, b) < 0)
		return err_set(e, -EINVAL, "a value of the configuration cannot be given to liblxc");
	r = part_hooks(c, b, e);
	if (r == 0)
		r = part_limits(c, b, e);
	if (r == 0)
		r = part_environment(c, b, e);
	if (r == 0 && raw.len && buf_add(b, raw.data, raw.len) < 0)
		r = err_sys(e, -ENOMEM, "configuration");
	return r;
}

int config_write(struct container *c, struct err *e)
{
	auto_buf b = BUF_INIT;
	auto_free char *path = NULL;
	int r = config_text(c, &b, e);

	if (r < 0)
		return r;
	if (asprintf(&path, "%s/%s/config", c->lxcpath, c->name) < 0)
		return err_sys(e, -ENOMEM, "configuration");
	r = fd_replace_file_at(AT_FDCWD, path, b.data, b.len, 0600);
	return r < 0 ? err_sys(e, r, "cannot write %s", path) : 0;
}

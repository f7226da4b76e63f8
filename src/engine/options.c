#include "engine/options.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/parse.h"

/* ---- the object ---- */

void options_init(struct options *o)
{
	*o = (struct options){ .cr = { .images_fd = -1 }, .verbosity = -1, .status_fd = -1, .ps_socket = -1,
			       .swrk_fd = -1 };
}

void options_done(struct options *o)
{
	struct cr_pairs *lists[] = { &o->cr.enable_fs, &o->cr.skip_mnt, &o->cr.cgroup_roots, &o->cr.externals,
				     &o->cr.ext_mount_map, &o->cr.inherit_fds, &o->cr.join_ns, &o->scripts };

	for (size_t i = 0; i < array_len(lists); i++)
		free(lists[i]->v);
	for (size_t i = 0; i < o->n_owned; i++)
		free(o->owned[i]);
	free(o->owned);
	buf_done(&o->unserved);
	buf_done(&o->notes);
	options_init(o);
}

int options_keep_len(struct options *o, const char *s, size_t len, const char **ret)
{
	char *copy = strndup(s, len);

	if (!copy || array_grow(o->owned, o->n_owned, o->cap_owned) < 0) {
		free(copy);
		return -ENOMEM;
	}
	o->owned[o->n_owned++] = copy;
	*ret = copy;
	return 0;
}

const char *options_keep(struct options *o, const char *s)
{
	const char *kept;

	return options_keep_len(o, s, strlen(s), &kept) < 0 ? NULL : kept;
}

int options_pair(struct options *o, struct cr_pairs *p, const char *key, const char *value, int fd, struct err *e)
{
	struct cr_pair *v;

	if (!key || !value)
		return err_sys(e, -ENOMEM, "keeping an option");
	v = reallocarray(p->v, p->n + 1, sizeof(*v));
	if (!v)
		return err_sys(e, -ENOMEM, "keeping an option");
	p->v = v;
	v[p->n++] = (struct cr_pair){ key, value, fd };
	return 0;
}

/* ---- setters ---- */

typedef struct option_row row_t;

static void *place(struct options *o, const row_t *row)
{
	return (char *)o + row->at;
}

static int set_flag(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	*(bool *)place(o, row) = on;
	return 0;
}

static int set_string(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	if (!*value)
		return err_set(e, -EINVAL, "--%s needs a value that is not empty", row->name);
	*(const char **)place(o, row) = value;
	return 0;
}

static int set_number(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	int n;

	if (parse_int(value, &n) < 0 || n < 0)
		return err_set(e, -EINVAL, "--%s %s: a number was expected", row->name, value);
	*(int *)place(o, row) = n;
	return 0;
}

static int set_port(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	int r = set_number(o, row, value, on, e);

	if (r >= 0 && o->port > 65535) {
		o->port = 0;
		r = err_set(e, -ERANGE, "--port %s: there are 65535", value);
	}
	return r;
}

static int set_pid(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	int pid;

	if (parse_int(value, &pid) < 0 || pid < 1)
		return err_set(e, -EINVAL, "--tree %s: that is no pid", value);
	o->cr.pid = pid;
	return 0;
}

/* Two flags that exclude each other: the later word counts. */
static int set_after(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	enum cr_after it = row->letter == 'R' ? CR_AFTER_RUN : CR_AFTER_STOP;

	if (on && o->cr.after != CR_AFTER_KILL && o->cr.after != it)
		return err_set(e, -EINVAL, "--leave-running and --leave-stopped exclude each other");
	if (on)
		o->cr.after = it;
	else if (o->cr.after == it)
		o->cr.after = CR_AFTER_KILL;
	return 0;
}

static int set_verbosity(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	int n;

	if (!value) {
		o->verbosity = (o->verbosity < 0 ? 2 : o->verbosity) + 1;
	} else if (strspn(value, "v") == strlen(value) && strlen(value) < 8) { /* -vvv, the first is the option */
		o->verbosity = (o->verbosity < 0 ? 2 : o->verbosity) + 1 + (int)strlen(value);
	} else {
		if (parse_int(value, &n) < 0 || n < 0)
			return err_set(e, -EINVAL, "--verbosity %s: 0 to 4 was expected", value);
		o->verbosity = n;
	}
	if (o->verbosity > 4)
		o->verbosity = 4;
	return 0;
}

static int set_ghost_limit(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	static const char units[] = "KMG";
	const char *s = value, *unit;
	uint64_t n;

	if (parse_u64_at(&s, 10, &n) < 0)
		return err_set(e, -EINVAL, "--ghost-limit %s: a size was expected", value);
	unit = *s ? strchr(units, *s >= 'a' ? *s - 'a' + 'A' : *s) : NULL;
	if (*s && (!unit || s[1]))
		return err_set(e, -EINVAL, "--ghost-limit %s: K, M or G may stand behind the number", value);
	if (unit && __builtin_mul_overflow(n, 1ull << (10 * (unit - units + 1)), &n))
		return err_set(e, -ERANGE, "--ghost-limit %s: that is too large", value);
	/* 0 stands for the default in cr_opts; nobody has half a byte. */
	o->cr.ghost_limit = n ? n : 1;
	return 0;
}

static int set_timeout(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	uint32_t n;

	if (parse_u32(value, 10, &n) < 0)
		return err_set(e, -EINVAL, "--timeout %s: a number of seconds was expected", value);
	o->cr.timeout_s = n;
	return 0;
}

static int set_cgroups(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	static const struct {
		const char *name;
		enum cr_cgroup_mode mode;
	} modes[] = {
		{ "soft", CR_CGROUP_SOFT },   { "none", CR_CGROUP_NONE },	{ "props", CR_CGROUP_PROPS },
		{ "full", CR_CGROUP_FULL },   { "strict", CR_CGROUP_STRICT }, { "ignore", CR_CGROUP_IGNORE },
	};

	for (size_t i = 0; i < array_len(modes); i++) {
		if (strcmp(value ? value : "soft", modes[i].name) != 0)
			continue;
		o->cr.cgroups = modes[i].mode;
		return 0;
	}
	return err_set(e, -EINVAL, "--manage-cgroups=%s: the modes are none, props, soft, full, strict, ignore", value);
}

static int set_network_lock(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	bool lock = strcmp(value, "iptables") == 0 || strcmp(value, "nftables") == 0;

	if (!lock && strcmp(value, "skip") != 0)
		return err_set(e, -EINVAL, "--network-lock %s: there are nftables, iptables and skip", value);
	o->cr.network_lock = lock ? CR_LOCK_NFTABLES : CR_LOCK_SKIP;
	return 0;
}

static int set_empty_ns(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	if (strcmp(value, "net") != 0)
		return err_set(e, -EINVAL, "--empty-ns %s: only the namespace 'net' can be left empty", value);
	o->cr.empty_ns |= CLONE_NEWNET;
	return 0;
}

static int set_cgroup_root(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	const char *slash = strchr(value, '/'), *controller = "";

	if (!slash || (slash != value && (slash[-1] != ':' || slash == value + 1)))
		return err_set(e, -EINVAL, "--cgroup-root %s: [controller:]/path was expected", value);
	if (slash != value && options_keep_len(o, value, (size_t)(slash - value - 1), &controller) < 0)
		controller = NULL;
	return options_pair(o, &o->cr.cgroup_roots, controller, slash, -1, e);
}

/* "mnt[]:ms": all external mounts, found by themselves. */
static int set_external_mounts(struct options *o, const char *flags, struct err *e)
{
	if (strspn(flags, "ms") != strlen(flags))
		return err_set(e, -EINVAL, "--external mnt[]:%s: the flags are m and s", flags);
	o->cr.ext_mount_auto = true;
	if (strchr(flags, 'm'))
		o->cr.external_masters = true;
	if (strchr(flags, 's'))
		o->cr.external_sharing = true;
	return 0;
}

static int set_external(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	static const char *const kinds[] = { "mnt[", "dev[", "file[", "tty[", "unix[", "net[", "pid[", "veth[",
					     "macvlan[", "pipe[", "socket[" };
	const char *colon = strstr(value, "]:"), *key = value;
	size_t len = colon ? (size_t)(colon - value) + 1 : strlen(value), i;

	/* liblxc's other word for its console's mount, which it gives a second time so. */
	if (str_starts(value, "console:"))
		return 0;
	for (i = 0; i < array_len(kinds) && !str_starts(value, kinds[i]); i++)
		;
	if (i < array_len(kinds) && (str_starts(value, "dev[") || str_starts(value, "macvlan[")) &&
	    buf_addf(&o->unserved, "--external %s is not served: block devices and macvlan links are refused; ", value) < 0)
		return err_sys(e, -ENOMEM, "--external");
	if (i == array_len(kinds) || value[len - 1] != ']')
		return err_set(e, -EINVAL, "--external %s: TYPE[ID]:VALUE was expected; the types are mnt, dev, file, "
			       "tty, unix, net, pid, veth, macvlan, pipe and socket", value);
	if (str_starts(value, "mnt[]"))
		return set_external_mounts(o, colon ? colon + 2 : "", e);
	if (colon && options_keep_len(o, value, len, &key) < 0)
		key = NULL;
	return options_pair(o, &o->cr.externals, key, colon ? colon + 2 : "", -1, e);
}

static int set_ext_mount_map(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	const char *colon = strchr(value, ':'), *key;

	if (strcmp(value, "auto") == 0) {
		o->cr.ext_mount_auto = true;
		return 0;
	}
	if (!colon || colon == value)
		return err_set(e, -EINVAL, "--ext-mount-map %s: KEY:VALUE or auto was expected", value);
	if (options_keep_len(o, value, (size_t)(colon - value), &key) < 0)
		key = NULL;
	return options_pair(o, &o->cr.ext_mount_map, key, colon + 1, -1, e);
}

static int set_veth_pair(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	const char *equal = strchr(value, '='), *key = NULL;
	auto_buf b = BUF_INIT;

	if (!equal || equal == value || !equal[1])
		return err_set(e, -EINVAL, "--veth-pair %s: IN=OUT was expected", value);
	if (buf_addf(&b, "veth[%.*s]", (int)(equal - value), value) >= 0)
		key = options_keep(o, b.data);
	return options_pair(o, &o->cr.externals, key, equal + 1, -1, e);
}

/* Without inodes: every one that is outside. */
static int set_ext_unix(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	if (!value) {
		o->cr.ext_unix_sk = on;
		return 0;
	}
	for (const char *s = value; *s;) {
		auto_buf b = BUF_INIT;
		uint64_t ino;
		int r;

		if (parse_u64_at(&s, 10, &ino) < 0 || (*s && *s != ','))
			return err_set(e, -EINVAL, "--ext-unix-sk=%s: inodes were expected", value);
		s += *s == ',';
		if (buf_addf(&b, "unix[%llu]", (unsigned long long)ino) < 0)
			return err_sys(e, -ENOMEM, "--ext-unix-sk");
		r = options_pair(o, &o->cr.externals, options_keep(o, b.data), "", -1, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_inherit_fd(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	const char *s = value + 3;
	uint64_t fd;

	if (!str_starts(value, "fd[") || parse_u64_at(&s, 10, &fd) < 0 || fd > INT_MAX || !str_starts(s, "]:") || !s[2])
		return err_set(e, -EINVAL, "--inherit-fd %s: fd[N]:NAME was expected", value);
	return options_pair(o, &o->cr.inherit_fds, s + 2, "", (int)fd, e);
}

static int set_join_ns(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	static const char *const kinds[] = { "ipc", "net", "time", "user", "uts" };
	const char *colon = strchr(value, ':'), *file = colon ? colon + 1 : "";
	size_t i, len = colon ? (size_t)(colon - value) : 0;
	uint32_t pid;

	for (i = 0; i < array_len(kinds); i++)
		if (strlen(kinds[i]) == len && memcmp(kinds[i], value, len) == 0)
			break;
	if (i == array_len(kinds) || !*file)
		return err_set(e, -EINVAL, "--join-ns %s: NS:PID or NS:FILE was expected; NS is ipc, net, time, user or "
			       "uts", value);
	if (strchr(file, ','))
		return err_set(e, -EOPNOTSUPP, "--join-ns %s: ids behind a comma are not served yet", value);
	if (parse_u32(file, 10, &pid) >= 0) {
		auto_buf b = BUF_INIT;

		file = buf_addf(&b, "/proc/%u/ns/%s", pid, kinds[i]) < 0 ? NULL : options_keep(o, b.data);
	}
	return options_pair(o, &o->cr.join_ns, kinds[i], file, -1, e);
}

/* A list of names with commas between them. */
static int set_enable_fs(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	for (const char *s = value; *s;) {
		size_t len = strcspn(s, ",");
		const char *name;
		int r;

		if (options_keep_len(o, s, len, &name) < 0)
			name = NULL;
		r = len ? options_pair(o, &o->cr.enable_fs, name, "", -1, e) : 0;
		if (r < 0)
			return r;
		s += len + (s[len] == ',');
	}
	return 0;
}

/* One more key in a list. */
static int add_key(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	if (!*value)
		return err_set(e, -EINVAL, "--%s needs a value that is not empty", row->name);
	return options_pair(o, place(o, row), value, "", -1, e);
}

static int set_cpu_cap(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	static const struct {
		const char *name;
		unsigned bits;
	} caps[] = { { "all", CPU_CAP_FPU | CPU_CAP_CPU | CPU_CAP_INS }, { "cpu", CPU_CAP_CPU },
		     { "fpu", CPU_CAP_FPU }, { "ins", CPU_CAP_INS }, { "none", 0 } };
	unsigned bits = 0;

	for (const char *s = value ? value : "all"; *s;) {
		size_t len = strcspn(s, ","), i;
		bool without = *s == '^';

		for (i = 0; i < array_len(caps); i++)
			if (strlen(caps[i].name) == len - without && memcmp(caps[i].name, s + without, len - without) == 0)
				break;
		if (i == array_len(caps))
			return err_set(e, -EINVAL, "--cpu-cap=%s: there are all, cpu, fpu, ins and none", value);
		if (strcmp(caps[i].name, "none") == 0)
			bits = without ? CPU_CAP_FPU | CPU_CAP_CPU | CPU_CAP_INS : 0;
		else
			bits = without ? bits & ~caps[i].bits : bits | caps[i].bits;
		s += len + (s[len] == ',');
	}
	o->cpu_cap = bits;
	o->cpu_cap_given = true;
	return 0;
}

/* What a file is compared by is its size; that a build-id is compared too cannot be promised. */
static int set_validation(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	if (strcmp(value, "filesize") == 0)
		return 0;
	if (strcmp(value, "buildid") != 0)
		return err_set(e, -EINVAL, "--file-validation %s: there are filesize and buildid", value);
	if (buf_addf(&o->unserved, "--file-validation buildid: files are compared by their size only; ") < 0)
		return err_sys(e, -ENOMEM, "--file-validation");
	return 0;
}

/* Only now is the number looked at, so that "--close" hits nothing the program has opened itself. */
static int set_close(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	int fd;

	if (parse_int(value, &fd) < 0 || fd < 0)
		return err_set(e, -EINVAL, "--close %s: that is no descriptor", value);
	close(fd);
	return 0;
}

/* Accepted, and nothing has to be done for it. */
static int set_nothing(struct options *o, const row_t *row, const char *value, bool on, struct err *e)
{
	return 0;
}

#define AT(member) offsetof(struct options, member)
#define FLAG(name, letter, member) { name, letter, OPT_NONE, set_flag, AT(member), NULL, NULL }
/* Changes nothing yet, and does not have to: what it would allow is refused by name where it is met. */
#define NOTED(name, letter, member, note) { name, letter, OPT_NONE, set_flag, AT(member), NULL, note }
#define STRING(name, letter, member) { name, letter, OPT_MUST, set_string, AT(member), NULL, NULL }
#define NUMBER(name, member) { name, 0, OPT_MUST, set_number, AT(member), NULL, NULL }
#define LATER(name, letter, arg, why) { name, letter, arg, set_nothing, 0, why, NULL }

static const char later_memory[] = "memory in rounds, and memory that follows, belong to a later version";
static const char later_tls[] = "TLS is godwitd's; put a tunnel in between";
static const char later_cgroup[] = "which settings of cgroups are kept is fixed";

const struct option_row option_rows[] = {
	/* every action */
	FLAG("help", 'h', help),
	FLAG("version", 'V', version),
	{ "verbosity", 'v', OPT_MAY, set_verbosity, 0, NULL, NULL },
	STRING("log-file", 'o', log_file),
	FLAG("log-pid", 0, log_pid),
	FLAG("display-stats", 0, display_stats),
	STRING("images-dir", 'D', images_dir),
	STRING("work-dir", 'W', work_dir),
	STRING("pidfile", 0, pidfile),
	STRING("config", 0, config),
	FLAG("no-default-config", 0, no_default_config),
	NUMBER("status-fd", status_fd),
	{ "close", 0, OPT_MUST, set_close, 0, NULL, NULL },
	{ "action-script", 0, OPT_MUST, add_key, AT(scripts), NULL, NULL },
	/* The rights are found out by trying; there is nothing to switch. */
	{ "unprivileged", 0, OPT_NONE, set_nothing, 0, NULL, NULL },
	LATER("libdir", 'L', OPT_MUST, "there are no plugins"),
	LATER("stream", 0, OPT_NONE, "images are files or godwitd's stream"),

	/* dump */
	{ "tree", 't', OPT_MUST, set_pid, 0, NULL, NULL },
	{ "leave-running", 'R', OPT_NONE, set_after, 0, NULL, NULL },
	{ "leave-stopped", 's', OPT_NONE, set_after, 0, NULL, NULL },
	{ "ext-unix-sk", 'x', OPT_MAY, set_ext_unix, 0, NULL, NULL },
	FLAG("link-remap", 0, cr.link_remap),
	{ "ghost-limit", 0, OPT_MUST, set_ghost_limit, 0, NULL, NULL },
	FLAG("skip-in-flight", 0, cr.skip_in_flight),
	NOTED("evasive-devices", 0, cr.evasive_devices, "a device is opened by its own path"),
	FLAG("force-irmap", 0, cr.force_irmap),
	LATER("irmap-scan-path", 0, OPT_MUST, "inotify's files are found by the kernel's handles"),
	STRING("freeze-cgroup", 0, cr.freeze_cgroup),
	{ "timeout", 0, OPT_MUST, set_timeout, 0, NULL, NULL },
	{ "skip-mnt", 0, OPT_MUST, add_key, AT(cr.skip_mnt), "a mount is carried, or refuses the dump", NULL },
	FLAG("page-server", 0, page_server),
	{ "network-lock", 0, OPT_MUST, set_network_lock, 0, NULL, NULL },
	{ "cpu-cap", 0, OPT_MAY, set_cpu_cap, 0, NULL, NULL },
	{ "file-validation", 0, OPT_MUST, set_validation, 0, NULL, NULL },
	LATER("cgroup-dump-controller", 0, OPT_MUST, later_cgroup),
	LATER("cgroup-props", 0, OPT_MUST, later_cgroup),
	LATER("cgroup-props-file", 0, OPT_MUST, later_cgroup),
	LATER("track-mem", 0, OPT_NONE, later_memory),
	LATER("prev-images-dir", 0, OPT_MUST, later_memory),
	LATER("auto-dedup", 0, OPT_NONE, later_memory),
	LATER("lazy-pages", 0, OPT_NONE, later_memory),
	LATER("pre-dump-mode", 0, OPT_MUST, later_memory),

	/* dump and restore */
	FLAG("shell-job", 'j', cr.shell_job),
	FLAG("tcp-established", 0, cr.tcp_established),
	FLAG("tcp-close", 0, cr.tcp_close),
	FLAG("file-locks", 'l', cr.file_locks),
	{ "manage-cgroups", 0, OPT_MAY, set_cgroups, 0, NULL, NULL },
	{ "cgroup-root", 0, OPT_MUST, set_cgroup_root, 0, NULL, NULL },
	LATER("cgroup-yard", 0, OPT_MUST, "cgroups are found where they are mounted"),
	{ "external", 0, OPT_MUST, set_external, 0, NULL, NULL },
	{ "ext-mount-map", 'M', OPT_MUST, set_ext_mount_map, 0, NULL, NULL },
	NOTED("enable-external-sharing", 0, cr.external_sharing, "mounts shared with the outside are refused"),
	NOTED("enable-external-masters", 0, cr.external_masters, "mounts with a master outside are refused"),
	{ "enable-fs", 0, OPT_MUST, set_enable_fs, 0, NULL, "which file systems are carried does not depend on it" },
	{ "empty-ns", 0, OPT_MUST, set_empty_ns, 0, NULL, NULL },
	{ "lsm-profile", 0, OPT_MUST, set_string, AT(cr.lsm_profile), "processes come back under the engine's own profile", NULL },
	LATER("lsm-mount-context", 0, OPT_MUST, "mounts keep the context they were dumped with"),

	/* restore */
	FLAG("restore-detached", 'd', detach),
	FLAG("restore-sibling", 'S', cr.sibling),
	STRING("root", 'r', cr.root),
	{ "inherit-fd", 0, OPT_MUST, set_inherit_fd, 0, NULL, NULL },
	{ "join-ns", 'J', OPT_MUST, set_join_ns, 0, NULL, NULL },
	{ "veth-pair", 0, OPT_MUST, set_veth_pair, 0, NULL, NULL },
	FLAG("exec-cmd", 0, exec_cmd),
	/* Mounts are made by one way only, which suits old kernels' rules as well. */
	{ "mntns-compat-mode", 0, OPT_NONE, set_nothing, 0, NULL, NULL },
	LATER("weak-sysctls", 0, OPT_NONE, "a setting that this kernel lacks is a failure"),
	/* Files are not compared by their rights. */
	{ "skip-file-rwx-check", 0, OPT_NONE, set_nothing, 0, NULL, NULL },

	/* check */
	FLAG("all", 0, all),
	FLAG("extra", 0, extra),
	FLAG("experimental", 0, experimental),
	STRING("feature", 0, feature),
	FLAG("json", 0, json),
	STRING("cgroup", 0, cgroup),

	/* page-server, service */
	STRING("address", 0, address),
	{ "port", 0, OPT_MUST, set_port, AT(port), NULL, NULL },
	NUMBER("ps-socket", ps_socket),
	FLAG("daemon", 0, daemon),
	LATER("tls", 0, OPT_NONE, later_tls),
	LATER("tls-cacert", 0, OPT_MUST, later_tls),
	LATER("tls-cacrl", 0, OPT_MUST, later_tls),
	LATER("tls-cert", 0, OPT_MUST, later_tls),
	LATER("tls-key", 0, OPT_MUST, later_tls),
	LATER("tls-no-cn-verify", 0, OPT_NONE, later_tls),
};
const size_t option_rows_n = array_len(option_rows);

/* ---- by name ---- */

const struct option_row *option_find(const char *name)
{
	for (size_t i = 0; i < option_rows_n; i++)
		if (strcmp(option_rows[i].name, name) == 0)
			return &option_rows[i];
	return NULL;
}

const struct option_row *option_letter(char letter)
{
	for (size_t i = 0; i < option_rows_n; i++)
		if (letter && option_rows[i].letter == letter)
			return &option_rows[i];
	return NULL;
}

int options_set(struct options *o, const char *name, const char *value, struct err *e)
{
	const struct option_row *row = option_find(name);
	bool on = true;

	if (!row && str_starts(name, "no-")) {
		row = option_find(name + 3);
		on = false;
	}
	if (!row)
		return err_set(e, -EINVAL, "there is no option --%s", name);
	/* -x alone, and its "no-", are flags. */
	if (!on && row->arg != OPT_NONE && (row->set != set_ext_unix || value))
		return err_set(e, -EINVAL, "--%s takes a value, and has no opposite", row->name);
	if (row->arg == OPT_NONE && value)
		return err_set(e, -EINVAL, "--%s takes no value ('%s')", name, value);
	if (row->arg == OPT_MUST && !value)
		return err_set(e, -EINVAL, "--%s needs a value", name);
	if (row->later && on && buf_addf(&o->unserved, "--%s is not served: %s; ", row->name, row->later) < 0)
		return err_sys(e, -ENOMEM, "--%s", name);
	if (row->note && on && buf_addf(&o->notes, "--%s changes nothing: %s\n", row->name, row->note) < 0)
		return err_sys(e, -ENOMEM, "--%s", name);
	return row->set(o, row, value, on, e);
}

int options_unserved(const struct options *o, struct err *e)
{
	size_t len = o->unserved.len;

	return len ? err_set(e, -EOPNOTSUPP, "%.*s", (int)len - 2, o->unserved.data) : 0;
}

/* Options: every one of the table, every refusal, configuration files, and what contradicts itself. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/config.h"
#include "engine/options.h"

/* Splits a command line at blanks. */
static int parse(struct options *o, const char *line, struct err *e)
{
	static char copies[8][1024];
	static char *argv[8][64];
	static unsigned turn;
	char *save = NULL, *copy = copies[turn % 8], **v = argv[turn++ % 8];
	int argc = 1;

	options_init(o);
	*e = (struct err){ 0 };
	snprintf(copy, sizeof(copies[0]), "%s", line);
	v[0] = (char *)"godwit-criu";
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		v[argc++] = w;
	v[argc] = NULL;
	return options_parse(o, argc, v, e);
}

/* ---- what is taken ---- */

struct taken {
	const char *line;
	size_t at;
	enum { BOOL, INT, TEXT, U64 } type;
	long long number;
	const char *text;
};
#define B(line, member, v) { line, offsetof(struct options, member), BOOL, v, NULL }
#define I(line, member, v) { line, offsetof(struct options, member), INT, v, NULL }
#define L(line, member, v) { line, offsetof(struct options, member), U64, v, NULL }
#define T(line, member, v) { line, offsetof(struct options, member), TEXT, 0, v }

static const struct taken takens[] = {
	I("dump -t 7", action, ACTION_DUMP),
	I("restore", action, ACTION_RESTORE),
	I("check", action, ACTION_CHECK),
	I("page-server", action, ACTION_PAGE_SERVER),
	I("dedup", action, ACTION_DEDUP),
	I("cpuinfo dump", action, ACTION_CPUINFO_DUMP),
	I("cpuinfo check", action, ACTION_CPUINFO_CHECK),
	I("swrk 5", action, ACTION_SWRK),
	I("swrk 5", swrk_fd, 5),
	I("service", action, ACTION_SERVICE),
	/* words may stand before the action, and behind */
	I("-v4 dump -t 7", cr.pid, 7),
	I("dump -t7", cr.pid, 7),
	I("dump --tree 7", cr.pid, 7),
	I("dump --tree=7", cr.pid, 7),
	T("restore -D /x", images_dir, "/x"),
	T("restore --images-dir=/x", images_dir, "/x"),
	T("restore -W /w", work_dir, "/w"),
	T("restore --work-dir /w", work_dir, "/w"),
	T("restore -o l", log_file, "l"),
	T("restore --log-file l", log_file, "l"),
	T("restore --pidfile p", pidfile, "p"),
	B("restore --log-pid", log_pid, 1),
	B("restore --display-stats", display_stats, 1),
	I("restore", verbosity, -1),
	I("restore -v", verbosity, 3),
	I("restore -vv", verbosity, 4),
	I("restore -v -v", verbosity, 4),
	I("restore -v0", verbosity, 0),
	I("restore -v4", verbosity, 4),
	I("restore --verbosity=1", verbosity, 1),
	I("restore --verbosity", verbosity, 3),
	I("restore -v9", verbosity, 4),
	I("restore", status_fd, -1),
	I("restore --status-fd 9", status_fd, 9),
	I("dump -t 1 -R", cr.after, CR_AFTER_RUN),
	I("dump -t 1 --leave-running", cr.after, CR_AFTER_RUN),
	I("dump -t 1 -s", cr.after, CR_AFTER_STOP),
	I("dump -t 1", cr.after, CR_AFTER_KILL),
	I("dump -t 1 -R --no-leave-running", cr.after, CR_AFTER_KILL),
	B("dump -t 1 -x", cr.ext_unix_sk, 1),
	B("dump -t 1 --ext-unix-sk", cr.ext_unix_sk, 1),
	B("dump -t 1 --link-remap", cr.link_remap, 1),
	L("dump -t 1", cr.ghost_limit, 0),
	L("dump -t 1 --ghost-limit 5", cr.ghost_limit, 5),
	L("dump -t 1 --ghost-limit 0", cr.ghost_limit, 1),
	L("dump -t 1 --ghost-limit 5K", cr.ghost_limit, 5 << 10),
	L("dump -t 1 --ghost-limit 5m", cr.ghost_limit, 5 << 20),
	L("dump -t 1 --ghost-limit=2G", cr.ghost_limit, 2ll << 30),
	B("dump -t 1 --skip-in-flight", cr.skip_in_flight, 1),
	B("dump -t 1 --evasive-devices", cr.evasive_devices, 1),
	B("dump -t 1 --force-irmap", cr.force_irmap, 1),
	T("dump -t 1 --freeze-cgroup /sys/x", cr.freeze_cgroup, "/sys/x"),
	I("dump -t 1 --timeout 30", cr.timeout_s, 30),
	I("dump -t 1 --network-lock nftables", cr.network_lock, CR_LOCK_NFTABLES),
	I("dump -t 1 --network-lock iptables", cr.network_lock, CR_LOCK_NFTABLES),
	I("dump -t 1 --network-lock skip", cr.network_lock, CR_LOCK_SKIP),
	B("dump -t 1 --page-server --address a --port 5", page_server, 1),
	I("dump -t 1 --page-server --address a --port 5", port, 5),
	T("dump -t 1 --page-server --address a --port 5", address, "a"),
	I("restore --cpu-cap", cpu_cap, CPU_CAP_FPU | CPU_CAP_CPU | CPU_CAP_INS),
	I("restore --cpu-cap=fpu,ins", cpu_cap, CPU_CAP_FPU | CPU_CAP_INS),
	I("restore --cpu-cap=all,^cpu", cpu_cap, CPU_CAP_FPU | CPU_CAP_INS),
	I("restore --cpu-cap=none", cpu_cap, 0),
	B("restore --cpu-cap=none", cpu_cap_given, 1),
	B("restore", cpu_cap_given, 0),
	B("restore -j", cr.shell_job, 1),
	B("restore -dj", cr.shell_job, 1),
	B("restore -dj", detach, 1),
	B("restore --shell-job", cr.shell_job, 1),
	B("restore --tcp-established", cr.tcp_established, 1),
	B("restore --tcp-established --no-tcp-established", cr.tcp_established, 0),
	B("restore --tcp-close", cr.tcp_close, 1),
	B("restore -l", cr.file_locks, 1),
	B("restore --file-locks", cr.file_locks, 1),
	I("restore", cr.cgroups, CR_CGROUP_SOFT),
	I("restore --manage-cgroups", cr.cgroups, CR_CGROUP_SOFT),
	I("restore --manage-cgroups=full", cr.cgroups, CR_CGROUP_FULL),
	I("restore --manage-cgroups=none", cr.cgroups, CR_CGROUP_NONE),
	I("restore --manage-cgroups=props", cr.cgroups, CR_CGROUP_PROPS),
	I("restore --manage-cgroups=soft", cr.cgroups, CR_CGROUP_SOFT),
	I("restore --manage-cgroups=strict", cr.cgroups, CR_CGROUP_STRICT),
	I("restore --manage-cgroups=ignore", cr.cgroups, CR_CGROUP_IGNORE),
	B("restore --ext-mount-map auto", cr.ext_mount_auto, 1),
	B("restore --external mnt[]", cr.ext_mount_auto, 1),
	B("restore --external mnt[]:m", cr.external_masters, 1),
	B("restore --external mnt[]:ms", cr.external_sharing, 1),
	B("restore --external mnt[]", cr.external_sharing, 0),
	B("restore --enable-external-sharing", cr.external_sharing, 1),
	B("restore --enable-external-masters", cr.external_masters, 1),
	I("restore --empty-ns net", cr.empty_ns, CLONE_NEWNET),
	B("restore -d", detach, 1),
	B("restore --restore-detached", detach, 1),
	B("restore -d -S", cr.sibling, 1),
	B("restore --restore-detached --restore-sibling", cr.sibling, 1),
	T("restore -r /r", cr.root, "/r"),
	T("restore --root=/r", cr.root, "/r"),
	B("restore --exec-cmd -- true", exec_cmd, 1),
	B("check --all", all, 1),
	B("check --extra", extra, 1),
	B("check --experimental", experimental, 1),
	T("check --feature mnt_id", feature, "mnt_id"),
	B("check --tree 4 --json", json, 1),
	T("check --tree 4 --cgroup /c", cgroup, "/c"),
	T("service --address /run/x", address, "/run/x"),
	B("service --daemon", daemon, 1),
	I("page-server --ps-socket 7", ps_socket, 7),
	I("page-server --port 65535", port, 65535),
	B("--version", version, 1),
	B("-V", version, 1),
	B("--help", help, 1),
	/* accepted, with nothing to do */
	I("restore --unprivileged --mntns-compat-mode --skip-file-rwx-check --file-validation filesize", action,
	  ACTION_RESTORE),
};

static void test_taken(void **state)
{
	for (size_t i = 0; i < array_len(takens); i++) {
		const struct taken *t = &takens[i];
		struct options o;
		struct err e;
		const char *at = (const char *)&o + t->at;

		if (parse(&o, t->line, &e) < 0)
			fail_msg("%s: %s", t->line, e.text);
		if ((t->type == BOOL && *(const bool *)at != t->number) ||
		    (t->type == INT && *(const int *)at != (int)t->number) ||
		    (t->type == U64 && *(const uint64_t *)at != (uint64_t)t->number) ||
		    (t->type == TEXT && (!*(const char *const *)at || strcmp(*(const char *const *)at, t->text) != 0)))
			fail_msg("%s: was not taken", t->line);
		options_done(&o);
	}
}

/* ---- lists ---- */

static const struct pair_taken {
	const char *line;
	size_t at;
	const char *key, *value;
	int fd;
} pairs[] = {
#define P(line, member, k, v, f) { line, offsetof(struct options, member), k, v, f }
	P("restore --external mnt[/a:b]:/c", cr.externals, "mnt[/a:b]", "/c", -1),
	P("restore --external mnt[/a]", cr.externals, "mnt[/a]", "", -1),
	P("dump -t 1 --external tty[5:6]", cr.externals, "tty[5:6]", "", -1),
	P("dump -t 1 --external file[5:6]", cr.externals, "file[5:6]", "", -1),
	P("dump -t 1 --external unix[77]", cr.externals, "unix[77]", "", -1),
	P("dump -t 1 --external net[77]:n", cr.externals, "net[77]", "n", -1),
	P("dump -t 1 --external pid[77]:n", cr.externals, "pid[77]", "n", -1),
	P("restore --external veth[eth0]:v1@br0", cr.externals, "veth[eth0]", "v1@br0", -1),
	P("restore --veth-pair eth0=v1", cr.externals, "veth[eth0]", "v1", -1),
	P("dump -t 1 --ext-unix-sk=77", cr.externals, "unix[77]", "", -1),
	P("dump -t 1 -x77", cr.externals, "unix[77]", "", -1),
	P("restore --ext-mount-map /a:/b:c", cr.ext_mount_map, "/a", "/b:c", -1),
	P("restore -M /a:b", cr.ext_mount_map, "/a", "b", -1),
	P("restore --inherit-fd fd[7]:tty[5:6]", cr.inherit_fds, "tty[5:6]", "", 7),
	P("restore --inherit-fd fd[0]:a/b", cr.inherit_fds, "a/b", "", 0),
	P("restore -J net:/run/n", cr.join_ns, "net", "/run/n", -1),
	P("restore --join-ns uts:12", cr.join_ns, "uts", "/proc/12/ns/uts", -1),
	P("restore --cgroup-root /x", cr.cgroup_roots, "", "/x", -1),
	P("restore --cgroup-root name=systemd:/x:y", cr.cgroup_roots, "name=systemd", "/x:y", -1),
	P("restore --enable-fs hugetlbfs", cr.enable_fs, "hugetlbfs", "", -1),
	P("restore --action-script /x", scripts, "/x", "", -1),
#undef P
};

static void test_pairs(void **state)
{
	for (size_t i = 0; i < array_len(pairs); i++) {
		const struct cr_pairs *list;
		struct options o;
		struct err e;

		if (parse(&o, pairs[i].line, &e) < 0)
			fail_msg("%s: %s", pairs[i].line, e.text);
		list = (const void *)((const char *)&o + pairs[i].at);
		if (list->n != 1 || strcmp(list->v[0].key, pairs[i].key) != 0 ||
		    strcmp(list->v[0].value, pairs[i].value) != 0 || list->v[0].fd != pairs[i].fd)
			fail_msg("%s: %zu, '%s' '%s' %d", pairs[i].line, list->n, list->n ? list->v[0].key : "",
				 list->n ? list->v[0].value : "", list->n ? list->v[0].fd : 0);
		options_done(&o);
	}
}

static void test_lists(void **state)
{
	struct options o;
	struct err e;

	assert_int_equal(parse(&o, "dump -t 1 --enable-fs a,b --enable-fs c --action-script /x --action-script /y "
			       "--ext-unix-sk=1,2", &e), 0);
	assert_int_equal(o.cr.enable_fs.n, 3);
	assert_string_equal(o.cr.enable_fs.v[1].key, "b");
	assert_int_equal(o.scripts.n, 2);
	assert_string_equal(o.scripts.v[1].key, "/y");
	assert_int_equal(o.cr.externals.n, 2);
	options_done(&o);
	assert_int_equal(parse(&o, "restore --exec-cmd -d -- sh -c --tcp-close", &e), 0);
	assert_string_equal(o.command[0], "sh");
	assert_string_equal(o.command[2], "--tcp-close");
	assert_null(o.command[3]);
	assert_false(o.cr.tcp_close);
	options_done(&o);
}

/* ---- what is refused ---- */

static const struct {
	const char *line, *why;
} refused[] = {
	{ "", "an action is missing" },
	{ "frobnicate", "there is no action 'frobnicate'" },
	{ "dump -t 1 more", "'more' is an argument too many" },
	{ "dump", "--tree" },
	{ "cpuinfo", "dump or check" },
	{ "cpuinfo eat", "cpuinfo has no 'eat'" },
	{ "swrk", "swrk needs a descriptor" },
	{ "swrk x", "a descriptor was expected" },
	{ "swrk -- 5", "descriptor" },
	{ "swrk 5 6", "an argument too many" },
	{ "restore --frobnicate", "there is no option --frobnicate" },
	{ "restore --tcp-est", "there is no option --tcp-est" }, /* no abbreviations */
	{ "restore --no-frobnicate", "there is no option" },
	{ "restore --no-root", "has no opposite" },
	{ "restore -q", "there is no option -q" },
	{ "restore -dq", "there is no option -q" },
	{ "restore --root", "--root needs a value" },
	{ "restore -r", "--root needs a value" },
	{ "restore --root=", "not empty" },
	{ "restore --tcp-close=yes", "takes no value" },
	{ "dump -t x", "no pid" },
	{ "dump -t 0", "no pid" },
	{ "dump -t -3", "no pid" },
	{ "dump -t 99999999999", "no pid" },
	{ "dump -t 1 -R -s", "exclude each other" },
	{ "restore -v5x", "0 to 4" },
	{ "restore --status-fd x", "a number" },
	{ "restore --status-fd -1", "a number" },
	{ "restore --close x", "no descriptor" },
	{ "dump -t 1 --ghost-limit x", "a size" },
	{ "dump -t 1 --ghost-limit 5X", "K, M or G" },
	{ "dump -t 1 --ghost-limit 5KK", "K, M or G" },
	{ "dump -t 1 --ghost-limit 99999999999999G", "too large" },
	{ "dump -t 1 --timeout x", "seconds" },
	{ "dump -t 1 --timeout -1", "seconds" },
	{ "dump -t 1 --network-lock ebpf", "nftables, iptables and skip" },
	{ "dump -t 1 --page-server", "--address and --port" },
	{ "dump -t 1 --page-server --port 5", "--address and --port" },
	{ "restore --port x", "a number" },
	{ "restore --port 65536", "65535" },
	{ "restore --cpu-cap=x", "all, cpu, fpu, ins and none" },
	{ "restore --manage-cgroups=x", "the modes are" },
	{ "restore --cgroup-root x", "[controller:]/path" },
	{ "restore --cgroup-root a/x", "[controller:]/path" },
	{ "restore --cgroup-root :/x", "[controller:]/path" },
	{ "restore --external x", "TYPE[ID]" },
	{ "restore --external shm[1]:x", "TYPE[ID]" },
	{ "restore --external mnt[a", "TYPE[ID]" },
	{ "restore --external mnt[]:x", "flags are m and s" },
	{ "restore --ext-mount-map x", "KEY:VALUE" },
	{ "restore --ext-mount-map :x", "KEY:VALUE" },
	{ "restore --veth-pair x", "IN=OUT" },
	{ "restore --veth-pair =x", "IN=OUT" },
	{ "restore --veth-pair x=", "IN=OUT" },
	{ "dump -t 1 --ext-unix-sk=x", "inodes" },
	{ "dump -t 1 --ext-unix-sk=1;2", "inodes" },
	{ "restore --inherit-fd 5", "fd[N]:NAME" },
	{ "restore --inherit-fd fd[x]:y", "fd[N]:NAME" },
	{ "restore --inherit-fd fd[5]:", "fd[N]:NAME" },
	{ "restore --inherit-fd fd[99999999999]:y", "fd[N]:NAME" },
	{ "restore --join-ns mnt:5", "NS:PID" },
	{ "restore --join-ns net", "NS:PID" },
	{ "restore --join-ns net:", "NS:PID" },
	{ "restore --join-ns user:5,0,0", "not served" },
	{ "restore --empty-ns mnt", "only the namespace" },
	{ "restore --file-validation x", "filesize and buildid" },
	{ "restore --skip-mnt=", "not empty" },
	{ "restore -S", "--restore-detached" },
	{ "restore --exec-cmd", "needs a command" },
	{ "restore --exec-cmd --", "needs a command" },
	{ "restore -- ls", "--exec-cmd" },
	{ "restore --tcp-established --tcp-close", "exclude each other" },
	{ "page-server --daemon --status-fd 5", "exclude each other" },
	{ "restore -s", "not served for a restore" },
	{ "dump -t 1 --external dev[8/1]:n", "not served" },
	{ "restore --external macvlan[eth0]:eth1", "not served" },
	{ "restore --cgroup /x", "belongs to check" },
	{ "restore --config /nonexistent", "/nonexistent" },
	{ "restore --config", "needs a value" },
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < array_len(refused); i++) {
		struct options o;
		struct err e;

		if (parse(&o, refused[i].line, &e) >= 0)
			fail_msg("%s: was taken", refused[i].line);
		if (!strstr(e.text, refused[i].why))
			fail_msg("%s: '%s' says nothing of '%s'", refused[i].line, e.text, refused[i].why);
		options_done(&o);
	}
}

/* ---- what is known and not served: all of the table, by name ---- */

static void test_unserved(void **state)
{
	size_t later = 0;
	struct options o;
	struct err e;
	char line[256];

	for (size_t i = 0; i < option_rows_n; i++) {
		const struct option_row *row = &option_rows[i];

		if (!row->later)
			continue;
		later++;
		snprintf(line, sizeof(line), "dump -t 1 --%s%s", row->name, row->arg == OPT_MUST ? "=x" : "");
		assert_int_equal(parse(&o, line, &e), -EOPNOTSUPP);
		if (!strstr(e.text, row->name) || !strstr(e.text, row->later))
			fail_msg("%s: %s", line, e.text);
		options_done(&o);
		if (row->arg != OPT_NONE)
			continue;
		/* Not to want it is served. */
		snprintf(line, sizeof(line), "dump -t 1 --no-%s", row->name);
		assert_int_equal(parse(&o, line, &e), 0);
		options_done(&o);
	}
	assert_true(later >= 15);
	assert_int_equal(parse(&o, "dump -t 1 --track-mem --tls --file-validation buildid", &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "track-mem"));
	assert_non_null(strstr(e.text, "--tls is"));
	assert_non_null(strstr(e.text, "buildid"));
	options_done(&o);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(parse(&o, i ? "pre-dump -t 1" : "lazy-pages", &e), -EINVAL);
		assert_non_null(strstr(e.text, "belong to a later version"));
		options_done(&o);
	}
}

/* What changes nothing is named for the log, all of it. */
static void test_notes(void **state)
{
	struct options o;
	struct err e;

	assert_int_equal(parse(&o, "dump -t 1 --evasive-devices --enable-fs a --no-enable-external-masters --tcp-established", &e), 0);
	assert_string_equal(o.notes.data, "--evasive-devices changes nothing: a device is opened by its own path\n"
			    "--enable-fs changes nothing: which file systems are carried does not depend on it\n");
	options_done(&o);
}

/* Names and letters are one row each, and all of CRIU's are there. */
static void test_table(void **state)
{
	static const char *const names[] = {
		"tree", "leave-stopped", "leave-running", "images-dir", "work-dir", "log-file", "pidfile", "join-ns", "root",
		"verbosity", "ext-unix-sk", "shell-job", "file-locks", "link-remap", "ghost-limit", "irmap-scan-path",
		"enable-external-sharing", "enable-external-masters", "ext-mount-map", "skip-mnt", "enable-fs", "veth-pair",
		"inherit-fd", "force-irmap", "evasive-devices", "exec-cmd", "action-script", "manage-cgroups", "cgroup-root",
		"cgroup-props", "cgroup-props-file", "cgroup-dump-controller", "cgroup-yard", "freeze-cgroup",
		"tcp-established", "tcp-close", "skip-in-flight", "timeout", "empty-ns", "lsm-profile", "lsm-mount-context",
		"page-server", "address", "port", "ps-socket", "auto-dedup", "prev-images-dir", "track-mem", "lazy-pages",
		"cpu-cap", "config", "no-default-config", "close", "libdir", "log-pid", "status-fd", "daemon",
		"restore-detached", "restore-sibling", "feature", "extra", "experimental", "all", "file-validation",
		"network-lock", "pre-dump-mode", "stream", "tls", "tls-cacert", "tls-cacrl", "tls-cert", "tls-key",
		"weak-sysctls", "mntns-compat-mode", "unprivileged", "external", "display-stats", "version", "help",
	};

	for (size_t i = 0; i < array_len(names); i++)
		if (!option_find(names[i]))
			fail_msg("--%s is missing", names[i]);
	for (size_t i = 0; i < option_rows_n; i++)
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(option_rows[i].name, option_rows[k].name);
			assert_false(option_rows[i].letter && option_rows[i].letter == option_rows[k].letter);
		}
	for (const char *c = "tDWovdjsRSrMlVhxJL"; *c; c++)
		if (!option_letter(*c))
			fail_msg("-%c is missing", *c);
}

/* ---- configuration files ---- */

struct seen {
	char text[512];
};

static int see(void *arg, const char *name, const char *value, struct err *e)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "[%s|%s]", name, value ? value : "-");
	return 0;
}

static void test_config_syntax(void **state)
{
	static const struct {
		const char *text, *seen; /* NULL: refused */
	} cases[] = {
		{ "", "" },
		{ "\n\n  \n# only words\n", "" },
		{ "tcp-established", "[tcp-established|-]" },
		{ "tcp-established\n", "[tcp-established|-]" },
		{ "  tcp-established  # why\n", "[tcp-established|-]" },
		{ "tcp-established#why\n", "[tcp-established|-]" },
		{ "work-dir /a\nroot\t/b\r\n", "[work-dir|/a][root|/b]" },
		{ "work-dir /a#b\n", "[work-dir|/a]" },
		{ "work-dir \"/a b#c\"  # d\n", "[work-dir|/a b#c]" },
		{ "work-dir \"/a \\\"b\\\" \\n\"\n", "[work-dir|/a \"b\" \\n]" },
		{ "work-dir \"\"\n", "[work-dir|]" },
		{ "manage-cgroups=full\n", "[manage-cgroups|full]" },
		{ "work-dir \"/a\n", NULL },
		{ "work-dir \"/a\"b\n", NULL },
		{ "work-dir /a /b\n", NULL },
		{ "\"work-dir\" /a\n", NULL },
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct seen s = { "" };
		struct err e = { 0 };
		int r = config_parse(cases[i].text, strlen(cases[i].text), see, &s, &e);

		if (!cases[i].seen && (r >= 0 || !strstr(e.text, "line 1")))
			fail_msg("'%s' was taken: %s", cases[i].text, s.text);
		if (cases[i].seen && (r < 0 || strcmp(s.text, cases[i].seen) != 0))
			fail_msg("'%s': %s, %s", cases[i].text, s.text, e.text);
	}
	assert_true(config_parse("a\0b", 3, see, &(struct seen){ "" }, NULL) < 0);
}

static char dir[] = "/tmp/godwit-options.XXXXXX";

static const char *file_make(const char *name, const char *text)
{
	static char path[4][256];
	static unsigned turn;
	char *p = path[turn++ % 4];
	int fd;

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	return p;
}

static void test_config_order(void **state)
{
	struct options o;
	struct err e;
	char line[512], *home = strdup(getenv("HOME") ? getenv("HOME") : "/");

	snprintf(line, sizeof(line), "%s/.criu", dir);
	assert_int_equal(mkdir(line, 0700), 0);
	file_make(".criu/default.conf", "tcp-established\nroot /home\nwork-dir /home\n");
	setenv("HOME", dir, 1);
	setenv("CRIU_CONFIG_FILE", file_make("env.conf", "work-dir /env\nimages-dir /env\n"), 1);
	snprintf(line, sizeof(line), "restore --config %s --pidfile cli", file_make("own.conf", "images-dir /own\npidfile own\n"));
	assert_int_equal(parse(&o, line, &e), 0);
	assert_true(o.cr.tcp_established);
	assert_string_equal(o.cr.root, "/home");
	assert_string_equal(o.work_dir, "/env");
	assert_string_equal(o.images_dir, "/own");
	assert_string_equal(o.pidfile, "cli");
	options_done(&o);
	assert_int_equal(parse(&o, "restore --no-tcp-established", &e), 0);
	assert_false(o.cr.tcp_established);
	options_done(&o);
	assert_int_equal(parse(&o, "restore --no-default-config", &e), 0);
	assert_null(o.cr.root);
	options_done(&o);
	/* A value is no option. */
	assert_int_equal(parse(&o, "restore --pidfile --no-default-config", &e), 0);
	assert_string_equal(o.cr.root, "/home");
	options_done(&o);
	file_make(".criu/default.conf", "frobnicate\n");
	assert_int_equal(parse(&o, "restore", &e), -EINVAL);
	assert_non_null(strstr(e.text, "line 1: there is no option --frobnicate"));
	options_done(&o);
	file_make(".criu/default.conf", "config /x\n");
	assert_true(parse(&o, "restore", &e) < 0);
	options_done(&o);
	unsetenv("CRIU_CONFIG_FILE");
	setenv("HOME", home, 1);
	free(home);
}

static int group_up(void **state)
{
	setenv("HOME", "/nonexistent", 1);
	unsetenv("CRIU_CONFIG_FILE");
	return mkdtemp(dir) ? 0 : -1;
}

static int group_down(void **state)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),	      cmocka_unit_test(test_pairs),    cmocka_unit_test(test_lists),
		cmocka_unit_test(test_refused),	      cmocka_unit_test(test_unserved), cmocka_unit_test(test_table),    cmocka_unit_test(test_notes),
		cmocka_unit_test(test_config_syntax), cmocka_unit_test(test_config_order),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}

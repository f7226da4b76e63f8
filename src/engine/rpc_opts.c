/* criu_opts as options of the command line: one table, so that what is known and not served is refused in one place,
 * by the same sentence.  A field that has no row is refused by its name. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/rpc.h"

typedef int (*field_apply)(struct options *o, const CriuOpts *m, struct err *e);

static int by_name(struct options *o, const char *name, const char *text, struct err *e)
{
	const char *kept = options_keep(o, text);

	return kept ? options_set(o, name, kept, e) : err_sys(e, -ENOMEM, "--%s", name);
}

static int by_number(struct options *o, const char *name, long long n, struct err *e)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", n);
	return by_name(o, name, text, e);
}

/* ---- fields that are more than one word ---- */

static int apply_pid(struct options *o, const CriuOpts *m, struct err *e)
{
	return m->pid == 0 ? 0 : by_number(o, "tree", m->pid, e);
}

static int apply_log_level(struct options *o, const CriuOpts *m, struct err *e)
{
	return by_number(o, "verbosity", m->log_level, e);
}

/* "No subdirs are allowed": what a peer names must not be elsewhere. */
static int apply_log_file(struct options *o, const CriuOpts *m, struct err *e)
{
	if (!*m->log_file || strchr(m->log_file, '/') || strcmp(m->log_file, "..") == 0 ||
	    strcmp(m->log_file, ".") == 0 || strcmp(m->log_file, "-") == 0)
		return err_set(e, -EINVAL, "log_file '%s': a name in the work folder was expected", m->log_file);
	o->log_file = m->log_file;
	return 0;
}

static int apply_ps(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = m->ps->address && *m->ps->address ? options_set(o, "address", m->ps->address, e) : 0;

	if (r >= 0 && m->ps->has_port)
		r = by_number(o, "port", m->ps->port, e);
	if (r >= 0 && m->ps->has_fd)
		r = by_number(o, "ps-socket", m->ps->fd, e);
	o->page_server = true;
	return r;
}

static int apply_veths(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_veths && r >= 0; i++) {
		auto_buf b = BUF_INIT;

		r = buf_addf(&b, "veth[%s]", m->veths[i]->if_in) < 0 ? err_sys(e, -ENOMEM, "veths") :
		    options_pair(o, &o->cr.externals, options_keep(o, b.data), m->veths[i]->if_out, -1, e);
	}
	return r;
}

static int apply_ext_mnt(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_ext_mnt && r >= 0; i++)
		r = options_pair(o, &o->cr.ext_mount_map, m->ext_mnt[i]->key, m->ext_mnt[i]->val, -1, e);
	return r;
}

static int apply_cg_root(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_cg_root && r >= 0; i++) {
		const char *c = m->cg_root[i]->ctrl;

		/* Without a controller all are meant; the one without a name, as in /proc/PID/cgroup, is v2. */
		r = m->cg_root[i]->path[0] != '/' ?
			    err_set(e, -EINVAL, "cg_root '%s': an absolute path was expected", m->cg_root[i]->path) :
			    options_pair(o, &o->cr.cgroup_roots, !c ? "" : *c ? c : "unified", m->cg_root[i]->path, -1, e);
	}
	return r;
}

static int apply_inherit_fd(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_inherit_fd && r >= 0; i++)
		r = m->inherit_fd[i]->fd < 0 || !*m->inherit_fd[i]->key ?
			    err_set(e, -EINVAL, "inherit_fd '%s': that is no descriptor", m->inherit_fd[i]->key) :
			    options_pair(o, &o->cr.inherit_fds, m->inherit_fd[i]->key, "", m->inherit_fd[i]->fd, e);
	return r;
}

static int apply_unix_sk(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_unix_sk_ino && r >= 0; i++)
		r = by_number(o, "ext-unix-sk", m->unix_sk_ino[i]->inode, e);
	return r;
}

static int apply_join_ns(struct options *o, const CriuOpts *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_join_ns && r >= 0; i++) {
		const JoinNamespace *j = m->join_ns[i];
		auto_buf b = BUF_INIT;

		r = buf_addf(&b, "%s:%s%s%s", j->ns, j->ns_file, j->extra_opt ? "," : "", j->extra_opt ? j->extra_opt : "");
		r = r < 0 ? err_sys(e, -ENOMEM, "join_ns") : by_name(o, "join-ns", b.data, e);
	}
	return r;
}

static int apply_cgroups(struct options *o, const CriuOpts *m, struct err *e)
{
	o->cr.cgroups = m->manage_cgroups ? CR_CGROUP_SOFT : CR_CGROUP_IGNORE;
	return 0;
}

/* Stands behind manage_cgroups, and so overrides it. */
static int apply_cgroups_mode(struct options *o, const CriuOpts *m, struct err *e)
{
	static const char *const modes[] = { "ignore", "none", "props", "soft", "full", "strict", "soft" };

	if ((unsigned)m->manage_cgroups_mode >= array_len(modes))
		return err_set(e, -EINVAL, "manage_cgroups_mode %d is not known", (int)m->manage_cgroups_mode);
	return options_set(o, "manage-cgroups", modes[m->manage_cgroups_mode], e);
}

static int apply_network_lock(struct options *o, const CriuOpts *m, struct err *e)
{
	switch ((int)m->network_lock) {
	case CRIU_NETWORK_LOCK_METHOD__IPTABLES:
		return options_set(o, "network-lock", "iptables", e);
	case CRIU_NETWORK_LOCK_METHOD__NFTABLES:
		return options_set(o, "network-lock", "nftables", e);
	default:
		return err_set(e, -EINVAL, "network_lock %d is not known", (int)m->network_lock);
	}
}

static int apply_empty_ns(struct options *o, const CriuOpts *m, struct err *e)
{
	if (m->empty_ns & ~(uint32_t)CLONE_NEWNET)
		return err_set(e, -EINVAL, "empty_ns 0x%x: only the network namespace can be left empty", m->empty_ns);
	o->cr.empty_ns |= m->empty_ns;
	return 0;
}

/* The bits that CRIU gives its words: fpu, cpu, ins. */
static int apply_cpu_cap(struct options *o, const CriuOpts *m, struct err *e)
{
	o->cpu_cap = m->cpu_cap & (CPU_CAP_FPU | CPU_CAP_CPU | CPU_CAP_INS);
	o->cpu_cap_given = true;
	return 0;
}

static int apply_pidfd_store(struct options *o, const CriuOpts *m, struct err *e)
{
	return buf_addf(&o->unserved, "pidfd_store_sk is not served: dumps in rounds belong to a later version; ") < 0 ?
		       err_sys(e, -ENOMEM, "pidfd_store_sk") : 0;
}

static int apply_exec_cmd(struct options *o, const CriuOpts *m, struct err *e)
{
	return buf_addf(&o->unserved, "exec_cmd is not served by RPC: there is nobody to be replaced; ") < 0 ?
		       err_sys(e, -ENOMEM, "exec_cmd") : 0;
}

/* ---- the table ---- */

static const struct {
	const char *field, *option; /* option NULL: apply, or somebody else's */
	field_apply apply;
	bool swrk_only;
} fields[] = {
	/* rpc_serve's own */
	{ "images_dir_fd", NULL, NULL, false },
	{ "work_dir_fd", NULL, NULL, false },
	{ "status_fd", NULL, NULL, false },
	{ "notify_scripts", NULL, NULL, false },
	{ "config_file", NULL, NULL, false },
	/* A peer that wants no master gets none: it does not answer to be told (CRIU asks whoever has notify_scripts). */
	{ "orphan_pts_master", NULL, NULL, false },

	{ "pid", NULL, apply_pid, false },
	{ "leave_running", "leave-running", NULL, false },
	{ "ext_unix_sk", "ext-unix-sk", NULL, false },
	{ "tcp_established", "tcp-established", NULL, false },
	{ "tcp_close", "tcp-close", NULL, false },
	{ "tcp_skip_in_flight", "skip-in-flight", NULL, false },
	{ "evasive_devices", "evasive-devices", NULL, false },
	{ "shell_job", "shell-job", NULL, false },
	{ "file_locks", "file-locks", NULL, false },
	{ "log_level", NULL, apply_log_level, false },
	{ "log_file", NULL, apply_log_file, false },
	{ "ps", NULL, apply_ps, false },
	{ "root", "root", NULL, false },
	{ "parent_img", "prev-images-dir", NULL, false },
	{ "track_mem", "track-mem", NULL, false },
	{ "auto_dedup", "auto-dedup", NULL, false },
	{ "link_remap", "link-remap", NULL, false },
	{ "veths", NULL, apply_veths, false },
	{ "cpu_cap", NULL, apply_cpu_cap, false },
	{ "force_irmap", "force-irmap", NULL, false },
	{ "exec_cmd", NULL, apply_exec_cmd, false },
	{ "ext_mnt", NULL, apply_ext_mnt, false },
	{ "manage_cgroups", NULL, apply_cgroups, false },
	{ "manage_cgroups_mode", NULL, apply_cgroups_mode, false },
	{ "cg_root", NULL, apply_cg_root, false },
	{ "rst_sibling", "restore-sibling", NULL, true },
	{ "inherit_fd", NULL, apply_inherit_fd, true },
	{ "auto_ext_mnt", NULL, NULL, false }, /* a flag of --ext-mount-map; below */
	{ "ext_sharing", "enable-external-sharing", NULL, false },
	{ "ext_masters", "enable-external-masters", NULL, false },
	{ "skip_mnt", "skip-mnt", NULL, false },
	{ "enable_fs", "enable-fs", NULL, false },
	{ "unix_sk_ino", NULL, apply_unix_sk, false },
	{ "ghost_limit", "ghost-limit", NULL, false },
	{ "irmap_scan_paths", "irmap-scan-path", NULL, false },
	{ "external", "external", NULL, false },
	{ "empty_ns", NULL, apply_empty_ns, false },
	{ "join_ns", NULL, apply_join_ns, false },
	{ "cgroup_props", "cgroup-props", NULL, false },
	{ "cgroup_props_file", "cgroup-props-file", NULL, false },
	{ "cgroup_dump_controller", "cgroup-dump-controller", NULL, false },
	{ "cgroup_yard", "cgroup-yard", NULL, false },
	{ "freeze_cgroup", "freeze-cgroup", NULL, false },
	{ "timeout", "timeout", NULL, false },
	{ "weak_sysctls", "weak-sysctls", NULL, false },
	{ "lazy_pages", "lazy-pages", NULL, false },
	{ "lsm_profile", "lsm-profile", NULL, false },
	{ "lsm_mount_context", "lsm-mount-context", NULL, false },
	{ "tls_cacert", "tls-cacert", NULL, false },
	{ "tls_cacrl", "tls-cacrl", NULL, false },
	{ "tls_cert", "tls-cert", NULL, false },
	{ "tls_key", "tls-key", NULL, false },
	{ "tls", "tls", NULL, false },
	{ "tls_no_cn_verify", "tls-no-cn-verify", NULL, false },
	/* How memory is read at a pre-dump; a peer that names it for a dump gets the same dump. */
	{ "pre_dump_mode", NULL, NULL, false },
	{ "pidfd_store_sk", NULL, apply_pidfd_store, false },
	{ "network_lock", NULL, apply_network_lock, false },
	{ "mntns_compat_mode", "mntns-compat-mode", NULL, false },
};

/* The value of a field, by its type, as the option's. */
static int value_apply(struct options *o, const char *option, const ProtobufCFieldDescriptor *f, const void *at,
		       struct err *e)
{
	char off[64];

	switch (f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		snprintf(off, sizeof(off), "no-%s", option);
		return options_set(o, *(const protobuf_c_boolean *)at ? option : off, NULL, e);
	case PROTOBUF_C_TYPE_INT32:
		return by_number(o, option, *(const int32_t *)at, e);
	case PROTOBUF_C_TYPE_UINT32:
		return by_number(o, option, *(const uint32_t *)at, e);
	case PROTOBUF_C_TYPE_STRING:
		return options_set(o, option, *(char *const *)at, e);
	default:
		return err_set(e, -EINVAL, "%s is of a type nobody expected", f->name);
	}
}

static int list_apply(struct options *o, const char *option, const ProtobufCFieldDescriptor *f, const void *at,
		      size_t n, struct err *e)
{
	char *const *list = *(char *const *const *)at;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = value_apply(o, option, f, &list[i], e);
	return r;
}

/* Whether the peer has said it; of a list, how often. */
static size_t field_count(const CriuOpts *m, const ProtobufCFieldDescriptor *f)
{
	const char *base = (const char *)m;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)(base + f->quantifier_offset);
	if (f->label == PROTOBUF_C_LABEL_REQUIRED)
		return 1;
	if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE)
		return *(void *const *)(base + f->offset) != NULL;
	return *(const protobuf_c_boolean *)(base + f->quantifier_offset) != 0;
}

/* Strings that are there and empty are what some languages send for "none". */
static bool field_is_empty(const CriuOpts *m, const ProtobufCFieldDescriptor *f)
{
	return f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type == PROTOBUF_C_TYPE_STRING &&
	       **(char *const *)((const char *)m + f->offset) == '\0';
}

static int field_apply_one(struct options *o, const CriuOpts *m, const ProtobufCFieldDescriptor *f, bool inherited,
			   struct err *e)
{
	const void *at = (const char *)m + f->offset;
	size_t n = field_count(m, f), i;

	if (n == 0 || field_is_empty(m, f))
		return 0;
	for (i = 0; i < array_len(fields) && strcmp(fields[i].field, f->name) != 0; i++)
		;
	if (i == array_len(fields))
		return err_set(e, -EOPNOTSUPP, "the field %s is not served", f->name);
	if (fields[i].swrk_only && !inherited && (f->type != PROTOBUF_C_TYPE_BOOL || *(const protobuf_c_boolean *)at))
		return err_set(e, -EINVAL, "the field %s belongs to swrk, where we are the caller's child", f->name);
	if (fields[i].apply)
		return fields[i].apply(o, m, e);
	if (!fields[i].option)
		return 0;
	return f->label == PROTOBUF_C_LABEL_REPEATED ? list_apply(o, fields[i].option, f, at, n, e) :
						       value_apply(o, fields[i].option, f, at, e);
}

int rpc_opts_apply(struct options *o, const CriuOpts *m, bool inherited, struct err *e)
{
	const ProtobufCMessageDescriptor *d = &criu_opts__descriptor;

	/* What configuration files say about these is overridden, not contradicted. */
	if (m->has_leave_running)
		o->cr.after = CR_AFTER_KILL;
	for (unsigned i = 0; i < d->n_fields; i++) {
		int r = field_apply_one(o, m, &d->fields[i], inherited, e);

		if (r < 0)
			return err_context(e, r, "opts.%s", d->fields[i].name);
	}
	if (m->has_auto_ext_mnt)
		o->cr.ext_mount_auto = m->auto_ext_mnt;
	return 0;
}

void rpc_unknown(const ProtobufCMessage *m, char *ret, size_t size)
{
	size_t len = 0;

	ret[0] = '\0';
	for (unsigned i = 0; i < m->n_unknown_fields && len + 16 < size; i++)
		len += (size_t)snprintf(ret + len, size - len, "%s%u", i ? ", " : "", m->unknown_fields[i].tag);
}

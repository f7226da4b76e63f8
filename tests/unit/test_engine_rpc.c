/* RPC: messages good and bad, fields one by one, descriptors, whole conversations; and action scripts. */
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "engine/page_server.h"
#include "engine/rpc.h"
#include "engine/scripts.h"

static char dir[] = "/tmp/godwit-rpc.XXXXXX";
static int dir_fd;

/* ---- a server in a child, as swrk is ---- */

struct server {
	int sock;
	pid_t pid;
};

static struct server server_start(void)
{
	struct server s;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0) {
		struct options o;
		struct rpc_peer p;
		struct err e = { 0 };
		int r;

		close(ends[0]);
		options_init(&o);
		o.no_default_config = true;
		r = rpc_peer_of(ends[1], true, &p, &e);
		if (r >= 0)
			r = rpc_serve(&p, &o, &e);
		_exit(r < 0);
	}
	close(ends[1]);
	s.sock = ends[0];
	return s;
}

static int server_end(struct server *s)
{
	int status;

	close(s->sock);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static CriuResp *answer(int sock)
{
	static uint8_t room[1 << 16];
	ssize_t n = recv(sock, room, sizeof(room), 0);
	CriuResp *r;

	if (n == 0)
		return NULL;
	assert_true(n > 0);
	r = criu_resp__unpack(NULL, (size_t)n, room);
	assert_non_null(r);
	return r;
}

static void ask_raw(int sock, const void *data, size_t len)
{
	assert_int_equal(send(sock, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static CriuResp *ask(int sock, const CriuReq *q)
{
	uint8_t room[8192];
	size_t len = criu_req__pack(q, room);

	ask_raw(sock, room, len);
	return answer(sock);
}

static void is_refused(CriuResp *r, int type, int code, const char *why)
{
	assert_non_null(r);
	assert_int_equal(r->type, type);
	assert_false(r->success);
	assert_int_equal(r->cr_errno, code);
	if (!strstr(r->cr_errmsg, why))
		fail_msg("'%s' says nothing of '%s'", r->cr_errmsg, why);
	criu_resp__free_unpacked(r, NULL);
}

/* ---- conversations ---- */

static void test_version(void **state)
{
	struct server s = server_start();
	CriuReq q = CRIU_REQ__INIT;
	CriuResp *r;

	q.type = CRIU_REQ_TYPE__VERSION;
	q.has_keep_open = q.keep_open = 1;
	for (int i = 0; i < 2; i++) {
		r = ask(s.sock, &q);
		assert_true(r->success && r->version);
		/* What go-criu makes of it: at least 3.17.1. */
		assert_true(r->version->major_number * 10000 + r->version->minor_number * 100 >= 31701);
		criu_resp__free_unpacked(r, NULL);
	}
	q.keep_open = 0;
	r = ask(s.sock, &q);
	assert_true(r->success);
	criu_resp__free_unpacked(r, NULL);
	/* One request without keep_open is the last. */
	assert_null(answer(s.sock));
	assert_int_equal(server_end(&s), 0);
}

static void test_peer_leaves(void **state)
{
	struct server s = server_start();

	assert_int_equal(server_end(&s), 0);
}

static void test_malformed(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
		{ "\xff\xff\xff\xff", 4 }, { "\x08", 1 }, { "\x10\x01", 2 }, /* no type */
		{ "\x08\x01\x12\x00", 4 },			       /* opts without images_dir_fd */
		{ "\x08\x01\x12\x7f\x08\x01", 6 },		       /* longer than it is */
		{ "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12 },
		{ "{\"type\":1}", 10 },
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct server s = server_start();

		ask_raw(s.sock, bad[i].data, bad[i].len);
		is_refused(answer(s.sock), CRIU_REQ_TYPE__EMPTY, EBADMSG, "no criu_req");
		assert_int_equal(server_end(&s), 1);
	}
}

static void test_too_long(void **state)
{
	struct server s = server_start();
	size_t len = RPC_MAX + 1;
	int size = 4 << 20;
	char *big = calloc(1, len);

	assert_int_equal(setsockopt(s.sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	ask_raw(s.sock, big, len);
	is_refused(answer(s.sock), CRIU_REQ_TYPE__EMPTY, EMSGSIZE, "longer than");
	free(big);
	server_end(&s);
}

static void test_types(void **state)
{
	static const struct {
		int type, code;
		const char *why;
	} cases[] = {
		{ CRIU_REQ_TYPE__EMPTY, EBADMSG, "not expected" },
		{ CRIU_REQ_TYPE__NOTIFY, EBADMSG, "not expected" },
		{ 77, EBADMSG, "not expected" },
		{ CRIU_REQ_TYPE__PRE_DUMP, EINVAL, "belong to a later version" },
		{ CRIU_REQ_TYPE__SINGLE_PRE_DUMP, EINVAL, "belong to a later version" },
		{ CRIU_REQ_TYPE__DUMP, EBADMSG, "no opts" },
		{ CRIU_REQ_TYPE__RESTORE, EBADMSG, "no opts" },
		{ CRIU_REQ_TYPE__PAGE_SERVER, EBADMSG, "no opts" },
		{ CRIU_REQ_TYPE__CPUINFO_DUMP, EBADMSG, "no opts" },
		{ CRIU_REQ_TYPE__FEATURE_CHECK, EBADMSG, "no features" },
		{ CRIU_REQ_TYPE__WAIT_PID, EBADMSG, "no pid" },
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct server s = server_start();
		CriuReq q = CRIU_REQ__INIT;

		q.type = (CriuReqType)cases[i].type;
		is_refused(ask(s.sock, &q), cases[i].type, cases[i].code, cases[i].why);
		assert_int_equal(server_end(&s), 1);
	}
}

/* Only what was asked for, and none of it is there yet. */
static void test_features(void **state)
{
	struct server s = server_start();
	CriuReq q = CRIU_REQ__INIT;
	CriuFeatures f = CRIU_FEATURES__INIT;
	CriuResp *r;

	q.type = CRIU_REQ_TYPE__FEATURE_CHECK;
	q.features = &f;
	f.has_mem_track = f.mem_track = 1;
	r = ask(s.sock, &q);
	assert_true(r->success && r->features->has_mem_track && !r->features->mem_track);
	assert_false(r->features->has_lazy_pages);
	criu_resp__free_unpacked(r, NULL);
	assert_int_equal(server_end(&s), 0);
}

static CriuResp *with_opts(int type, CriuOpts *o)
{
	struct server s = server_start();
	CriuReq q = CRIU_REQ__INIT;
	CriuResp *r;

	q.type = (CriuReqType)type;
	q.opts = o;
	r = ask(s.sock, &q);
	server_end(&s);
	return r;
}

static void test_folders(void **state)
{
	CriuOpts o = CRIU_OPTS__INIT;
	auto_fd int file = memfd_create("x", MFD_CLOEXEC);
	char path[64];

	o.images_dir_fd = -1;
	is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o), CRIU_REQ_TYPE__CPUINFO_DUMP, EBADF, "images_dir_fd");
	o.images_dir_fd = 987;
	is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o), CRIU_REQ_TYPE__CPUINFO_DUMP, EBADF, "987");
	o.images_dir_fd = file;
	is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o), CRIU_REQ_TYPE__CPUINFO_DUMP, ENOTDIR, "images_dir_fd");
	o.images_dir_fd = dir_fd;
	o.has_work_dir_fd = 1;
	o.work_dir_fd = file;
	is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o), CRIU_REQ_TYPE__CPUINFO_DUMP, ENOTDIR, "work_dir_fd");
	o.has_work_dir_fd = 0;
	for (size_t i = 0; i < 2; i++) {
		CriuResp *r;

		/* A descriptor that can only be passed on names a folder as well. */
		if (i)
			o.images_dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o);
		assert_true(r->success);
		criu_resp__free_unpacked(r, NULL);
		r = with_opts(CRIU_REQ_TYPE__CPUINFO_CHECK, &o);
		assert_true(r->success);
		criu_resp__free_unpacked(r, NULL);
		assert_int_equal(faccessat(dir_fd, "criu.log", F_OK, 0), 0);
		assert_int_equal(unlinkat(dir_fd, "cpuinfo.img", 0), 0);
		assert_int_equal(unlinkat(dir_fd, "criu.log", 0), 0);
	}
	close(o.images_dir_fd);
	o.images_dir_fd = dir_fd;
	is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_CHECK, &o), CRIU_REQ_TYPE__CPUINFO_CHECK, ENOENT, "cpuinfo.img");
	/* A log elsewhere, a log over something else. */
	for (size_t i = 0; i < 5; i++) {
		static const char *const names[] = { "../log", "/tmp/log", "..", "-", "link" };

		snprintf(path, sizeof(path), "%s/link", dir);
		assert_true(symlink("/tmp/godwit-rpc-elsewhere", path) == 0 || errno == EEXIST);
		o.log_file = (char *)names[i];
		is_refused(with_opts(CRIU_REQ_TYPE__CPUINFO_DUMP, &o), CRIU_REQ_TYPE__CPUINFO_DUMP,
			   i == 4 ? ELOOP : EINVAL, i == 4 ? "link" : "log_file");
	}
	assert_int_equal(access("/tmp/godwit-rpc-elsewhere", F_OK), -1);
	unlink(path);
}

static void test_dump_refusals(void **state)
{
	CriuOpts o = CRIU_OPTS__INIT;

	o.images_dir_fd = dir_fd;
	is_refused(with_opts(CRIU_REQ_TYPE__DUMP, &o), CRIU_REQ_TYPE__DUMP, EOPNOTSUPP, "name a pid");
	o.has_pid = 1;
	o.pid = 1;
	o.has_track_mem = o.track_mem = 1;
	o.parent_img = (char *)"../x";
	is_refused(with_opts(CRIU_REQ_TYPE__DUMP, &o), CRIU_REQ_TYPE__DUMP, EOPNOTSUPP, "--track-mem");
	is_refused(with_opts(CRIU_REQ_TYPE__DUMP, &o), CRIU_REQ_TYPE__DUMP, EOPNOTSUPP, "--prev-images-dir");
	o.has_track_mem = 0;
	o.parent_img = NULL;
	o.config_file = (char *)"/tmp";
	is_refused(with_opts(CRIU_REQ_TYPE__DUMP, &o), CRIU_REQ_TYPE__DUMP, EINVAL, "no regular file");
	unlinkat(dir_fd, "criu.log", 0);
}

/* ---- fields ---- */

/* Sets a field to something a caller may send. */
static void field_set(CriuOpts *m, const ProtobufCFieldDescriptor *f)
{
	static const struct {
		const char *field, *text;
	} texts[] = { { "external", "mnt[/a]:b" }, { "cgroup_root", "/x" } };
	static CriuPageServerInfo ps = CRIU_PAGE_SERVER_INFO__INIT;
	static CriuVethPair veth = CRIU_VETH_PAIR__INIT, *veths[] = { &veth };
	static ExtMountMap ext = EXT_MOUNT_MAP__INIT, *exts[] = { &ext };
	static CgroupRoot root = CGROUP_ROOT__INIT, *roots[] = { &root };
	static InheritFd fd = INHERIT_FD__INIT, *fds[] = { &fd };
	static UnixSk sk = UNIX_SK__INIT, *sks[] = { &sk };
	static JoinNamespace ns = JOIN_NAMESPACE__INIT, *nss[] = { &ns };
	static char *list[1];
	const struct {
		const char *field;
		void *list;
	} messages[] = { { "veths", veths }, { "ext_mnt", exts }, { "cg_root", roots }, { "inherit_fd", fds },
			 { "unix_sk_ino", sks }, { "join_ns", nss } };
	char *base = (char *)m;
	const char *text = "word";
	void *at = base + f->offset;

	veth.if_in = veth.if_out = ext.key = ext.val = fd.key = (char *)"x";
	root.path = (char *)"/x";
	ns.ns = (char *)"net";
	ns.ns_file = (char *)"/x";
	for (size_t i = 0; i < array_len(texts); i++)
		if (strcmp(texts[i].field, f->name) == 0)
			text = texts[i].text;
	list[0] = (char *)text;
	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		*(size_t *)(base + f->quantifier_offset) = 1;
		*(void **)at = list;
		for (size_t i = 0; i < array_len(messages); i++)
			if (strcmp(messages[i].field, f->name) == 0)
				*(void **)at = messages[i].list;
		return;
	}
	if (f->type == PROTOBUF_C_TYPE_STRING)
		*(const char **)at = text;
	else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		*(void **)at = &ps;
	else if (f->type == PROTOBUF_C_TYPE_BOOL)
		*(protobuf_c_boolean *)at = 1;
	else
		*(int32_t *)at = strcmp(f->name, "empty_ns") == 0 ? 0x40000000 : 1;
	if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
		*(protobuf_c_boolean *)(base + f->quantifier_offset) = 1;
}

/* Each field alone: it changes the options, or is one of those the connection itself looks at, or its name stands in
 * the refusal; never nothing. */
static void test_every_field(void **state)
{
	static const char *const elsewhere[] = { "images_dir_fd", "work_dir_fd", "status_fd", "notify_scripts",
						 "config_file", "orphan_pts_master", "pre_dump_mode",
						 "mntns_compat_mode" };
	const ProtobufCMessageDescriptor *d = &criu_opts__descriptor;

	for (unsigned i = 0; i < d->n_fields; i++) {
		CriuOpts m = CRIU_OPTS__INIT;
		struct options o, before, now;
		struct err e = { 0 };
		bool there = false;
		int r;

		options_init(&o);
		if (strcmp(d->fields[i].name, "manage_cgroups") == 0)
			o.cr.cgroups = CR_CGROUP_FULL;
		if (strcmp(d->fields[i].name, "network_lock") == 0)
			o.cr.network_lock = CR_LOCK_SKIP;
		before = o;
		field_set(&m, &d->fields[i]);
		r = rpc_opts_apply(&o, &m, true, &e);
		if (r < 0)
			fail_msg("%s: %s", d->fields[i].name, e.text);
		r = options_unserved(&o, &e);
		for (size_t k = 0; k < array_len(elsewhere); k++)
			there |= strcmp(elsewhere[k], d->fields[i].name) == 0;
		now = o;
		now.owned = before.owned;
		now.n_owned = before.n_owned;
		now.cap_owned = before.cap_owned;
		if (r >= 0 && !there && memcmp(&now, &before, sizeof(now)) == 0)
			fail_msg("%s was taken, and nothing came of it", d->fields[i].name);
		options_done(&o);
	}
}

static void test_values(void **state)
{
	CriuOpts m = CRIU_OPTS__INIT;
	struct options o;

	options_init(&o);
	o.cr.tcp_established = true; /* by a configuration file */
	m.has_tcp_established = 1;
	m.has_manage_cgroups = m.manage_cgroups = 1;
	m.has_manage_cgroups_mode = 1;
	m.manage_cgroups_mode = CRIU_CG_MODE__FULL;
	m.has_empty_ns = 1;
	m.empty_ns = 0x40000000;
	m.freeze_cgroup = (char *)"";
	assert_int_equal(rpc_opts_apply(&o, &m, true, NULL), 0);
	assert_false(o.cr.tcp_established);
	assert_int_equal(o.cr.cgroups, CR_CGROUP_FULL);
	assert_int_equal(o.cr.empty_ns, 0x40000000);
	assert_null(o.cr.freeze_cgroup);
	m.manage_cgroups_mode = 99;
	assert_int_equal(rpc_opts_apply(&o, &m, true, NULL), -EINVAL);
	m.has_manage_cgroups_mode = 0;
	m.empty_ns = 0x20000000;
	assert_int_equal(rpc_opts_apply(&o, &m, true, NULL), -EINVAL);
	m.has_empty_ns = 0;
	/* What only a child may ask. */
	m.has_rst_sibling = 1;
	assert_int_equal(rpc_opts_apply(&o, &m, false, NULL), 0);
	m.rst_sibling = 1;
	assert_int_equal(rpc_opts_apply(&o, &m, true, NULL), 0);
	assert_int_equal(rpc_opts_apply(&o, &m, false, NULL), -EINVAL);
	options_done(&o);
}

static void test_unknown_fields(void **state)
{
	/* CHECK, a field 200 beside the opts, and in them images_dir_fd 5 and a field 99. */
	static const uint8_t data[] = { 0x08, 3, 0x12, 5, 0x08, 5, 0x98, 0x06, 1, 0xc0, 0x0c, 1 };
	char text[64];
	CriuReq *q;

	assert_int_equal(rpc_unpack(data, sizeof(data), &q, NULL), 0);
	rpc_unknown(&q->opts->base, text, sizeof(text));
	assert_string_equal(text, "99");
	criu_req__free_unpacked(q, NULL);
}

/* ---- descriptors ---- */

static unsigned fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_descriptors(void **state)
{
	CriuResp resp = CRIU_RESP__INIT;
	CriuReq req = CRIU_REQ__INIT, *q = NULL;
	uint8_t room[64];
	size_t n_fds = 2;
	int ends[2], fds[2];
	unsigned before;
	struct stat a, b;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	resp.type = CRIU_REQ_TYPE__NOTIFY;
	resp.success = 1;
	assert_int_equal(rpc_send(ends[0], &resp, dir_fd, NULL), 0);
	assert_true(fd_recv(ends[1], room, sizeof(room), fds, &n_fds) > 0);
	assert_int_equal(n_fds, 1);
	assert_true(fstat(fds[0], &a) == 0 && fstat(dir_fd, &b) == 0 && a.st_ino == b.st_ino);
	close(fds[0]);
	/* What a peer sends along is not kept. */
	req.type = CRIU_REQ_TYPE__VERSION;
	before = fds_open();
	assert_int_equal(fd_send(ends[0], room, criu_req__pack(&req, room), &dir_fd, 1), 0);
	assert_int_equal(rpc_receive(ends[1], &q, NULL), 0);
	criu_req__free_unpacked(q, NULL);
	assert_int_equal(fds_open(), before);
	close(ends[0]);
	assert_int_equal(rpc_receive(ends[1], &q, NULL), 0);
	assert_null(q);
	close(ends[1]);
}

static void test_wrong_socket(void **state)
{
	struct rpc_peer p;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(rpc_peer_of(ends[0], true, &p, NULL), -EPROTOTYPE);
	assert_true(rpc_peer_of(dir_fd, true, &p, NULL) < 0);
	close(ends[0]);
	close(ends[1]);
}

/* ---- a page server of its own, and its end ---- */

static int page_connect(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(sk, (void *)&a, sizeof(a)), 0);
	return sk;
}

static void test_page_server(void **state)
{
	struct ps_iov open_it = { PS_OPEN2, 0, 0, 7 << 8 | PS_OWNER_PID }, close_it = { PS_CLOSE, 0, 0, 0 };
	struct server s = server_start();
	CriuReq q = CRIU_REQ__INIT, w = CRIU_REQ__INIT;
	CriuPageServerInfo ps = CRIU_PAGE_SERVER_INFO__INIT;
	CriuOpts o = CRIU_OPTS__INIT;
	CriuResp *r;
	int sk, status;
	char byte;

	q.type = CRIU_REQ_TYPE__PAGE_SERVER_CHLD;
	q.opts = &o;
	q.has_keep_open = q.keep_open = 1;
	o.images_dir_fd = dir_fd;
	o.ps = &ps;
	ps.address = (char *)"127.0.0.1";
	r = ask(s.sock, &q);
	if (!r->success)
		fail_msg("%s", r->cr_errmsg);
	assert_true(r->ps->pid > 0 && r->ps->port > 0);
	sk = page_connect(r->ps->port);
	assert_int_equal(fd_write_full(sk, &open_it, sizeof(open_it)), 0);
	assert_int_equal(fd_read_full(sk, &byte, 1), 0);
	assert_int_equal(fd_write_full(sk, &close_it, sizeof(close_it)), 0);
	assert_int_equal(fd_read_full(sk, &status, sizeof(status)), 0);
	assert_int_equal(status, 0);
	close(sk);
	w.type = CRIU_REQ_TYPE__WAIT_PID;
	w.has_pid = 1;
	w.pid = (uint32_t)r->ps->pid;
	w.has_keep_open = w.keep_open = 1;
	criu_resp__free_unpacked(r, NULL);
	r = ask(s.sock, &w);
	assert_true(r->success && r->has_status && r->status == 0);
	criu_resp__free_unpacked(r, NULL);
	is_refused(ask(s.sock, &w), CRIU_REQ_TYPE__WAIT_PID, ECHILD, "waiting for");
	assert_int_equal(server_end(&s), 0);
	assert_int_equal(unlinkat(dir_fd, "pagemap-7.img", 0), 0);
	assert_int_equal(unlinkat(dir_fd, "pages-1.img", 0), 0);
	unlinkat(dir_fd, "criu.log", 0);
}

/* ---- action scripts ---- */

static const char *script_make(const char *name, const char *text)
{
	static char path[8][128];
	static unsigned turn;
	char *p = path[turn++ % 8];
	int fd;

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	return p;
}

static int notified(void *arg, enum cr_act act, pid_t pid, int fd, struct err *e)
{
	*(int *)arg += 1;
	return act == CR_ACT_PRE_RESUME ? err_set(e, -ECANCELED, "no") : 0;
}

static void test_scripts(void **state)
{
	char text[256], *got = NULL;
	struct options o;
	struct scripts s = { .o = &o };
	struct err e = { 0 };
	int calls = 0;

	options_init(&o);
	o.cr.images_fd = dir_fd;
	setenv("CRTOOLS_INIT_PID", "old", 1);
	snprintf(text, sizeof(text), "#!/bin/sh\necho \"$0 $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR $CRTOOLS_INIT_PID\" >>%s/out\n",
		 dir);
	assert_int_equal(options_set(&o, "action-script", script_make("a", text), &e), 0);
	assert_int_equal(options_set(&o, "action-script", script_make("b", text), &e), 0);
	assert_int_equal(scripts_act(&s, CR_ACT_PRE_DUMP, 0, -1, &e), 0);
	assert_int_equal(scripts_act(&s, CR_ACT_SETUP_NAMESPACES, 77, -1, &e), 0);
	assert_int_equal(fd_read_file_at(dir_fd, "out", 4096, &got, NULL), 0);
	snprintf(text, sizeof(text), "%s/a pre-dump %s \n%s/b pre-dump %s \n%s/a setup-namespaces %s 77\n", dir, dir, dir, dir,
		 dir, dir);
	if (strncmp(got, text, strlen(text)) != 0)
		fail_msg("%s instead of %s", got, text);
	free(got);
	unlinkat(dir_fd, "out", 0);
	/* The first that fails is the last that is called, and the peer hears nothing of it. */
	s.notify = notified;
	s.arg = &calls;
	script_make("a", "#!/bin/sh\nexit 3\n");
	assert_int_equal(scripts_act(&s, CR_ACT_POST_DUMP, 0, -1, &e), -ECANCELED);
	assert_non_null(strstr(e.text, "at post-dump: the action script"));
	assert_non_null(strstr(e.text, "failed with status 3"));
	assert_int_equal(faccessat(dir_fd, "out", F_OK, 0), -1);
	assert_int_equal(calls, 0);
	script_make("a", "#!/bin/sh\nkill -9 $$\n");
	assert_int_equal(scripts_act(&s, CR_ACT_POST_DUMP, 0, -1, &e), -ECANCELED);
	assert_non_null(strstr(e.text, "killed by signal 9"));
	unlinkat(dir_fd, "a", 0);
	assert_int_equal(scripts_act(&s, CR_ACT_POST_DUMP, 0, -1, &e), -ENOENT);
	/* Words of a path are not a shell's. */
	snprintf(text, sizeof(text), "#!/bin/sh\necho $# >>%s/out\n", dir);
	o.scripts.n = 0;
	assert_int_equal(options_set(&o, "action-script", script_make("a; touch c", text), &e), 0);
	assert_int_equal(scripts_act(&s, CR_ACT_PRE_DUMP, 0, -1, &e), 0);
	assert_int_equal(faccessat(dir_fd, "c", F_OK, 0), -1);
	assert_int_equal(calls, 1);
	assert_int_equal(scripts_act(&s, CR_ACT_PRE_RESUME, 0, -1, &e), -ECANCELED);
	assert_non_null(strstr(e.text, "pre-resume"));
	unsetenv("CRTOOLS_INIT_PID");
	options_done(&o);
}

static int group_up(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
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
		cmocka_unit_test(test_version),	       cmocka_unit_test(test_peer_leaves),
		cmocka_unit_test(test_malformed),      cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_types),	       cmocka_unit_test(test_features),
		cmocka_unit_test(test_folders),	       cmocka_unit_test(test_dump_refusals),
		cmocka_unit_test(test_every_field),    cmocka_unit_test(test_values),
		cmocka_unit_test(test_unknown_fields), cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_wrong_socket),   cmocka_unit_test(test_page_server),
		cmocka_unit_test(test_scripts),
	};

	return cmocka_run_group_tests(tests, group_up, group_down);
}

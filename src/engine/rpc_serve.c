/* A connection: requests, what is done for them, and their answers. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/action.h"
#include "engine/check.h"
#include "engine/config.h"
#include "engine/folders.h"
#include "engine/page_server.h"
#include "engine/rpc.h"
#include "engine/version.h"

#define LOG_DEFAULT "criu.log"

struct request {
	const struct rpc_peer *peer;
	const struct options *defaults; /* which configuration files are read */
	const CriuReq *q;
	struct options o;
	struct scripts scripts;
	CriuResp *resp;
};

/* ---- notifications ---- */

/* Says the moment, and goes on when the peer has said that all is well. */
static int notify(void *arg, enum cr_act act, pid_t pid, int fd, struct err *e)
{
	const struct request *rq = arg;
	CriuResp resp = CRIU_RESP__INIT;
	CriuNotify n = CRIU_NOTIFY__INIT;
	CriuReq *q = NULL;
	int r;

	if (fd >= 0 && !rq->q->opts->orphan_pts_master)
		return err_set(e, -EINVAL, "a terminal's other end is outside, and the peer has not set orphan_pts_master");
	resp.type = CRIU_REQ_TYPE__NOTIFY;
	resp.success = 1;
	resp.notify = &n;
	n.script = (char *)cr_act_name(act);
	n.has_pid = pid > 0;
	n.pid = pid;
	r = rpc_send(rq->peer->sock, &resp, fd, e);
	if (r >= 0)
		r = rpc_receive(rq->peer->sock, &q, e);
	if (r < 0)
		return r;
	if (!q)
		return err_set(e, -ECONNRESET, "the peer has gone");
	if (q->type != CRIU_REQ_TYPE__NOTIFY)
		r = err_set(e, -EBADMSG, "the peer answered a notification with a request of type %d", (int)q->type);
	else if (!q->has_notify_success || !q->notify_success)
		r = err_set(e, -ECANCELED, "the peer said no");
	criu_req__free_unpacked(q, NULL);
	return r;
}

/* ---- options of a request ---- */

/* A folder of the peer's, opened anew: its own descriptor may be of a kind that cannot be read. */
static int folder_take(const struct rpc_peer *p, int fd, const char *what, struct err *e)
{
	auto_fd int theirs = rpc_peer_fd(p, fd, e);
	char path[32];
	int ours;

	if (theirs < 0)
		return err_context(e, theirs, "%s", what);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", theirs);
	ours = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return ours < 0 ? err_sys(e, -errno, "%s: descriptor %d of process %d", what, fd, (int)p->pid) : ours;
}

static int folders_take(struct request *rq, struct err *e)
{
	const CriuOpts *m = rq->q->opts;
	int images = folder_take(rq->peer, m->images_dir_fd, "images_dir_fd", e), r = 0;
	auto_fd int work = -1;

	if (images < 0)
		return images;
	if (m->has_work_dir_fd && m->work_dir_fd >= 0) {
		work = folder_take(rq->peer, m->work_dir_fd, "work_dir_fd", e);
		r = work;
	}
	if (r >= 0)
		r = folders_use(&rq->o, images, work, e);
	if (r < 0)
		fd_close(&images);
	return r;
}

/* Files that are no part of the request go first, the one it names goes last (`man criu`). */
static int words_take(struct request *rq, struct err *e)
{
	const CriuOpts *m = rq->q->opts;
	int r;

	rq->o.config = rq->defaults->config;
	rq->o.no_default_config = rq->defaults->no_default_config;
	r = config_apply_default(&rq->o, e);
	if (r >= 0)
		r = rpc_opts_apply(&rq->o, m, rq->peer->inherited, e);
	/* Peers give a restore what stands for a pipe's other end (inherit_fd), and a dump no name for it. */
	if (r >= 0)
		r = options_pair(&rq->o, &rq->o.cr.externals, "pipe[]", "", -1, e);
	if (r >= 0 && m->config_file && *m->config_file) {
		r = config_apply_file(&rq->o, m->config_file, e);
		/* runc names one always, whether there is one or not. */
		if (r == -ENOENT || r == -ENOTDIR)
			r = 0;
	}
	return r;
}

static int opts_take(struct request *rq, enum action action, struct err *e)
{
	const CriuOpts *m = rq->q->opts;
	char unknown[256];
	int r;

	if (!m)
		return err_set(e, -EBADMSG, "the request has no opts");
	rq->o.action = action;
	rq->o.detach = true; /* the answer is the end of it */
	r = folders_take(rq, e);
	if (r >= 0)
		r = words_take(rq, e);
	if (r < 0)
		return r;
	if (!rq->o.log_file)
		rq->o.log_file = LOG_DEFAULT;
	r = log_open(&rq->o, e);
	if (r < 0)
		return r;
	log_info("%s by RPC of process %d, %s", action_name(action), (int)rq->peer->pid, VERSION_OURS);
	log_notes(&rq->o);
	rpc_unknown(&m->base, unknown, sizeof(unknown));
	if (*unknown)
		log_warn("fields of the request that are not known were ignored: %s", unknown);
	if (m->has_status_fd) {
		r = rpc_peer_fd(rq->peer, m->status_fd, e);
		if (r < 0)
			return err_context(e, r, "status_fd");
		rq->o.status_fd = r;
	}
	if (m->has_notify_scripts && m->notify_scripts) {
		rq->scripts.notify = notify;
		rq->scripts.arg = rq;
	}
	if (action == ACTION_DUMP && !rq->o.cr.pid)
		return err_set(e, -EOPNOTSUPP, "a process cannot dump itself yet: name a pid");
	return options_check(&rq->o, e);
}

/* ---- one function for each type ---- */

static int serve_dump(struct request *rq, struct err *e)
{
	static CriuDumpResp resp;
	int r = opts_take(rq, ACTION_DUMP, e);

	/* Callers keep a container's images in one folder, and expect the latest there (podman --keep, twice). */
	rq->o.replace = true;
	if (r >= 0)
		r = action_dump(&rq->o, &rq->scripts, e);
	if (r < 0)
		return r;
	criu_dump_resp__init(&resp);
	resp.has_restored = 1;
	rq->resp->dump = &resp;
	return 0;
}

static int serve_restore(struct request *rq, struct err *e)
{
	static CriuRestoreResp resp;
	pid_t pid;
	int r = opts_take(rq, ACTION_RESTORE, e);

	if (r >= 0)
		r = action_restore(&rq->o, &rq->scripts, &pid, e);
	if (r < 0)
		return r;
	criu_restore_resp__init(&resp);
	resp.pid = pid;
	rq->resp->restore = &resp;
	return 0;
}

static int serve_check(struct request *rq, struct err *e)
{
	int r = rq->q->opts ? opts_take(rq, ACTION_CHECK, e) : 0;

	return r < 0 ? r : check_kernel(CHECK_NEEDED, NULL, e);
}

static int serve_later(struct request *rq, struct err *e)
{
	rq->o.action = ACTION_PRE_DUMP;
	return options_check(&rq->o, e);
}

static int serve_cpuinfo(struct request *rq, struct err *e)
{
	bool dump = rq->q->type == CRIU_REQ_TYPE__CPUINFO_DUMP;
	int r = opts_take(rq, dump ? ACTION_CPUINFO_DUMP : ACTION_CPUINFO_CHECK, e);

	if (r < 0)
		return r;
	return dump ? action_cpuinfo_dump(&rq->o, e) : action_cpuinfo_check(&rq->o, e);
}

/* Not what the kernel could, but what may be asked of this program: memory in rounds and memory that follows are
 * of a later version. */
static int serve_features(struct request *rq, struct err *e)
{
	static CriuFeatures resp;
	const CriuFeatures *asked = rq->q->features;

	if (!asked)
		return err_set(e, -EBADMSG, "the request has no features");
	criu_features__init(&resp);
	resp.has_mem_track = asked->has_mem_track;
	resp.has_lazy_pages = asked->has_lazy_pages;
	resp.has_pidfd_store = asked->has_pidfd_store;
	rq->resp->features = &resp;
	return 0;
}

static int serve_version(struct request *rq, struct err *e)
{
	static CriuVersion resp;

	criu_version__init(&resp);
	resp.major_number = VERSION_MAJOR;
	resp.minor_number = VERSION_MINOR;
	resp.name = (char *)VERSION_OURS;
	rq->resp->version = &resp;
	return 0;
}

static int serve_wait(struct request *rq, struct err *e)
{
	int status;

	if (!rq->q->has_pid || rq->q->pid == 0 || rq->q->pid > INT32_MAX)
		return err_set(e, -EBADMSG, "the request has no pid");
	while (waitpid((pid_t)rq->q->pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "waiting for process %u", rq->q->pid);
	rq->resp->has_status = 1;
	rq->resp->status = status;
	return 0;
}

static int serve_page_server(struct request *rq, struct err *e)
{
	static CriuPageServerInfo resp;
	pid_t pid;
	int port, r = opts_take(rq, ACTION_PAGE_SERVER, e);

	if (r >= 0)
		r = page_server_start(&rq->o, rq->q->type == CRIU_REQ_TYPE__PAGE_SERVER_CHLD, rq->peer->sock, &pid, &port, e);
	if (r < 0)
		return r;
	criu_page_server_info__init(&resp);
	resp.has_pid = resp.has_port = 1;
	resp.pid = pid;
	resp.port = port;
	rq->resp->ps = &resp;
	return 0;
}

static const struct {
	CriuReqType type;
	int (*serve)(struct request *rq, struct err *e);
} types[] = {
	{ CRIU_REQ_TYPE__DUMP, serve_dump },
	{ CRIU_REQ_TYPE__RESTORE, serve_restore },
	{ CRIU_REQ_TYPE__CHECK, serve_check },
	{ CRIU_REQ_TYPE__PRE_DUMP, serve_later },
	{ CRIU_REQ_TYPE__SINGLE_PRE_DUMP, serve_later },
	{ CRIU_REQ_TYPE__PAGE_SERVER, serve_page_server },
	{ CRIU_REQ_TYPE__PAGE_SERVER_CHLD, serve_page_server },
	{ CRIU_REQ_TYPE__CPUINFO_DUMP, serve_cpuinfo },
	{ CRIU_REQ_TYPE__CPUINFO_CHECK, serve_cpuinfo },
	{ CRIU_REQ_TYPE__FEATURE_CHECK, serve_features },
	{ CRIU_REQ_TYPE__VERSION, serve_version },
	{ CRIU_REQ_TYPE__WAIT_PID, serve_wait },
};

static int request_dispatch(struct request *rq, struct err *e)
{
	for (size_t i = 0; i < array_len(types); i++)
		if (types[i].type == rq->q->type)
			return types[i].serve(rq, e);
	return err_set(e, -EBADMSG, "a request of type %d was not expected", (int)rq->q->type);
}

/* The answer is sent in any case; the result is that of the request. */
static int answer(const struct rpc_peer *p, CriuResp *resp, int r, const struct err *why, struct err *e)
{
	int sent;

	resp->success = r >= 0;
	if (r < 0) {
		log_error("%s", err_text(why));
		resp->has_cr_errno = 1;
		resp->cr_errno = -r;
		resp->cr_errmsg = (char *)err_text(why);
	}
	sent = rpc_send(p->sock, resp, -1, e);
	if (sent < 0)
		return sent;
	return r < 0 ? err_set(e, r, "%s", err_text(why)) : 0;
}

static int request_serve(const struct rpc_peer *p, const struct options *defaults, const CriuReq *q, struct err *e)
{
	struct request rq = { .peer = p, .defaults = defaults, .q = q };
	CriuResp resp = CRIU_RESP__INIT;
	struct err why = { 0 };
	int r;

	options_init(&rq.o);
	rq.scripts.o = &rq.o;
	rq.resp = &resp;
	resp.type = q->type;
	r = request_dispatch(&rq, &why);
	r = answer(p, &resp, r, &why, e);
	fd_close(&rq.o.cr.images_fd);
	fd_close(&rq.o.status_fd);
	options_done(&rq.o);
	log_close();
	return r;
}

int rpc_serve(const struct rpc_peer *p, const struct options *defaults, struct err *e)
{
	for (;;) {
		CriuResp resp = CRIU_RESP__INIT;
		struct err why = { 0 };
		CriuReq *q = NULL;
		bool more;
		int r = rpc_receive(p->sock, &q, &why);

		if (r < 0)
			return answer(p, &resp, r, &why, e);
		if (!q)
			return 0;
		r = request_serve(p, defaults, q, e);
		more = q->has_keep_open && q->keep_open;
		criu_req__free_unpacked(q, NULL);
		if (!more || r == -EPIPE || r == -ECONNRESET)
			return r;
	}
}

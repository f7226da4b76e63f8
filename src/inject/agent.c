#include "inject/agent.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/mem.h"
#include "inject/prog.h"

#define END_WAIT_MS 10000

int agent_new(struct agent_proc *p, pid_t tid, struct agent **ret, struct err *e)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a || array_grow(p->agents, p->n_agents, p->cap_agents) < 0) {
		free(a);
		return err_sys(e, -ENOMEM, "agent of thread %d", tid);
	}
	p->refs++;
	p->agents[p->n_agents++] = a;
	a->p = p;
	a->tid = tid;
	a->sock = -1;
	a->channel = -1;
	*ret = a;
	return 0;
}

void agent_drop(struct agent *a)
{
	struct agent_proc *p = a->p;

	for (size_t i = 0; i < p->n_agents; i++) {
		if (p->agents[i] == a) {
			p->agents[i] = p->agents[--p->n_agents];
			break;
		}
	}
	fd_close(&a->sock);
	proc_unref(p);
	free(a);
}

struct agent *agent_free(struct agent *a)
{
	if (a)
		agent_drop(a);
	return NULL;
}

pid_t agent_host_pid(const struct agent *a)
{
	return a->p->pid;
}

pid_t agent_host_tid(const struct agent *a)
{
	return a->tid;
}

int agent_pidfd(const struct agent *a)
{
	return a->p->pidfd;
}

void agent_range(const struct agent *a, uint64_t *start, uint64_t *end)
{
	*start = a->p->base;
	*end = a->p->base + AGENT_SPAN;
}

int agent_channel_number(const struct agent *a)
{
	return a->channel;
}

/* ---- running ---- */

static int failed_op(struct agent *a, const struct aprog *p, const struct agent_msg *m,
		     struct err *e)
{
	static const char *const kinds[] = {
		[AGENT_OP_READ] = "reading the stream",
		[AGENT_OP_POKE] = "writing memory",
		[AGENT_OP_FORK] = "fork",
		[AGENT_OP_THREAD] = "making a thread",
		[AGENT_OP_PLACE] = "placing descriptors",
		[AGENT_OP_PUT] = "putting a descriptor",
		[AGENT_OP_CHANNEL] = "moving the channel",
	};
	const struct agent_op *op;

	if (m->failed >= p->n_ops)
		return err_sys(e, m->status, "thread %d did not take a program", a->tid);
	op = &p->ops[m->failed];
	if (op->kind == AGENT_OP_CALL)
		return err_sys(e, m->status, "system call %ld (%llx, %llx, %llx) in thread %d",
			       (long)op->nr, (unsigned long long)op->args[0],
			       (unsigned long long)op->args[1], (unsigned long long)op->args[2],
			       a->tid);
	return err_sys(e, m->status, "%s in thread %d",
		       op->kind < array_len(kinds) && kinds[op->kind] ? kinds[op->kind]
								      : "operation",
		       a->tid);
}

static int gone(struct agent *a, int code, struct err *e)
{
	if (code == 0 || code == -EPIPE || code == -ECONNRESET)
		return err_set(e, -EPIPE, "thread %d of process %d is gone", a->tid, a->p->pid);
	return err_sys(e, code, "talking to the agent in thread %d", a->tid);
}

int agent_run_fds(struct agent *a, struct aprog *p, const int *fds, size_t n_fds, int *ret_fd,
		  struct err *e)
{
	auto_free char *msg = NULL;
	struct agent_msg head;
	int back[4], r;
	size_t len = 0, n_back = array_len(back);
	ssize_t n;

	r = aprog_pack(p, a->data_len, &msg, &len, e);
	if (r >= 0)
		r = fault_at("agent", "call", NULL, e);
	if (r < 0)
		return r;
	r = fd_send(a->sock, msg, len, fds, n_fds);
	if (r < 0)
		return gone(a, r, e);
	fault_kill_at("agent", "called", NULL);
	n = fd_recv(a->sock, msg, len, back, &n_back);
	if (n <= 0)
		return gone(a, (int)n, e);
	if (ret_fd)
		*ret_fd = -1;
	for (size_t i = 0; i < n_back; i++) {
		if (i == 0 && ret_fd)
			*ret_fd = fd_take(&back[0]);
		fd_close(&back[i]);
	}
	if ((size_t)n < sizeof(head))
		return err_set(e, -EPROTO, "the agent in thread %d answered %zd bytes", a->tid, n);
	a->settled = n_back == 0;
	memcpy(&head, msg, sizeof(head));
	r = head.status < 0 && head.failed >= p->n_ops ? 0 : aprog_unpack(p, msg, (size_t)n, e);
	if (r >= 0 && head.status < 0)
		r = failed_op(a, p, &head, e);
	if (r < 0 && ret_fd)
		fd_close(ret_fd);
	return r;
}

int agent_run(struct agent *a, struct aprog *p, struct err *e)
{
	return agent_run_fds(a, p, NULL, 0, NULL, e);
}

int agent_run_fd(struct agent *a, struct aprog *p, int fd, struct err *e)
{
	return agent_run_fds(a, p, &fd, 1, NULL, e);
}

size_t aprog_put(struct aprog *p)
{
	return aprog_op(p, 0, AGENT_OP_PUT, 0, NULL);
}

int agent_send(struct agent *a, struct aprog *p, struct err *e)
{
	auto_free char *msg = NULL;
	size_t len = 0;
	int r = aprog_pack(p, a->data_len, &msg, &len, e);

	if (r < 0)
		return r;
	r = fd_send(a->sock, msg, len, NULL, 0);
	return r < 0 ? gone(a, r, e) : 0;
}

int agent_wait_end(struct agent *a, struct err *e)
{
	struct pollfd pfd = { .fd = a->sock, .events = POLLIN };
	char byte;
	int r;

	do
		r = poll(&pfd, 1, END_WAIT_MS);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(e, -errno, "waiting for thread %d", a->tid);
	if (r == 0)
		return err_set(e, -ETIMEDOUT, "thread %d does not close its channel", a->tid);
	if (recv(a->sock, &byte, 1, MSG_DONTWAIT) > 0)
		return err_set(e, -EPROTO, "thread %d answered where it should not", a->tid);
	return 0;
}

int agent_settle(struct agent *a, struct err *e)
{
	struct aprog *nothing;
	int r;

	if (a->settled)
		return 0;
	nothing = aprog_new();
	r = nothing ? agent_run(a, nothing, e) : err_sys(e, -ENOMEM, "leaving thread %d", a->tid);
	aprog_free(nothing);
	return r;
}

int agent_call(struct agent *a, long nr, const uint64_t args[6], long *ret, struct err *e)
{
	struct aprog *p = aprog_new();
	struct aarg v[6];
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "system call %ld", nr);
	for (unsigned i = 0; i < 6; i++)
		v[i] = aarg_imm(args[i]);
	aprog_call(p, 0, nr, 6, v);
	r = agent_run(a, p, e);
	if (r >= 0 && ret)
		*ret = aprog_result(p, 0);
	aprog_free(p);
	return r < 0 ? r : 0;
}

/* ---- descriptors ---- */

int agent_get_fd(struct agent *a, int fd, int *ret_fd, struct err *e)
{
	long r = syscall(SYS_pidfd_getfd, a->p->pidfd, fd, 0);

	if (r < 0)
		return err_sys(e, -errno, "cannot fetch descriptor %d of process %d", fd,
			       a->p->pid);
	*ret_fd = (int)r;
	return 0;
}

int agent_put_fd(struct agent *a, int fd, int *ret_number, struct err *e)
{
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "descriptor for thread %d", a->tid);
	aprog_put(p);
	r = agent_run_fd(a, p, fd, e);
	if (r >= 0)
		*ret_number = (int)aprog_result(p, 0);
	aprog_free(p);
	return r;
}

int agent_move_channel(struct agent *a, int number, struct err *e)
{
	struct aprog *p;
	int r;

	if (number == a->channel)
		return 0;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "channel of thread %d", a->tid);
	aprog_op(p, 0, AGENT_OP_CHANNEL, 1, (struct aarg[]){ aarg_imm((uint64_t)(int64_t)number) });
	r = agent_run(a, p, e);
	if (r >= 0)
		a->channel = number;
	aprog_free(p);
	return r;
}

/* A number beyond the soft limit: the limit is raised to the hard one for the moment. */
static int limit_raise(struct agent *a, uint64_t highest, struct rlimit *old, bool *ret_raised,
		       struct err *e)
{
	struct aprog *p = aprog_new();
	struct rlimit want;
	struct aarg out;
	int r;

	*ret_raised = false;
	if (!p)
		return err_sys(e, -ENOMEM, "descriptors for thread %d", a->tid);
	out = aprog_out(p, sizeof(*old));
	APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_NOFILE), aarg_imm(0), out);
	r = agent_run(a, p, e);
	if (r >= 0)
		memcpy(old, aprog_out_data(p, out), sizeof(*old));
	p = aprog_free(p);
	if (r < 0 || highest < old->rlim_cur)
		return r;
	want = (struct rlimit){ old->rlim_max, old->rlim_max };
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "descriptors for thread %d", a->tid);
	out = aprog_in(p, &want, sizeof(want));
	APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_NOFILE), out, aarg_imm(0));
	r = agent_run(a, p, e);
	aprog_free(p);
	*ret_raised = r >= 0;
	return r;
}

static int limit_restore(struct agent *a, const struct rlimit *old, struct err *e)
{
	struct aprog *p = aprog_new();
	struct aarg in;
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "descriptors for thread %d", a->tid);
	in = aprog_in(p, old, sizeof(*old));
	APROG_CALL(p, 0, SYS_prlimit64, aarg_imm(0), aarg_imm(RLIMIT_NOFILE), in, aarg_imm(0));
	r = agent_run(a, p, e);
	aprog_free(p);
	return r;
}

static int place_batch(struct agent *a, const struct fd_place *places, size_t n, struct err *e)
{
	struct agent_place want[AGENT_FDS_MAX];
	struct aprog *p = aprog_new();
	int fds[AGENT_FDS_MAX], r;
	struct aarg in;

	if (!p)
		return err_sys(e, -ENOMEM, "descriptors for thread %d", a->tid);
	for (size_t i = 0; i < n; i++) {
		want[i] = (struct agent_place){ places[i].number, places[i].cloexec };
		fds[i] = places[i].fd;
	}
	in = aprog_in(p, want, n * sizeof(*want));
	aprog_op(p, 0, AGENT_OP_PLACE, 2, (struct aarg[]){ in, aarg_imm(n) });
	r = agent_run_fds(a, p, fds, n, NULL, e);
	aprog_free(p);
	return r;
}

int agent_place_fds(struct agent *a, const struct fd_place *places, size_t n, struct err *e)
{
	const size_t batch = AGENT_FDS_MAX < FD_PASS_MAX ? AGENT_FDS_MAX : FD_PASS_MAX;
	struct rlimit old = { 0 };
	bool raised = false;
	int highest = 0, r = 0;

	for (size_t i = 0; i < n; i++) {
		if (places[i].number < 0 || places[i].number == a->channel)
			return err_set(e, -EINVAL,
				       "descriptor number %d of process %d is the agent's",
				       places[i].number, a->p->pid);
		if (places[i].number > highest)
			highest = places[i].number;
	}
	if (highest >= 1024 - 256) {
		r = limit_raise(a, (uint64_t)highest, &old, &raised, e);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n && r >= 0; i += batch)
		r = place_batch(a, places + i, n - i < batch ? n - i : batch, e);
	if (raised) {
		int r2 = limit_restore(a, &old, r < 0 ? NULL : e);

		if (r >= 0)
			r = r2;
	}
	return r < 0 ? r : 0;
}

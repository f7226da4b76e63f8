#include "move.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/msg.h"

#define MOVE_TIMEOUT_MS 30000

struct end {
	pid_t pid;
	int ctl; /* -1: closed */
	unsigned link;
	int status;
	bool done;
};

/* As where bpf() is not for us, or the kernel has none. */
static void bpf_forbid(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		_exit(126);
}

static pid_t engine_start(const struct place *p, const char *engine, bool verbose, bool source,
			  const struct ct *c, int ctl, int data)
{
	char pid_s[16], ctl_s[16], data_s[16];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	snprintf(pid_s, sizeof(pid_s), "%d", (int)c->init);
	snprintf(ctl_s, sizeof(ctl_s), "%d", ctl);
	snprintf(data_s, sizeof(data_s), "%d", data);
	fd_set_cloexec(ctl, 0);
	fd_set_cloexec(data, 0);
	if (source && p->no_bpf)
		bpf_forbid();
	execl(engine, engine, source ? "live-dump" : "live-restore", source ? "--tree" : "--init", pid_s,
	      "--cgroup", c->cgroup, "--ctl-fd", ctl_s, "--data-fd", data_s, verbose ? "-v" : NULL, NULL);
	_exit(127);
}

/* What stands between the engines; ends at the end of the stream. */
static pid_t via_start(const char *command, int from, int to)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (dup2(from, 0) < 0 || dup2(to, 1) < 0)
		_exit(127);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

static void remember(struct move_result *ret, const struct msg *m)
{
	size_t at = strlen(ret->numbers);

	for (size_t i = 0; i < m->n && at < sizeof(ret->numbers); i++)
		at += (size_t)snprintf(ret->numbers + at, sizeof(ret->numbers) - at, "%s=%s ", m->kv[i].key,
				       m->kv[i].value);
}

/* 1: the end was heard of, -1: the other side has to stop too. */
static int answer(const struct place *p, struct end *end, const struct msg *m, struct move_result *ret)
{
	if (msg_is(m, "frozen") && p->net.on && net_joined(&p->net, end->link, false) < 0)
		return -1;
	if (msg_is(m, "frozen"))
		return msg_send(end->ctl, NULL, 0, "go", NULL) < 0 ? -1 : 0;
	if (msg_is(m, "need-disk"))
		return place_sync(p) < 0 || msg_send(end->ctl, NULL, 0, "disk-ready", NULL) < 0 ? -1 : 0;
	if (msg_is(m, "done") || msg_is(m, "ready")) {
		remember(ret, m);
		end->done = true;
		return 1;
	}
	if (msg_is(m, "refused") || msg_is(m, "failed")) {
		size_t at = strlen(ret->text);

		ret->refused |= msg_is(m, "refused");
		snprintf(ret->text + at, sizeof(ret->text) - at, "%s%s: %s", at ? "; " : "", m->verb,
			 msg_get(m, "text"));
		return -1;
	}
	return 0;
}

static void listen_to(const struct place *pl, struct end ends[2], struct move_result *ret)
{
	bool failed = false;

	while (ends[0].ctl >= 0 || ends[1].ctl >= 0) {
		struct pollfd p[2] = { { ends[0].ctl, POLLIN, 0 }, { ends[1].ctl, POLLIN, 0 } };

		/* After a failure of one the other gets a moment to say what it thinks. */
		if (poll(p, 2, failed ? 2000 : MOVE_TIMEOUT_MS) <= 0) {
			size_t at = strlen(ret->text);

			if (!failed)
				snprintf(ret->text + at, sizeof(ret->text) - at, "; no progress");
			return;
		}
		for (int i = 0; i < 2; i++) {
			struct msg m = { 0 };

			if (!(p[i].revents & (POLLIN | POLLHUP)))
				continue;
			if (msg_recv(ends[i].ctl, &m) <= 0) {
				fd_close(&ends[i].ctl);
				failed |= !ends[i].done;
				continue;
			}
			failed |= answer(pl, &ends[i], &m, ret) < 0;
			msg_done(&m);
		}
	}
}

/* The engines are not reaped before this one is, so that their pids stay theirs. */
static pid_t fault_start(const struct move_fault *f, const struct end ends[2])
{
	pid_t pid = f && f->sig ? fork() : 0;

	if (!f || !f->sig || pid != 0)
		return pid;
	usleep(f->delay_us);
	if (f->dump)
		kill(ends[0].pid, f->sig);
	if (f->restore)
		kill(ends[1].pid, f->sig);
	_exit(0);
}

int move_recover(const char *engine, const struct ct *c)
{
	char pid_s[16];
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		snprintf(pid_s, sizeof(pid_s), "%d", (int)c->init);
		execl(engine, engine, "recover", "--tree", pid_s, "--cgroup", c->cgroup, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status == 0 ? 0 : -1;
}

int move_run(const struct place *p, const char *engine, bool verbose, const struct ct *from, const struct ct *to,
	     const struct move_fault *fault, struct move_result *ret)
{
	pid_t bad;
	struct end ends[2] = { { .ctl = -1 }, { .ctl = -1 } };
	const struct ct *cts[2] = { from, to };
	int data[2], on[2] = { -1, -1 }, ctl[2][2];
	pid_t via = 0;

	*ret = (struct move_result){ 0 };
	if (pipe2(data, O_CLOEXEC) < 0)
		return -1;
	fcntl(data[1], F_SETPIPE_SZ, 1 << 20);
	if (p->via) {
		if (pipe2(on, O_CLOEXEC) < 0)
			return -1;
		via = via_start(p->via, data[0], on[1]);
		close(data[0]);
		close(on[1]);
		data[0] = on[0];
	}
	for (int i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl[i]) < 0)
			return -1;
		ends[i].ctl = ctl[i][0];
		ends[i].link = cts[i]->link;
	}
	for (int i = 0; i < 2; i++)
		ends[i].pid = engine_start(p, engine, verbose, i == 0, cts[i], ctl[i][1], data[1 - i]);
	for (int i = 0; i < 2; i++) {
		close(ctl[i][1]);
		close(data[i]);
	}
	bad = fault_start(fault, ends);
	listen_to(p, ends, ret);
	if (bad > 0)
		waitpid(bad, NULL, 0);
	if (via > 0)
		waitpid(via, NULL, 0);
	for (int i = 0; i < 2; i++) {
		fd_close(&ends[i].ctl);
		for (int k = 0; k < 300 && waitpid(ends[i].pid, &ends[i].status, WNOHANG) == 0; k++) {
			if (k == 200)
				kill(ends[i].pid, SIGKILL);
			usleep(10000);
		}
	}
	for (int i = 0; i < 2; i++) {
		size_t at = strlen(ret->text);

		if (ends[i].done && WIFEXITED(ends[i].status) && WEXITSTATUS(ends[i].status) == 0)
			continue;
		snprintf(ret->text + at, sizeof(ret->text) - at, "%s%s ended with status %#x",
			 at ? "; " : "", i ? "live-restore" : "live-dump", ends[i].status);
	}
	return ret->text[0] ? -1 : 0;
}

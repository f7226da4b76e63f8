/* unix_maker - the calls whose maker the kernel records (SO_PEERCRED: socketpair, listen, connect), made in
 * the recorded task by its agent.
 *
 * That needs the task with its own credentials, so such sockets are built late (file.h).  A task that is gone
 * or that has other ids by now (a service that gave up root) cannot do it: then the engine does, with the
 * recorded ids and without the process id (unix_make.c).  So does it where the task's own call fails,
 * because it may not reach a path any more or has no free descriptor. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/fd.h"
#include "cr/sock/unix.h"

struct rtask *unix_maker(struct restore *r, const struct usk *as)
{
	const CredsEntry *c;
	struct rtask *t;

	if (!as || !as->x || !as->x->has_peer_pid || !as->x->has_peer_uid || !as->x->has_peer_gid)
		return NULL;
	t = restore_task(r, (pid_t)as->x->peer_pid);
	if (!t || t->zombie || !t->core->thread_core || !t->core->thread_core->creds)
		return NULL;
	c = t->core->thread_core->creds;
	return c->euid == as->x->peer_uid && c->egid == as->x->peer_gid ? t : NULL;
}

bool unix_maker_awaited(struct restore *r, const struct usk *as)
{
	const struct rtask *t = unix_maker(r, as);

	/* The first agent is gw-init's from the beginning, with credentials of its own. */
	return t && (!t->agent || !sock_restore_of(r)->late);
}

static int numbers_close(struct agent *a, const int *numbers, size_t n)
{
	struct aprog *p = aprog_new();
	int ret;

	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (numbers[i] >= 0)
			APROG_CALL(p, AOP_MAY_FAIL, SYS_close, aarg_imm((uint64_t)numbers[i]));
	ret = agent_run(a, p, NULL);
	aprog_free(p);
	return ret;
}

int unix_maker_socketpair(struct rtask *t, int type, int ret_fds[2])
{
	struct aprog *p = aprog_new();
	int numbers[2] = { -1, -1 }, fds[2] = { -1, -1 }, ret, closed;
	struct aarg out;

	if (!p)
		return -ENOMEM;
	out = aprog_out(p, sizeof(numbers));
	APROG_CALL(p, 0, SYS_socketpair, aarg_imm(AF_UNIX), aarg_imm((uint64_t)(type | SOCK_CLOEXEC)),
		   aarg_imm(0), out);
	ret = agent_run(t->agent, p, NULL);
	if (ret >= 0)
		memcpy(numbers, aprog_out_data(p, out), sizeof(numbers));
	aprog_free(p);
	if (ret < 0)
		return ret;
	ret = agent_get_fd(t->agent, numbers[0], &fds[0], NULL);
	if (ret >= 0)
		ret = agent_get_fd(t->agent, numbers[1], &fds[1], NULL);
	closed = numbers_close(t->agent, numbers, 2);
	if (ret < 0 || closed < 0) {
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		return ret < 0 ? ret : closed;
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

int unix_maker_listen(struct rtask *t, int fd, int backlog)
{
	int number, ret = agent_put_fd(t->agent, fd, &number, NULL);
	struct aprog *p;
	size_t op;

	if (ret < 0)
		return ret;
	p = aprog_new();
	if (!p)
		return numbers_close(t->agent, &number, 1) < 0 ? -EIO : -ENOMEM;
	op = APROG_CALL(p, AOP_MAY_FAIL, SYS_listen, aarg_imm((uint64_t)number), aarg_imm((uint64_t)backlog));
	APROG_CALL(p, 0, SYS_close, aarg_imm((uint64_t)number));
	ret = agent_run(t->agent, p, NULL);
	if (ret >= 0)
		ret = (int)aprog_result(p, op);
	aprog_free(p);
	return ret;
}

int unix_maker_connect(struct rtask *t, int c, const struct sockaddr_un *to, socklen_t len, int node)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct aprog *p = aprog_new();
	int numbers[2] = { -1, -1 }, ret;
	struct aarg addr;
	size_t op;

	ret = p ? agent_put_fd(t->agent, c, &numbers[0], NULL) : -ENOMEM;
	if (ret >= 0 && node >= 0) {
		ret = agent_put_fd(t->agent, node, &numbers[1], NULL);
		snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", numbers[1]);
		to = &sa;
		len = sizeof(sa);
	}
	if (ret < 0) {
		aprog_free(p);
		(void)numbers_close(t->agent, numbers, 2);
		return ret;
	}
	addr = aprog_in(p, to, len);
	op = APROG_CALL(p, AOP_MAY_FAIL, SYS_connect, aarg_imm((uint64_t)numbers[0]), addr, aarg_imm(len));
	for (int i = 0; i < 2; i++)
		if (numbers[i] >= 0)
			APROG_CALL(p, 0, SYS_close, aarg_imm((uint64_t)numbers[i]));
	ret = agent_run(t->agent, p, NULL);
	if (ret >= 0)
		ret = (int)aprog_result(p, op);
	aprog_free(p);
	return ret;
}

#include "engine/rpc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* ---- messages ---- */

int rpc_unpack(const uint8_t *data, size_t len, CriuReq **ret, struct err *e)
{
	/* Required fields are checked by this. */
	CriuReq *q = criu_req__unpack(NULL, len, data);

	if (!q)
		return err_set(e, -EBADMSG, "the request is no criu_req, or lacks a field that is required");
	*ret = q;
	return 0;
}

int rpc_receive(int sock, CriuReq **ret, struct err *e)
{
	auto_free uint8_t *data = NULL;
	uint8_t first;
	ssize_t n, got;

	while ((n = recv(sock, &first, 1, MSG_PEEK | MSG_TRUNC)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return err_sys(e, -errno, "waiting for a request");
	if (n == 0) {
		*ret = NULL;
		return 0;
	}
	if ((size_t)n > RPC_MAX) {
		/* A socket that is closed with something unread in it resets, and the answer is lost. */
		recv(sock, &first, 1, MSG_TRUNC);
		return err_set(e, -EMSGSIZE, "a request of %zd bytes is longer than %u", n, RPC_MAX);
	}
	data = malloc((size_t)n);
	if (!data)
		return err_sys(e, -ENOMEM, "receiving a request");
	/* Without room for them, the kernel drops descriptors that came along. */
	got = recv(sock, data, (size_t)n, MSG_TRUNC);
	if (got != n)
		return got < 0 ? err_sys(e, -errno, "receiving a request") :
				 err_set(e, -EBADMSG, "the socket does not keep requests apart");
	return rpc_unpack(data, (size_t)n, ret, e);
}

int rpc_send(int sock, const CriuResp *resp, int fd, struct err *e)
{
	size_t len = criu_resp__get_packed_size(resp);
	auto_free uint8_t *data = malloc(len + 1);
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	struct iovec iov = { data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!data)
		return err_sys(e, -ENOMEM, "answering");
	criu_resp__pack(resp, data);
	if (fd >= 0) {
		struct cmsghdr *c = &u.align;

		m.msg_control = u.room;
		m.msg_controllen = sizeof(u.room);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	while (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "answering the peer");
	return 0;
}

/* ---- the peer ---- */

int rpc_peer_of(int sock, bool inherited, struct rpc_peer *ret, struct err *e)
{
	struct rpc_peer p = { .sock = sock, .pidfd = -1, .inherited = inherited };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int type;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return err_sys(e, -errno, "asking who is at the other end of the socket");
	len = sizeof(type);
	if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return err_set(e, -EPROTOTYPE, "the socket is not of the type SOCK_SEQPACKET");
	if (cred.pid <= 0)
		return err_set(e, -ESRCH, "the peer is a process that cannot be seen from here");
	p.pid = cred.pid;
	len = sizeof(p.pidfd);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &p.pidfd, &len) < 0)
		p.pidfd = -1;
	else
		fd_set_cloexec(p.pidfd, 1);
	*ret = p;
	return 0;
}

void rpc_peer_done(struct rpc_peer *p)
{
	fd_close(&p->pidfd);
}

static bool peer_lives(const struct rpc_peer *p)
{
	struct pollfd f = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd >= 0 && poll(&f, 1, 0) == 0;
}

/* By pidfd_getfd, which cannot hit another process; where that is not allowed, by /proc, and then the peer must
 * still be there. */
int rpc_peer_fd(const struct rpc_peer *p, int fd, struct err *e)
{
	char path[48];
	int got;

	if (fd < 0)
		return err_set(e, -EBADF, "%d is no descriptor", fd);
	if (p->pidfd < 0)
		return err_set(e, -ESRCH, "the peer, process %d, is gone", (int)p->pid);
	got = (int)syscall(SYS_pidfd_getfd, p->pidfd, fd, 0);
	if (got >= 0 || errno != EPERM)
		return got >= 0 ? got : err_sys(e, -errno, "taking descriptor %d of process %d", fd, (int)p->pid);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)p->pid, fd);
	got = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (got < 0)
		return err_sys(e, -errno, "opening %s", path);
	if (!peer_lives(p)) {
		close(got);
		return err_set(e, -ESRCH, "the peer, process %d, is gone", (int)p->pid);
	}
	return got;
}

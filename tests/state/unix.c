/* Unix sockets: pairs of all types, connections by name, listeners, backlogs, queues with descriptors
 * and credentials, half-closed and closed ends, names without nodes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static socklen_t named(struct sockaddr_un *sa, const char *name)
{
	size_t n = strlen(name);

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, name, n);
	if (name[0] == '@') {
		sa->sun_path[0] = 0;
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	}
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
}

static int bound(int type, const char *name)
{
	struct sockaddr_un sa;
	socklen_t len = named(&sa, name);
	int fd = MUST(socket(AF_UNIX, type, 0));

	MUST(bind(fd, (struct sockaddr *)&sa, len));
	return fd;
}

static void join(int fd, const char *name)
{
	struct sockaddr_un sa;
	socklen_t len = named(&sa, name);

	if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		state_fail("connect to %s: %m", name);
}

static int connected(int type, const char *name)
{
	int fd = MUST(socket(AF_UNIX, type, 0));

	join(fd, name);
	return fd;
}

static void put(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		state_fail("fd %d: sending \"%s\": %m", fd, text);
}

/* The next message (of a stream: all there is) is exactly this. */
static void is(int fd, const char *want)
{
	char buf[512] = "";
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	if (n < 0)
		state_fail("fd %d: waiting for \"%s\": %m", fd, want);
	CHECK(n == (ssize_t)strlen(want) && !strcmp(buf, want), "fd %d: \"%s\" (%zd) instead of \"%s\"", fd, buf,
	      n, want);
}

static void is_error(int fd, int error)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	CHECK(error ? n < 0 && errno == error : n == 0, "fd %d: recv gave %zd, errno %d instead of %d", fd, n, errno,
	      error);
}

static void name_is(int fd, const char *want)
{
	struct sockaddr_un sa = { 0 }, w;
	socklen_t len = sizeof(sa), wlen = want ? named(&w, want) : sizeof(sa_family_t);

	MUST(getsockname(fd, (struct sockaddr *)&sa, &len));
	CHECK(len == wlen && (!want || !memcmp(&sa, &w, wlen)), "fd %d: named \"%s\" (%u) instead of \"%s\" (%u)", fd,
	      sa.sun_path[0] ? sa.sun_path : sa.sun_path + 1, len, want ? want : "", wlen);
}

static void talk(int a, int b)
{
	put(a, "there");
	is(b, "there");
	put(b, "and back");
	is(a, "and back");
}

static void send_fd(int sock, int fd, const char *text)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { 0 };
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	CHECK(sendmsg(sock, &mh, 0) == (ssize_t)strlen(text), "sendmsg: %m");
}

/* Receives up to room bytes; *ret_fd is -1 where none came; *cred.pid is 0 likewise. */
static void recv_all(int sock, char *buf, size_t room, int *ret_fd, struct ucred *cred, char *from)
{
	union {
		char buf[256];
		struct cmsghdr align;
	} u;
	struct sockaddr_un sa = { 0 };
	struct iovec iov = { buf, room - 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf),
			     .msg_name = &sa, .msg_namelen = sizeof(sa) };
	ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT);

	CHECK(n >= 0, "recvmsg: %m");
	buf[n] = 0;
	*ret_fd = -1;
	memset(cred, 0, sizeof(*cred));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(cred, CMSG_DATA(c), sizeof(*cred));
	}
	if (from)
		snprintf(from, sizeof(sa.sun_path), "%s", mh.msg_namelen > 2 ? sa.sun_path[0] ? sa.sun_path :
				sa.sun_path + 1 : "");
}

/* With an argument: looks at the queue that failed moves have looked at before, and that hides an empty
 * datagram from the next look (unix_queue.c). */
int main(int argc, char **argv)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	int pair[3][2], half[2], gone[2], reset[2], inflight[2], cred[2], split[2];
	int ls, la, cs, ca, as, aa, waiting, early, relative, hidden, hc, ha;
	int devlog, logger, outer[2], inner[2], self[2], file_tcp;
	int ds, dc, dn, dead, dgone, tmp, file, got_fd, pipefd[2], on = 1, v;
	char buf[512], from[128];
	struct timeval tv = { 7, 250000 };
	struct stat st, st2;
	struct ucred uc;
	socklen_t len;
	char *big = malloc(150000), *big2 = malloc(150000);

	umask(0);
	for (int i = 0; i < 3; i++) {
		MUST(socketpair(AF_UNIX, types[i], 0, pair[i]));
		put(pair[i][0], "one");
		put(pair[i][0], "two");
		put(pair[i][1], "other way");
	}
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	put(half[0], "last words");
	MUST(shutdown(half[0], SHUT_WR));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, gone));
	put(gone[1], "left behind");
	MUST(close(gone[1]));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, reset));
	put(reset[0], "never read");
	MUST(close(reset[1]));

	/* A big stream queue, with descriptors between bytes. */
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inflight));
	for (int i = 0; i < 150000; i++)
		big[i] = (char)(i * 31 >> 3);
	CHECK(write(inflight[0], big, 150000) == 150000, "write: %m");
	MUST(pipe(pipefd));
	CHECK(write(pipefd[1], "in a pipe", 9) == 9, "write");
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, split));
	put(split[0], "aaaa");
	send_fd(split[0], pipefd[0], "bbbb");
	put(split[0], "cccc");
	MUST(close(pipefd[0]));
	/* A datagram with a descriptor of a socket that is nowhere else. */
	send_fd(pair[1][0], split[1], "with fd");

	/* Sockets that are only on their way: one in the queue of another, which is in a queue too, and one
	 * in its own. */
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, outer));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, self));
	put(inner[0], "inside");
	send_fd(inner[0], file_tcp = MUST(socket(AF_INET, SOCK_STREAM, 0)), "tcp");
	MUST(close(file_tcp));
	send_fd(outer[0], inner[1], "inner");
	MUST(close(inner[1]));
	send_fd(self[0], self[1], "myself");

	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, cred));
	MUST(setsockopt(cred[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	put(cred[0], "from whom");

	/* By path, abstract, with backlog. */
	ls = bound(SOCK_STREAM, "/work/listen.sock");
	MUST(chmod("/work/listen.sock", 0640));
	MUST(listen(ls, 5));
	cs = connected(SOCK_STREAM, "/work/listen.sock");
	ca = MUST(accept(ls, NULL, NULL));
	put(cs, "to the server");
	waiting = connected(SOCK_STREAM, "/work/listen.sock");
	la = bound(SOCK_SEQPACKET, "@abstract");
	MUST(listen(la, 3));
	as = bound(SOCK_SEQPACKET, "@client");
	join(as, "@abstract");
	aa = MUST(accept(la, NULL, NULL));
	MUST(setsockopt(aa, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	on = 98304;
	MUST(setsockopt(aa, SOL_SOCKET, SO_SNDBUF, &on, sizeof(on)));

	/* Relative name; unbound; a name whose node is gone and then somebody else's. */
	MUST(chdir("/work"));
	relative = bound(SOCK_DGRAM, "./relative.sock");
	MUST(chdir("/"));
	early = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	hidden = bound(SOCK_STREAM, "/work/hidden.sock");
	MUST(listen(hidden, 1));
	hc = connected(SOCK_STREAM, "/work/hidden.sock");
	ha = MUST(accept(hidden, NULL, NULL));
	MUST(unlink("/work/hidden.sock"));
	tmp = bound(SOCK_STREAM, "/work/hidden.sock");
	MUST(listen(tmp, 1));

	/* Datagrams by name, from a sender with a name and one that is gone. */
	ds = bound(SOCK_DGRAM, "/work/dgram.sock");
	dn = bound(SOCK_DGRAM, "/work/sender.sock");
	join(dn, "/work/dgram.sock");
	put(dn, "from a name");
	dc = connected(SOCK_DGRAM, "/work/dgram.sock");
	if (argc < 2)
		put(dc, "");
	put(dc, "from nobody");
	dead = bound(SOCK_DGRAM, "@dead");
	dgone = connected(SOCK_DGRAM, "@dead");
	MUST(close(dead));
	/* In a file system that travels by itself, and open to all. */
	devlog = bound(SOCK_DGRAM, "/dev/log");
	logger = connected(SOCK_DGRAM, "/dev/log");
	put(logger, "<13>before");
	MUST(stat("/work/listen.sock", &st));
	file = MUST(open("/work/plain", O_RDWR | O_CREAT, 0600));

	state_wait();

	for (int i = 0; i < 3; i++) {
		if (types[i] == SOCK_STREAM) {
			is(pair[i][1], "onetwo");
		} else {
			is(pair[i][1], "one");
			is(pair[i][1], "two");
		}
		is(pair[i][0], "other way");
		if (i != 1)
			talk(pair[i][0], pair[i][1]);
	}
	is(half[1], "last words");
	is_error(half[1], 0);
	put(half[1], "still open");
	is(half[0], "still open");
	CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "half is open again");
	is(gone[0], "left behind");
	is_error(gone[0], 0);
	is_error(reset[0], ECONNRESET);
	is_error(reset[0], 0);

	for (size_t at = 0; at < 150000;) {
		ssize_t n = read(inflight[1], big2 + at, 150000 - at);

		CHECK(n > 0, "the big queue ended at %zu", at);
		at += (size_t)n;
	}
	CHECK(!memcmp(big, big2, 150000), "the big queue changed");
	recv_all(split[1], buf, 5, &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "aaaa") && got_fd < 0, "split: \"%s\" with fd %d", buf, got_fd);
	recv_all(split[1], buf, sizeof(buf), &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "bbbb") && got_fd >= 0, "split: \"%s\" with fd %d", buf, got_fd);
	CHECK(read(got_fd, buf, sizeof(buf)) == 9 && !memcmp(buf, "in a pipe", 9), "the pipe in flight is empty");
	is(split[1], "cccc");
	recv_all(pair[1][1], buf, sizeof(buf), &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "with fd") && got_fd >= 0, "dgram: \"%s\" with fd %d", buf, got_fd);
	talk(split[0], got_fd);
	recv_all(outer[1], buf, sizeof(buf), &inner[1], &uc, NULL);
	CHECK(!strcmp(buf, "inner") && inner[1] >= 0, "outer: \"%s\" with fd %d", buf, inner[1]);
	recv_all(inner[1], buf, 7, &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "inside") && got_fd < 0, "inner: \"%s\" with fd %d", buf, got_fd);
	recv_all(inner[1], buf, sizeof(buf), &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "tcp") && got_fd >= 0, "inner: \"%s\" with fd %d", buf, got_fd);
	MUST(listen(got_fd, 1));
	talk(inner[0], inner[1]);
	recv_all(self[1], buf, sizeof(buf), &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "myself") && got_fd >= 0, "self: \"%s\" with fd %d", buf, got_fd);
	put(self[0], "to both");
	is(got_fd, "to both");
	recv_all(cred[1], buf, sizeof(buf), &got_fd, &uc, NULL);
	CHECK(!strcmp(buf, "from whom") && uc.pid == getpid() && uc.uid == getuid() && uc.gid == getgid(),
	      "cred: \"%s\" pid %d uid %u gid %u", buf, uc.pid, uc.uid, uc.gid);

	is(ca, "to the server");
	talk(cs, ca);
	name_is(ls, "/work/listen.sock");
	name_is(ca, "/work/listen.sock");
	name_is(cs, NULL);
	MUST(stat("/work/listen.sock", &st2));
	CHECK(st.st_mode == st2.st_mode && st.st_uid == st2.st_uid && st.st_gid == st2.st_gid, "the node changed");
	tmp = MUST(accept4(ls, NULL, NULL, 0));
	talk(waiting, tmp);
	close(tmp);
	tmp = connected(SOCK_STREAM, "/work/listen.sock");
	v = MUST(accept(ls, NULL, NULL));
	talk(tmp, v);
	talk(as, aa);
	name_is(as, "@client");
	name_is(aa, "@abstract");
	len = sizeof(tv);
	memset(&tv, 0, sizeof(tv));
	MUST(getsockopt(aa, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	CHECK(tv.tv_sec == 7, "timeout %ld", (long)tv.tv_sec);
	len = sizeof(v);
	MUST(getsockopt(aa, SOL_SOCKET, SO_SNDBUF, &v, &len));
	CHECK(v == 2 * 98304, "send buffer %d", v);
	len = sizeof(uc);
	MUST(getsockopt(ca, SOL_SOCKET, SO_PEERCRED, &uc, &len));
	CHECK(uc.uid == getuid() && uc.gid == getgid() && uc.pid == getpid(), "peer: pid %d uid %u gid %u", uc.pid,
	      uc.uid, uc.gid);
	MUST(getsockopt(cs, SOL_SOCKET, SO_PEERCRED, &uc, &len));
	CHECK(uc.pid == getpid(), "listener: pid %d", uc.pid);
	MUST(getsockopt(half[0], SOL_SOCKET, SO_PEERCRED, &uc, &len));
	CHECK(uc.pid == getpid(), "pair: pid %d", uc.pid);

	name_is(relative, "./relative.sock");
	tmp = connected(SOCK_DGRAM, "/work/relative.sock");
	put(tmp, "found");
	is(relative, "found");
	CHECK(fcntl(early, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is gone");
	name_is(hidden, "/work/hidden.sock");
	name_is(ha, "/work/hidden.sock");
	talk(hc, ha);
	tmp = connected(SOCK_STREAM, "/work/hidden.sock");
	CHECK(recv(hidden, buf, 1, MSG_DONTWAIT) < 0, "hidden");

	recv_all(ds, buf, sizeof(buf), &got_fd, &uc, from);
	CHECK(!strcmp(buf, "from a name") && !strcmp(from, "/work/sender.sock"), "\"%s\" from \"%s\"", buf, from);
	if (argc < 2) {
		recv_all(ds, buf, sizeof(buf), &got_fd, &uc, from);
		CHECK(!buf[0], "\"%s\" instead of an empty datagram", buf);
	}
	recv_all(ds, buf, sizeof(buf), &got_fd, &uc, from);
	CHECK(!strcmp(buf, "from nobody") && !from[0], "\"%s\" from \"%s\"", buf, from);
	is(devlog, "<13>before");
	put(logger, "<13>after");
	is(devlog, "<13>after");
	tmp = connected(SOCK_DGRAM, "/dev/log");
	put(tmp, "<13>new");
	is(devlog, "<13>new");
	MUST(stat("/dev/log", &st2));
	CHECK(S_ISSOCK(st2.st_mode) && (st2.st_mode & 0777) == 0777, "/dev/log has mode %o", st2.st_mode);
	put(dc, "again");
	is(ds, "again");
	CHECK(send(dgone, "x", 1, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED, "dgone: %m");
	CHECK(write(file, "x", 1) == 1, "write");
	state_pass();
}

/* deaf - listening TCP sockets that hear no new callers while the container is taken.
 *
 * Between the freeze and the moment the link is silenced the kernel would go on accepting connections
 * for a tree that stands, and a connection that waits in a backlog cannot be carried.  So right after
 * the freeze every listener gets a socket filter that drops a first SYN: it is lost, and sent again, to the
 * target by then.  Everything else passes, so that a handshake that has begun comes to its end (a
 * client whose last ACK were dropped would think that it is connected).
 *
 * A listener with a filter of the application's is left alone (its filter could not be put back).  The
 * filter goes away with part "sock" at the end of the dump, whatever the result; if the engine
 * is killed, `recover` knows it by its instructions.  A connection whose handshake ends meanwhile inherits
 * it, where it does nothing; it is taken off when that socket is captured or recovered. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/sock/deaf.h"
#include "cr/sock/owned.h"
#include "cr/sock/sock.h"

/* At a TCP socket a filter sees the packet from the TCP header on; byte 13 has the flags. */
static struct sock_filter drop_syn[] = {
	{ BPF_LD | BPF_B | BPF_ABS, 0, 0, 13 },
	{ BPF_ALU | BPF_AND | BPF_K, 0, 0, 0x12 }, /* SYN, ACK */
	{ BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0x02 },
	{ BPF_RET | BPF_K, 0, 0, 0 },
	{ BPF_RET | BPF_K, 0, 0, 0xffffffff },
};

/* 0: no filter; 1: this one; 2: another; -errno. */
static int filter_of(int fd)
{
	struct sock_filter got[array_len(drop_syn)];
	socklen_t n = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0)
		return -errno;
	if (n != array_len(drop_syn))
		return n ? 2 : 0;
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, &n) < 0)
		return -errno;
	return memcmp(got, drop_syn, sizeof(got)) ? 2 : 1;
}

void deaf_heal(int fd)
{
	if (filter_of(fd) == 1)
		(void)sock_set_int(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}

static int deafen(struct deaf *l, int fd_, uint32_t ino)
{
	struct sock_fprog prog = { array_len(drop_syn), drop_syn };
	auto_fd int fd = fd_;
	int r;

	if (filter_of(fd) != 0)
		return 0;
	if (array_grow(l->socks, l->n, l->cap) < 0)
		return -ENOMEM;
	r = sock_set(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
	if (r < 0)
		return r == -EPERM ? 0 : r; /* locked by the application */
	l->socks[l->n].ino = ino;
	l->socks[l->n++].fd = fd_take(&fd);
	return 0;
}

/* Descriptors of one process that are among the listeners not found yet. */
static int deafen_process(struct deaf *l, pid_t pid, const struct idiag *listeners, bool *found, size_t *left)
{
	auto_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	char path[32], link[64];
	struct dirent *de;
	DIR *dir;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = pidfd >= 0 ? opendir(path) : NULL;
	while (dir && r == 0 && *left && (de = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), de->d_name, link, sizeof(link) - 1);
		int number, fd;
		uint32_t ino;

		if (n < 0)
			continue;
		link[n] = 0;
		if (sscanf(link, "socket:[%u]", &ino) != 1 || !ino || parse_int(de->d_name, &number) < 0)
			continue;
		for (size_t i = 0; r == 0 && i < idiag_count(listeners); i++) {
			if (found[i] || idiag_at(listeners, i)->ino != ino)
				continue;
			found[i] = true;
			--*left;
			fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
			r = fd < 0 ? 0 : deafen(l, fd, ino);
		}
	}
	if (dir)
		closedir(dir);
	return r;
}

/* All processes of a cgroup and of those below it. */
static int deafen_cgroup(struct deaf *l, int cgroup, const struct idiag *listeners, bool *found, size_t *left,
			 int depth)
{
	auto_free char *text = NULL;
	char *save = NULL;
	struct dirent *de;
	int fd, r = 0;
	DIR *dir;

	if (depth > 32 || fd_read_file_at(cgroup, "cgroup.procs", 1 << 20, &text, NULL) < 0)
		return 0;
	for (char *p = strtok_r(text, "\n", &save); p && r == 0 && *left; p = strtok_r(NULL, "\n", &save)) {
		int pid;

		if (parse_int(p, &pid) == 0 && pid > 0)
			r = deafen_process(l, pid, listeners, found, left);
	}
	fd = openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir)
		return r;
	while (r == 0 && *left && (de = readdir(dir))) {
		auto_fd int below = -1;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		below = openat(dirfd(dir), de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below >= 0)
			r = deafen_cgroup(l, below, listeners, found, left, depth + 1);
	}
	closedir(dir);
	return r;
}

static int deafen_owned(struct deaf *l, const struct owned *owned, const struct idiag *listeners)
{
	int r = 0;

	for (size_t i = 0; i < idiag_count(listeners) && r == 0; i++) {
		const struct owned_sock *o = owned_find(owned, idiag_at(listeners, i)->ino);
		auto_fd int pidfd = o ? (int)syscall(SYS_pidfd_open, o->pid, 0) : -1;
		int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, o->fd, 0);

		r = fd < 0 ? 0 : deafen(l, fd, o->ino);
	}
	return r;
}

int deaf_begin(struct deaf *l, int cgroup, const struct owned *owned, int diag)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t f = 0; f < array_len(families); f++) {
		struct idiag *listeners = NULL;
		int r = idiag_read(diag, families[f], IPPROTO_TCP, 1u << TCP_LISTEN, &listeners, NULL);
		size_t left = r < 0 ? 0 : idiag_count(listeners);
		auto_free bool *found = calloc(left + 1, sizeof(bool));

		if (r == 0 && !found)
			r = -ENOMEM;
		if (r == 0 && left)
			r = cgroup < 0 ? deafen_owned(l, owned, listeners) :
					 deafen_cgroup(l, cgroup, listeners, found, &left, 0);
		idiag_free(listeners);
		if (r < 0)
			return r;
	}
	return 0;
}

bool deaf_is(const struct deaf *l, uint32_t ino)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->socks[i].ino == ino)
			return true;
	return false;
}

void deaf_end(struct deaf *l)
{
	for (size_t i = 0; i < l->n; i++) {
		(void)sock_set_int(l->socks[i].fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
		fd_close(&l->socks[i].fd);
	}
	free(l->socks);
	*l = (struct deaf){ 0 };
}

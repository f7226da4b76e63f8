/* sock_diag - what the kernel tells about all sockets of a network namespace at once.
 *
 * One netlink dump for a family replaces a system call for each socket, and tells what no call on a
 * descriptor does: a unix socket's peer, the connections that wait in a backlog, the inode of a bound
 * node, the far end of a connection that is being made. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

/* A socket of another network namespace (netns_fd: an nsfs descriptor).  The calling thread enters it
 * for the length of one call.  SOCK_CLOEXEC is added.  -errno. */
int netns_socket(int netns_fd, int family, int type, int protocol);
/* The namespace a socket belongs to, as an nsfs descriptor; -errno. */
int netns_of_socket(int sock);

/* A netlink socket that speaks sock_diag inside that namespace; -errno. */
int sock_diag_open(int netns_fd);

/* ---- unix ---- */
struct udiag_sock {
	uint32_t ino;
	uint8_t type;     /* SOCK_* */
	uint8_t state;    /* TCP_*: LISTEN, ESTABLISHED, CLOSE */
	uint8_t shutdown; /* 1 receive, 2 send */
	bool has_peer;    /* a peer is, or was, there */
	uint32_t peer;    /* its inode; 0: not accepted yet, or closed */
	uint32_t rqueue;  /* bytes to read; listening: connections that wait */
	uint32_t wqueue;  /* bytes not read by the peer; listening: the backlog */
	bool bound_node;  /* bound to a node of a file system */
	uint32_t node_ino;
	size_t name_len;  /* sun_path as bound, 0: not bound; a path has its NUL */
	char name[109];
	uint32_t *icons;  /* listening: inodes of the clients that wait (0: gone again) */
	size_t n_icons;
};
struct udiag;
int udiag_read(int diag_fd, struct udiag **ret, struct err *e);
struct udiag *udiag_free(struct udiag *u);
size_t udiag_count(const struct udiag *u);
const struct udiag_sock *udiag_at(const struct udiag *u, size_t i); /* ascending by inode */
const struct udiag_sock *udiag_find(const struct udiag *u, uint32_t ino);
size_t udiag_listeners(const struct udiag *u);
const struct udiag_sock *udiag_listener(const struct udiag *u, size_t i);
/* The listening socket in whose backlog this client waits; NULL: none. */
const struct udiag_sock *udiag_listener_of(const struct udiag *u, uint32_t client_ino);

/* ---- inet ---- */
struct idiag_sock {
	uint32_t ino; /* 0: nobody holds it */
	uint8_t family, state;
	uint16_t sport, dport; /* host order */
	uint8_t src[16], dst[16];
	uint32_t ifindex;
	uint32_t rqueue, wqueue;
	uint8_t shutdown; /* 1 receive, 2 send */
	bool md5, has_ulp;
};
struct idiag;
/* All sockets of a family (AF_INET, AF_INET6) and protocol (IPPROTO_TCP, IPPROTO_UDP) in one of these
 * states (bit 1 << TCP_*). */
int idiag_read(int diag_fd, int family, int protocol, uint32_t states, struct idiag **ret, struct err *e);
struct idiag *idiag_free(struct idiag *u);
size_t idiag_count(const struct idiag *u);
const struct idiag_sock *idiag_at(const struct idiag *u, size_t i); /* ascending by inode */
const struct idiag_sock *idiag_find(const struct idiag *u, uint32_t ino); /* ino != 0 */

/* Ends a TCP socket that was listed (TIME_WAIT: it is just forgotten).  -EOPNOTSUPP: not with this kernel; -ENOENT: it
 * has gone by itself. */
int idiag_destroy(int diag_fd, const struct idiag_sock *s);

/* ---- parsing, apart for tests: one netlink message's body ---- */
int udiag_parse(const void *body, size_t len, struct udiag_sock *ret); /* icons is malloc'd */
int idiag_parse(const void *body, size_t len, struct idiag_sock *ret);

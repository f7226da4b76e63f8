/* unix - between the halves of unix sockets (dump, queues, restore). */
#pragma once
#include "cr/sock/sock.h"

/* Names at GW_LEVEL_OWN in a unix socket's gw_sock_extra. */
enum {
	UNIX_OWN_ROOT = 1,     /* string: the folder from which the absolute name leads to the node */
	UNIX_OWN_WAITS_AT = 2, /* u32: inode of the listener in whose backlog it waits */
	UNIX_OWN_HAD_PEER = 3, /* u32: it is connected, even if the peer is gone */
	UNIX_OWN_ERROR = 4,    /* u32: an error is to be reported (reset by the peer) */
};

/* A unix socket of a restore: rfile.priv. */
struct usk {
	struct rfile *f;
	const UnixSkEntry *u;
	const GwSockExtra *x;
	struct usk *peer;     /* NULL: none, or left behind */
	struct usk *outside;  /* the far end that somebody outside of the tree has (unix_outside.c) */
	struct usk *listener; /* whose name an accepted socket has, or at which it waits */
	bool planned, made;
	int gone_peer;        /* the far end of a connection whose peer is gone, to be closed at the end */
};

/* ---- far ends outside of a checkpoint's tree (unix_outside.c) ---- */
int unix_outside_check(struct dump *d, struct ofile *f, const struct udiag_sock *u, struct err *e);
/* When everything is known. */
int unix_outside_verify(struct dump *d, const struct ofile *f, const struct udiag_sock *u, struct err *e);
/* *ret_ino: the record of the far end, which it will be connected to again; else as it was. */
int unix_outside_put(struct dump *d, struct ofile *f, const struct udiag_sock *u, uint32_t *ret_ino, struct err *e);
bool unix_is_outside(const struct usk *s);
int unix_outside_load(struct restore *r, const struct usk *s, struct err *e);
int unix_outside_build(struct usk *s, struct err *e);
int unix_outside_connect(struct restore *r, struct usk *s, struct err *e);

/* The other end of a listener's connection: it has the listener's name and node. */
bool unix_is_accepted(struct dump *d, const struct udiag_sock *u);
/* The value of an entry at GW_LEVEL_OWN; NULL: none. */
const GwSockopt *unix_own(const struct usk *s, int name);

int unix_load(struct restore *r, struct rfile *f, struct err *e);
int unix_build(struct restore *r, struct rfile *f, struct err *e);
int unix_placed(struct restore *r, struct rfile *f, struct err *e);
/* All sockets of the restore, relations resolved. */
int unix_plan(struct restore *r, struct err *e);
struct usk *unix_by_ino(struct sock_restore *s, uint32_t ino);

/* Puts what waits to be read back into the queue of s: sent by `from`, a socket connected to it, or for
 * datagrams without a connection (from = -1) by whoever sent them. */
int unix_queue_fill(struct restore *r, struct usk *s, int from, struct err *e);

/* ---- calls whose maker the kernel records, and names (unix_make.c) ---- */
/* Binds fd by the name of s.  aside: where nobody else sees the node (names that are gone, or needed
 * for a moment only); else at its place, with the node's recorded mode and owner. */
int unix_bind(struct restore *r, const struct usk *s, int fd, bool aside, struct err *e);
/* `as`: the socket whose SO_PEERCRED says who did it; NULL: nobody will ask. */
int unix_listen(struct restore *r, const struct usk *as, int fd, int backlog, struct err *e);
int unix_socketpair(struct restore *r, const struct usk *as, int type, int ret_fds[2], struct err *e);
/* The living task that made the call and can make it again; NULL: none. */
struct rtask *unix_maker(struct restore *r, const struct usk *as);
/* It cannot yet: build this socket late. */
bool unix_maker_awaited(struct restore *r, const struct usk *as);
int unix_maker_socketpair(struct rtask *t, int type, int ret_fds[2]);
int unix_maker_listen(struct rtask *t, int fd, int backlog);
/* node: of the socket to connect to, -1: goes by its name. */
int unix_maker_connect(struct rtask *t, int c, const struct sockaddr_un *to, socklen_t len, int node);
/* Connects c to the bound socket `to`, whatever its name leads to.  Does not wait. */
int unix_connect(struct restore *r, const struct usk *as, int c, int to, struct err *e);

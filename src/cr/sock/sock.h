/* sock - what the kinds of sockets share.
 *
 * Dump.  Part "sock" (ahead of "files") takes one sock_diag dump of the container's network namespace
 * per phase; the kinds look their sockets up in it by inode.  Part "sock_end" (behind "files") checks
 * what can only be seen when all sockets are captured.
 *
 * Restore.  The kinds make, bind and connect their sockets in `build`.  Everything that acts on other
 * sockets or shows on the network comes in sock_end's `finish`, when all tasks and all files exist:
 * queues of unix sockets, half-closed directions, options that must come last, and TCP's repair mode
 * is switched off. */
#pragma once
#include "cr/cr.h"
#include "cr/sock/deaf.h"
#include "sys/sock_diag.h"

extern const struct cr_part cr_part_sock, cr_part_sock_end;
extern const struct file_kind file_kind_unix, file_kind_inet, file_kind_netlink, file_kind_packet;

/* Switches off what a killed engine may have left on the sockets of this process (TCP repair mode, an
 * offset for peeking at unix sockets). */
int sock_recover(pid_t pid, struct err *e);

/* ---- dump ---- */
struct opt_ref;
struct netlock;
/* Level of entries in gw_sock_extra.opts that are not socket options but facts of our own. */
#define GW_LEVEL_OWN 0x47570000
struct sock_dump {
	struct deaf deaf; /* since the freeze */
	struct netlock *lock; /* of a checkpoint; NULL: none yet (netlock.h) */
	int netns_fd;
	uint64_t netns_ino;
	int diag; /* for the lists: */
	struct udiag *unix_socks;
	struct idiag *tcp[2]; /* IPv4, IPv6 */
	struct err list_failed; /* why one of them could not be had */
	int list_error;
	struct opt_ref *refs;
	size_t n_refs, cap_refs;
	struct ofile **by_ino; /* all sockets of d->ofiles, ascending by inode */
	size_t n_by_ino, indexed;
	struct tcp_read **reads; /* connections of which the first half is read */
	size_t n_reads, cap_reads;
	bool tcp_swept;
	size_t flight_asked; /* sock_in_flight: d->n_ofiles when it was found out */
	bool in_flight;
	uint32_t *outside; /* far ends of unix sockets that have a record */
	size_t n_outside, cap_outside;
	struct silenced {
		int fd, reuse; /* the descriptor is the open file's; SO_REUSEADDR as it was */
	} *silenced; /* inet_silence */
	size_t n_silenced, cap_silenced;
};
struct sock_dump *sock_dump_of(struct dump *d);
/* The namespace's lists, read when somebody asks first: a tree without sockets of a kind does not pay for the walk
 * through all of the kernel's.  NULL, and every look-up without result: it failed, which ends the phase (part.c). */
const struct udiag *sock_unix_list(struct dump *d);
const struct idiag *sock_tcp_list(struct dump *d, size_t which);
/* The open file with this socket inode; NULL: not in the tree. */
struct ofile *sock_by_ino(struct dump *d, uint32_t ino);
/* Right after the freeze: no new connections, and what cannot be carried now gets a moment (settle.c). */
int sock_settled(struct dump *d, struct err *e);
/* Whether something waits in a unix socket's queue, and so perhaps descriptors that no table has: for
 * kinds that look for the other end of something in the check, before queues are read. */
bool sock_in_flight(struct dump *d);
/* SO_DOMAIN; -1: not a socket or not readable. */
int sock_domain(const struct ofile *f);
/* SO_DOMAIN, SO_TYPE, SO_PROTOCOL of f; false: not a socket or not readable. */
bool sock_is(const struct ofile *f, int *domain, int *type, int *protocol);
/* Checks that every kind does: same namespace, options that can be carried.  Adds refusals. */
int sock_check(struct dump *d, struct ofile *f, struct err *e);

/* ---- options (opts.c) ---- */
/* Everything that can be read and differs from a fresh socket of the same sort; *ret_o's fields and
 * *ret_x are malloc'd (sock_opts_done, gw_sock_extra__free_unpacked). */
int sock_opts_read(struct dump *d, struct ofile *f, SkOptsEntry *ret_o, GwSockExtra **ret_x,
		   struct err *e);
void sock_opts_done(SkOptsEntry *o);
void sock_opts_refs_free(struct sock_dump *s);
/* Before bind and connect; the addresses can be reused until sock_opts_late. */
int sock_opts_early(int fd, const SkOptsEntry *o, const GwSockExtra *x, struct err *e);
int sock_opts_late(int fd, const SkOptsEntry *o, const GwSockExtra *x, struct err *e);
/* Owner of the socket: which user its packets are from. */
int sock_owner_restore(struct restore *r, int fd, const GwSockExtra *x, struct err *e);
int gw_sock_add(GwSockExtra *x, int level, int name, const void *value, size_t len);
int sock_set(int fd, int level, int name, const void *value, size_t len);
int sock_set_int(int fd, int level, int name, int value);
int sock_get_int(int fd, int level, int name, int *ret);

/* ---- restore ---- */
struct usk;
struct isk;
struct sock_restore {
	struct netlock *lock; /* NULL: none */
	struct usk **unix_socks; /* ascending by inode */
	size_t n_unix, cap_unix;
	bool unix_sorted;
	bool late; /* all tasks stand, with their own credentials */
	struct isk **inet_socks;
	size_t n_inet, cap_inet;
};
struct sock_restore *sock_restore_of(struct restore *r);
/* The GW_SOCK record of a file; NULL: none. */
const GwSockExtra *sock_extra_of(struct restore *r, const struct rfile *f);

/* ---- unix ---- */
int unix_queue_capture(struct dump *d, struct ofile *f, const struct udiag_sock *u, struct err *e);
int unix_dump_verify(struct dump *d, struct err *e);
int unix_finish(struct restore *r, struct err *e);
void unix_restore_free(struct sock_restore *s);

/* ---- inet ---- */
void inet_dump_free(struct sock_dump *s);
/* Whether a socket's TCP connection is dropped by the dump (--tcp-close). */
bool inet_is_dropped(const struct dump *d, unsigned tcp_state);
/* From here on closing the tree's connections sends nothing, and nobody has them when they are closed. */
int inet_silence(struct dump *d, struct err *e);
void inet_unsilence(struct dump *d);
int inet_finish(struct restore *r, struct err *e);
/* The same as inet_silence, of a restore that fails. */
void inet_restore_silence(struct restore *r);
void inet_restore_free(struct sock_restore *s);

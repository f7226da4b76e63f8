/* rpc - CRIU's requests over a SOCK_SEQPACKET socket: a packet is a criu_req, its answer a criu_resp.
 * Everything a peer sends is untrusted: bounded, and known fields that cannot be served are refused by name. */
#pragma once
#include "engine/options.h"
#include "rpc.pb-c.h"

#define RPC_MAX (1u << 20) /* bytes of one request */

/* The other end of a connection. */
struct rpc_peer {
	int sock;
	pid_t pid;
	int pidfd; /* -1: the kernel gives none; then /proc is asked */
	bool inherited; /* swrk: the peer is our parent, its descriptors for us came with us */
};

/* ---- one connection ---- */

int rpc_peer_of(int sock, bool inherited, struct rpc_peer *ret, struct err *e);
void rpc_peer_done(struct rpc_peer *p);
/* Serves requests until the peer closes, or one without keep_open is answered. */
int rpc_serve(const struct rpc_peer *p, const struct options *defaults, struct err *e);

/* A descriptor of the peer's, opened or copied for us. */
int rpc_peer_fd(const struct rpc_peer *p, int fd, struct err *e);

/* ---- messages ---- */

/* A request; *ret NULL and 0: the peer has closed.  -EBADMSG: malformed.  Freed by criu_req__free_unpacked. */
int rpc_receive(int sock, CriuReq **ret, struct err *e);
/* fd -1: none goes along. */
int rpc_send(int sock, const CriuResp *resp, int fd, struct err *e);
int rpc_unpack(const uint8_t *data, size_t len, CriuReq **ret, struct err *e);

/* Puts the peer's options into o (rpc_opts.c); strings of m have to live as long as o.  Descriptors are not
 * touched: images_dir_fd, work_dir_fd and status_fd are the caller's to take. */
int rpc_opts_apply(struct options *o, const CriuOpts *m, bool inherited, struct err *e);
/* The numbers of fields that rpc.proto does not know, for the log; "" where there are none. */
void rpc_unknown(const ProtobufCMessage *m, char *ret, size_t size);

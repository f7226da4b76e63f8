/* tcp - one TCP connection out of a socket and into another, by TCP_REPAIR.  Works on descriptors alone. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

/* The kernel's struct tcp_repair_window. */
struct tcp_window {
	uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
};

struct tcp_conn {
	uint8_t state;        /* TCP_*, at the reading of the send queue */
	uint8_t state_in;     /* at the reading of the receive queue (it may have moved on) */
	uint32_t out_seq;     /* of the first byte of out: not yet acknowledged */
	uint32_t in_seq;      /* of the first byte of in: not yet read */
	uint8_t *out, *in;    /* malloc'd */
	size_t out_len, in_len, unsent; /* unsent: at the end of out */
	bool has_ts, has_sack, has_wscale;
	uint8_t snd_wscale, rcv_wscale;
	uint32_t mss_clamp;
	uint32_t timestamp;   /* the connection's own clock, low bit: in µs */
	struct tcp_window win;
	uint32_t rtt_us, rttvar_us; /* as estimated at the source; 0: not known */
};

/* Our FIN is sent (and acknowledged), the far end's FIN has come. */
static inline bool tcp_fin_sent(unsigned state)
{
	return state == 4 /* FIN_WAIT1 */ || state == 5 /* FIN_WAIT2 */ || state == 9 /* LAST_ACK */ ||
	       state == 11 /* CLOSING */;
}
static inline bool tcp_fin_acked(unsigned state)
{
	return state == 5;
}
static inline bool tcp_fin_received(unsigned state)
{
	return state == 8 /* CLOSE_WAIT */ || state == 9 || state == 11;
}
/* A state that tcp_read and tcp_write understand. */
bool tcp_state_known(unsigned state);

void tcp_conn_done(struct tcp_conn *c);

/* Repair mode for a while: SO_REUSEADDR, which leaving it clears, is put back. */
int tcp_repair_enter(int fd, int *ret_reuse);
int tcp_repair_leave(int fd, int reuse);

/* "192.0.2.1:80", "[2001:db8::1]:80" */
#define INET_TEXT_MAX 64
const char *inet_text(const struct sockaddr *sa, char ret[INET_TEXT_MAX]);

/* Reading takes two steps, because a connection may have both ends in the tree and their packets go on
 * being exchanged: first the send queues of ALL sockets, then the receive queues.  What moved in
 * between is then in both, never in neither.  Repair mode is left after each step, and SO_REUSEADDR, which
 * leaving it clears, is put back. */
int tcp_read_out(int fd, struct tcp_conn *ret, struct err *e);
int tcp_read_in(int fd, struct tcp_conn *c, struct err *e);

/* Makes the connection on a fresh socket with its options set.  It stays in repair mode: it answers, but
 * sends nothing by itself.  The send queue is empty until tcp_write_out. */
int tcp_write(int fd, const struct tcp_conn *c, const struct sockaddr *self, socklen_t self_len,
	      const struct sockaddr *peer, socklen_t peer_len, struct err *e);
/* Fills the send queue, and our FIN if it was sent. */
int tcp_write_out(int fd, const struct tcp_conn *c, struct err *e);
/* A connection made by repair waits 3 s (1 s at the tail) before it sends again what was lost in the
 * silence of the move, because it has seen no round trip yet.  So tcp_write_out put a byte into
 * the queue that the far end has acknowledged long ago, and here its acknowledgement comes, from us, with a
 * timestamp that tells the round trip time known at the source.  Without timestamps: nothing. */
int tcp_write_clock(int fd, const struct tcp_conn *c, const struct sockaddr *self,
		    const struct sockaddr *peer, struct err *e);
/* The far end's FIN, if it has come: a packet made by us.  Before tcp_write_end. */
int tcp_write_fin_received(const struct tcp_conn *c, const struct sockaddr *self,
			   const struct sockaddr *peer, struct err *e);
/* Leaves repair mode; what was not sent yet goes out now. */
int tcp_write_end(int fd, const struct tcp_conn *c, struct err *e);

/* ---- packets made by us, into a socket of this network namespace (forge.c) ---- */
enum { FORGE_FIN = 1, FORGE_RST = 4, FORGE_ACK = 16 };
/* A TCP segment without data, as if `from` had sent it to `to` (both AF_INET or both AF_INET6).
 * echo: our timestamp that it echoes (NULL: no timestamps).  Its own timestamp is 0, which the kernel takes
 * for "none yet", so that no later packet of the far end can be too old. */
int forge_tcp(const struct sockaddr *from, const struct sockaddr *to, uint32_t seq, uint32_t ack,
	      unsigned flags, uint16_t window, const uint32_t *echo, struct err *e);
int forge_udp(const struct sockaddr *from, const struct sockaddr *to, const void *data, size_t len,
	      struct err *e);

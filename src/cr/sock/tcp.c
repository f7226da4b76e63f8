/* tcp - a TCP connection by TCP_REPAIR.
 *
 * State: sequence numbers, both queues, what was agreed at the handshake (segment size, window scales,
 * SACK, timestamps with their clock's offset), the windows (TCP_REPAIR_WINDOW), half-closed
 * directions.  Read in repair mode by TCP_QUEUE_SEQ, MSG_PEEK and TCP_INFO; put back on a socket that
 * is bound and "connected" in repair mode, which sends nothing.
 *
 * Sent and acknowledged FINs have no interface.  Ours is queued by shutdown() in repair mode, and sent
 * again if need be; the far end's is a packet that we make (forge.c).
 *
 * Not covered: segments received out of order (never acknowledged as a whole, sent again), ECN, round trip
 * times and congestion window (learned again), urgent data (refused), TCP fast open in
 * progress, MD5 and AO keys, ULPs (refused by inet_dump.c). */
#include "cr/sock/tcp.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "cr/sock/sock.h"

#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP (-1)
#endif
#define X_TCP_RTO_MIN_US 45 /* Linux 6.15 */
#define RTO_FIRST_MIN_US 30000
#define RTO_FIRST_MAX_US 200000
#define QUEUE_NONE 0
#define QUEUE_IN 1
#define QUEUE_OUT 2
#define OPT_TS 1   /* bits of tcpi_options */
#define OPT_SACK 2
#define OPT_WSCALE 4

bool tcp_state_known(unsigned state)
{
	return state == TCP_ESTABLISHED || tcp_fin_sent(state) || tcp_fin_received(state);
}

void tcp_conn_done(struct tcp_conn *c)
{
	free(c->out);
	free(c->in);
	c->out = c->in = NULL;
}

const char *inet_text(const struct sockaddr *sa, char ret[INET_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;

		inet_ntop(AF_INET, &v4->sin_addr, addr, sizeof(addr));
		snprintf(ret, INET_TEXT_MAX, "%s:%u", addr, ntohs(v4->sin_port));
	} else {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

		inet_ntop(AF_INET6, &v6->sin6_addr, addr, sizeof(addr));
		snprintf(ret, INET_TEXT_MAX, "[%s]:%u", addr, ntohs(v6->sin6_port));
	}
	return ret;
}

/* ---- reading ---- */

int tcp_repair_enter(int fd, int *ret_reuse)
{
	int r = sock_get_int(fd, SOL_SOCKET, SO_REUSEADDR, ret_reuse);

	return r < 0 ? r : sock_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);
}

int tcp_repair_leave(int fd, int reuse)
{
	int r = sock_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	int r2 = sock_set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse);

	return r < 0 ? r : r2;
}

static int queue_seq(int fd, int queue, uint32_t *ret)
{
	int v, r = sock_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	if (r == 0)
		r = sock_get_int(fd, SOL_TCP, TCP_QUEUE_SEQ, &v);
	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

/* Exactly len bytes of the queue that TCP_REPAIR_QUEUE names. */
static int queue_copy(int fd, size_t len, uint8_t **ret)
{
	auto_free uint8_t *buf = malloc(len + 1);
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	n = len ? recv(fd, buf, len + 1, MSG_PEEK | MSG_DONTWAIT) : 0;
	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -EIO;
	*ret = ptr_take(buf);
	return 0;
}

static int info_get(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return getsockopt(fd, SOL_TCP, TCP_INFO, ret, &len) < 0 ? -errno : 0;
}

static int read_options(int fd, const struct tcp_info *ti, struct tcp_conn *c)
{
	int v, r;

	c->has_ts = ti->tcpi_options & OPT_TS;
	c->has_sack = ti->tcpi_options & OPT_SACK;
	c->has_wscale = ti->tcpi_options & OPT_WSCALE;
	c->snd_wscale = c->has_wscale ? ti->tcpi_snd_wscale : 0;
	c->rcv_wscale = c->has_wscale ? ti->tcpi_rcv_wscale : 0;
	r = sock_get_int(fd, SOL_TCP, TCP_MAXSEG, &v); /* in repair mode: the clamp that was agreed */
	if (r < 0)
		return r;
	c->mss_clamp = (uint32_t)v;
	r = sock_get_int(fd, SOL_TCP, TCP_TIMESTAMP, &v);
	if (r == 0)
		c->timestamp = (uint32_t)v;
	return r;
}

static int read_out(int fd, struct tcp_conn *c)
{
	int queued = 0, unsent = 0, r;
	struct tcp_info ti;
	uint32_t seq = 0;
	bool fin;

	r = info_get(fd, &ti);
	if (r < 0)
		return r;
	c->state = ti.tcpi_state;
	c->rtt_us = ti.tcpi_rtt;
	c->rttvar_us = ti.tcpi_rttvar;
	r = read_options(fd, &ti, c);
	if (r == 0)
		r = queue_seq(fd, QUEUE_OUT, &seq);
	if (r < 0)
		return r;
	if (ioctl(fd, SIOCOUTQ, &queued) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
		return -errno;
	/* A FIN takes a sequence number, and counts as queued until it is acknowledged. */
	fin = tcp_fin_sent(c->state) && !tcp_fin_acked(c->state);
	if (fin) {
		queued--;
		unsent -= unsent > 0;
	}
	if (queued < 0 || unsent < 0 || unsent > queued)
		return -EIO;
	c->out_len = (size_t)queued;
	c->unsent = (size_t)unsent;
	c->out_seq = seq - (uint32_t)queued - (tcp_fin_sent(c->state) ? 1 : 0);
	return queue_copy(fd, c->out_len, &c->out);
}

static int read_in(int fd, struct tcp_conn *c)
{
	socklen_t len = sizeof(c->win);
	struct tcp_info ti;
	int unread = 0, r;
	uint32_t seq = 0;

	r = info_get(fd, &ti);
	if (r == 0)
		r = queue_seq(fd, QUEUE_IN, &seq);
	if (r < 0)
		return r;
	c->state_in = ti.tcpi_state;
	if (ioctl(fd, SIOCINQ, &unread) < 0)
		return -errno;
	if (getsockopt(fd, SOL_TCP, TCP_REPAIR_WINDOW, &c->win, &len) < 0)
		return -errno;
	c->in_len = (size_t)unread;
	c->in_seq = seq - (uint32_t)unread - (tcp_fin_received(c->state_in) ? 1 : 0);
	return queue_copy(fd, c->in_len, &c->in);
}

static int read_step(int fd, struct tcp_conn *c, int (*step)(int fd, struct tcp_conn *c), struct err *e)
{
	int r, end, reuse, offset = -1;

	/* An offset of the application's own would shift what we see. */
	if (sock_get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &offset) == 0 && offset >= 0)
		(void)sock_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	r = tcp_repair_enter(fd, &reuse);
	if (r == 0) {
		r = step(fd, c);
		end = tcp_repair_leave(fd, reuse);
		if (r == 0)
			r = end;
	}
	if (offset >= 0)
		(void)sock_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, offset);
	return r < 0 ? err_sys(e, r, "a TCP connection (state %u) cannot be read", c->state) : 0;
}

int tcp_read_out(int fd, struct tcp_conn *ret, struct err *e)
{
	*ret = (struct tcp_conn){ 0 };
	return read_step(fd, ret, read_out, e);
}

int tcp_read_in(int fd, struct tcp_conn *c, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLPRI };

	if (poll(&p, 1, 0) == 1 && (p.revents & POLLPRI))
		return err_set(e, -EOPNOTSUPP, "a TCP connection holds urgent (out-of-band) data");
	return read_step(fd, c, read_in, e);
}

/* ---- writing ---- */

static int set_seq(int fd, int queue, uint32_t seq)
{
	int r = sock_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	return r < 0 ? r : sock_set(fd, SOL_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq));
}

static int write_options(int fd, const struct tcp_conn *c)
{
	struct tcp_repair_opt o[4];
	int n = 0, r;

	if (c->has_sack)
		o[n++] = (struct tcp_repair_opt){ .opt_code = TCPOPT_SACK_PERMITTED };
	if (c->has_wscale)
		o[n++] = (struct tcp_repair_opt){ .opt_code = TCPOPT_WINDOW,
						  .opt_val = c->snd_wscale | (uint32_t)c->rcv_wscale << 16 };
	if (c->has_ts)
		o[n++] = (struct tcp_repair_opt){ .opt_code = TCPOPT_TIMESTAMP };
	o[n++] = (struct tcp_repair_opt){ .opt_code = TCPOPT_MAXSEG, .opt_val = c->mss_clamp };
	r = sock_set(fd, SOL_TCP, TCP_REPAIR_OPTIONS, o, (size_t)n * sizeof(o[0]));
	if (r == 0 && c->has_ts)
		r = sock_set(fd, SOL_TCP, TCP_TIMESTAMP, &c->timestamp, sizeof(c->timestamp));
	return r;
}

/* The window as it was, moved to the sequence numbers that stand now (without the far end's FIN). */
static int write_window(int fd, const struct tcp_conn *c)
{
	uint32_t next = c->in_seq + (uint32_t)c->in_len;
	struct tcp_window w = c->win;

	if ((int32_t)(w.rcv_wup - next) > 0)
		w.rcv_wup = next;
	if ((int32_t)(w.snd_wl1 - (next + w.rcv_wnd)) > 0)
		w.snd_wl1 = next;
	return sock_set(fd, SOL_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w));
}

static int queue_write(int fd, int queue, const uint8_t *data, size_t len)
{
	int r = sock_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	while (r == 0 && len) {
		ssize_t n = send(fd, data, len > 65536 ? 65536 : len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (size_t)n;
	}
	return r;
}

/* Small segments take far more of a buffer than their bytes. */
static int make_room(int fd, const struct tcp_conn *c)
{
	size_t out = c->out_len * 4 + (256u << 10), in = c->in_len * 4 + (256u << 10);
	int now, r;

	if (out > INT32_MAX / 2 || in > INT32_MAX / 2)
		return -E2BIG;
	r = sock_get_int(fd, SOL_SOCKET, SO_SNDBUF, &now);
	if (r == 0 && (size_t)now < out)
		r = sock_set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)out);
	if (r == 0)
		r = sock_get_int(fd, SOL_SOCKET, SO_RCVBUF, &now);
	if (r == 0 && c->in_len && (size_t)now < in)
		r = sock_set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)in);
	return r;
}

/* One byte in front of the queue, see tcp_write_clock. */
static bool needs_clock(const struct tcp_conn *c)
{
	return c->out_len || tcp_fin_sent(c->state);
}

static uint32_t write_seq(const struct tcp_conn *c)
{
	return needs_clock(c) ? c->out_seq - 1 : c->out_seq;
}

int tcp_write(int fd, const struct tcp_conn *c, const struct sockaddr *self, socklen_t self_len,
	      const struct sockaddr *peer, socklen_t peer_len, struct err *e)
{
	char texts[2][INET_TEXT_MAX];
	int r = sock_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);

	if (r == 0)
		r = set_seq(fd, QUEUE_OUT, write_seq(c));
	if (r == 0)
		r = set_seq(fd, QUEUE_IN, c->in_seq);
	if (r < 0)
		return err_sys(e, r, "a TCP connection cannot be prepared");
	if (bind(fd, self, self_len) < 0) {
		/* The address may be gone from the link, as it may at the source. */
		if (errno != EADDRNOTAVAIL || sock_set_int(fd, SOL_IP, IP_FREEBIND, 1) < 0 ||
		    bind(fd, self, self_len) < 0)
			return err_sys(e, -errno, "a TCP connection's own address %s cannot be bound",
				       inet_text(self, texts[0]));
	}
	if (connect(fd, peer, peer_len) < 0)
		return err_sys(e, -errno, "the TCP connection of %s to %s cannot be made (%s)", inet_text(self, texts[0]),
			       inet_text(peer, texts[1]), errno == EADDRNOTAVAIL || errno == EADDRINUSE ?
			       "there is one between these ports already" : "is there a route?");
	r = write_options(fd, c);
	if (r == 0)
		r = make_room(fd, c);
	if (r < 0)
		return err_sys(e, r, "the options of a TCP connection cannot be set");
	r = queue_write(fd, QUEUE_IN, c->in, c->in_len);
	if (r == 0)
		r = write_window(fd, c);
	return r < 0 ? err_sys(e, r, "the receive queue of a TCP connection cannot be filled") : 0;
}

int tcp_write_out(int fd, const struct tcp_conn *c, struct err *e)
{
	int r = 0;

	if (needs_clock(c))
		r = queue_write(fd, QUEUE_OUT, (const uint8_t *)"", 1);
	if (r == 0)
		r = queue_write(fd, QUEUE_OUT, c->out, c->out_len - c->unsent);
	if (r < 0)
		return err_sys(e, r, "the send queue of a TCP connection cannot be filled");
	/* A FIN that is behind unsent data has to wait for it. */
	if (tcp_fin_sent(c->state) && !c->unsent && shutdown(fd, SHUT_WR) < 0)
		return err_sys(e, -errno, "a TCP connection cannot be closed half");
	return 0;
}

static uint16_t forged_window(const struct tcp_conn *c)
{
	uint32_t window = c->win.snd_wnd >> c->snd_wscale;

	return window > 0xffff ? 0xffff : (uint16_t)window;
}

int tcp_write_clock(int fd, const struct tcp_conn *c, const struct sockaddr *self,
		    const struct sockaddr *peer, struct err *e)
{
	uint64_t first = 2ull * c->rtt_us + 4ull * c->rttvar_us;
	uint32_t now, ticks, echo;
	int min = 0, clock, r;

	if (!needs_clock(c))
		return 0;
	r = sock_get_int(fd, SOL_TCP, TCP_TIMESTAMP, &clock);
	if (r < 0)
		return err_sys(e, r, "a TCP connection's clock");
	now = (uint32_t)clock;
	ticks = now & 1 && c->timestamp & 1 ? c->rtt_us : c->rtt_us / 1000;
	echo = now - (ticks ? ticks : 1);
	/* The first wait, from what the source knew of the way; doubled each time, it soon meets COMMIT. */
	if (first < RTO_FIRST_MIN_US)
		first = RTO_FIRST_MIN_US;
	if (first > RTO_FIRST_MAX_US)
		first = RTO_FIRST_MAX_US;
	r = sock_get_int(fd, SOL_TCP, X_TCP_RTO_MIN_US, &min);
	if (r == 0 && (uint64_t)min > first)
		(void)sock_set_int(fd, SOL_TCP, X_TCP_RTO_MIN_US, (int)first);
	r = forge_tcp(peer, self, c->in_seq + (uint32_t)c->in_len, c->out_seq, FORGE_ACK, forged_window(c),
		      c->has_ts ? &echo : NULL, e);
	if (min)
		(void)sock_set_int(fd, SOL_TCP, X_TCP_RTO_MIN_US, min);
	return r;
}

int tcp_write_fin_received(const struct tcp_conn *c, const struct sockaddr *self,
			   const struct sockaddr *peer, struct err *e)
{
	if (!tcp_fin_received(c->state_in))
		return 0;
	return forge_tcp(peer, self, c->in_seq + (uint32_t)c->in_len, c->out_seq, FORGE_FIN | FORGE_ACK,
			 forged_window(c), NULL, e);
}

int tcp_write_end(int fd, const struct tcp_conn *c, struct err *e)
{
	int r = sock_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, QUEUE_NONE);

	if (r == 0)
		r = sock_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	if (r < 0)
		return err_sys(e, r, "a TCP connection cannot leave repair mode");
	for (size_t at = c->out_len - c->unsent; at < c->out_len;) {
		ssize_t n = send(fd, c->out + at, c->out_len - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return err_sys(e, n < 0 ? -errno : -EIO, "a TCP connection's unsent data");
		at += (size_t)n;
	}
	if (tcp_fin_sent(c->state) && c->unsent && shutdown(fd, SHUT_WR) < 0)
		return err_sys(e, -errno, "a TCP connection cannot be closed half");
	return 0;
}

/* TCP with a far end outside of what is moved: queues in both directions, half-closed and closed
 * connections, resets, listeners, traffic that goes on, IPv4, IPv6 and mapped; and loopback connections. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib.h"

#define BULK 300000
#define HERE4 "10.77.0.2"
#define THERE4 "10.77.0.1"
#define THERE6 "fd77::1"
#define THERE_LINK "fe80::77:ff:fe00:1" /* of the bridge's MAC */

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

static socklen_t address(struct sockaddr_storage *ss, const char *host, int port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	inet_pton(AF_INET6, host, &v6->sin6_addr);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
		v6->sin6_scope_id = if_nametoindex("eth0");
	return sizeof(*v6);
}

/* -1 with errno. */
static int dial(const char *host, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, host, port);
	int fd = socket(ss.ss_family, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&ss, len) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int serve(const char *host, int port, int backlog)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, host, port);
	int fd = socket(ss.ss_family, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (port == 5000)
		setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, backlog) < 0)
		return -1;
	return fd;
}

static int read_all(int fd, void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = read(fd, (char *)buf + at, len - at);

		if (n <= 0)
			return -1;
		at += (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, (const char *)buf + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		at += (size_t)n;
	}
	return 0;
}

static int bulk_write(int fd, size_t len)
{
	char buf[4096];

	for (size_t at = 0; at < len;) {
		size_t n = len - at < sizeof(buf) ? len - at : sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = (char)pattern(at + i);
		if (write_all(fd, buf, n) < 0)
			return -1;
		at += n;
	}
	return 0;
}

/* Where the bytes differ, or len. */
static size_t bulk_read(int fd, size_t len)
{
	for (size_t at = 0; at < len;) {
		unsigned char buf[4096];
		ssize_t n = read(fd, buf, len - at < sizeof(buf) ? len - at : sizeof(buf));

		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != pattern(at + (size_t)i))
				return at + (size_t)i;
		if (n <= 0)
			return at;
		at += (size_t)n;
	}
	return len;
}

/* ---- the far end: what it does with a connection is its first byte ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool go;
static int running, unhappy, open_roles[256];

static void wait_go(void)
{
	pthread_mutex_lock(&lock);
	while (!go)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static const char *far_talk(int fd, char role)
{
	struct linger abortive = { 1, 0 };
	uint64_t total;
	char buf[64];
	ssize_t n;

	switch (role) {
	case 'e': /* echo until the end */
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			if (write_all(fd, buf, (size_t)n) < 0)
				return "echo: write";
		return n < 0 ? "echo: read" : NULL;
	case 'q': /* much to read, at once */
		if (bulk_write(fd, BULK) < 0 || read_all(fd, buf, 1) < 0)
			return "bulk out";
		return NULL;
	case 'b': /* reads nothing before the move */
		wait_go();
		if (read_all(fd, &total, sizeof(total)) < 0)
			return "bulk in: no head";
		if (bulk_read(fd, total) != total)
			return "bulk in: content";
		return write_all(fd, "K", 1) < 0 ? "bulk in: answer" : NULL;
	case 'f': /* its half is closed, it goes on listening */
		write_all(fd, "bye", 3);
		shutdown(fd, SHUT_WR);
		if (read_all(fd, buf, 5) < 0 || memcmp(buf, "after", 5) != 0 || read(fd, buf, 1) != 0)
			return "half closed";
		return NULL;
	case 'h': /* the other half is closed, it answers later */
		if (read_all(fd, buf, 4) < 0 || read(fd, buf, 1) != 0)
			return "no end of file";
		wait_go();
		return write_all(fd, "late", 4) < 0 ? "late answer" : NULL;
	case 'x': /* both are closed, something is still to be read there */
		write_all(fd, "rest", 4);
		return read(fd, buf, 1) != 0 ? "closed" : NULL;
	case 'r':
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &abortive, sizeof(abortive));
		return NULL;
	case 'w': /* says something when the move is over */
		wait_go();
		return write_all(fd, "woken", 5) < 0 || read(fd, buf, 1) != 0 ? "wake" : NULL;
	default:
		return "a role that is none";
	}
}

static void *far_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	const char *why;
	char role = '?';

	why = read(fd, &role, 1) == 1 ? NULL : "no role";
	if (!why && (role == 'g' || role == 'z')) {
		pthread_mutex_lock(&lock);
		go = true;
		running--;
		pthread_cond_broadcast(&changed);
		/* At the end: everybody else has to be done. */
		for (int i = 0; role == 'z' && running && i < 50; i++) {
			pthread_mutex_unlock(&lock);
			usleep(100000);
			pthread_mutex_lock(&lock);
		}
		if (role == 'z' && running)
			fprintf(stderr, "# far end: %d connections did not come to their end\n", running);
		for (int i = 0; role == 'z' && i < 256; i++)
			if (open_roles[i])
				fprintf(stderr, "# far end: %d of '%c'\n", open_roles[i], i);
		if (role == 'z')
			exit(unhappy || running);
		pthread_mutex_unlock(&lock);
		write_all(fd, "G", 1);
		close(fd);
		return NULL;
	}
	if (!why) {
		pthread_mutex_lock(&lock);
		open_roles[(unsigned char)role]++;
		pthread_mutex_unlock(&lock);
		why = far_talk(fd, role);
		pthread_mutex_lock(&lock);
		open_roles[(unsigned char)role]--;
		pthread_mutex_unlock(&lock);
	}
	if (why)
		fprintf(stderr, "# far end: connection '%c': %s: %s\n", role, why, strerror(errno));
	close(fd);
	pthread_mutex_lock(&lock);
	running--;
	unhappy += why != NULL;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void far_start(int fd)
{
	pthread_t t;

	pthread_mutex_lock(&lock);
	running++;
	pthread_mutex_unlock(&lock);
	pthread_create(&t, NULL, far_one, (void *)(intptr_t)fd);
	pthread_detach(t);
}

/* A client that asks and waits for the answer all the time, as long as the move takes. */
static void *far_client(void *arg)
{
	struct timespec a, b;
	long worst = 0, n = 0;
	int fd = -1;
	uint32_t back;

	for (int i = 0; i < 500 && (fd = dial(HERE4, 6000)) < 0; i++)
		usleep(10000);
	for (uint32_t i = 0;; i++) {
		long ms;

		clock_gettime(CLOCK_MONOTONIC, &a);
		if (write_all(fd, &i, sizeof(i)) < 0 || read_all(fd, &back, sizeof(back)) < 0 || back != i)
			break;
		clock_gettime(CLOCK_MONOTONIC, &b);
		ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
		worst = ms > worst ? ms : worst;
		n++;
		pthread_mutex_lock(&lock);
		if (go && n > 100) {
			pthread_mutex_unlock(&lock);
			close(fd);
			/* And somebody new comes to the same door. */
			fd = dial(HERE4, 6000);
			if (fd < 0 || write_all(fd, &i, sizeof(i)) < 0 || read_all(fd, &back, sizeof(back)) < 0)
				break;
			close(fd);
			fprintf(stderr, "# client: %ld questions, the longest wait %ld ms\n", n, worst);
			pthread_mutex_lock(&lock);
			running--;
			pthread_mutex_unlock(&lock);
			return NULL;
		}
		pthread_mutex_unlock(&lock);
	}
	fprintf(stderr, "# client: broken after %ld questions: %s\n", n, strerror(errno));
	pthread_mutex_lock(&lock);
	running--;
	unhappy++;
	pthread_mutex_unlock(&lock);
	return arg;
}

/* A client that comes with a new connection each time; none may be lost, at whatever moment it comes. */
static void *far_visitor(void *arg)
{
	struct linger abortive = { 1, 0 };
	const char *why = NULL;
	int fd, visits = 0;
	uint32_t back;

	while ((fd = dial(HERE4, 6000)) < 0 && visits++ < 500)
		usleep(10000);
	for (visits = 0; !why && fd >= 0; visits++) {
		uint32_t i = (uint32_t)visits;
		bool end;

		errno = 0;
		if (write_all(fd, &i, sizeof(i)) < 0)
			why = "asking";
		else if (read_all(fd, &back, sizeof(back)) < 0 || back != i)
			why = "the answer";
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &abortive, sizeof(abortive));
		close(fd);
		pthread_mutex_lock(&lock);
		end = go;
		pthread_mutex_unlock(&lock);
		if (end || why)
			break;
		fd = dial(HERE4, 6000);
		if (fd < 0)
			why = "connecting";
	}
	if (fd < 0 || why)
		fprintf(stderr, "# visitor: %s, visit %d: %s\n", why ? why : "connecting", visits, strerror(errno));
	pthread_mutex_lock(&lock);
	running--;
	unhappy += fd < 0 || why;
	pthread_mutex_unlock(&lock);
	return arg;
}

/* A door with no room: further calls are not answered before the move is over. */
static void *far_busy(void *arg)
{
	int ls = (int)(intptr_t)arg;

	wait_go();
	for (;;) {
		int fd = accept(ls, NULL, NULL);

		if (fd >= 0)
			far_start(fd);
	}
	return NULL;
}

static int far_end(void)
{
	int busy = serve(THERE4, 5001, 0);
	int fds[2] = { serve(THERE4, 5000, 50), serve("::", 5000, 50) };
	pthread_t t;

	alarm(100);
	if (fds[0] < 0 || fds[1] < 0 || busy < 0)
		return 1;
	running = 3;
	for (int i = 0; i < 2; i++)
		pthread_create(&t, NULL, far_visitor, NULL);
	pthread_create(&t, NULL, far_client, NULL);
	pthread_create(&t, NULL, far_busy, (void *)(intptr_t)busy);
	for (;;) {
		struct pollfd p[2] = { { fds[0], POLLIN, 0 }, { fds[1], POLLIN, 0 } };

		poll(p, 2, -1);
		for (int i = 0; i < 2; i++)
			if (p[i].revents & POLLIN)
				far_start(accept(fds[i], NULL, NULL));
	}
}

/* ---- the program that is moved ---- */

static int role(const char *host, char r)
{
	int fd = dial(host, 5000);

	if (fd < 0)
		state_fail("connect to %s: %m", host);
	CHECK(write_all(fd, &r, 1) == 0, "write: %m");
	return fd;
}

static int state_of(int fd)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);

	MUST(getsockopt(fd, SOL_TCP, TCP_INFO, &ti, &len));
	return ti.tcpi_state;
}

static void wait_state(int fd, int state)
{
	for (int i = 0; i < 200 && state_of(fd) != state; i++)
		usleep(10000);
	CHECK(state_of(fd) == state, "fd %d: state %d instead of %d", fd, state_of(fd), state);
}

static void echoes(int fd, const char *text)
{
	char buf[64] = "";

	CHECK(write_all(fd, text, strlen(text)) == 0, "fd %d: write: %m", fd);
	CHECK(read_all(fd, buf, strlen(text)) == 0, "fd %d: read: %m", fd);
	CHECK(!strcmp(buf, text), "fd %d: \"%s\" instead of \"%s\"", fd, buf, text);
}

/* Writes until nothing more fits. */
static uint64_t stuff(int fd)
{
	uint64_t total = 0;

	for (;;) {
		unsigned char buf[1000];
		ssize_t n;

		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(total + i);
		n = send(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0)
			break;
		total += (uint64_t)n;
	}
	return total;
}

static void server_child(int ls, int ls6)
{
	for (;;) {
		struct pollfd p[20] = { { ls, POLLIN, 0 }, { ls6, POLLIN, 0 } };
		static int conns[18];
		static int n;

		for (int i = 0; i < n; i++)
			p[2 + i] = (struct pollfd){ conns[i], POLLIN, 0 };
		poll(p, (nfds_t)(2 + n), -1);
		for (int i = 0; i < n; i++) {
			char buf[256];
			ssize_t got = p[2 + i].revents ? read(conns[i], buf, sizeof(buf)) : -2;

			if (got > 0)
				write_all(conns[i], buf, (size_t)got);
			if (got == 0 || got == -1) {
				close(conns[i]);
				conns[i--] = conns[--n];
				break;
			}
		}
		for (int i = 0; i < 2; i++)
			if (p[i].revents & POLLIN && n < 18)
				conns[n++] = accept(p[i].fd, NULL, NULL);
	}
}

/* Connects until one is not answered; the others go to fill[]. */
static int call_in_vain(int *fill, int *ret_n)
{
	for (*ret_n = 0; *ret_n < 4;) {
		struct sockaddr_storage ss;
		socklen_t len = address(&ss, THERE4, 5001);
		int fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

		CHECK(connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS, "connect: %m");
		usleep(50000);
		if (state_of(fd) == TCP_SYN_SENT)
			return fd;
		CHECK(write(fd, "e", 1) == 1, "write: %m");
		fill[(*ret_n)++] = fd;
	}
	state_skip("a listener without a backlog goes on answering");
}

int main(int argc, char **argv)
{
	int echo_link, echo4, echo6, mapped, bulk_in, bulk_out, fin_in, fin_out, both, reset, wake, ls, ls6, loop_ls;
	int calling, fill[4], n_fill, la, lb, fresh, bound_only, v, on = 1, idle = 77, timeout = 12345;
	char cc[16] = "reno", buf[64] = "";
	uint64_t total, loop_total, stuffed;
	struct sockaddr_storage ss;
	pid_t child, sleeper;
	socklen_t len;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		return far_end();
	ls = MUST(serve("0.0.0.0", 6000, 7));
	MUST(setsockopt(ls, SOL_TCP, TCP_DEFER_ACCEPT, &on, sizeof(on)));
	ls6 = MUST(serve("::", 6001, 9));
	for (int i = 0; i < 500; i++) {
		v = dial(THERE6, 5000);
		if (v >= 0)
			break;
		usleep(10000);
	}
	CHECK(v >= 0, "the far end is not there: %m");
	CHECK(write(v, "e", 1) == 1, "write");
	echo6 = v;
	child = MUST(fork());
	if (!child) {
		close(echo6);
		server_child(ls, ls6);
	}

	echo4 = role(THERE4, 'e');
	MUST(setsockopt(echo4, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)));
	MUST(setsockopt(echo4, SOL_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)));
	MUST(setsockopt(echo4, SOL_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout)));
	MUST(setsockopt(echo4, SOL_TCP, TCP_CONGESTION, cc, 4));
	echoes(echo4, "before");
	echoes(echo6, "before");
	echo_link = -1;
	for (int i = 0; i < 300 && echo_link < 0; i++) { /* an address of the link's own comes with a delay */
		echo_link = dial(THERE_LINK, 5000);
		usleep(echo_link < 0 ? 10000 : 0);
	}
	CHECK(echo_link >= 0 && write(echo_link, "e", 1) == 1, "connect to " THERE_LINK ": %m");
	echoes(echo_link, "before");
	mapped = role("::ffff:" THERE4, 'e');
	echoes(mapped, "before");
	bulk_in = role(THERE4, 'q');
	bulk_out = role(THERE6, 'b');
	fin_in = role(THERE4, 'f');
	wait_state(fin_in, TCP_CLOSE_WAIT);
	fin_out = role(THERE6, 'h');
	CHECK(write_all(fin_out, "done", 4) == 0, "write");
	MUST(shutdown(fin_out, SHUT_WR));
	wait_state(fin_out, TCP_FIN_WAIT2);
	both = role(THERE4, 'x');
	MUST(shutdown(both, SHUT_WR));
	wait_state(both, TCP_CLOSE);
	reset = role(THERE4, 'r');
	wait_state(reset, TCP_CLOSE);
	wake = role(THERE4, 'w');
	sleeper = MUST(fork());
	if (!sleeper)
		_exit(read_all(wake, buf, 5) == 0 && !memcmp(buf, "woken", 5) ? 0 : 1);

	/* Both ends here, more on the way than fits. */
	loop_ls = MUST(serve("127.0.0.1", 6002, 3));
	la = MUST(dial("127.0.0.1", 6002));
	lb = MUST(accept(loop_ls, NULL, NULL));
	loop_total = stuff(la);
	CHECK(write_all(lb, "small", 5) == 0, "write");
	fresh = MUST(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
	bound_only = MUST(socket(AF_INET, SOCK_STREAM, 0));
	len = address(&ss, "0.0.0.0", 6003);
	MUST(bind(bound_only, (struct sockaddr *)&ss, len));
	calling = call_in_vain(fill, &n_fill);
	/* The far end reads nothing yet, so this fills both buffers. */
	total = 2000000;
	CHECK(write_all(bulk_out, &total, sizeof(total)) == 0, "write");
	stuffed = stuff(bulk_out);
	usleep(300000);

	state_wait();

	{
		struct tcp_info ti;

		len = sizeof(ti);
		MUST(getsockopt(la, SOL_TCP, TCP_INFO, &ti, &len));
		/* Probes of the far end's closed window make the time longer again. */
		CHECK(ti.tcpi_rtt && (ti.tcpi_rto < 1000000 || ti.tcpi_probes || ti.tcpi_backoff),
		      "what is on the way is sent again only after %u us", ti.tcpi_rto);
	}
	echoes(echo4, "after the move");
	echoes(echo6, "after the move");
	echoes(echo_link, "after the move");
	echoes(mapped, "after the move");
	len = sizeof(v);
	MUST(getsockopt(echo4, SOL_TCP, TCP_KEEPIDLE, &v, &len));
	CHECK(v == idle, "keepidle %d", v);
	MUST(getsockopt(echo4, SOL_SOCKET, SO_KEEPALIVE, &v, &len));
	CHECK(v == 1, "keepalive %d", v);
	MUST(getsockopt(echo4, SOL_TCP, TCP_NODELAY, &v, &len));
	CHECK(v == 1, "nodelay %d", v);
	MUST(getsockopt(echo4, SOL_TCP, TCP_USER_TIMEOUT, &v, &len));
	CHECK(v == timeout, "user timeout %d", v);
	MUST(getsockopt(ls, SOL_TCP, TCP_DEFER_ACCEPT, &v, &len));
	CHECK(v >= 1, "defer accept %d", v);
	MUST(getsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &v, &len));
	CHECK(v == 1, "reuseaddr of the listener %d", v);
	MUST(getsockopt(echo4, SOL_SOCKET, SO_REUSEADDR, &v, &len));
	CHECK(v == 0, "reuseaddr of a connection %d", v);
	len = sizeof(cc);
	MUST(getsockopt(echo4, SOL_TCP, TCP_CONGESTION, cc, &len));
	CHECK(!strcmp(cc, "reno"), "congestion control %s", cc);

	CHECK(bulk_read(bulk_in, BULK) == BULK, "what waited to be read changed");
	CHECK(write_all(bulk_in, "k", 1) == 0, "write: %m");
	CHECK(recv(fin_in, buf, 10, 0) == 3 && !memcmp(buf, "bye", 3), "bye");
	CHECK(recv(fin_in, buf, 10, 0) == 0, "no end of file");
	CHECK(state_of(fin_in) == TCP_CLOSE_WAIT, "state %d", state_of(fin_in));
	CHECK(write_all(fin_in, "after", 5) == 0, "write: %m");
	MUST(close(fin_in));
	CHECK(recv(both, buf, 10, 0) == 4 && !memcmp(buf, "rest", 4), "rest");
	CHECK(recv(both, buf, 10, 0) == 0, "no end of file");
	CHECK(recv(reset, buf, 10, 0) < 0 && errno == ECONNRESET, "reset: %m");
	CHECK(recv(reset, buf, 10, 0) == 0, "reset, again: %m");

	CHECK(bulk_read(lb, loop_total) == loop_total, "the loopback connection's queue changed");
	CHECK(read_all(la, buf, 5) == 0 && !memcmp(buf, "small", 5), "small");
	CHECK(bulk_write(lb, 100000) == 0 && bulk_read(la, 100000) == 100000, "loopback does not go on");
	CHECK(fcntl(fresh, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is gone");
	CHECK(connect(fresh, (struct sockaddr *)&ss, 0) < 0, "connect");
	MUST(listen(bound_only, 3));
	v = MUST(dial("127.0.0.1", 6003));

	v = role(THERE4, 'g');
	CHECK(read_all(v, buf, 1) == 0 && buf[0] == 'G', "go");
	{
		size_t rest = 2000000 - stuffed;
		unsigned char *p = malloc(rest);

		for (size_t i = 0; i < rest; i++)
			p[i] = pattern(stuffed + i);
		CHECK(write_all(bulk_out, p, rest) == 0, "the rest: %m");
		CHECK(read_all(bulk_out, buf, 1) == 0 && buf[0] == 'K', "what was on the way changed");
	}
	CHECK(read_all(fin_out, buf, 4) == 0 && !memcmp(buf, "late", 4), "late");
	CHECK(recv(fin_out, buf, 10, 0) == 0, "no end of file");
	{
		struct pollfd p = { calling, POLLOUT, 0 };
		int error = -1;

		CHECK(poll(&p, 1, 20000) == 1, "a connection that was being made is not made");
		len = sizeof(error);
		MUST(getsockopt(calling, SOL_SOCKET, SO_ERROR, &error, &len));
		CHECK(!error, "connecting: %s", strerror(error));
		fcntl(calling, F_SETFL, 0);
		CHECK(write(calling, "e", 1) == 1, "write: %m");
		echoes(calling, "at last");
		close(calling);
		for (int i = 0; i < n_fill; i++)
			close(fill[i]);
	}
	MUST(waitpid(sleeper, &v, 0));
	CHECK(WIFEXITED(v) && WEXITSTATUS(v) == 0, "the sleeper: %#x", v);
	close(wake);
	close(echo4);
	close(echo6);
	close(echo_link);
	close(mapped);
	close(bulk_in);
	close(bulk_out);
	close(fin_out);
	v = role(THERE4, 'z');
	(void)!read(v, buf, 1);
	kill(child, SIGKILL);
	state_pass();
}

/* Servers that are often a little behind their clients, over TCP and over unix sockets: whatever moment the
 * move comes at, no connection may be lost, because the tree is given time to accept them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

struct shared {
	volatile int stop, served, asked;
	volatile int error; /* errno of the first failure */
	char what[32];
} *shared;

static void broken(const char *what)
{
	if (!shared->error) {
		shared->error = errno ? errno : -1;
		strcpy(shared->what, what);
	}
	_exit(1);
}

static void server(int ls)
{
	for (;;) {
		int fd = accept(ls, NULL, NULL);
		char c;

		if (fd < 0)
			broken("accept");
		usleep(300);
		if (read(fd, &c, 1) != 1 || write(fd, &c, 1) != 1)
			broken("server");
		close(fd);
		shared->served++;
	}
}

static void client(const struct sockaddr *sa, socklen_t len)
{
	while (!shared->stop) {
		int fd = socket(sa->sa_family, SOCK_STREAM, 0);
		struct linger l = { 1, 0 };
		char c = 'x';

		if (fd < 0 || connect(fd, sa, len) < 0)
			broken("connect");
		if (write(fd, &c, 1) != 1)
			broken("client writes");
		errno = 0;
		if (read(fd, &c, 1) != 1)
			broken("client reads");
		/* Leaves no TIME_WAIT behind, so that ports do not run out. */
		if (sa->sa_family == AF_INET)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		close(fd);
		__sync_fetch_and_add(&shared->asked, 1);
		usleep(1500); /* a server that never catches up cannot be waited for */
	}
	_exit(0);
}

int main(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(7100),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/work/backlog.sock" };
	int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0)), ux = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	pid_t servers[2], clients[4];
	int before, status;

	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED, "mmap: %m");
	MUST(bind(tcp, (struct sockaddr *)&in, sizeof(in)));
	MUST(listen(tcp, 16));
	MUST(bind(ux, (struct sockaddr *)&un, sizeof(un)));
	MUST(listen(ux, 16));
	for (int i = 0; i < 2; i++) {
		servers[i] = MUST(fork());
		if (!servers[i])
			server(i ? ux : tcp);
	}
	for (int i = 0; i < 4; i++) {
		clients[i] = MUST(fork());
		if (!clients[i])
			client(i & 1 ? (struct sockaddr *)&un : (struct sockaddr *)&in, i & 1 ? sizeof(un) : sizeof(in));
	}
	while (shared->asked < 20 && !shared->error)
		usleep(1000);

	state_wait();

	before = shared->asked;
	for (int i = 0; i < 3000 && shared->asked < before + 100 && !shared->error; i++)
		usleep(1000);
	shared->stop = 1;
	CHECK(!shared->error, "%s: %s", shared->what, strerror(shared->error));
	CHECK(shared->asked >= before + 100, "it does not go on");
	for (int i = 0; i < 4; i++) {
		MUST(waitpid(clients[i], &status, 0));
		CHECK(status == 0, "client: %#x: %s", status, shared->what);
	}
	for (int i = 0; i < 2; i++)
		kill(servers[i], SIGKILL);
	state_pass();
}

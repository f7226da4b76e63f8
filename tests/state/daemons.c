/* Programs as people run them: redis, a web server in python, a shell that counts. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static pid_t run(char *const argv[])
{
	pid_t pid = MUST(fork());

	if (pid == 0) {
		setsid();
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static int dial(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };

	for (int i = 0; i < 200; i++) {
		int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		usleep(50000);
	}
	state_fail("nobody listens on port %d", port);
}

static void say(int fd, const char *question, const char *answer)
{
	char buf[4096] = "";
	size_t n = 0;
	ssize_t got = 1;

	CHECK(write(fd, question, strlen(question)) == (ssize_t)strlen(question), "write: %m");
	while (!strstr(buf, answer) && n < sizeof(buf) - 1 &&
	       (got = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0)
		n += (size_t)got;
	CHECK(strstr(buf, answer), "the answer to \"%s\" is \"%s\"", question, buf);
}

static int counter(void)
{
	char buf[32] = "";
	int fd = open("/work/counter", O_RDONLY);

	if (fd < 0)
		return 0;
	if (read(fd, buf, sizeof(buf) - 1) < 0)
		return -1;
	close(fd);
	return atoi(buf);
}

int main(void)
{
	int redis, before;
	pid_t pids[3];

	if (access("/usr/bin/redis-server", X_OK) < 0 || access("/usr/bin/python3", X_OK) < 0)
		state_skip("no redis-server or python3");
	pids[0] = run((char *[]){ "/usr/bin/redis-server", "--port", "6379", "--save", "", "--dir",
				  "/work", "--loglevel", "warning", NULL });
	pids[1] = run((char *[]){ "/usr/bin/python3", "-m", "http.server", "8000", "--directory",
				  "/work", NULL });
	pids[2] = run((char *[]){ "/bin/sh", "-c",
				  "n=0; while :; do n=$((n+1)); echo $n >/work/c.new; "
				  "mv /work/c.new /work/counter; sleep 0.05; done",
				  NULL });
	redis = dial(6379);
	say(redis, "SET greeting hello\r\n", "+OK");
	close(dial(8000));
	while (counter() < 3)
		usleep(20000);

	state_wait();

	say(redis, "GET greeting\r\n", "hello");
	say(dial(6379), "INCR n\r\n", ":1");
	say(dial(8000), "GET /counter HTTP/1.0\r\n\r\n", "200 OK");
	before = counter();
	for (int i = 0; i < 100 && counter() <= before + 2; i++)
		usleep(50000);
	CHECK(counter() > before, "the shell does not count: %d", before);
	for (int i = 0; i < 3; i++) {
		MUST(kill(pids[i], SIGKILL));
		MUST(waitpid(pids[i], NULL, 0));
	}
	state_pass();
}

/* Programs as they are: a database with data in it, an interpreter with threads that compute. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib.h"

#define REDIS "/usr/bin/redis-server"
#define CLI "/usr/bin/redis-cli"
#define PYTHON "/usr/bin/python3"

static pid_t start(char *const argv[], int out)
{
	pid_t pid = MUST(fork());

	if (pid == 0) {
		if (out >= 0)
			dup2(out, 1);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

/* What the client says to this command, its first line. */
static void ask(char *ret, size_t len, const char *a, const char *b, const char *c)
{
	char *argv[] = { CLI, "-s", "/work/redis.sock", (char *)a, (char *)b, (char *)c, NULL };
	int fds[2], st;
	ssize_t n;
	pid_t pid;

	MUST(pipe2(fds, O_CLOEXEC));
	pid = start(argv, fds[1]);
	close(fds[1]);
	n = MUST(read(fds[0], ret, len - 1));
	ret[n] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	close(fds[0]);
	MUST(waitpid(pid, &st, 0));
	CHECK(st == 0, "redis-cli ended with %x", st);
}

static const char script[] =
	"import threading, time, hashlib, sys\n"
	"n = [0] * 4\n"
	"want = hashlib.sha256(b'x' * 100000).hexdigest()\n"
	"bad = []\n"
	"def work(i):\n"
	"    while True:\n"
	"        if hashlib.sha256(b'x' * 100000).hexdigest() != want: bad.append(i)\n"
	"        d = {str(k): [k] * 3 for k in range(500)}\n"
	"        if sum(v[0] for v in d.values()) != 124750: bad.append(i)\n"
	"        n[i] += 1\n"
	"        time.sleep(0.002)\n"
	"for i in range(4): threading.Thread(target=work, args=(i,), daemon=True).start()\n"
	"last = time.monotonic()\n"
	"while True:\n"
	"    before = list(n)\n"
	"    time.sleep(0.5)\n"
	"    now = time.monotonic()\n"
	"    if now < last: bad.append('clock')\n"
	"    last = now\n"
	"    ok = all(a > b for a, b in zip(n, before)) and not bad\n"
	"    with open('/work/python.new', 'w') as f: f.write('ok' if ok else 'bad %r' % bad)\n"
	"    import os; os.rename('/work/python.new', '/work/python')\n";

static int listens(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int sk = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), r;

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	r = connect(sk, (struct sockaddr *)&a, sizeof(a));
	close(sk);
	return r == 0;
}

int main(void)
{
	char *redis[] = { REDIS, "--port", "0", "--unixsocket", "/work/redis.sock", "--save", "", "--dir", "/work",
			  "--enable-debug-command", "yes", NULL };
	char *python[] = { PYTHON, "-c", (char *)script, NULL };
	char before[256], after[256], word[64] = "";
	pid_t server, interpreter;
	int st;

	if (access(REDIS, X_OK) < 0 || access(CLI, X_OK) < 0 || access(PYTHON, X_OK) < 0)
		state_skip("redis or python3 is not installed");
	server = start(redis, -1);
	interpreter = start(python, -1);
	/* Its name is there before it listens. */
	for (int i = 0; i < 500 && !listens("/work/redis.sock"); i++)
		usleep(10000);
	ask(word, sizeof(word), "debug", "populate", "50000");
	ask(before, sizeof(before), "debug", "digest", NULL);
	for (int i = 0; i < 500 && access("/work/python", F_OK) < 0; i++)
		usleep(10000);

	state_wait();

	unlink("/work/python");
	ask(after, sizeof(after), "debug", "digest", NULL);
	CHECK(strlen(after) >= 40 && strcmp(before, after) == 0, "the digest was %s, is %s", before, after);
	ask(word, sizeof(word), "dbsize", NULL, NULL);
	CHECK(strcmp(word, "50000") == 0, "there are %s keys", word);
	for (int i = 0; i < 500 && access("/work/python", F_OK) < 0; i++)
		usleep(10000);
	{
		int fd = MUST(open("/work/python", O_RDONLY | O_CLOEXEC));
		ssize_t n = MUST(read(fd, word, sizeof(word) - 1));

		word[n] = '\0';
		CHECK(strcmp(word, "ok") == 0, "python says: %s", word);
	}
	CHECK(waitpid(server, &st, WNOHANG) == 0, "redis ended with %x", st);
	kill(server, SIGTERM);
	MUST(waitpid(server, &st, 0));
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0, "redis ended with %x", st);
	kill(interpreter, SIGTERM);
	MUST(waitpid(interpreter, &st, 0));
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM, "python ended with %x", st);
	state_pass();
}

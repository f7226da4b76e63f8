#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORK "/work/"

static void put(const char *name, const char *text)
{
	char tmp[128], path[128];
	int fd;

	snprintf(path, sizeof(path), WORK "%s", name);
	snprintf(tmp, sizeof(tmp), WORK ".%s.%d", name, (int)getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) < 0 || rename(tmp, path) < 0)
		_exit(99);
}

static _Noreturn void end(const char *word, const char *fmt, va_list ap)
{
	char text[2048];
	int n = snprintf(text, sizeof(text), "%s", word);

	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	put("result", text);
	_exit(0);
}

void state_pass(void)
{
	put("result", "PASS");
	_exit(0);
}

void state_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end("FAIL ", fmt, ap);
}

void state_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end("SKIP ", fmt, ap);
}

/* Before there are threads: a signal for the process that the waiting thread does not take at once (it
 * is just being restarted) would end it in another one. */
__attribute__((constructor)) static void usr1_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* From the start, so that threads made before state_wait() block it too and do not take it. */
__attribute__((constructor)) static void go_signal_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

void state_wait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	put("ready", "ready");
	/* A stop interrupts sigwaitinfo, whose end is no signal. */
	while (sigwaitinfo(&set, NULL) < 0 && errno == EINTR)
		;
}

void state_mark(const char *name)
{
	put(name, "");
}

void state_await(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), WORK "%s", name);
	for (int i = 0; i < 1000; i++) {
		if (access(path, F_OK) == 0)
			return;
		usleep(10000);
	}
	state_fail("%s never came", name);
}

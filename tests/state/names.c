/* Small namespaces: host and domain name, the pid that comes next, clocks that go on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib.h"

static pid_t next_pid(void)
{
	pid_t pid = MUST(fork());

	if (pid == 0)
		_exit(0);
	MUST(waitpid(pid, NULL, 0));
	return pid;
}

static long long clock_ns(clockid_t id)
{
	struct timespec t;

	MUST(clock_gettime(id, &t));
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(void)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME };
	long long was[3];
	struct utsname u;
	pid_t last;

	MUST(sethostname("renamed-by-itself", 17));
	MUST(setdomainname("dom.ain", 7));
	for (int i = 0; i < 300; i++)
		next_pid();
	for (int i = 0; i < 3; i++)
		was[i] = clock_ns(clocks[i]);
	last = next_pid();
	state_wait();
	MUST(uname(&u));
	CHECK(strcmp(u.nodename, "renamed-by-itself") == 0, "host name %s", u.nodename);
	CHECK(strcmp(u.domainname, "dom.ain") == 0, "domain name %s", u.domainname);
	CHECK(next_pid() > last, "pids began anew: %d was followed by %d", last, next_pid());
	for (int i = 0; i < 3; i++) {
		long long gone = clock_ns(clocks[i]) - was[i];

		CHECK(gone > 0 && gone < 60000000000ll, "clock %d went %lld ns", clocks[i], gone);
	}
	state_pass();
}

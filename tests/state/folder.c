/* Working folder (also a deleted one), root folder, umask; files of proc; pidfd and namespaces. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static int jailed(int ready, int go)
{
	char buf[64], c;

	MUST(mkdir("/work/jail", 0755));
	MUST(mkdir("/work/jail/sub", 0755));
	MUST(mkdir("/work/jail/inside", 0600));
	MUST(chroot("/work/jail"));
	MUST(chdir("/sub"));
	umask(0123);
	if (write(ready, "x", 1) != 1 || read(go, &c, 1) != 1)
		return 9;
	if (access("/inside", F_OK) < 0 || access("/work", F_OK) == 0)
		return 1;
	if (!getcwd(buf, sizeof(buf)) || strcmp(buf, "/sub") != 0)
		return 2;
	return umask(0) == 0123 ? 0 : 3;
}

int main(void)
{
	int ready[2], go[2], proc, self, pidfd, gone, net, status, sys;
	char buf[4096], c;
	struct stat st, st2;
	struct pollfd p;
	pid_t pid, dead, there;
	int path;
	ssize_t n;

	MUST(pipe(ready));
	MUST(pipe(go));
	pid = MUST(fork());
	if (pid == 0)
		_exit(jailed(ready[1], go[0]));
	CHECK(read(ready[0], &c, 1) == 1, "child");
	MUST(mkdir("/work/here", 0755));
	MUST(chdir("/work/here"));
	MUST(rmdir("/work/here"));
	umask(027);
	proc = MUST(open("/proc/meminfo", O_RDONLY));
	self = MUST(open("/proc/self/status", O_RDONLY));
	sys = MUST(open("/proc/sys/kernel/hostname", O_RDONLY));
	pidfd = (int)MUST(syscall(SYS_pidfd_open, pid, 0));
	dead = MUST(fork());
	if (dead == 0)
		_exit(0);
	gone = (int)MUST(syscall(SYS_pidfd_open, dead, 0));
	MUST(waitpid(dead, NULL, 0));
	net = MUST(open("/proc/self/ns/net", O_RDONLY));
	/* A process whose working folder is its own in proc, and descriptors of it that cannot
	 * be read. */
	there = MUST(fork());
	if (there == 0) {
		MUST(chdir("/proc/self"));
		path = MUST(open("/proc/self", O_PATH));
		if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(9);
		n = readlinkat(path, "exe", buf, sizeof(buf));
		_exit(n > 0 && access("cmdline", R_OK) == 0 ? 0 : 1);
	}
	CHECK(read(ready[0], &c, 1) == 1, "child");

	state_wait();

	CHECK(!getcwd(buf, sizeof(buf)) || strstr(buf, "(unreachable)") || 1, "cwd");
	MUST(stat(".", &st));
	CHECK(S_ISDIR(st.st_mode) && st.st_nlink == 0, "deleted working folder: %lu links",
	      (unsigned long)st.st_nlink);
	CHECK(umask(0) == 027, "umask");
	n = MUST(pread(proc, buf, 100, 0));
	CHECK(n == 100 && memcmp(buf, "MemTotal", 8) == 0, "meminfo");
	n = MUST(pread(self, buf, sizeof(buf) - 1, 0));
	buf[n] = 0;
	snprintf(buf + 2048, 64, "\nPid:\t%d\n", getpid());
	CHECK(strstr(buf, buf + 2048), "the status file is of another process");
	CHECK(pread(sys, buf, 10, 0) > 0, "sysctl");
	MUST(stat("/proc/self/ns/net", &st));
	MUST(fstat(net, &st2));
	CHECK(st.st_ino == st2.st_ino, "network namespace");
	p = (struct pollfd){ gone, POLLIN, 0 };
	CHECK(poll(&p, 1, 0) == 1, "the ended process is not ended");
	p = (struct pollfd){ pidfd, POLLIN, 0 };
	CHECK(poll(&p, 1, 0) == 0, "the running process has ended");
	CHECK(write(go[1], "xx", 2) == 2, "write");
	CHECK(waitpid(there, &status, 0) == there && status == 0, "child in proc: status %#x",
	      status);
	CHECK(poll(&p, 1, 5000) == 1, "the process does not end");
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "jailed child: status %#x", status);
	state_pass();
}

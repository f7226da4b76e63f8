/* Of namespaces: what cannot be carried, one kind at a time (the argument). */
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

static void command(const char *cmd)
{
	if (system(cmd) != 0)
		state_skip("%s does not work here", cmd);
}

static void own_namespace(int flag)
{
	pid_t pid = MUST(fork());

	if (pid == 0) {
		if (unshare(flag) < 0)
			_exit(1);
		state_mark("unshared");
		for (;;)
			pause();
	}
	state_await("unshared");
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	if (strcmp(kind, "shm") == 0) {
		MUST(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
	} else if (strcmp(kind, "sem") == 0) {
		MUST(semget(77, 1, IPC_CREAT | 0600));
	} else if (strcmp(kind, "mqueue") == 0) {
		MUST(mq_open("/queue", O_CREAT | O_RDWR | O_CLOEXEC, 0600, NULL));
	} else if (strcmp(kind, "uts") == 0) {
		own_namespace(CLONE_NEWUTS);
	} else if (strcmp(kind, "mnt") == 0) {
		own_namespace(CLONE_NEWNS);
	} else if (strcmp(kind, "bridge") == 0) {
		command("ip link add br7 type bridge");
	} else if (strcmp(kind, "rule") == 0) {
		command("ip rule add from 10.1.1.1 table 99 priority 500");
	} else if (strcmp(kind, "nft") == 0) {
		command("nft add table ip godwit_test");
	} else if (strcmp(kind, "overlay") == 0) {
		MUST(mount("t", "/mnt", "tmpfs", 0, NULL));
		MUST(mkdir("/mnt/l", 0755));
		MUST(mkdir("/mnt/u", 0755));
		MUST(mkdir("/mnt/w", 0755));
		MUST(mkdir("/mnt/m", 0755));
		if (mount("o", "/mnt/m", "overlay", 0,
			  "lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w") < 0)
			state_skip("no overlay here: %m");
	} else {
		state_fail("which kind?");
	}
	state_wait();
	state_pass();
}

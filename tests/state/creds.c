/* Credentials: of a process that gave up rights, of threads that differ, groups, capabilities. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

/* The lines of status that tell credentials, as one text. */
static void creds(char *ret, size_t len)
{
	static const char *const keys[] = { "Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:" };
	char path[64], line[4096];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)syscall(SYS_gettid));
	f = fopen(path, "re");
	CHECK(f, "status: %m");
	while (fgets(line, sizeof(line), f))
		for (size_t i = 0; i < 5; i++)
			if (strncmp(line, keys[i], strlen(keys[i])) == 0 && n + strlen(line) + 32 < len)
				n += (size_t)snprintf(ret + n, len - n, "%s", line);
	snprintf(ret + n, len - n, "securebits %x", prctl(PR_GET_SECUREBITS));
	fclose(f);
}

static pthread_barrier_t before, after;
static char thread_before[8192], thread_after[8192];

static void *thread_main(void *arg)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { 1 << CAP_KILL | 1 << CAP_CHOWN, 1 << CAP_KILL | 1 << CAP_CHOWN |
						 1 << CAP_SETUID, 1 << CAP_KILL | 1 << CAP_CHOWN } };
	struct __user_cap_data_struct all[2];
	gid_t groups[3] = { 5, 7, 65000 };

	/* Raw system calls act on this thread alone. */
	MUST(syscall(SYS_capget, &h, all));
	all[0].inheritable = d[0].inheritable;
	MUST(syscall(SYS_capset, &h, all));
	MUST(prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0)); /* inheritable all the same */
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0, 0, 0));
	MUST(syscall(SYS_setgroups, 3, groups));
	MUST(syscall(SYS_setresgid, 11, 12, 13));
	MUST(syscall(SYS_setresuid, 1, 2, 3));
	syscall(SYS_setfsuid, 3);
	MUST(syscall(SYS_capset, &h, d));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
	creds(thread_before, sizeof(thread_before));
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	creds(thread_after, sizeof(thread_after));
	return NULL;
}

int main(void)
{
	char mine[8192], now[8192];
	pthread_t th;
	int from[2], to[2], st;
	pid_t pid;
	char c;

	MUST(pipe(from));
	MUST(pipe(to));
	pid = MUST(fork());
	if (pid == 0) {
		/* An ordinary user for good. */
		MUST(setgroups(0, NULL));
		MUST(setgid(1000));
		MUST(setuid(1000));
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		creds(mine, sizeof(mine));
		MUST(write(from[1], "r", 1));
		MUST(read(to[0], &c, 1));
		creds(now, sizeof(now));
		_exit(strcmp(mine, now) ? 1 : setuid(0) == 0 ? 2 : 0);
	}
	MUST(read(from[0], &c, 1));
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	pthread_create(&th, NULL, thread_main, NULL);
	pthread_barrier_wait(&before);
	creds(mine, sizeof(mine));

	state_wait();

	creds(now, sizeof(now));
	CHECK(strcmp(mine, now) == 0, "were:\n%s\nare:\n%s", mine, now);
	pthread_barrier_wait(&after);
	pthread_join(th, NULL);
	CHECK(strcmp(thread_before, thread_after) == 0, "the thread's were:\n%s\nare:\n%s", thread_before,
	      thread_after);
	MUST(write(to[1], "g", 1));
	MUST(waitpid(pid, &st, 0));
	CHECK(st == 0, "the unprivileged child says %x", st);
	state_pass();
}

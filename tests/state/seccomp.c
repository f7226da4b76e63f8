/* Seccomp filters: several, of one thread, inherited, and with no right to install any more. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib.h"

/* System call nr fails with err from now on, in this thread. */
static void forbid(unsigned nr, unsigned err)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof(f) / sizeof(f[0]), f };

	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
}

static int fails(long nr, int err)
{
	errno = 0;
	return syscall(nr, -1, -1, -1) < 0 && errno == err;
}

static pthread_barrier_t before, after;
static int bad;

static void *thread_main(void *arg)
{
	/* What an agent needs most. */
	forbid(SYS_munmap, 99);
	forbid(SYS_sendmsg, 98);
	forbid(SYS_recvmsg, 97);
	/* The later one of two that say the same sort of thing has its way. */
	forbid(SYS_getpgid, 71);
	forbid(SYS_getpgid, 72);
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	bad = !fails(SYS_munmap, 99) || !fails(SYS_sendmsg, 98) || !fails(SYS_recvmsg, 97) ||
	      !fails(SYS_getppid, 77) || !fails(SYS_getpgid, 72);
	return NULL;
}

int main(void)
{
	pthread_t th;
	int from[2], to[2], st;
	pid_t pid;
	char c;

	MUST(pipe(from));
	MUST(pipe(to));
	pid = MUST(fork());
	if (pid == 0) {
		MUST(setuid(1000));
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		forbid(SYS_socket, 66);
		forbid(SYS_prctl, 65);
		MUST(write(from[1], "r", 1));
		MUST(read(to[0], &c, 1));
		_exit(fails(SYS_socket, 66) && fails(SYS_prctl, 65) ? 0 : 1);
	}
	MUST(read(from[0], &c, 1));
	/* Without no_new_privs: the container's root may. */
	forbid(SYS_getppid, 77);
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	pthread_create(&th, NULL, thread_main, NULL);
	pthread_barrier_wait(&before);

	state_wait();

	CHECK(fails(SYS_getppid, 77), "the filter is gone");
	CHECK(!fails(SYS_munmap, 99), "a thread's filter is its process' now");
	pthread_barrier_wait(&after);
	pthread_join(th, NULL);
	CHECK(!bad, "the thread's filters are gone");
	MUST(write(to[1], "g", 1));
	MUST(waitpid(pid, &st, 0));
	CHECK(st == 0, "the unprivileged child says %x", st);
	state_pass();
}

/* gw-init - the first program of every container.
 *
 * Its folder, bind-mounted read-only at /.godwit, holds this program and, at the target of a move,
 * an empty file `wait`.  Without `wait` it takes the mount away and executes the container's own
 * init: its arguments, else /sbin/init, else /bin/sh.  With it, it waits until the engine takes it
 * over (and removes the mount itself); should `wait` vanish before that, nobody will come any more
 * and it ends, so that a failed move leaves no container hanging.
 *
 * It has no libc: nothing registers an rseq area or a thread pointer in a process whose memory the
 * engine will exchange, and it needs nothing of the container's file system. */
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>

#define GODWIT "/.godwit"
#define SIGCHLD_BIT (1ull << (17 - 1))
#define SIG_BLOCK_ALL 2 /* SIG_SETMASK */
#define MNT_DETACH_FLAG 2
#define WNOHANG_FLAG 1

static long sys4(long nr, long a, long b, long c, long d)
{
	long ret;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static long path_exists(const char *path)
{
	return sys4(__NR_access, (long)path, 0, 0, 0) == 0;
}

static void say(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	sys4(__NR_write, 2, (long)s, (long)n, 0);
}

static void wait_for_engine(void)
{
	uint64_t all = ~0ull, child = SIGCHLD_BIT;
	struct {
		long sec, nsec;
	} second = { 1, 0 };

	sys4(__NR_rt_sigprocmask, SIG_BLOCK_ALL, (long)&all, 0, sizeof(all));
	while (path_exists(GODWIT "/wait")) {
		sys4(__NR_rt_sigtimedwait, (long)&child, 0, (long)&second, sizeof(child));
		while (sys4(__NR_wait4, -1, 0, WNOHANG_FLAG, 0) > 0)
			;
	}
	sys4(__NR_exit_group, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) void guest_main(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **envp = argv + argc + 1;
	static char *fallback[][2] = { { "/sbin/init", NULL }, { "/bin/sh", NULL } };

	if (path_exists(GODWIT "/wait"))
		wait_for_engine();
	/* Both may fail: the folder may be part of a root that cannot be written. */
	sys4(__NR_umount2, (long)GODWIT, MNT_DETACH_FLAG, 0, 0);
	sys4(__NR_rmdir, (long)GODWIT, 0, 0, 0);
	if (argc > 1)
		sys4(__NR_execve, (long)argv[1], (long)(argv + 1), (long)envp, 0);
	for (size_t i = 0; argc <= 1 && i < 2; i++)
		sys4(__NR_execve, (long)fallback[i][0], (long)fallback[i], (long)envp, 0);
	say("gw-init: the container's init cannot be executed\n");
	sys4(__NR_exit_group, 127, 0, 0, 0);
	__builtin_unreachable();
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call guest_main\n");

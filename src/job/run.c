/* Running a helper program from a job. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "job/job.h"

#define TAIL_MAX 512
#define TERM_GRACE_MS 5000

static int int_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Between fork and exec: closes all from 3 up but the sorted list. */
static void close_others(const int *keep, size_t n)
{
	unsigned from = 3;

	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if ((unsigned)keep[i] > from)
			syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
		fcntl(keep[i], F_SETFD, 0);
		from = (unsigned)keep[i] + 1;
	}
	syscall(SYS_close_range, from, ~0u, 0);
}

static _Noreturn void child(const char *const *argv, int in, int out, int errfd, const int *keep, size_t n_keep,
			    pid_t parent)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* A job that is killed must not leave a half-done rsync behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in >= 0 ? in : null, 0) < 0 || dup2(out >= 0 ? out : null, 1) < 0 || dup2(errfd, 2) < 0)
		_exit(127);
	close_others(keep, n_keep);
	execvp(argv[0], (char *const *)argv);
	{
		const char *why = strerror(errno);

		if (write(2, why, strlen(why)) < 0)
			_exit(126);
	}
	_exit(127);
}

/* Keeps the end of what the program says on stderr. */
struct tail {
	char text[TAIL_MAX + 1];
	size_t n;
};

/* 0: the end. */
static int tail_read(struct tail *t, int fd)
{
	char part[256];
	ssize_t n = read(fd, part, sizeof(part));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : 0;
	if (n == 0)
		return 0;
	if (t->n + (size_t)n > TAIL_MAX) {
		size_t drop = t->n + (size_t)n - TAIL_MAX;

		memmove(t->text, t->text + drop, t->n - drop);
		t->n -= drop;
	}
	memcpy(t->text + t->n, part, (size_t)n);
	t->n += (size_t)n;
	t->text[t->n] = '\0';
	return 1;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Waits for the program's end. Returns its wait status, or -ECANCELED once it was ended for that. */
static int attend(struct job *j, pid_t pid, int pidfd, int errfd, struct tail *t)
{
	bool err_open = true, cancelled = false, exited = false;
	int64_t kill_at = 0;
	int status = 0;

	while (!exited) {
		struct pollfd p[3] = { { .fd = pidfd, .events = POLLIN },
				       { .fd = err_open ? errfd : -1, .events = POLLIN },
				       { .fd = cancelled || !j ? -1 : j->fd, .events = POLLIN } };
		int wait = -1;

		if (kill_at)
			wait = kill_at > now_ms() ? (int)(kill_at - now_ms()) : 0;
		/* The inbox may hold messages for the verb: they are not a reason to look again at once. */
		if (poll(p, 3, wait) < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents)
			err_open = tail_read(t, errfd) > 0;
		if (!cancelled && p[2].revents && job_cancelled(j) < 0) {
			cancelled = true;
			kill_at = now_ms() + TERM_GRACE_MS;
			syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
		}
		if (kill_at && now_ms() >= kill_at) {
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
			kill_at = 0;
		}
		if (p[0].revents && waitpid(pid, &status, WNOHANG) == pid)
			exited = true;
	}
	/* What it wrote last; a grandchild may hold the pipe, so no waiting for its end. */
	fd_set_nonblock(errfd, 1);
	for (int i = 0; err_open && i < 64; i++) {
		struct pollfd p = { .fd = errfd, .events = POLLIN };

		if (poll(&p, 1, 0) <= 0 || tail_read(t, errfd) <= 0)
			break;
	}
	return cancelled ? -ECANCELED : status;
}

int job_run(struct job *j, const char *const *argv, int in, int out, const int *keep, size_t n_keep,
	    struct err *e)
{
	auto_free int *sorted = n_keep ? malloc(n_keep * sizeof(int)) : NULL;
	auto_fd int er = -1, ew = -1, pidfd = -1;
	struct tail t = { .n = 0 };
	int p[2], status;
	pid_t pid, me = getpid();

	if (j && job_cancelled(j) < 0)
		return err_set(e, -ECANCELED, "cancelled");
	if (n_keep && !sorted)
		return err_set(e, -ENOMEM, "out of memory");
	if (n_keep) {
		memcpy(sorted, keep, n_keep * sizeof(int));
		qsort(sorted, n_keep, sizeof(int), int_cmp);
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	er = p[0];
	ew = p[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "cannot start %s", argv[0]);
	if (pid == 0)
		child(argv, in, out, ew, sorted, n_keep, me);
	fd_close(&ew);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int r = -errno;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_sys(e, r, "cannot watch %s", argv[0]);
	}
	status = attend(j, pid, pidfd, er, &t);
	if (status == -ECANCELED)
		return err_set(e, -ECANCELED, "cancelled");
	if (status < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_sys(e, status, "cannot watch %s", argv[0]);
	}
	while (t.n && (t.text[t.n - 1] == '\n' || t.text[t.n - 1] == ' '))
		t.text[--t.n] = '\0';
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		return err_set(e, -EIO, "%s was ended by signal %d%s%s", argv[0], WTERMSIG(status),
			       t.n ? ": " : "", t.text);
	return err_set(e, WEXITSTATUS(status) == 127 ? -ENOENT : -EIO, "%s failed with exit status %d%s%s",
		       argv[0], WEXITSTATUS(status), t.n ? ": " : "", t.text);
}

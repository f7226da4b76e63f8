#include "checkpoint.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

#define ARGS_MAX 40
#define END_TIMEOUT_S "60"

/* ---- programs ---- */

/* In the container, as its root. */
static void enter(const struct ct *c, bool userns)
{
	int pidfd = (int)syscall(SYS_pidfd_open, c->init, 0);
	int all = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP;
	char path[420];
	int fd;

	/* Into its cgroup as well, as whoever runs there is. */
	snprintf(path, sizeof(path), "%s/cgroup.procs", c->cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (pidfd < 0 || fd < 0 || write(fd, "0", 1) != 1)
		_exit(126);
	if (setns(pidfd, all | (userns ? CLONE_NEWUSER : 0)) < 0 ||
	    (userns && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)))
		_exit(126);
	setns(pidfd, CLONE_NEWTIME);
	if (chdir("/") < 0)
		_exit(126);
}

/* Exit status; output goes to the file `out`. */
static int run(const struct place *p, enum checkpoint_how how, const struct ct *c, const char *out, char **argv)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int fd = open(out, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), null_fd = open("/dev/null", O_RDONLY);

		if (fd < 0 || null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(126);
		if (how == CHECKPOINT_HOST) {
			enter(c, p->userns);
			/* Children only are in its PID namespace. */
			pid = fork();
			if (pid) {
				while (waitpid(pid, &status, 0) < 0)
					;
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
			}
		}
		syscall(SYS_close_range, 3, ~0u, 0);
		execvp(argv[0], argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *const options[] = { "--tcp-established", "--file-locks", "--ext-unix-sk", "--ghost-limit", "64M",
				       "--link-remap", NULL };

static void args_add(char **argv, size_t *n, const char *word)
{
	if (*n + 1 < ARGS_MAX)
		argv[(*n)++] = (char *)word;
	argv[*n] = NULL;
}

static void last_line(const char *file, struct move_result *ret, const char *what)
{
	auto_free char *text = NULL;

	if (fd_read_file_at(AT_FDCWD, file, 1 << 20, &text, NULL) < 0)
		text = strdup("");
	snprintf(ret->text, sizeof(ret->text), "%s: %s", what, text);
}

/* ---- the two halves ---- */

struct paths {
	char images[400], out[400], pidfile[420]; /* as the engine sees them, but for out */
	char pid_here[420];
	const char *engine;
};

static int dump(const struct place *p, enum checkpoint_how how, const struct paths *f, bool verbose, struct ct *c,
		struct move_result *ret)
{
	char tree[16], *argv[ARGS_MAX];
	size_t n = 0;
	int status;

	snprintf(tree, sizeof(tree), "%d", how == CHECKPOINT_HOST ? 2 : (int)c->init);
	for (const char *const *o = (const char *const[]){ "timeout", END_TIMEOUT_S, f->engine, "dump", "-t", tree, "-D",
							   f->images, verbose ? "-v4" : "-v2", NULL }; *o; o++)
		args_add(argv, &n, *o);
	for (size_t i = 0; options[i]; i++)
		args_add(argv, &n, options[i]);
	if (how == CHECKPOINT_TREE) {
		args_add(argv, &n, "--ext-mount-map");
		args_add(argv, &n, "auto");
	}
	status = run(p, how, c, f->out, argv);
	if (status == 0)
		return 0;
	last_line(f->out, ret, "dump");
	ret->refused = status == 3;
	return -1;
}

static int restore(const struct place *p, enum checkpoint_how how, const struct paths *f, bool verbose, struct ct *c,
		   struct move_result *ret)
{
	char *argv[ARGS_MAX];
	size_t n = 0;
	int status;

	for (const char *const *o = (const char *const[]){ "timeout", END_TIMEOUT_S, f->engine, "restore", "-d", "-D",
							   f->images, "--pidfile", f->pidfile, verbose ? "-v4" : "-v2",
							   NULL }; *o; o++)
		args_add(argv, &n, *o);
	for (size_t i = 0; options[i]; i++)
		args_add(argv, &n, options[i]);
	if (how == CHECKPOINT_TREE) {
		for (const char *const *o = (const char *const[]){ "--ext-mount-map", "auto", "--root", p->root, NULL }; *o;
		     o++)
			args_add(argv, &n, *o);
	}
	status = run(p, how, c, f->out, argv);
	if (status == 0)
		return 0;
	last_line(f->out, ret, "restore");
	return -1;
}

/* The init tells in a file that its child has ended, which it was meant to. */
static void end_forget(const struct place *p)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/work/result", p->root);
	for (int i = 0; i < 400 && unlink(path) < 0; i++)
		usleep(5000);
}

static int pid_read(const char *path, pid_t *ret)
{
	auto_free char *text = NULL;

	if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL) < 0)
		return -1;
	*ret = (pid_t)strtol(text, NULL, 10);
	return *ret > 0 ? 0 : -1;
}

int checkpoint_run(const struct place *p, enum checkpoint_how how, const char *engine, bool verbose, struct ct *c,
		   struct move_result *ret)
{
	struct paths f = { .engine = how == CHECKPOINT_HOST ? "/test/engine" : engine };
	const char *base = how == CHECKPOINT_HOST ? "" : p->root;
	static unsigned count;
	char here[400];

	*ret = (struct move_result){ 0 };
	snprintf(here, sizeof(here), "%s/work/ck%u", p->root, ++count);
	snprintf(f.images, sizeof(f.images), "%s/work/ck%u", base, count);
	snprintf(f.pidfile, sizeof(f.pidfile), "%s/pid", f.images);
	snprintf(f.pid_here, sizeof(f.pid_here), "%s/pid", here);
	snprintf(f.out, sizeof(f.out), "%s/out%u", p->dir, count);
	if (mkdir(here, 0700) < 0 || (p->userns && how == CHECKPOINT_HOST && chown(here, MAP_FIRST, MAP_FIRST) < 0))
		return -1;
	/* What is restored is ours to reap when the engine has gone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (dump(p, how, &f, verbose, c, ret) < 0)
		return -1;
	if (how == CHECKPOINT_HOST)
		end_forget(p);
	else
		waitpid(c->init, NULL, 0);
	if (restore(p, how, &f, verbose, c, ret) < 0)
		return -1;
	if (verbose)
		last_line(f.out, ret, "log");
	if (how == CHECKPOINT_TREE && pid_read(f.pid_here, &c->init) < 0) {
		snprintf(ret->text, sizeof(ret->text), "restore wrote no pid");
		return -1;
	}
	return 0;
}

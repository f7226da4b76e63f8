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
	/* It was made outside of the user namespace, by whose root it cannot be entered. */
	setns(pidfd, CLONE_NEWTIME);
	if (setns(pidfd, all | (userns ? CLONE_NEWUSER : 0)) < 0 ||
	    (userns && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)))
		_exit(126);
	if (chdir("/") < 0)
		_exit(126);
}

/* Exit status; output goes to the file `out`. */
static int run(const struct place *p, enum checkpoint_how how, const struct ct *c, const char *out, const char *fault,
	       char **argv)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (fault)
			setenv("GODWIT_FAULT", fault, 1);
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

void checkpoint_init(struct checkpoint *k, const struct place *p, enum checkpoint_how how, const char *engine,
		     bool verbose)
{
	*k = (struct checkpoint){ .place = p, .how = how, .verbose = verbose,
				  .engine = how == CHECKPOINT_HOST ? "/test/engine" : engine };
	/* What is restored is ours to reap when the engine has gone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int checkpoint_folder(struct checkpoint *k)
{
	const struct place *p = k->place;
	bool inside = k->how == CHECKPOINT_HOST;

	snprintf(k->here, sizeof(k->here), "%s/work/ck%u", p->root, ++k->count);
	snprintf(k->images, sizeof(k->images), "%s/work/ck%u", inside ? "" : p->root, k->count);
	snprintf(k->out, sizeof(k->out), "%s/out%u", p->dir, k->count);
	return mkdir(k->here, 0700) < 0 || (p->userns && inside && chown(k->here, MAP_FIRST, MAP_FIRST) < 0) ? -1 : 0;
}

int checkpoint_dump(const struct checkpoint *k, const struct ct *c, bool leave_running, const char *fault)
{
	bool host = k->how == CHECKPOINT_HOST;
	char tree[16], *argv[ARGS_MAX];
	size_t n = 0;

	snprintf(tree, sizeof(tree), "%d", host ? 2 : (int)c->init);
	for (const char *const *o = (const char *const[]){ "timeout", END_TIMEOUT_S, k->engine, "dump", "-t", tree, "-D",
							   k->images, k->verbose ? "-v4" : "-v2", NULL }; *o; o++)
		args_add(argv, &n, *o);
	for (size_t i = 0; options[i]; i++)
		args_add(argv, &n, options[i]);
	if (leave_running)
		args_add(argv, &n, "--leave-running");
	if (!host) {
		args_add(argv, &n, "--ext-mount-map");
		args_add(argv, &n, "auto");
	}
	return run(k->place, k->how, c, k->out, fault, argv);
}

int checkpoint_restore(const struct checkpoint *k, const struct ct *c, const char *fault)
{
	char *argv[ARGS_MAX], pidfile[440];
	size_t n = 0;

	snprintf(pidfile, sizeof(pidfile), "%s/pid", k->images);
	for (const char *const *o = (const char *const[]){ "timeout", END_TIMEOUT_S, k->engine, "restore", "-d", "-D",
							   k->images, "--pidfile", pidfile, k->verbose ? "-v4" : "-v2",
							   NULL }; *o; o++)
		args_add(argv, &n, *o);
	for (size_t i = 0; options[i]; i++)
		args_add(argv, &n, options[i]);
	if (k->how == CHECKPOINT_TREE) {
		for (const char *const *o = (const char *const[]){ "--ext-mount-map", "auto", "--root", k->place->root,
								   NULL }; *o; o++)
			args_add(argv, &n, *o);
	}
	return run(k->place, k->how, c, k->out, fault, argv);
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

int checkpoint_ended(const struct checkpoint *k, struct ct *c)
{
	if (k->how == CHECKPOINT_HOST)
		end_forget(k->place);
	else if (waitpid(c->init, NULL, 0) < 0)
		return -1;
	return 0;
}

int checkpoint_begun(const struct checkpoint *k, struct ct *c)
{
	char path[440];

	snprintf(path, sizeof(path), "%s/pid", k->here);
	return k->how == CHECKPOINT_TREE ? pid_read(path, &c->init) : 0;
}

int checkpoint_run(const struct place *p, enum checkpoint_how how, const char *engine, bool verbose, struct ct *c,
		   struct move_result *ret)
{
	static struct checkpoint k;
	unsigned count = k.count;
	int status;

	*ret = (struct move_result){ 0 };
	checkpoint_init(&k, p, how, engine, verbose);
	k.count = count;
	if (checkpoint_folder(&k) < 0)
		return -1;
	status = checkpoint_dump(&k, c, false, NULL);
	if (status) {
		last_line(k.out, ret, "dump");
		ret->refused = status == 3;
		return -1;
	}
	checkpoint_ended(&k, c);
	if (checkpoint_restore(&k, c, NULL)) {
		last_line(k.out, ret, "restore");
		return -1;
	}
	if (verbose)
		last_line(k.out, ret, "log");
	if (checkpoint_begun(&k, c) < 0) {
		snprintf(ret->text, sizeof(ret->text), "restore wrote no pid");
		return -1;
	}
	return 0;
}

/* exec - a command in a running container.
 *
 * liblxc enters the namespaces, cgroups, user and capabilities; what is ours is the stdio and the place in
 * the tree.  Interactive: a pty of the container's own devpts, so that it is a terminal of the container.
 * Else three pipes: attach changes owner and mode of what it is given, which must never be the host's
 * /dev/null.  The command leads a session of its own, so that nothing of it refers to processes outside
 * of the PID namespace.  Detached: a second fork makes it a child of the container's init, with the
 * container's /dev/null as stdio: it belongs to the container, outlives this job and moves with it. */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/internal.h"
#include "runtime/verbs.h"

#define WORDS_MAX 4096
#define KILL_AFTER_MS 3000

AUTO_OF_DEFINE(container)

struct words {
	char **v; /* ends with NULL */
	size_t n, cap;
};

struct exec {
	struct job *j;
	struct container *c;
	struct words command, environment;
	const char *cwd;
	uint32_t user, group;
	bool interactive, detached;
	int in[2], out[2], errs[2]; /* [0] read ends, [1] write ends */
	int master, slave;
	int report[2];              /* errno of a command that cannot be executed */
	int cgroup;                 /* cgroup.procs of the cgroup it belongs in; -1: as liblxc leaves it */
};

static void exec_done(struct exec *x)
{
	int *const fds[] = { &x->in[0],	  &x->in[1],   &x->out[0], &x->out[1],	  &x->errs[0],
			     &x->errs[1], &x->master, &x->slave,  &x->report[0], &x->report[1],
			     &x->cgroup };
	struct words *const lists[] = { &x->command, &x->environment };

	for (size_t i = 0; i < array_len(fds); i++)
		fd_close(fds[i]);
	for (size_t i = 0; i < array_len(lists); i++) {
		for (size_t k = 0; k < lists[i]->n; k++)
			free(lists[i]->v[k]);
		free(lists[i]->v);
	}
	container_free(x->c);
}

static int words_add(struct words *w, char *taken)
{
	if (!taken || w->n >= WORDS_MAX || array_grow(w->v, w->n + 1, w->cap) < 0) {
		free(taken);
		return taken && w->n >= WORDS_MAX ? -E2BIG : -ENOMEM;
	}
	w->v[w->n++] = taken;
	w->v[w->n] = NULL;
	return 0;
}

/* Sets NAME=value, in place of an earlier one. */
static int env_set(struct words *w, const char *name, const char *value)
{
	size_t n = strlen(name);
	char *pair;

	if (n == 0 || strchr(name, '='))
		return -EINVAL;
	if (asprintf(&pair, "%s=%s", name, value) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < w->n; i++) {
		if (strncmp(w->v[i], name, n) != 0 || w->v[i][n] != '=')
			continue;
		free(w->v[i]);
		w->v[i] = pair;
		return 0;
	}
	return words_add(w, pair);
}

static int environment_fill(struct exec *x, struct err *e)
{
	const json_t *asked = json_object_get(x->j->spec, "environment");
	const char *key;
	json_t *value;
	int r;

	r = env_set(&x->environment, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (r == 0)
		r = env_set(&x->environment, "HOME", x->user ? "/" : "/root");
	if (r == 0)
		r = env_set(&x->environment, "LANG", "C.UTF-8");
	if (r == 0 && !x->user)
		r = env_set(&x->environment, "USER", "root");
	json_object_foreach(x->c->config, key, value)
		if (r == 0 && str_starts(key, "environment.") && json_is_string(value))
			r = env_set(&x->environment, key + strlen("environment."),
				    json_string_value(value));
	json_object_foreach((json_t *)asked, key, value)
		if (r == 0 && json_is_string(value))
			r = env_set(&x->environment, key, json_string_value(value));
	return r < 0 ? err_sys(e, r, "the environment cannot be set") : 0;
}

static int command_fill(struct exec *x, struct err *e)
{
	const json_t *list = json_object_get(x->j->spec, "command");
	json_t *w;
	size_t i;

	if (json_array_size(list) == 0)
		return err_set(e, -EINVAL, "there is no command");
	json_array_foreach((json_t *)list, i, w) {
		int r = json_is_string(w) ? words_add(&x->command, strdup(json_string_value(w))) : -EINVAL;

		if (r < 0)
			return err_sys(e, r, "the command's words");
	}
	return 0;
}

static int id_read(struct exec *x, const char *key, uint32_t *ret, struct err *e)
{
	json_int_t v = json_integer_value(json_object_get(x->j->spec, key));

	if (v < 0 || v > (x->c->idmap_size ? x->c->idmap_size - 1 : UINT32_MAX - 1))
		return err_set(e, -EINVAL, "%s %lld is not an id of the container", key, (long long)v);
	*ret = (uint32_t)v;
	return 0;
}

static int spec_read(struct exec *x, struct err *e)
{
	const char *cwd = json_string_value(json_object_get(x->j->spec, "cwd"));
	int r;

	x->interactive = json_is_true(json_object_get(x->j->spec, "interactive"));
	x->detached = json_is_true(json_object_get(x->j->spec, "detached"));
	if (x->interactive && x->detached)
		return err_set(e, -EINVAL, "a command is either interactive or detached");
	r = id_read(x, "user", &x->user, e);
	if (r == 0)
		r = id_read(x, "group", &x->group, e);
	if (r == 0)
		r = command_fill(x, e);
	if (r == 0)
		r = environment_fill(x, e);
	x->cwd = cwd && *cwd ? cwd : x->user ? "/" : "/root";
	return r;
}

/* ------------------------------------------ its stdio ----------------------------------------- */

static int pty_open(struct exec *x, struct lxc_container *lxc, struct err *e)
{
	json_int_t width = json_integer_value(json_object_get(x->j->spec, "width"));
	json_int_t height = json_integer_value(json_object_get(x->j->spec, "height"));
	auto_fd int devpts = lxc->devpts_fd(lxc);
	struct winsize size = { 0 };

	if (devpts < 0)
		return err_sys(e, devpts > -4096 ? devpts : -EIO, "liblxc gives no devpts of the container");
	x->master = openat(devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (x->master < 0)
		return err_sys(e, -errno, "cannot make a terminal in the container");
	if (unlockpt(x->master) < 0)
		return err_sys(e, -errno, "cannot make a terminal in the container");
	/* By the master, not by name: what the name leads to is the container's to decide. */
	x->slave = ioctl(x->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (x->slave < 0)
		return err_sys(e, -errno, "cannot open the container's terminal");
	if (width > 0 && width < 65536 && height > 0 && height < 65536) {
		size.ws_col = (unsigned short)width;
		size.ws_row = (unsigned short)height;
		ioctl(x->master, TIOCSWINSZ, &size);
	}
	return 0;
}

static int pipes_open(struct exec *x, struct err *e)
{
	if (pipe2(x->in, O_CLOEXEC) < 0 || pipe2(x->out, O_CLOEXEC) < 0 || pipe2(x->errs, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	return 0;
}

/* To the command's user, so that it can open /dev/stdout and its tty.  From here, since an owner that is not
 * mapped cannot be changed inside of the user namespace. */
static int stdio_own(struct exec *x, struct err *e)
{
	int fds[3] = { x->in[0], x->out[1], x->errs[1] };
	uid_t owner = x->c->idmap_base + x->user;

	if (x->interactive)
		fds[0] = fds[1] = fds[2] = x->slave;
	for (int i = 0; i < 3; i++)
		if (fchown(fds[i], owner, (gid_t)-1) < 0)
			return err_sys(e, -errno, "cannot give the command's ends to its user");
	return 0;
}

static int ends_send(struct exec *x, struct err *e)
{
	int ends[3] = { x->in[1], x->out[0], x->errs[0] }, r;

	if (x->detached)
		return 0;
	r = x->interactive ? msg_send(x->j->fd, &x->master, 1, "pty", NULL) :
			     msg_send(x->j->fd, ends, 3, "stdio", NULL);
	/* Only the daemon's copies count from now on: its closing must be the end for the command. */
	fd_close(&x->master);
	fd_close(&x->slave);
	for (int i = 0; i < 2; i++) {
		fd_close(&x->in[i]);
		fd_close(&x->out[i]);
		fd_close(&x->errs[i]);
	}
	return r < 0 ? err_sys(e, r, "cannot hand over the command's ends") : 0;
}

/* liblxc puts what is attached into a cgroup2 of its own, `.lxc` below the container's, which nothing inside
 * knows of and which another host need not have.  So it goes to where the init is, whose child it could be.  The
 * kernel judges by who has opened the file: written to from inside, before anything of the command runs, it is
 * still the host's. */
static int cgroup_open(struct exec *x, struct err *e)
{
	auto_free char *dir = NULL, *path = NULL;
	pid_t init = container_init_pid(x->c);
	int r = x->c->cgroup && init ? cgroup_find(x->c->cgroup, init, &dir) : 0;

	if (r < 0)
		return err_sys(e, r, "the cgroup of instance %s", x->c->name);
	if (r == 0)
		return 0;
	if (asprintf(&path, "%s/cgroup.procs", dir) < 0)
		return err_sys(e, -ENOMEM, "instance %s", x->c->name);
	x->cgroup = open(path, O_WRONLY | O_CLOEXEC);
	return x->cgroup < 0 ? err_sys(e, -errno, "cannot open %s", path) : 0;
}

/* ------------------------------------ inside of the container --------------------------------- */

static void signals_plain(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < 65; s++)
		if (s != SIGKILL && s != SIGSTOP)
			sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void image_replace(struct exec *x)
{
	int code;

	signals_plain();
	umask(022);
	/* All but the report, which closes itself when the command takes over. */
	if (x->report[1] > 3)
		close_range(3, (unsigned)x->report[1] - 1, 0);
	close_range((unsigned)x->report[1] + 1, ~0u, 0);
	/* The path of the container, not of the job. */
	environ = x->environment.v;
	execvp(x->command.v[0], x->command.v);
	code = errno;
	(void)!write(x->report[1], &code, sizeof(code));
	if (!x->detached)
		dprintf(2, "cannot execute %s: %s\n", x->command.v[0], strerror(code));
	_exit(code == ENOENT ? 127 : 126);
}

static void detach(struct exec *x)
{
	pid_t pid = fork();
	int null, code;

	if (pid > 0)
		_exit(0);
	if (pid == 0) {
		setsid();
		null = open("/dev/null", O_RDWR);
		if (null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0)
			image_replace(x);
	}
	code = errno;
	(void)!write(x->report[1], &code, sizeof(code));
	_exit(126);
}

static int exec_inside(void *arg)
{
	struct exec *x = arg;

	/* An init that has made groups with controllers below its own since takes nobody in any more: no harm. */
	if (x->cgroup >= 0)
		(void)!write(x->cgroup, "0", 1);
	/* Before anything else: the standard descriptors that liblxc set up keep their numbers. */
	if (x->detached)
		detach(x);
	setsid();
	if (x->interactive) {
		ioctl(0, TIOCSCTTY, 0);
		fchmod(0, 0620); /* liblxc made it 0700; write and mesg expect a tty's mode */
	}
	image_replace(x);
	return 126;
}

/* --------------------------------------- seen from outside ------------------------------------ */

static int attach(struct exec *x, struct lxc_container *lxc, pid_t *ret, struct err *e)
{
	lxc_attach_options_t o = LXC_ATTACH_OPTIONS_DEFAULT;
	int64_t mark = lxclog_mark(x->c);

	o.env_policy = LXC_ATTACH_CLEAR_ENV;
	o.extra_env_vars = x->environment.v;
	o.initial_cwd = (char *)x->cwd;
	o.uid = x->user;
	o.gid = x->group;
	o.stdin_fd = x->interactive ? x->slave : x->in[0];
	o.stdout_fd = x->interactive ? x->slave : x->out[1];
	o.stderr_fd = x->interactive ? x->slave : x->errs[1];
	if (lxc->attach(lxc, exec_inside, x, &o, ret) < 0)
		return lxclog_fail(x->c, mark, -EIO, "liblxc cannot enter the container", e);
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Passes on what the daemon says: < 0 when the command is to end. */
static int messages_handle(struct exec *x, int pidfd)
{
	struct msg m;
	int r;

	while ((r = job_recv(x->j, &m, 0)) > 0) {
		uint64_t n;

		if (msg_is(&m, "signal") && msg_get_u64(&m, "n", &n) == 0 && n > 0 && n < 65)
			syscall(SYS_pidfd_send_signal, pidfd, (int)n, NULL, 0);
		msg_done(&m);
	}
	return r;
}

/* Waits for the end of our child; a command that is to end gets SIGHUP, then no choice. */
static void end_wait(struct exec *x, int pidfd)
{
	int64_t kill_at = 0;

	for (;;) {
		struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN },
				       { .fd = kill_at ? -1 : x->j->fd, .events = POLLIN } };
		int r = poll(p, 2, kill_at ? 200 : -1);

		if (r < 0 && errno != EINTR)
			return;
		if (p[0].revents)
			return;
		if (!kill_at && p[1].revents && messages_handle(x, pidfd) < 0) {
			kill_at = now_ms() + KILL_AFTER_MS;
			syscall(SYS_pidfd_send_signal, pidfd, SIGHUP, NULL, 0);
		}
		if (kill_at && now_ms() >= kill_at)
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	}
}

/* A command that was killed because its container left: says where to. */
static int moved_away(struct exec *x, struct err *e)
{
	json_t *row, *list, *m;
	const char *peer = NULL;
	size_t i;
	int own, r = db_instance_get(x->c->db, x->c->name, &row, NULL);

	own = r == 0 ? (int)json_integer_value(json_object_get(row, "own")) : OWN_HANDED;
	if (r == 0)
		json_decref(row);
	if (r < 0 && r != -ENOENT)
		return 0;
	if (own != OWN_HANDED && own != OWN_OUTGOING && own != OWN_DELETING)
		return 0;
	if (db_migration_list(x->c->db, &list, NULL) < 0)
		list = NULL;
	json_array_foreach(list, i, m) {
		const char *instance = json_string_value(json_object_get(m, "instance"));
		const char *role = json_string_value(json_object_get(m, "role"));

		if (instance && role && strcmp(instance, x->c->name) == 0 && strcmp(role, "source") == 0)
			peer = json_string_value(json_object_get(m, "peer"));
	}
	r = peer && *peer ? err_set(e, -ESTALE,
				    "the command ended here: instance %s has moved to %s; processes started by an attached exec stay behind",
				    x->c->name, peer) :
			    err_set(e, -ESTALE,
				    "the command ended here: instance %s has left this host; processes started by an attached exec stay behind",
				    x->c->name);
	json_decref(list);
	return r;
}

static int result_report(struct exec *x, int status, struct err *e)
{
	int code = 0, ret;

	fd_close(&x->report[1]);
	fd_set_nonblock(x->report[0], 1);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		ret = moved_away(x, e);
		if (ret < 0)
			return ret;
	}
	ret = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (x->detached && read(x->report[0], &code, sizeof(code)) == sizeof(code))
		return err_sys(e, -code, "cannot execute %s", x->command.v[0]);
	return job_done_json(x->j, json_pack("{s:i}", "return", ret));
}

static int exec_run(struct exec *x, struct lxc_container *lxc, struct err *e)
{
	auto_fd int pidfd = -1;
	int status = 0, r;
	pid_t pid;

	r = x->interactive ? pty_open(x, lxc, e) : pipes_open(x, e);
	if (r == 0)
		r = stdio_own(x, e);
	if (r == 0 && pipe2(x->report, O_CLOEXEC) < 0)
		r = err_sys(e, -errno, "cannot make a pipe");
	if (r == 0)
		r = cgroup_open(x, e);
	if (r == 0)
		r = attach(x, lxc, &pid, e);
	if (r < 0)
		return r;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = pidfd < 0 ? err_sys(e, -errno, "cannot watch the command") : ends_send(x, e);
	if (r < 0)
		kill(pid, SIGKILL);
	else
		end_wait(x, pidfd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : result_report(x, status, e);
}

/* Entering a frozen cgroup would leave the command, and this job, hanging. */
static int frozen_check(struct container *c, struct err *e)
{
	auto_free char *path = NULL, *text = NULL;

	if (!c->cgroup || asprintf(&path, "%s/cgroup.freeze", c->cgroup) < 0)
		return 0;
	if (fd_read_file_at(AT_FDCWD, path, 16, &text, NULL) == 0 && text[0] == '1')
		return err_set(e, -EBUSY, "instance %s is frozen; unfreeze it first", c->name);
	return 0;
}

static int own_check(struct container *c, struct err *e)
{
	json_int_t own = json_integer_value(json_object_get(c->row, "own"));

	if (own != OWN_MINE)
		return err_set(e, -EBUSY, "instance %s is being moved or made; try again when that is over",
			       c->name);
	if (!container_init_pid(c))
		return err_set(e, -ESRCH, "instance %s is not running; start it first", c->name);
	return frozen_check(c, e);
}

int instance_exec_run(struct job *j, struct err *e)
{
	__attribute__((cleanup(exec_done))) struct exec x = {
		.j = j, .in = { -1, -1 }, .out = { -1, -1 }, .errs = { -1, -1 },
		.master = -1, .slave = -1, .report = { -1, -1 }, .cgroup = -1
	};
	const char *name = json_string_value(json_object_get(j->spec, "name"));
	struct lxc_container *lxc;
	auto_db *db = NULL;
	int r = db_open(j->state_dir, &db, e);

	if (r == 0)
		r = container_open(db, j->state_dir, name, &x.c, e);
	if (r == 0)
		r = own_check(x.c, e);
	if (r == 0)
		r = spec_read(&x, e);
	if (r < 0)
		return r;
	lxc = container_lxc(x.c, e);
	if (!lxc)
		return -EIO;
	r = exec_run(&x, lxc, e);
	lxc_container_put(lxc);
	return r;
}

/* start - starting, stopping and ending a container by liblxc. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "network/link.h"
#include "runtime/clocks.h"
#include "runtime/internal.h"
#include "runtime/program.h"
#include "runtime/runpid.h"
#include "storage/folder.h"

#define LOG_KEEP_BYTES (1 << 20)
#define KILL_TIMEOUT_MS 15000

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int path_in(const char *dir, const char *file, char **ret, struct err *e)
{
	return asprintf(ret, "%s/%s", dir, file) < 0 ? err_sys(e, -ENOMEM, "%s", dir) : 0;
}

static int file_remove(const char *dir, const char *file, struct err *e)
{
	auto_free char *path = NULL;
	int r = path_in(dir, file, &path, e);

	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_sys(e, -errno, "cannot remove %s", path);
	return 0;
}

static int file_put(const char *dir, const char *file, const char *text, struct err *e)
{
	auto_free char *path = NULL;
	int r = path_in(dir, file, &path, e);

	if (r < 0)
		return r;
	r = fd_replace_file_at(AT_FDCWD, path, text, strlen(text), 0644);
	return r < 0 ? err_sys(e, r, "cannot write %s", path) : 0;
}

/* A copy, not a bind mount of the installed file: an upgrade may replace that while containers run. */
static int program_copy(const char *from, const char *dir, const char *name, struct err *e)
{
	auto_free char *to = NULL, *data = NULL;
	size_t len;
	int r = path_in(dir, name, &to, e);

	if (r < 0)
		return r;
	r = fd_read_file_at(AT_FDCWD, from, 16 << 20, &data, &len);
	if (r == 0)
		r = fd_replace_file_at(AT_FDCWD, to, data, len, 0755);
	if (r == 0 && chmod(to, 0755) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "cannot copy %s to %s", from, to) : 0;
}

/* A container's root has to pass through the folders above its rootfs and its job folder. */
static int folders_open_for(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if ((st.st_mode & 0111) != 0111 && chmod(path, (st.st_mode & 07777) | 0111) < 0)
		return err_sys(e, -errno, "cannot set the mode of %s", path);
	return 0;
}

static int folders_make(struct container *c, struct err *e)
{
	auto_free char *job = NULL, *lxc = NULL, *logs = NULL;
	int r = path_in(c->run_dir, "job", &job, e);

	if (r == 0)
		r = path_in(c->lxcpath, c->name, &lxc, e);
	if (r == 0 && asprintf(&logs, "%s/logs/%s", c->state_dir, c->name) < 0)
		r = err_sys(e, -ENOMEM, "instance %s", c->name);
	if (r == 0)
		r = folder_make(lxc, 0700, e);
	if (r == 0)
		r = folder_make(logs, 0700, e);
	if (r == 0)
		r = folder_make(job, 0755, e);
	if (r == 0)
		r = folders_open_for(c->run_dir, e);
	return r < 0 ? r : folders_open_for(c->state_dir, e);
}

static void log_trim(struct container *c)
{
	struct stat st;

	if (stat(c->log_file, &st) == 0 && st.st_size > LOG_KEEP_BYTES)
		(void)!truncate(c->log_file, 0);
}

static int run_dir_fill(struct container *c, const struct start_options *o, struct err *e)
{
	auto_free char *gw_init = NULL, *job = NULL, *link = NULL;
	int r = program_find("gw-init", &gw_init, e);

	if (r == 0)
		r = path_in(c->run_dir, "job", &job, e);
	if (r == 0)
		r = program_copy(gw_init, job, "gw-init", e);
	if (r == 0)
		r = o->mode == START_WAITING ? file_put(job, "wait", "", e) : file_remove(job, "wait", e);
	if (r == 0)
		r = file_remove(c->run_dir, "hook-error", e);
	if (r < 0)
		return r;
	if (!c->nic.there)
		return file_remove(c->run_dir, "link", e);
	if (asprintf(&link, "%s %s\n", c->nic.host_name, c->nic.network) < 0)
		return err_sys(e, -ENOMEM, "instance %s", c->name);
	return file_put(c->run_dir, "link", link, e);
}

struct lxc_container *container_lxc(struct container *c, struct err *e)
{
	struct lxc_container *lxc = lxc_container_new(c->name, c->lxcpath);

	if (!lxc || !lxc->lxc_conf) {
		if (lxc)
			lxc_container_put(lxc);
		err_set(e, -EIO, "liblxc does not read the configuration of %s", c->name);
		return NULL;
	}
	return lxc;
}

static int lxc_start_here(struct container *c, struct err *e)
{
	struct lxc_container *lxc;
	int64_t mark = lxclog_mark(c);
	auto_free char *report = NULL, *text = NULL;
	bool ok;

	lxc = container_lxc(c, e);
	if (!lxc)
		return lxclog_fail(c, mark, -EIO, "liblxc does not read its configuration", e);
	lxc->want_daemonize(lxc, true);
	lxc->want_close_all_fds(lxc, true);
	ok = lxc->start(lxc, 0, NULL);
	if (ok)
		return 0;
	if (path_in(c->run_dir, "hook-error", &report, NULL) == 0 &&
	    fd_read_file_at(AT_FDCWD, report, 1000, &text, NULL) == 0)
		return err_set(e, -EIO, "it does not start: %s", text);
	return lxclog_fail(c, mark, -EIO, "it does not start", e);
}

/* In a process of its own, which ends: liblxc moves its caller into the monitor's cgroups, where a job has
 * no business (they are emptied by force when the container ends).  What the monitor, and through it the
 * container's init, inherits is made plain here: signals, umask, and the time namespace it is born in.
 *
 * PATH: where liblxc finds newuidmap (in bin folders) it insists on root's entry in /etc/subuid, which bare
 * hosts lack; without it, it writes the maps itself, as root may. Id ranges are the database's to give. */
static void lxc_start_child(struct container *c, const struct clock_offsets *clocks, int report)
{
	struct err e = { 0 };
	sigset_t none;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	umask(022);
	setenv("PATH", "/usr/sbin:/sbin", 1);
	r = clock_namespace_make(clocks, &e);
	if (r == 0)
		r = lxc_start_here(c, &e);
	if (r < 0)
		(void)!write(report, err_text(&e), strlen(err_text(&e)));
	_exit(r < 0);
}

static int lxc_start_it(struct container *c, const struct clock_offsets *clocks, struct err *e)
{
	char text[ERR_TEXT_MAX];
	int report[2], status = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		lxc_start_child(c, clocks, report[1]);
	fd_close(&report[1]);
	if (pid < 0) {
		int r = err_sys(e, -errno, "cannot fork");

		fd_close(&report[0]);
		return r;
	}
	/* Whole, or nothing where all went well: less than a pipe holds, and the monitor closes its copy. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	fd_set_nonblock(report[0], 1);
	n = read(report[0], text, sizeof(text) - 1);
	fd_close(&report[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	text[n > 0 ? n : 0] = '\0';
	return err_set(e, -EIO, "%s", n > 0 ? text : "liblxc crashed while starting it");
}

static int monitor_pidfd(struct container *c)
{
	return runpid_open_file(c->run_dir, "monitor", NULL);
}

bool container_running(struct container *c)
{
	auto_fd int fd = monitor_pidfd(c);

	return fd >= 0;
}

/* What a container leaves behind: cgroups in every hierarchy, the host end of its veth, notes. */
static int leftovers_remove(struct container *c, struct err *e)
{
	static const char *const suffix[] = { "", ".monitor", ".pivot" };
	auto_cgroup_mounts ms = { 0 };
	int r = cgroup_mounts_read(&ms, e);

	for (size_t i = 0; i < ms.n; i++)
		for (size_t k = 0; k < array_len(suffix); k++) {
			auto_free char *dir = NULL;
			int q;

			if (asprintf(&dir, "%s/%s/%s%s", ms.m[i].base, c->prefix, c->name, suffix[k]) < 0)
				return err_sys(e, -ENOMEM, "cgroups");
			q = cgroup_remove(dir, ms.m[i].v2, KILL_TIMEOUT_MS);
			if (q < 0 && r == 0)
				r = err_sys(e, q, "cannot remove the cgroup %s", dir);
		}
	if (r == 0 && c->nic.there && c->nic.host_name)
		r = link_delete(c->nic.host_name, e);
	if (r == 0)
		r = file_remove(c->run_dir, "init", e);
	if (r == 0)
		r = file_remove(c->run_dir, "monitor", e);
	if (r == 0)
		r = file_remove(c->run_dir, "job/wait", e);
	return r;
}

static int start_check(struct container *c, struct err *e)
{
	pid_t pid = container_init_pid(c);

	if (!pid)
		return err_set(e, -EIO, "it ended at once; see %s", c->log_file);
	if (c->cgroup && cgroup_holds(c->cgroup, pid) != 1)
		return err_set(e, -EIO, "liblxc did not put it into the cgroup %s", c->cgroup);
	return 0;
}

/* liblxc would only say that the container ended.  What mounts of raw.lxc bring cannot be looked at before. */
static int first_process_check(struct container *c, struct err *e)
{
	const char *raw = container_config_str(c, "raw.lxc");
	auto_buf command = BUF_INIT, rest = BUF_INIT;

	if (raw && strstr(raw, "lxc.mount"))
		return 0;
	if (init_command(raw, &command, &rest) < 0)
		return err_sys(e, -ENOMEM, "%s", c->name);
	command.data[strcspn(command.data, " \t")] = '\0';
	return init_check(c->rootfs, command.data, e);
}

static int start_steps(struct container *c, const struct start_options *o, const struct clock_offsets *clocks,
		       struct err *e)
{
	int r = o->mode == START_NORMAL ? first_process_check(c, e) : 0;

	if (r == 0)
		r = folders_make(c, e);
	if (r == 0)
		r = nic_assign(c, o->mode == START_WAITING, e);
	if (r == 0)
		r = leftovers_remove(c, e);
	if (r == 0)
		r = run_dir_fill(c, o, e);
	log_trim(c);
	if (r == 0)
		r = config_write(c, e);
	if (r < 0)
		return r;
	r = lxc_start_it(c, clocks, e);
	if (r == 0)
		r = start_check(c, e);
	if (r < 0)
		container_destroy_run(c, NULL);
	return r;
}

int container_start(struct container *c, const struct start_options *o, struct err *e)
{
	struct clock_offsets clocks;
	/* First: what was asked for is meant for now. */
	int r = clock_offsets_for(o->monotonic_ns, o->boottime_ns, &clocks, e);

	if (r < 0)
		return err_context(e, r, "instance %s", c->name);
	if (container_running(c))
		return err_set(e, -EALREADY, "instance %s is running already", c->name);
	if (access(c->rootfs, F_OK) < 0)
		return err_sys(e, -errno, "the root file system %s", c->rootfs);
	r = start_steps(c, o, &clocks, e);
	return r < 0 ? err_context(e, r, "instance %s", c->name) : 0;
}

int container_wait_over(struct container *c, struct err *e)
{
	return file_remove(c->run_dir, "job/wait", e);
}

/* 1: the monitor has ended, 0: not within the time; -ECANCELED. */
static int monitor_wait(struct container *c, int fd, int64_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		int r = container_check_cancelled(c);

		if (r < 0)
			return r;
		if (left <= 0)
			return 0;
		r = poll(&p, 1, left > 200 ? 200 : (int)left);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			return 1;
	}
}

static int init_signal(struct container *c, int sig)
{
	auto_fd int fd = runpid_open_file(c->run_dir, "init", NULL);

	if (fd < 0)
		return fd;
	return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0 ? -errno : 0;
}

int container_stop(struct container *c, bool force, int timeout_s, struct err *e)
{
	auto_fd int monitor = monitor_pidfd(c);
	int64_t deadline = timeout_s < 0 ? INT64_MAX / 2 : now_ms() + (int64_t)timeout_s * 1000;
	int r;

	if (monitor < 0)
		return err_set(e, -ESRCH, "instance %s is not running", c->name);
	if (force)
		return container_destroy_run(c, e);
	r = init_signal(c, init_halt_signal(init_kind_of(c)));
	if (r < 0 && r != -ESRCH && r != -ENOENT)
		return err_sys(e, r, "cannot signal the init of %s", c->name);
	r = monitor_wait(c, monitor, deadline);
	if (r < 0)
		return err_sys(e, r, "stopping %s", c->name);
	if (r == 0)
		return err_set(e, -ETIMEDOUT, "instance %s has not stopped within %d s; stop it with --force",
			       c->name, timeout_s);
	return leftovers_remove(c, e);
}

int container_destroy_run(struct container *c, struct err *e)
{
	auto_fd int monitor = monitor_pidfd(c);
	int (*cancelled)(void *) = c->cancelled;
	int r;

	/* cgroup.kill reaches frozen tasks, and those that were entered from outside, too. */
	if (c->cgroup)
		cgroup_kill(c->cgroup);
	init_signal(c, SIGKILL);
	if (monitor >= 0) {
		c->cancelled = NULL; /* what is being torn down is torn down whole */
		r = monitor_wait(c, monitor, now_ms() + KILL_TIMEOUT_MS);
		c->cancelled = cancelled;
		if (r <= 0)
			syscall(SYS_pidfd_send_signal, monitor, SIGKILL, NULL, 0);
	}
	r = leftovers_remove(c, e);
	return r < 0 ? err_context(e, r, "instance %s", c->name) : 0;
}

#include "migrate/disk.h"

#include <fcntl.h>
#include <fts.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/program.h"

#define RSYNC_ARGS_MAX 16
#define RSYNC_LINE_MAX 1024

static const char *const rsync_path = "/usr/bin/rsync";

/* ------------------------------------------ starting ------------------------------------------- */

static int map_write(pid_t pid, const char *file, const struct disk_side *d)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	snprintf(text, sizeof(text), "0 %u %u\n", d->idmap_base, d->idmap_size);
	return fd_write_file_at(AT_FDCWD, path, text);
}

/* In the child: stands in the rootfs, in the container's user namespace, with in/out/err set. */
static int child_enter(const struct disk_side *d, int sync_fd)
{
	char c;

	if (chdir(d->rootfs) < 0)
		return -errno;
	if (!d->idmap_base)
		return 0;
	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	if (write(sync_fd, "u", 1) != 1 || read(sync_fd, &c, 1) != 1)
		return -EPIPE;
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return -errno;
	return 0;
}

static int parent_map(pid_t pid, int sync_fd, const struct disk_side *d)
{
	char c;
	int r;

	if (!d->idmap_base)
		return 0;
	if (read(sync_fd, &c, 1) != 1)
		return -EPIPE;
	r = map_write(pid, "uid_map", d);
	if (r == 0)
		r = map_write(pid, "gid_map", d);
	if (r == 0 && write(sync_fd, "m", 1) != 1)
		r = -EPIPE;
	return r;
}

/* Starts argv as the session's child, the leader of a group; fd_in and fd_out become its 0 and 1, keep3 (or -1) its 3. */
static int rsync_spawn(struct session *s, const struct disk_side *d, const char *const *argv, int fd_io, int keep3,
		       struct err *e)
{
	int sync[2], errp[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync) < 0 || pipe2(errp, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot start rsync");
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (child_enter(d, sync[1]) < 0)
			_exit(126);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* becoming somebody else has cleared it */
		if (dup2(fd_io >= 0 ? fd_io : null, 0) < 0 || dup2(fd_io >= 0 ? fd_io : null, 1) < 0 ||
		    dup2(errp[1], 2) < 0)
			_exit(126);
		if (keep3 >= 0) {
			int tmp = fcntl(keep3, F_DUPFD, 10);

			if (tmp < 0 || dup2(tmp, 3) < 0)
				_exit(126);
		}
		close_range(keep3 >= 0 ? 4 : 3, ~0u, 0);
		signal(SIGPIPE, SIG_DFL);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(sync[1]);
	close(errp[1]);
	if (pid > 0)
		setpgid(pid, pid); /* here too: whoever of the two is first */
	r = pid < 0 ? -errno : parent_map(pid, sync[0], d);
	close(sync[0]);
	if (r < 0) {
		close(errp[0]);
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		return err_sys(e, r, "cannot start rsync for the container's id range");
	}
	session_child_set(s, pid, errp[0], "rsync");
	return 0;
}

/* The command for rsync's -e: it splits at blanks, quotes hold words together, and a doubled one is itself. */
static char *rsh_word(const char *program)
{
	auto_buf b = BUF_INIT;
	int r = buf_adds(&b, "'");

	for (; r == 0 && *program; program++)
		r = buf_addf(&b, *program == '\'' ? "''" : "%c", *program);
	if (r == 0)
		r = buf_adds(&b, "' 3");
	return r == 0 ? buf_take(&b) : NULL;
}

int disk_send_start(struct session *s, const struct disk_side *d, int fd, struct err *e)
{
	auto_free char *pipe_program = NULL;
	auto_free char *rsh = NULL;
	int r;

	r = program_find("godwit-pipe", &pipe_program, e);
	if (r < 0)
		return r;
	rsh = rsh_word(pipe_program);
	if (!rsh)
		return err_set(e, -ENOMEM, "out of memory");
	/* -W: deltas cost more time than they save on the links containers move over. */
	/* /.godwit is where gw-init waits at the target: deleting the folder here would take its mount away
	 * there (rmdir of another namespace's mount point succeeds since Linux 3.18), and it would end. */
	/* Times are compared to the nanosecond: by whole seconds, which is rsync's default, a file that is written again in
	 * the second of its first copy, to the same length, would be taken for the same. */
	const char *argv[] = { rsync_path, "-aHAXSW", "--numeric-ids", "--delete", "--modify-window=-1",
			       "--exclude=/.godwit", "-e", rsh, ".", "peer:.", NULL };

	return rsync_spawn(s, d, argv, -1, fd, e);
}

/* What our own rsync sends for the options above; the letters behind "e." are its protocol abilities. */
static bool arg_allowed(const char *a)
{
	static const char *const words[] = { "rsync", "--server", "--delete", "--numeric-ids", "-@-1", "." };

	for (size_t i = 0; i < array_len(words); i++)
		if (strcmp(a, words[i]) == 0)
			return true;
	if (a[0] != '-' || a[1] == '-' || !strstr(a, "e."))
		return false;
	return strspn(a + 1, "lHogDtpAXrSWe.iLsfxCIvu") == strlen(a + 1);
}

static int args_read(int fd, char *line, size_t max, struct err *e)
{
	for (size_t n = 0; n < max; n++) {
		ssize_t got = read(fd, line + n, 1);

		if (got < 0 && errno == EINTR) {
			n--;
			continue;
		}
		if (got != 1)
			return err_set(e, -EPIPE, "the other host's disk connection ended");
		if (line[n] == '\n') {
			line[n] = '\0';
			return 0;
		}
	}
	return err_set(e, -EPROTO, "the other host's rsync asks for too much");
}

int disk_receive_start(struct session *s, const struct disk_side *d, int fd, struct err *e)
{
	struct timeval tv = { .tv_sec = 10 }, none = { 0 };
	char line[RSYNC_LINE_MAX], *save = NULL, *w;
	const char *argv[RSYNC_ARGS_MAX + 2] = { rsync_path };
	size_t n = 1;
	int r;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	r = args_read(fd, line, sizeof(line), e);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	if (r < 0)
		return r;
	for (w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (!arg_allowed(w) || n > RSYNC_ARGS_MAX)
			return err_set(e, -EPROTO, "the other host's rsync asks for \"%s\", which this one "
				       "does not allow", w);
		if (strcmp(w, "rsync") != 0)
			argv[n++] = w;
	}
	if (n < 3 || strcmp(argv[1], "--server") != 0)
		return err_set(e, -EPROTO, "the other host's rsync asks for something else than a copy");
	return rsync_spawn(s, d, argv, fd, -1, e);
}

/* ----------------------------------------- lost updates ---------------------------------------- */

static int mapped_add(pid_t pid, json_t *array)
{
	auto_free char *maps = NULL;
	char path[64], *line, *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	if (fd_read_file_at(AT_FDCWD, path, 64u << 20, &maps, NULL) < 0)
		return 0; /* it ended meanwhile */
	for (line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *file = strchr(line, '/'), *prot = strchr(line, ' ');

		if (!file || !prot || prot[2] != 'w' || prot[4] != 's' || str_starts(file, "/dev/zero") ||
		    str_starts(file, "/memfd:") || str_ends(file, " (deleted)"))
			continue;
		if (json_array_append_new(array, json_string(file)) < 0)
			return -ENOMEM;
	}
	return 0;
}

int disk_mapped_files(const char *cgroup, json_t *array, struct err *e)
{
	char *const paths[] = { (char *)cgroup, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *f;
	int r = 0;

	if (!fts)
		return err_sys(e, -errno, "cannot look at the container's processes");
	while (r == 0 && (f = fts_read(fts))) {
		auto_free char *list = NULL, *file = NULL;
		char *w, *save = NULL;

		if (f->fts_info != FTS_D || asprintf(&file, "%s/cgroup.procs", f->fts_path) < 0 ||
		    fd_read_file_at(AT_FDCWD, file, 1u << 20, &list, NULL) < 0)
			continue;
		for (w = strtok_r(list, "\n", &save); w && r == 0; w = strtok_r(NULL, "\n", &save)) {
			int pid;

			if (parse_int(w, &pid) == 0 && pid > 0)
				r = mapped_add(pid, array);
		}
	}
	fts_close(fts);
	return r < 0 ? err_sys(e, r, "cannot look at the container's mappings") : 0;
}

static uint64_t ts_ns(const struct timespec *ts)
{
	return ts->tv_sec < 0 ? 0 : (uint64_t)ts->tv_sec * 1000000000ull + (uint64_t)ts->tv_nsec;
}

static int tree_walk(const char *root, int (*each)(FTSENT *f, size_t skip, void *arg), void *arg, struct err *e)
{
	char *const paths[] = { (char *)root, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	size_t skip = strlen(root);
	FTSENT *f;
	int r = 0;

	if (!fts)
		return err_sys(e, -errno, "cannot walk through the root file system");
	while (r == 0 && (f = fts_read(fts)))
		if (f->fts_info == FTS_F)
			r = each(f, skip, arg);
	fts_close(fts);
	return r < 0 ? err_sys(e, r, "cannot walk through the root file system") : 0;
}

struct set_back {
	uint64_t t0_ns;
	json_t *array;
};

static int set_back_each(FTSENT *f, size_t skip, void *arg)
{
	struct set_back *sb = arg;

	if (ts_ns(&f->fts_statp->st_ctim) < sb->t0_ns || ts_ns(&f->fts_statp->st_mtim) >= sb->t0_ns)
		return 0;
	return json_array_append_new(sb->array, json_string(f->fts_path + skip)) < 0 ? -EINVAL : 0;
}

int disk_set_back_files(const struct disk_side *d, uint64_t t0_ns, json_t *array, struct err *e)
{
	struct set_back sb = { t0_ns, array };

	return tree_walk(d->rootfs, set_back_each, &sb, e);
}

static const struct timespec forgotten[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1 } };

static int forget_each(FTSENT *f, size_t skip, void *arg)
{
	uint64_t t0_ns = *(uint64_t *)arg;

	if (ts_ns(&f->fts_statp->st_mtim) < t0_ns)
		return 0;
	return utimensat(AT_FDCWD, f->fts_path, forgotten, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int disk_forget_times(const struct disk_side *d, uint64_t t0_ns, const json_t *paths, struct err *e)
{
	auto_fd int root = open(d->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const json_t *p;
	size_t i;

	if (root < 0)
		return err_sys(e, -errno, "cannot open the root file system");
	json_array_foreach(paths, i, p) {
		const char *path = json_string_value(p);
		auto_fd int fd = path ? fd_open_in_root(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0) : -1;

		if (fd >= 0)
			futimens(fd, forgotten);
	}
	return t0_ns ? tree_walk(d->rootfs, forget_each, &t0_ns, e) : 0;
}

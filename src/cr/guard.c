#include "cr/guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "base/parse.h"
#include "cr/dump.h"

#define ENTRIES_MAX 100000
/* Who is being killed in a cgroup needs a moment to be gone. */
#define WAIT_TRIES 1000
#define WAIT_STEP_NS 5000000
#define DEPTH_MAX 64

struct entry {
	const struct guard_kind *kind;
	char *text;
	int fd;
};

struct guard {
	pid_t pid; /* of the guardian */
	int sock;
	struct entry *list;
	size_t n, cap;
};

struct guard_kind {
	const char *name;
	bool guardian_only;
	int (*undo)(const struct entry *x);
};

/* ---- kinds ---- */

static void below_remove(int dir, unsigned depth)
{
	int fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!list) {
		fd_close(&fd);
		return;
	}
	rewinddir(list);
	while (depth < DEPTH_MAX && (de = readdir(list))) {
		auto_fd int sub = -1;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		sub = openat(dir, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			below_remove(sub, depth + 1);
		unlinkat(dir, de->d_name, AT_REMOVEDIR);
	}
	closedir(list);
}

static int cgroup_remove(int top, const char *path)
{
	int r = -EBUSY;

	for (int i = 0; i < WAIT_TRIES && r == -EBUSY; i++) {
		auto_fd int dir = fd_open_beneath(top, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

		if (i)
			nanosleep(&(struct timespec){ 0, WAIT_STEP_NS }, NULL);
		if (dir < 0)
			return dir == -ENOENT ? 0 : dir;
		below_remove(dir, 0);
		r = unlinkat(top, path, AT_REMOVEDIR) < 0 ? -errno : 0;
	}
	return r;
}

static int cgroups_undo(const struct entry *x)
{
	const char *p = x->text;
	auto_free char *path = NULL;
	uint64_t n;
	int r = parse_u64_at(&p, 10, &n);

	if (r < 0 || *p != ' ' || !(path = strdup(p + 1)))
		return r < 0 ? r : -EINVAL;
	for (; n && r >= 0 && *path; n--) {
		char *slash = strrchr(path, '/');

		r = cgroup_remove(x->fd, path);
		if (slash)
			*slash = '\0';
		else
			break;
	}
	return r;
}

static int socket_undo(const struct entry *x)
{
	struct stat st;

	if (fstatat(x->fd, x->text, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	return unlinkat(x->fd, x->text, 0) < 0 ? -errno : 0;
}

static int link_undo(const struct entry *x)
{
	return unlinkat(x->fd, x->text, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int freezer_undo(const struct entry *x)
{
	return fd_write_file_at(x->fd, "cgroup.freeze", x->text);
}

static int recover_undo(const struct entry *x)
{
	struct err e = { 0 };
	int pid;

	if (parse_int(x->text, &pid) < 0)
		return -EINVAL;
	if (dump_recover(pid, NULL, &e) < 0 && kill(pid, 0) == 0)
		log_error("%s", err_text(&e));
	return 0;
}

static int tasks_undo(const struct entry *x)
{
	uint64_t pid;

	for (const char *p = x->text; parse_u64_at(&p, 10, &pid) >= 0; p += *p == ' ')
		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	return 0;
}

static const struct guard_kind kinds[] = {
	{ "cgroups", false, cgroups_undo }, { "socket", false, socket_undo },  { "link", false, link_undo },
	{ "freezer", false, freezer_undo }, { "recover", true, recover_undo }, { "tasks", true, tasks_undo },
};

static const struct guard_kind *kind_find(const char *name)
{
	for (size_t i = 0; i < array_len(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* ---- the list ---- */

static void entry_undo(const struct entry *x)
{
	int r = x->kind->undo(x);

	if (r < 0)
		log_error("undoing %s %s: %s", x->kind->name, x->text, strerror(-r));
}

static int list_add(struct guard *g, const char *kind, const char *text, int fd)
{
	struct entry x = { .kind = kind_find(kind), .fd = -1 };

	if (!x.kind || g->n >= ENTRIES_MAX || array_grow(g->list, g->n, g->cap) < 0)
		return x.kind ? -ENOMEM : -EINVAL;
	x.text = strdup(text);
	if (!x.text)
		return -ENOMEM;
	if (fd >= 0 && (x.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0) {
		free(x.text);
		return -errno;
	}
	g->list[g->n++] = x;
	return 0;
}

static void list_undo(struct guard *g, bool guardian)
{
	while (g->n) {
		struct entry *x = &g->list[--g->n];

		if (guardian || !x->kind->guardian_only)
			entry_undo(x);
		fd_close(&x->fd);
		free(x->text);
	}
}

static void guard_free(struct guard *g)
{
	for (; g->n; g->n--) {
		fd_close(&g->list[g->n - 1].fd);
		free(g->list[g->n - 1].text);
	}
	fd_close(&g->sock);
	free(g->list);
	free(g);
}

/* ---- the guardian ---- */

/* Nothing of the engine's may live on here: its ends of agents' channels above all. */
static void guardian_become(int sock)
{
	sigset_t all;
	int null_fd;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	prctl(PR_SET_NAME, "godwit-guard");
	setfsuid(geteuid());
	setfsgid(getegid());
	if (dup3(sock, 3, O_CLOEXEC) != 3 && sock != 3)
		_exit(1);
	syscall(SYS_close_range, 4, ~0u, 0);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd >= 0) {
		dup2(null_fd, 0);
		dup2(null_fd, 1);
		close(null_fd);
	}
	log_set_fd(2);
}

static _Noreturn void guardian(int sock)
{
	struct guard g = { .sock = 3 };
	struct msg m;
	int r;

	guardian_become(sock);
	while ((r = msg_recv(3, &m)) > 0) {
		const char *kind = msg_get(&m, "kind"), *text = msg_get(&m, "text");

		if (msg_is(&m, "done"))
			_exit(0);
		if (kind && text && list_add(&g, kind, text, m.n_fds ? m.fds[0] : -1) < 0)
			log_error("the guardian cannot keep \"%s %s\" in mind", kind, text);
		msg_done(&m);
	}
	list_undo(&g, true);
	_exit(0);
}

static int guard_new(struct guard **ret, struct err *e)
{
	struct guard *g = calloc(1, sizeof(*g));
	int sock[2];

	if (!g)
		return err_sys(e, -ENOMEM, "making the guardian");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0) {
		free(g);
		return err_sys(e, -errno, "making the guardian");
	}
	g->pid = fork();
	if (g->pid == 0) {
		close(sock[0]);
		guardian(sock[1]);
	}
	/* Whichever of us comes first: no kill of our group may hit both. */
	if (g->pid > 0)
		setpgid(g->pid, g->pid);
	close(sock[1]);
	g->sock = sock[0];
	if (g->pid < 0) {
		int r = err_sys(e, -errno, "making the guardian");

		guard_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

/* ---- for all ---- */

int guard_add(struct guard **g, const char *kind, const char *text, int fd, struct err *e)
{
	int r = *g ? 0 : guard_new(g, e);

	if (r < 0)
		return r;
	r = list_add(*g, kind, text, fd);
	if (r >= 0)
		r = msg_send((*g)->sock, fd >= 0 ? &fd : NULL, fd >= 0, "undo", "kind", kind, "text", text, NULL);
	if (r < 0)
		return err_sys(e, r, "telling the guardian of \"%s %s\"", kind, text);
	return fault_at("guard", "told", NULL, e);
}

bool guard_knows(const struct guard *g, const char *kind)
{
	for (size_t i = 0; g && i < g->n; i++)
		if (strcmp(g->list[i].kind->name, kind) == 0)
			return true;
	return false;
}

int guard_add_task(struct guard **g, struct buf *text, pid_t pid, struct err *e)
{
	int r = pid ? buf_addf(text, "%d ", (int)pid) : 0;

	if (r < 0)
		return err_sys(e, r, "the guardian");
	if (!text->len || (pid && text->len < MSG_MAX / 4))
		return 0;
	r = guard_add(g, "tasks", text->data, -1, e);
	text->len = 0;
	return r;
}

void guard_done(struct guard **g)
{
	if (!*g)
		return;
	msg_send((*g)->sock, NULL, 0, "done", NULL);
	while (waitpid((*g)->pid, NULL, 0) < 0 && errno == EINTR)
		;
	guard_free(ptr_take(*g));
}

void guard_undo(struct guard **g)
{
	if (*g)
		list_undo(*g, false);
	guard_done(g);
}

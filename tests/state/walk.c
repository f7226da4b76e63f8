#include "walk.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "snapshot.h"
#include "sys/procfs.h"

#define POINTS_MAX 1000
#define SETTLE_TRIES 400
#define SETTLE_US 5000

int walk_apart(void)
{
	return unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -1 : 0;
}

__attribute__((format(printf, 2, 3))) static int wrong(struct walk *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text, sizeof(w->text), fmt, ap);
	va_end(ap);
	return -1;
}

static void engine_says(struct walk *w)
{
	auto_free char *text = NULL;

	if (fd_read_file_at(AT_FDCWD, w->k.out, 1 << 20, &text, NULL) >= 0)
		printf("# the engine said: %s\n", text);
}

/* ---- moments ---- */

struct point {
	char name[128];
	bool may_fail;
	bool complete; /* of a dump: the images are whole by then; whoever ends it now has a checkpoint of a tree that runs */
	unsigned times;
};
struct points {
	struct point v[POINTS_MAX];
	size_t n;
};

/* Before a part in a phase of it, and not at a stage or within one. */
static bool is_detail(const char *name)
{
	static const char *const rooms[] = { "dump.check.", "dump.registers.", "dump.inside.", "dump.capture.",
					     "restore.load.", "restore.begin.", "restore.build.", "restore.filled.",
					     "restore.thread.", "restore.end.", "restore.finish." };

	for (size_t i = 0; i < array_len(rooms); i++)
		if (str_starts(name, rooms[i]) && !str_ends(name, ".before") && !str_ends(name, ".after"))
			return true;
	return false;
}

static int points_read(struct walk *w, struct points *ret)
{
	auto_free char *text = NULL;
	char path[440], *save = NULL;
	bool complete = false;

	snprintf(path, sizeof(path), "%s/faults", w->k.here);
	if (fd_read_file_at(AT_FDCWD, path, 16 << 20, &text, NULL) < 0)
		return wrong(w, "the engine told no moments");
	unlink(path);
	ret->n = 0;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *blank = strchr(l, ' ');
		size_t i = 0;

		*blank = '\0';
		while (i < ret->n && strcmp(ret->v[i].name, l) != 0)
			i++;
		if (i == POINTS_MAX)
			return wrong(w, "there are more moments than the test has room for");
		if (i == ret->n) {
			complete |= strcmp(l, "dump.pages.after") == 0;
			ret->v[ret->n].complete = complete;
			snprintf(ret->v[ret->n++].name, sizeof(ret->v[0].name), "%s", l);
		}
		ret->v[i].may_fail = strcmp(blank + 1, "fail") == 0;
		ret->v[i].times++;
	}
	return ret->n ? 0 : wrong(w, "the engine told no moments");
}

/* ---- the world: what a dump or a restore may leave behind ---- */

static struct buf *files_into;
static const char *files_skip; /* the folder of images, and those of engines' words */
static size_t files_from;

static int file_add(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	/* The init tells of the end of every process 2, which those of failed restores are. */
	if (str_starts(path, files_skip) || str_ends(path, "/work/log") || str_ends(path, "/work/result"))
		return 0;
	buf_addf(files_into, "file %s %o %u:%u %lld\n", path + files_from, st->st_mode, st->st_uid, st->st_gid,
		 S_ISREG(st->st_mode) ? (long long)st->st_size : 0ll);
	return 0;
}

static void files_take(const struct walk *w, const char *root, const char *below, struct buf *b)
{
	char path[700], skip[700];

	snprintf(path, sizeof(path), "%s%s", root, below);
	snprintf(skip, sizeof(skip), "%s/work/ck", root);
	files_into = b;
	files_skip = skip;
	files_from = strlen(root);
	nftw(path, file_add, 20, FTW_PHYS);
}

static int cgroup_add(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (S_ISDIR(st->st_mode) && strstr(path, files_skip))
		buf_addf(files_into, "cgroup %s\n", path);
	return 0;
}

static void lines_take(pid_t pid, const char *name, char cut, struct buf *b)
{
	auto_free char *text = NULL;
	char path[64], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	if (fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (cut && strchr(l, cut))
			*strchr(l, cut) = '\0';
		buf_addf(b, "%s %s\n", name, l);
	}
}

static void nft_take(const struct walk *w, struct buf *b)
{
	char command[128], line[256];
	FILE *p;

	snprintf(command, sizeof(command), "nsenter -t %d -n nft list tables",
		 w->k.how == CHECKPOINT_HOST ? (int)w->c->init : (int)getpid());
	p = popen(command, "re");
	while (p && fgets(line, sizeof(line), p))
		buf_addf(b, "nft %s", line);
	if (p)
		pclose(p);
}

static void world_take(const struct walk *w, bool nft, struct buf *b)
{
	static const char *const shared[] = { "/dev", "/tmp", "/run", "/mnt", "/var" };
	bool host = w->k.how == CHECKPOINT_HOST;
	pid_t pid = host ? w->c->init : getpid();
	char tag[64], root[64];

	files_take(w, w->k.place->root, "", b);
	snprintf(root, sizeof(root), "/proc/%d/root", (int)pid);
	for (size_t i = 0; host && i < array_len(shared); i++)
		files_take(w, root, shared[i], b);
	snprintf(tag, sizeof(tag), "%.60s-", strrchr(w->k.place->dir, '/') + 1);
	files_into = b;
	files_skip = tag;
	nftw("/sys/fs/cgroup", cgroup_add, 20, FTW_PHYS);
	lines_take(pid, "mountinfo", 0, b);
	lines_take(pid, "net/dev", ':', b);
	lines_take(pid, "net/unix", '\n', b);
	if (nft)
		nft_take(w, b);
}

/* All that the engine leaves to be reaped is; nobody stays but the container (0: there is none). */
static int strays_wait(struct walk *w, pid_t known)
{
	auto_fd int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_fd int self = proc_open(proc, getpid());
	auto_free pid_t *kids = NULL;
	size_t n = 0;
	pid_t gone;

	for (int i = 0; i < SETTLE_TRIES; i++) {
		while ((gone = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
			if (gone == known)
				return wrong(w, "the container has ended");
		free(ptr_take(kids));
		if (proc_children(self, getpid(), &kids, &n, NULL) < 0)
			return wrong(w, "the runner's children cannot be read");
		if (n == 0 || (n == 1 && kids[0] == known))
			return 0;
		usleep(SETTLE_US);
	}
	return wrong(w, "process %d is left behind", (int)kids[kids[0] == known ? 1 : 0]);
}

/* ---- one of them ---- */

struct seen {
	struct buf tree, world;
};

static int see(struct walk *w, bool nft, struct seen *s)
{
	s->tree.len = s->world.len = 0;
	if (w->c->init > 0 && snapshot_take(w->c->init, &s->tree) < 0)
		return wrong(w, "the container has vanished");
	world_take(w, nft, &s->world);
	return buf_addf(&s->tree, "%s", "") < 0 || buf_addf(&s->world, "%s", "") < 0 ? -1 : 0;
}

static void seen_done(struct seen *s)
{
	buf_done(&s->tree);
	buf_done(&s->world);
}

/* What leaves by itself needs a moment. */
static int same_wait(struct walk *w, bool nft, const struct seen *before, const char *fault)
{
	struct seen after = { BUF_INIT, BUF_INIT };
	int r = -1;

	for (int i = 0; i < SETTLE_TRIES / 4 && r < 0; i++) {
		if (i)
			usleep(SETTLE_US);
		if (see(w, nft, &after) < 0)
			break;
		if (strcmp(before->tree.data, after.tree.data) == 0 &&
		    strcmp(before->world.data, after.world.data) == 0)
			r = 0;
	}
	if (r < 0 && !*w->text) {
		snapshot_compare(before->tree.data, after.tree.data);
		snapshot_compare(before->world.data, after.world.data);
		wrong(w, "it is not as it was after %s", fault);
	}
	seen_done(&after);
	return r;
}

/* Nothing of a failed dump is left, and of a killed one nothing that is taken for an image and is none. */
static int folder_judge(struct walk *w, const struct point *p, bool killed, const char *fault)
{
	char path[440];

	snprintf(path, sizeof(path), "%s/inventory.img", w->k.here);
	if (killed && (access(path, F_OK) == 0) != p->complete)
		return wrong(w, "there is %s inventory.img after %s", p->complete ? "no" : "an", fault);
	if (!killed && rmdir(w->k.here) < 0)
		return wrong(w, "the folder after %s: %m", fault);
	return 0;
}

/* A call in a task that fails may be answered by another way to the same end. */
static bool may_succeed(const struct point *p, bool kill)
{
	return !kill && strcmp(p->name, "agent.call") == 0;
}

static int tree_end(struct walk *w);
static int tree_taken(struct walk *w);

static int fault_judge(struct walk *w, bool restore, const struct point *p, bool kill, const struct seen *before,
		       const char *fault)
{
	int r = strays_wait(w, w->c->init);

	if (r == 0)
		r = same_wait(w, w->all, before, fault);
	return r == 0 && !restore ? folder_judge(w, p, kill, fault) : r;
}

static int fault_try(struct walk *w, bool restore, const struct point *p, unsigned nth, bool kill)
{
	struct seen before = { BUF_INIT, BUF_INIT };
	char fault[200];
	int status = -1, r;

	snprintf(fault, sizeof(fault), "%s:%u:%s", p->name, nth, kill ? "kill" : "fail");
	if (!restore && checkpoint_folder(&w->k) < 0)
		return wrong(w, "no folder");
	r = see(w, w->all, &before);
	if (r == 0) {
		status = restore ? checkpoint_restore(&w->k, w->c, fault) : checkpoint_dump(&w->k, w->c, true, fault);
		w->dumps += !restore;
		w->restores += restore;
	}
	if (r == 0 && status == 0 && may_succeed(p, kill)) {
		r = restore && (tree_taken(w) < 0 || tree_end(w) < 0) ? -1 : 0;
	} else if (r == 0) {
		r = (kill ? status != 137 && status != 125 : status != 1) ?
			    wrong(w, "the %s of %s ended with status %d", restore ? "restore" : "dump", fault, status) :
			    fault_judge(w, restore, p, kill, &before, fault);
	}
	if (r < 0) {
		printf("# %s\n", fault);
		engine_says(w);
	}
	unlink(w->k.out);
	seen_done(&before);
	return r;
}

static int point_walk(struct walk *w, bool restore, const struct point *p)
{
	unsigned at[3] = { 1, (p->times + 1) / 2, p->times };
	size_t n = w->all ? array_len(at) : 1;
	int r = 0;

	if (!w->all && is_detail(p->name))
		return 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		if (i && at[i] == at[i - 1])
			continue;
		r = fault_try(w, restore, p, at[i], true);
		if (r == 0 && p->may_fail)
			r = fault_try(w, restore, p, at[i], false);
	}
	return r;
}

static int points_walk(struct walk *w, bool restore, const struct points *ps)
{
	int r = 0;

	for (size_t i = 0; i < ps->n && r == 0; i++)
		r = point_walk(w, restore, &ps->v[i]);
	return r;
}

/* ---- all of them ---- */

static const char *list_option(const struct walk *w, char *text, size_t size)
{
	snprintf(text, size, "list:%s/faults", w->k.images);
	return text;
}

static int whole_dump(struct walk *w, bool leave_running, bool list)
{
	char text[500];
	int status = -1;

	if (checkpoint_folder(&w->k) == 0)
		status = checkpoint_dump(&w->k, w->c, leave_running, list ? list_option(w, text, sizeof(text)) : NULL);
	if (status == 0)
		return 0;
	engine_says(w);
	return wrong(w, "a dump that was let be ended with status %d", status);
}

static int whole_restore(struct walk *w, const char *fault)
{
	int status = checkpoint_restore(&w->k, w->c, fault);

	if (status == 0)
		return 0;
	engine_says(w);
	return wrong(w, "a restore that was let be ended with status %d", status);
}

/* Its own cgroup is gone with it: the restore has to make it. */
static int tree_end(struct walk *w)
{
	if (whole_dump(w, false, false) < 0)
		return -1;
	checkpoint_ended(&w->k, w->c);
	if (w->k.how == CHECKPOINT_HOST)
		return strays_wait(w, w->c->init);
	w->c->init = 0;
	fd_close(&w->c->cgroup_fd);
	return rmdir(w->c->cgroup) < 0 ? wrong(w, "%s: %m", w->c->cgroup) : strays_wait(w, 0);
}

static int tree_begin(struct walk *w, const char *fault)
{
	return whole_restore(w, fault) < 0 ? -1 : tree_taken(w);
}

static int tree_taken(struct walk *w)
{
	if (checkpoint_begun(&w->k, w->c) < 0)
		return wrong(w, "the restore wrote no pid");
	if (w->k.how == CHECKPOINT_TREE)
		w->c->cgroup_fd = open(w->c->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return w->k.how == CHECKPOINT_TREE && w->c->cgroup_fd < 0 ? wrong(w, "%s: %m", w->c->cgroup) : 0;
}

int walk_run(struct walk *w)
{
	static struct points dump, restore;
	char list[500];
	int r = whole_dump(w, true, true);

	if (r == 0)
		r = points_read(w, &dump);
	if (r == 0)
		r = points_walk(w, false, &dump);
	if (r == 0)
		r = tree_end(w);
	if (r == 0)
		r = tree_begin(w, list_option(w, list, sizeof(list)));
	if (r == 0)
		r = points_read(w, &restore);
	if (r == 0)
		r = tree_end(w);
	if (r == 0)
		r = points_walk(w, true, &restore);
	if (r == 0)
		r = tree_begin(w, NULL);
	snprintf(list, sizeof(list), "%s/work/result", w->k.place->root);
	unlink(list);
	printf("# %zu moments of a dump, %zu of a restore; %u dumps, %u restores\n", dump.n, restore.n, w->dumps,
	       w->restores);
	return r;
}

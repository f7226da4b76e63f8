/* table - the descriptors of a dump and of a restore; only for the files of this room. */
#pragma once
#include "base/mem.h"
#include "cr/file/fdinfo.h"
#include "cr/file/file.h"

struct table_fd {
	int fd;
	bool cloexec;
	struct ofile *of;
};

struct table_task {
	struct task *task;
	struct table_fd *fds; /* ascending */
	size_t n, cap;
	const struct table_task *parent; /* NULL: not known */
	int fd_dir, info_dir; /* while it is collected; -1: by the longer name */
};

/* A lock that was seen in an fdinfo. */
struct table_lock {
	struct task *task;
	int fd;
	struct ofile *of;
	struct fdinfo_lock lock;
};

/* A link that was made for a file without a name (link.c). */
struct table_link {
	dev_t dev;
	ino_t ino;
	uint32_t id;
	int dir;    /* its folder */
	char *path; /* NULL: it was not made */
};

struct table_bucket {
	struct ofile **list; /* ordered by kcmp */
	size_t n, cap;
};
#define TABLE_BUCKETS 4096

struct table {
	struct table_task *tasks;
	size_t n_tasks;
	struct table_lock *locks;
	size_t n_locks, cap_locks;
	struct table_link *links;
	size_t n_links, cap_links;
	struct table_bucket buckets[TABLE_BUCKETS];
	struct idmap idmap;
	bool have_idmap, collected, capturing, in_loop;
	size_t n_captured;
	size_t n_first; /* of those whose kind goes first (cr.h) */
	dev_t anon_dev; /* the inode of all anonymous files; 0: none seen */
	ino_t anon_ino;
};

/* The table of this dump (made when missing); NULL: no memory. */
struct table *dump_table(struct dump *d);
/* The open files of one inode: the next behind prev (NULL: the first); NULL: no more. */
struct ofile *dump_inode_next(struct dump *d, dev_t dev, ino_t ino, const struct ofile *prev);
/* Collects if that has not happened yet. */
int dump_table_collect(struct dump *d, struct err *e);

/* The file of a name below dir (cwd, root of a process) that was opened with O_PATH for another task already;
 * NULL: it has to be opened. */
struct ofile *dump_ofile_known(struct dump *d, int dir, const char *name);

/* Forgets everything that was collected. */
void dump_table_reset(struct dump *d);
/* Captures what has not been captured. */
int dump_capture_from(struct dump *d, struct table *tb, struct err *e);
/* Checks of the parts locks and fs, and of terminals as a whole, called while the tables of the check are
 * there. */
int locks_check_tables(struct dump *d, struct err *e);
int fs_check_tables(struct dump *d, struct err *e);
int ttys_check_tables(struct dump *d, struct err *e);
/* Of the running tree only: registers deleted files that are mapped. */
int mapped_check_tables(struct dump *d, struct err *e);

int files_load(struct restore *r, struct err *e);
int files_build(struct restore *r, struct err *e);
int files_task_filled(struct restore *r, struct rtask *t, struct err *e);
int files_finish(struct restore *r, struct err *e);
void files_restore_done(struct restore *r);

/* ---- restore ---- */
struct rtable_fd {
	int fd;
	bool cloexec;
	struct rfile *f;
};
struct rtable_task {
	struct rtask *task;
	struct rtable_fd *fds; /* ascending */
	size_t n, cap;
};
struct rtable {
	struct rtable_task *tasks; /* one for each of r->tasks, same order */
	struct idmap idmap;
	bool have_idmap;
	bool *late;	/* by index in r->files */
	void *ghosts;	/* ghost.c's */
	void *ttys;	/* tty.c's */
	struct rfile **pipes; /* pipe_restore.c's */
	size_t n_pipes;
	bool standing;	/* all processes exist */
	bool finishing; /* phase `finish`: with their threads and credentials */
};
struct rtable *restore_table(struct restore *r);

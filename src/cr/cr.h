/* cr - the shapes that everything under cr/ shares: a dump, its tasks and open files; a restore, its
 * tasks and files; and the table of parts.
 *
 * A *part* carries one kernel resource (or a family of them) in both directions: one file, one
 * `const struct cr_part`, one line in cr/parts.c, whose order is the order of each phase.
 * A *file kind* does the same for one sort of open file.
 *
 * Numbers: `pid`, `tid` are in the engine's PID namespace, `nspid`, `nstid` in the container's.
 * Records hold container numbers only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"
#include "cr/opts.h"
#include "cr/refusal.h"
#include "image/record.h"
#include "inject/agent.h"
#include "inject/seize.h"

#include "core.pb-c.h"
#include "fdinfo.pb-c.h"
#include "godwit.pb-c.h"
#include "mm.pb-c.h"
#include "pstree.pb-c.h"

/* ============================================ dump ============================================ */

struct thread {
	pid_t tid, nstid;
	struct thread_regs regs; /* read while stopped */
	bool group_stopped;      /* stopped by a job-control signal of its own */
	struct agent *agent;     /* in phase `inside` only */
	CoreEntry *core;         /* filled by parts, written by the core after phase `inside` */
	GwThread *extra;         /* the same for what CRIU's record lacks */
	struct proc_status *status; /* of a dump's tree that stands, as it was collected: what cannot change then
				     * (task_status); NULL in a check */
};

struct task {
	pid_t pid, nspid, nsppid, nspgid, nssid;
	struct task *parent;
	bool zombie;
	int exit_status;         /* wait status of a zombie */
	int pidfd;
	int proc_fd;             /* /proc/PID of the engine's procfs, O_PATH */
	struct thread *threads;  /* [0] is the leader */
	size_t n_threads;
	GwTask *extra;           /* as above, for the process */
	struct mem *mem;         /* cr/mem's own */
	void *part_data[32];     /* free for parts: index by the part's position in parts.c */
	char *cgroups;           /* the text of /proc/PID/cgroup, once asked for (task_cgroups) */
};

struct file_kind;

/* One open file description (however many descriptors in however many tasks refer to it). */
struct ofile {
	uint32_t id;        /* in the records, from 1 */
	struct task *task;  /* the first task that holds it, */
	int fd;             /*   and its number there; -1: only mapped, cwd, root or in flight */
	int lfd;            /* our own descriptor of the same open file (pidfd_getfd); may be -1 */
	struct stat st;
	unsigned flags;     /* of fdinfo: O_* status flags, without O_CLOEXEC */
	int64_t pos;
	int mnt_id;
	char *link;         /* what readlink says */
	char *fdinfo;       /* the whole text */
	const struct file_kind *kind;
	void *priv;         /* the kind's */
	bool checked;       /* table.c's */
};

/* ofile of any open file that the engine holds a descriptor of and that may not be in any table
 * (SCM_RIGHTS in flight, a socket's peer).  lfd is taken over.  Finds the existing one by kcmp, or adds
 * it (kind recognised, to be captured like all others).  Defined in cr/file/table.c. */
struct dump;
int dump_ofile_of(struct dump *d, struct task *holder, int lfd, struct ofile **ret, struct err *e);

struct dump {
	pid_t root_pid;           /* the container's init */
	struct task **tasks;      /* parents before children; [0] is the init */
	size_t n_tasks;
	struct ofile **ofiles;
	size_t n_ofiles, cap_ofiles;
	uint32_t next_file_id;
	const struct cr_opts *opts; /* of a checkpoint; NULL in a live migration */
	unsigned ns;              /* CLONE_NEW* of the namespaces that are the tree's own: the root's, where
				   * it is not ours.  A live migration's container has all */
	unsigned named_ns;        /* those that the caller gives a name, and a restore is given; not in ns */
	struct hold *hold;        /* what makes it stand (hold.h) */
	int cgroup_fd;            /* the container's own v2 cgroup folder; -1: it has none */
	const char *cgroup;       /* its path */
	int root_fd;              /* the container's root folder, O_PATH (of root_pid) */
	struct sink *sink;        /* NULL in a check */
	struct refusals refusals;
	size_t n_passing;         /* of these, such as pass by themselves when the tree runs on for a
				   * moment (vfork, queues): then the freeze is tried again */
	void *part_data[32];
	bool check_only;
	int64_t frozen_ns;        /* CLOCK_MONOTONIC of ours: every task stood by then, and stands since; */
	int64_t header_ns;        /*   when the clocks of the header were read */
	bool replaced;            /* the images stand for the tree from now on: it is ended, or left stopped */
	struct guard **guard;     /* of a checkpoint: what outlives us is told here first (guard.h); NULL: the caller sees to it */
	struct waits *waits;      /* of cr/task/restart.c, from before the freeze; may be NULL */
};

/* ============================================ restore ========================================= */

struct rthread {
	pid_t nstid, tid;
	struct agent *agent;
	const CoreEntry *core;
	const GwThread *extra;   /* NULL: not in the image */
	struct thread_regs regs; /* what it will become; made from core/extra by cr/task/regs.c */
};

struct rtask {
	pid_t nspid, nsppid, nspgid, nssid;
	struct rtask *parent;
	pid_t pid;
	bool zombie, exists;
	struct rthread *threads;
	size_t n_threads;
	struct agent *agent;     /* == threads[0].agent */
	const CoreEntry *core;
	const MmEntry *mm;
	const GwTask *extra;
	struct rmem *rmem;       /* cr/mem's own */
	void *part_data[32];
};

struct rfile {
	uint32_t id;
	const FileEntry *fe;
	const struct file_kind *kind;
	int fd;                  /* the engine's; -1 before it is built */
	struct rtask *task;      /* first holder, NULL: none (mapped only, in flight) */
	int number;              /* its number there */
	void *priv;
};

struct restore {
	struct image *image;
	const struct cr_opts *opts; /* of a checkpoint; NULL in a live migration */
	unsigned ns;             /* CLONE_NEW* of the namespaces that are the tree's own */
	int seed_fd;             /* its end ends the seed, until an agent has it; -1 */
	unsigned joined_ns;      /* CLONE_NEW* of those that it is given; not in ns */
	pid_t init_pid;          /* gw-init's, or the seed's */
	struct rtask **tasks;    /* parents before children; [0] becomes the init */
	size_t n_tasks;
	struct rfile **files;
	size_t n_files;
	int proc_fd;             /* the engine's own /proc (of its own PID namespace), O_PATH */
	int root_fd;             /* the container's root folder */
	int cgroup_fd;           /* -1: it has none of its own */
	const char *cgroup;
	int data_fd;             /* the stream, pages to come */
	bool user_ns;            /* the container has a user namespace of its own */
	struct guard *guard;     /* of a checkpoint: what outlives us is told here first (guard.h) */
	bool complete;           /* the tree runs: what images alone needed may go */
	void *part_data[32];
};

struct rtask *restore_task(struct restore *r, pid_t nspid);   /* NULL: none */
struct rfile *restore_file(struct restore *r, uint32_t id);   /* NULL: none */

/* The engine's process itself stands in the container's mount, network, UTS, IPC and cgroup
 * namespaces from phase `build` on (with its own credentials and its own PID and user namespace):
 * open(), socket(), mount() of the engine act there.  The host's /proc is reached by proc_fd.
 * Making a file on a tmpfs of a container with a user namespace wants ids_fs_enter (cr/ns/ids.h), else EOVERFLOW. */

/* ============================================ parts =========================================== */

struct cr_part {
	const char *name;
	/* CLONE_NEW*: its state is a namespace's, and nobody's where the tree has none of its own of
	 * that kind.  0: not so. */
	unsigned ns;

	/* dump */
	/* Once, right after the freeze (only root_pid is known).  -EAGAIN: something is there that cannot be
	 * carried and goes away by itself, so the tree should run on for a moment and be frozen again. */
	int (*settled)(struct dump *d, struct err *e);
	/* Once, before anything is touched; tasks may still run.  Adds refusals. */
	int (*check)(struct dump *d, struct err *e);
	/* Each task; all threads ptrace-stopped, nothing injected. */
	int (*stopped)(struct dump *d, struct task *t, struct err *e);
	/* Each task (not zombies); every thread has an agent. */
	int (*inside)(struct dump *d, struct task *t, struct err *e);
	/* Once; the engine has left the tasks, the cgroup is frozen, the link silenced.  Writes records. */
	int (*frozen)(struct dump *d, struct err *e);
	/* Undoes what check..frozen left behind outside of our own memory, after success or failure. */
	void (*done)(struct dump *d);
	/* `recover`: an engine was killed; switches off what it may have left in the tree.  Only
	 * tree_collect has run. */
	int (*recover)(struct dump *d, struct err *e);

	/* restore */
	/* Once; every record is there, nothing is touched: checks bounds and builds the plan. */
	int (*load)(struct restore *r, struct err *e);
	/* Once; gw-init has the agent, the engine is inside the namespaces, the disk is complete. */
	int (*build)(struct restore *r, struct err *e);
	/* Each task once it exists: agent only, tables of its parent. */
	int (*task_begin)(struct restore *r, struct rtask *t, struct err *e);
	/* Each task: memory is mapped and filled, descriptors not yet placed by part "files". */
	int (*task_filled)(struct restore *r, struct rtask *t, struct err *e);
	/* Each thread of each task, all threads exist; leader first. */
	int (*thread_end)(struct restore *r, struct rtask *t, struct rthread *th, struct err *e);
	/* Each task, behind thread_end of its threads. */
	int (*task_end)(struct restore *r, struct rtask *t, struct err *e);
	/* Once; all tasks are done with task_end, agents still there. */
	int (*finish)(struct restore *r, struct err *e);
	void (*restore_done)(struct restore *r);
};

extern const struct cr_part *const cr_parts[];
extern const size_t cr_parts_n;

/* ========================================= file kinds ========================================= */

struct file_kind {
	const char *name;
	FdTypes type;
	bool first; /* captured before the others: brings files to light that they have to know of */

	/* dump: is it mine?  The first kind of the table that says yes has it. */
	bool (*recognise)(const struct ofile *f);
	/* Can it be carried?  Adds refusals (where: "fd N"). Tasks may still run. */
	int (*check)(struct dump *d, struct ofile *f, struct err *e);
	/* Frozen: writes the file_entry and whatever belongs to it. */
	int (*capture)(struct dump *d, struct ofile *f, struct err *e);

	/* restore */
	int (*load)(struct restore *r, struct rfile *f, struct err *e);
	/* Makes f->fd (usually in the engine itself; by an agent where the kernel records who did it).
	 * Files are built in the order of their ids; returns 1 to be called again after the others. */
	int (*build)(struct restore *r, struct rfile *f, struct err *e);
	/* All f->fd exist: queues, connections, what refers to other files. */
	int (*connect)(struct restore *r, struct rfile *f, struct err *e);
	/* All tasks have their tables: what must be done by a holder (epoll_ctl, fcntl owner, locks). */
	int (*placed)(struct restore *r, struct rfile *f, struct err *e);
};

extern const struct file_kind *const file_kinds[];
extern const size_t file_kinds_n;

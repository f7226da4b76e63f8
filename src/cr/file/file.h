/* file - what the kinds of files (rooms file and sock) share beyond cr.h.
 *
 * Dump. The tables are collected by the check (of the running tree, which has a struct dump of its
 * own, and once more of the frozen one) or by the first dump_ofile_of.
 *
 * Restore. Kinds are built in the order of ids, those that return 1 again after the others. A file
 * that still returns 1 when no other makes progress is *late*. It is tried again when all processes
 * exist (first task_filled: files of /proc/PID, pidfds, /dev/tty), and for the last time in phase
 * `finish`, where they have their threads and credentials (sockets whose maker the kernel records);
 * until then its number is kept occupied in every task.  Only then is it connected and placed. */
#pragma once
#include "cr/cr.h"

#include "fown.pb-c.h"

/* Of our own: records in godwit.proto beside CRIU's file_entry. */
#define GHOST_LIMIT_DEFAULT (64ull << 20) /* bytes of one deleted file that travel in records */
#define CHECKPOINT_GHOST_LIMIT (1ull << 20) /* the same in checkpoints, as CRIU has it */

extern const struct cr_part cr_part_files; /* tables and kinds */
extern const struct cr_part cr_part_locks; /* behind files */
extern const struct cr_part cr_part_fs;	   /* cwd, root, umask; behind files, before credentials */

/* Position of a part in cr_parts, which is its index in part_data. */
size_t cr_part_index(const struct cr_part *p);

/* ---- dump: tables ---- */

/* As dump_ofile_of for a descriptor that we opened ourselves (map_files, exe, cwd): its position
 * and status flags belong to nobody, so that all of one inode, mount and access mode become one
 * ofile. */
int dump_ofile_of_path(struct dump *d, struct task *holder, int lfd, struct ofile **ret,
		       struct err *e);

/* ---- dump: help for kinds ---- */

/* Adds a refusal for this file: "fd N" (or the way it is held otherwise) of its first holder. */
int ofile_refuse(struct dump *d, const struct ofile *f, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The number after "key:" of an fdinfo text.  -ENOENT, -EINVAL, -ERANGE. */
int fdinfo_u64(const char *fdinfo, const char *key, unsigned base, uint64_t *ret);
/* Owner of signals (F_SETOWN, F_SETSIG), ids of the container.  Initialises *ret. */
int fown_read(struct dump *d, const struct ofile *f, FownEntry *ret, struct err *e);
/* Writes fe (its id and type are set here) as REC_FILES. */
int ofile_put(struct dump *d, const struct ofile *f, FileEntry *fe, struct err *e);
/* Task with this pid in the engine's namespace; NULL: not in the tree. */
struct task *dump_task_by_pid(struct dump *d, pid_t pid);
struct task *dump_task_by_nspid(struct dump *d, pid_t nspid);

/* ---- restore: help for kinds ---- */

/* Status flags that fcntl(F_SETFL) can set, from recorded flags: O_APPEND, O_NONBLOCK, O_DIRECT,
 * O_NOATIME. */
int rfile_set_flags(const struct rfile *f, int fd, unsigned flags, struct err *e);
/* Another open file description of what fd refers to (by the engine's /proc/self/fd); flags as
 * in open. */
int rfile_reopen(struct restore *r, int fd, unsigned flags);
/* F_SETOWN, F_SETSIG and O_ASYNC; to be called in `placed` (the owner must exist). */
int fown_restore(struct restore *r, const struct rfile *f, const FownEntry *o, unsigned flags,
		 struct err *e);
/* Opens a path inside the task, with its credentials and its /proc; *ret_fd is ours. */
int rfile_open_in_task(struct rtask *t, const char *path, unsigned flags, int *ret_fd,
		       struct err *e);
/* The file at a number of a task; NULL: none. */
struct rfile *restore_file_at(struct restore *r, const struct rtask *t, int fd);
bool restore_cloexec_at(struct restore *r, const struct rtask *t, int fd);

/* ---- ids of the container's user namespace ---- */

/* proc_task: /proc/PID (O_PATH) of a task in it.  An id without a mapping becomes 65534 and -ENOENT
 * is returned. */
struct idmap {
	struct idmap_range {
		uint32_t inside, outside, count;
	} u[64], g[64];
	size_t n_u, n_g;
};
int idmap_read(int proc_task, struct idmap *ret, struct err *e);
int idmap_parse(const char *text, struct idmap_range *ranges, size_t max, size_t *ret_n);
int idmap_uid_in(const struct idmap *m, uid_t outside, uint32_t *ret);
int idmap_gid_in(const struct idmap *m, gid_t outside, uint32_t *ret);
int idmap_uid_out(const struct idmap *m, uint32_t inside, uid_t *ret);
int idmap_gid_out(const struct idmap *m, uint32_t inside, gid_t *ret);
/* Maps of a dump or a restore (read once). */
const struct idmap *dump_idmap(struct dump *d, struct err *e);
const struct idmap *restore_idmap(struct restore *r, struct err *e);

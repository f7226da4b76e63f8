/* reg - regular files, folders, links (O_PATH), memory devices, files of proc, sysfs and cgroups.
 *
 * State: path, flags, position.  Read: readlink of /proc/PID/fd gives the path from the root of the
 * container's mount namespace (the walk up ends there); it counts only if it leads to the same
 * inode again. Back: opened by O_PATH in the container's root, type and size compared, reopened
 * with the flags.  Special cases:
 * - no name any more: ghost.c; no name but in a folder that nobody knows of: link.c;
 * - a name from the caller (checkpoints, given.h): the restore is given a file instead, as it is;
 * - a memory device (null, zero ...) of the host, inherited by the first process: the container's
 * own device of that name and number takes its place;
 * - proc, sysfs, cgroup: the kernel remembers who opened them, so the container's init does; below
 *   /proc/PID only when the processes are there (late, see file.h).
 * Not covered, refused here: paths that lead elsewhere (outside of the container, covered by a
 * mount, one name of several deleted), kmsg and other devices. A folder that was being listed
 * continues at the recorded position, which another file system may understand differently,
 * except at its end. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/ghost.h"
#include "cr/file/given.h"
#include "cr/file/kinds.h"
#include "cr/file/link.h"
#include "cr/file/table.h"

#define DELETED " (deleted)"
#define TMPFILE_BIT ((unsigned)O_TMPFILE & ~(unsigned)O_DIRECTORY)

static const struct {
	unsigned major, minor;
	const char *name;
} devices[] = {
	{ 1, 3, "/dev/null" },	 { 1, 5, "/dev/zero" },	   { 1, 7, "/dev/full" },
	{ 1, 8, "/dev/random" }, { 1, 9, "/dev/urandom" },
};

static const char *device_name(dev_t rdev)
{
	for (size_t i = 0; i < array_len(devices); i++)
		if (rdev == makedev(devices[i].major, devices[i].minor))
			return devices[i].name;
	return NULL;
}

static bool reg_recognise(const struct ofile *f)
{
	if (f->link[0] != '/')
		return false;
	if (f->flags & O_PATH)
		return true;
	if (S_ISCHR(f->st.st_mode))
		return device_name(f->st.st_rdev) != NULL;
	return S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode);
}

/* Does the path lead to f's inode? */
static bool path_leads(const struct dump *d, const struct ofile *f, const char *path)
{
	auto_fd int fd = fd_open_in_root(d->root_fd, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == f->st.st_dev &&
	       st.st_ino == f->st.st_ino;
}

/* proc, sysfs, cgroup and the like: files that are made of the kernel's own state. */
static bool is_kernel_fs(const struct ofile *f)
{
	struct statfs sf;

	if (fstatfs(f->lfd, &sf) < 0)
		return false;
	switch ((uint32_t)sf.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case SECURITYFS_MAGIC:
	case TRACEFS_MAGIC:
		return true;
	}
	return false;
}

/* The pid of "/proc/PID/..."; 0: another path. */
static pid_t path_pid(const char *path)
{
	const char *p = path + 6;
	uint64_t v;

	if (!str_starts(path, "/proc/") || parse_u64_at(&p, 10, &v) < 0 || (*p && *p != '/') ||
	    v > INT32_MAX)
		return 0;
	return (pid_t)v;
}

/* HOW_LINK: under a link that is made for it.  HOW_NAMED: the caller has a name for it. */
enum how { HOW_PATH, HOW_DEVICE, HOW_GHOST, HOW_LINK, HOW_NAMED, HOW_NOT };

static bool is_ghost(const struct ofile *f)
{
	return f->st.st_nlink == 0 && (S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode)) &&
	       str_ends(f->link, DELETED);
}

/* Another name of a file whose own is deleted, in the same folder; malloc'd, NULL: none. */
static char *sibling_find(const struct dump *d, const struct ofile *f)
{
	const char *slash = strrchr(f->link, '/');
	auto_free char *dir =
		slash ? strndup(f->link, slash == f->link ? 1 : (size_t)(slash - f->link)) : NULL;
	int fd = dir ? fd_open_in_root(d->root_fd, dir, O_RDONLY | O_DIRECTORY, 0) : -1;
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	char *found = NULL;

	if (!list) {
		fd_close(&fd);
		return NULL;
	}
	while (!found && (de = readdir(list))) {
		if (de->d_ino != f->st.st_ino ||
		    asprintf(&found, "%s/%s", slash == f->link ? "" : dir, de->d_name) < 0 ||
		    path_leads(d, f, found))
			continue;
		free(found);
		found = NULL;
	}
	closedir(list);
	return found;
}

/* A name of the file by which the tree has it open otherwise; malloc'd, NULL: none. */
static char *name_open(struct dump *d, const struct ofile *f)
{
	for (const struct ofile *o = NULL; (o = dump_inode_next(d, f->st.st_dev, f->st.st_ino, o));)
		if (o->link[0] == '/' && path_leads(d, f, o->link))
			return strdup(o->link);
	return NULL;
}

/* *ret_path: by which path it will be found again; malloc'd where the result is not HOW_NOT. */
static enum how reg_how(struct dump *d, const struct ofile *f, char **ret_path)
{
	char name[GIVEN_NAME_MAX];
	enum how how = HOW_NOT;

	*ret_path = NULL;
	if (given_names_file(d->opts, f->mnt_id, f->st.st_ino)) {
		how = HOW_NAMED;
		given_file_name(name, f->mnt_id, f->st.st_ino);
		*ret_path = strdup(name);
	} else if (path_leads(d, f, f->link)) {
		how = HOW_PATH;
		*ret_path = strdup(f->link);
	} else if (S_ISCHR(f->st.st_mode) && device_name(f->st.st_rdev)) {
		how = HOW_DEVICE;
		*ret_path = strdup(device_name(f->st.st_rdev));
	} else if (is_ghost(f)) {
		how = HOW_GHOST;
		*ret_path = strndup(f->link, strlen(f->link) - strlen(DELETED));
	} else if (link_is_made(d, f)) {
		how = HOW_LINK;
		*ret_path = strndup(f->link, strlen(f->link) - strlen(DELETED));
	} else if (S_ISREG(f->st.st_mode) && str_ends(f->link, DELETED) &&
		   ((*ret_path = sibling_find(d, f)) || (d->opts && (*ret_path = name_open(d, f))))) {
		how = HOW_PATH;
	} else if (d->opts && d->opts->link_remap && link_possible(d, f)) {
		how = HOW_LINK;
		*ret_path = strndup(f->link, strlen(f->link) - strlen(DELETED));
	}
	return how;
}

static int other_names_refuse(struct dump *d, const struct ofile *f)
{
	const char *can = !d->opts ? "" : !d->opts->link_remap ?
			  " (--link-remap would give it one there for the time being)" :
			  " (and a link cannot be made there)";

	return ofile_refuse(d, f, "deleted file",
			    "%s: this name is gone, but the file has %llu others, which are searched for in its folder "
			    "only%s",
			    f->link, (unsigned long long)f->st.st_nlink, can);
}

static int reg_check(struct dump *d, struct ofile *f, struct err *e)
{
	auto_free char *path = NULL;
	enum how how = reg_how(d, f, &path);
	int r = 0;

	if (how == HOW_GHOST && is_kernel_fs(f))
		r = ofile_refuse(d, f, "file of proc or cgroup", "%s: what it belonged to is gone",
				 f->link);
	else if (how == HOW_GHOST)
		return ghost_check(d, f, e) < 0 ? -ENOMEM : 0;
	else if (how == HOW_PATH && path_pid(f->link) && is_kernel_fs(f) &&
		 !dump_task_by_nspid(d, path_pid(f->link)))
		r = ofile_refuse(d, f, "file of proc", "%s belongs to a process that does not move",
				 f->link);
	else if (how == HOW_NOT && str_ends(f->link, DELETED) && f->st.st_nlink)
		r = other_names_refuse(d, f);
	else if (how == HOW_NOT && d->opts)
		r = ofile_refuse(d, f, "file",
				 "%s does not lead to the open file in the tree's mount namespace (it is outside of "
				 "it, or covered by a mount): give it a name (--external file[%x:%llx]) and the "
				 "restore another file (--inherit-fd fd[N]:file[%x:%llx])",
				 f->link, (unsigned)f->mnt_id, (unsigned long long)f->st.st_ino,
				 (unsigned)f->mnt_id, (unsigned long long)f->st.st_ino);
	else if (how == HOW_NOT)
		r = ofile_refuse(
			d, f, "file",
			"%s does not lead to the open file inside the container (it is outside of "
			"it, or covered by a mount)",
			f->link);
	return r < 0 ? err_sys(e, r, "refusal") : 0;
}

/* A folder whose next entry is none. */
static bool dir_at_end(const struct ofile *f)
{
	char buf[4096];
	char path[48];
	auto_fd int fd = -1;

	if (!S_ISDIR(f->st.st_mode) || f->pos == 0 || (f->flags & O_PATH))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->lfd);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && lseek(fd, f->pos, SEEK_SET) >= 0 && getdents64(fd, buf, sizeof(buf)) == 0;
}

static int reg_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	FownEntry own;
	GwFile gf = GW_FILE__INIT;
	auto_free char *name = NULL;
	enum how how = reg_how(d, f, &name);
	int r;

	if (how == HOW_NOT)
		return err_set(e, -EOPNOTSUPP, "%s leads elsewhere", f->link);
	if (!name)
		return err_sys(e, -ENOMEM, "%s", f->link);
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	re.id = f->id;
	re.flags = f->flags;
	re.pos = (uint64_t)f->pos;
	re.fown = &own;
	re.name = name;
	re.has_mnt_id = 1;
	re.mnt_id = f->mnt_id;
	re.has_mode = 1;
	re.mode = f->st.st_mode;
	gf.has_proc = 1;
	gf.proc = !(f->flags & O_PATH) && is_kernel_fs(f);
	re.ext = re.has_ext = how == HOW_NAMED;
	if (S_ISREG(f->st.st_mode) && !gf.proc && !re.ext) {
		struct stat st;

		if (fstat(f->lfd, &st) < 0)
			return err_sys(e, -errno, "%s", f->link);
		re.has_size = 1;
		re.size = (uint64_t)st.st_size;
	}
	if (S_ISCHR(f->st.st_mode)) {
		gf.has_rdev = 1;
		gf.rdev = major(f->st.st_rdev) << 8 | minor(f->st.st_rdev);
	}
	gf.has_dir_end = 1;
	gf.dir_end = dir_at_end(f);
	fe.reg = &re;
	r = ofile_put(d, f, &fe, e);
	if (r == 0)
		r = sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
	if (r == 0 && how == HOW_GHOST)
		r = ghost_capture(d, f, e);
	return r == 0 && how == HOW_LINK ? link_capture(d, f, &re, e) : r;
}

/* ---- restore ---- */

static const GwFile *extra_of(struct restore *r, const struct rfile *f)
{
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);

	return rec ? (const GwFile *)rec->msg : NULL;
}

static int reg_load(struct restore *r, struct rfile *f, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;

	if (!re || !re->name || re->name[0] != '/' || !re->has_mode || strlen(re->name) >= PATH_MAX)
		return err_set(e, -EINVAL, "file %u: the record of a path makes no sense", f->id);
	if (!(re->flags & O_PATH) && !S_ISREG(re->mode) && !S_ISDIR(re->mode) && !S_ISCHR(re->mode))
		return err_set(e, -EINVAL, "file %u: %s is of type %o", f->id, re->name,
			       re->mode & S_IFMT);
	if (re->ext && !r->opts)
		return err_set(e, -EINVAL, "file %u: %s comes from outside", f->id, re->name);
	if (re->pos > INT64_MAX)
		return err_set(e, -EINVAL, "file %u: position of %s", f->id, re->name);
	return link_load(r, f, e);
}

static int reg_compare(const RegFileEntry *re, const GwFile *gf, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", re->name);
	if ((st.st_mode & S_IFMT) != (re->mode & S_IFMT))
		return err_set(e, -ESTALE, "%s is of another type here", re->name);
	if (gf && gf->has_rdev && (major(st.st_rdev) << 8 | minor(st.st_rdev)) != gf->rdev)
		return err_set(e, -ESTALE, "%s is another device here", re->name);
	if (re->has_size && S_ISREG(st.st_mode) && (uint64_t)st.st_size != re->size)
		return err_set(e, -ESTALE, "%s has %lld bytes here instead of %llu", re->name,
			       (long long)st.st_size, (unsigned long long)re->size);
	return 0;
}

static unsigned open_flags(const RegFileEntry *re)
{
	/* O_TMPFILE contains O_DIRECTORY and stays in the flags of a regular file. */
	const unsigned dir = S_ISDIR(re->mode) ? O_DIRECTORY : 0;
	const unsigned keep =
		O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_SYNC | O_DSYNC | dir;

	if (re->flags & O_PATH)
		return re->flags & (O_PATH | dir | O_NOFOLLOW);
	return (re->flags & keep) | O_NOCTTY;
}

/* The path itself, without opening what may block or act. */
static int reg_open(struct restore *r, const struct rfile *f, const GwFile *gf, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;
	const char *link = link_path(r, f);
	auto_fd int path = -1;
	int got;

	path = fd_open_in_root(
		r->root_fd, link ? link : re->name,
		(re->flags & O_PATH) ? (int)open_flags(re) | O_NOFOLLOW : O_PATH | O_NOFOLLOW, 0);
	if (path < 0 && link)
		return err_sys(e, path, "%s, the link that the dump made for %s", link, re->name);
	if (path < 0)
		return err_sys(e, path, "%s", re->name);
	got = reg_compare(re, gf, path, e);
	if (got < 0)
		return got;
	if ((re->flags & O_PATH) && (re->flags & O_NOFOLLOW))
		return fd_take(&path);
	got = rfile_reopen(r, path, open_flags(re)); /* flags exactly as recorded */
	return got < 0 ? err_sys(e, got, "opening %s", re->name) : got;
}

/* As it is, with the position and the flags that it has. */
static int given_take(struct restore *r, struct rfile *f, int given, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;
	int fd = given_allows(given, re->flags & O_ACCMODE) || (re->flags & O_PATH) ?
			 fcntl(given, F_DUPFD_CLOEXEC, 3) :
			 rfile_reopen(r, given, open_flags(re));

	if (fd < 0)
		return err_sys(e, -EACCES, "descriptor %d, given for %s, cannot be used as before (flags %#o)", given,
			       re->name, re->flags);
	f->fd = fd;
	return 0;
}

static int reg_open_any(struct restore *r, const struct rfile *f, const GwFile *gf, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;
	int fd = -1, got;

	got = ghost_open(r, f->id, re->name, re->flags & TMPFILE_BIT, e);
	if (got >= 0) {
		got = rfile_reopen(r, got, open_flags(re) & ~(unsigned)O_NOFOLLOW);
		return got < 0 ? err_sys(e, got, "opening the deleted file %s", re->name) : got;
	}
	if (got != -ENOENT)
		return got;
	if (!gf || !gf->proc)
		return reg_open(r, f, gf, e);
	got = rfile_open_in_task(r->tasks[0], re->name, open_flags(re), &fd, e);
	return got < 0 ? got : fd;
}

static int reg_build(struct restore *r, struct rfile *f, struct err *e)
{
	const RegFileEntry *re = f->fe->reg;
	const GwFile *gf = extra_of(r, f);
	int given = given_file(r->opts, re->name, re->flags & O_ACCMODE);
	auto_fd int fd = -1;
	off_t pos = (off_t)re->pos;

	if (path_pid(re->name) && ((gf && gf->proc) || (re->flags & O_PATH)) &&
	    !restore_table(r)->standing)
		return 1;
	if (given >= 0)
		return given_take(r, f, given, e);
	if (re->ext)
		return err_set(e, -ENOENT, "%s comes from outside and has to be given (--inherit-fd fd[N]:%s)",
			       re->name + 1, re->name + 1);
	fd = reg_open_any(r, f, gf, e);
	if (fd < 0)
		return fd;
	if (!(re->flags & O_PATH) && !S_ISCHR(re->mode)) {
		if (gf && gf->dir_end)
			pos = lseek(fd, 0, SEEK_END);
		else if (pos && lseek(fd, pos, SEEK_SET) < 0)
			return err_sys(e, -errno, "position %lld of %s", (long long)pos, re->name);
	}
	f->fd = fd_take(&fd);
	return 0;
}

static int reg_placed(struct restore *r, struct rfile *f, struct err *e)
{
	return fown_restore(r, f, f->fe->reg->fown, f->fe->reg->flags, e);
}

const struct file_kind file_kind_reg = {
	.name = "file",
	.type = FD_TYPES__REG,
	.recognise = reg_recognise,
	.check = reg_check,
	.capture = reg_capture,
	.load = reg_load,
	.build = reg_build,
	.placed = reg_placed,
};

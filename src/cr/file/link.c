/* link - see link.h.
 *
 * The link is called link_remap.N, as CRIU's is, and stands in the images as a file of its own that a
 * remap record (LINKED) refers to. It goes when the restore is complete, and at once where the dump
 * fails or the tree runs on: images of a tree that ran on lack it, as the file's content may have
 * changed since. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "cr/file/kinds.h"
#include "cr/file/link.h"
#include "cr/file/table.h"
#include "cr/guard.h"

#include "remap-file-path.pb-c.h"

#define LINK_NAME "link_remap."
#define DELETED " (deleted)"
/* Ids of links, apart from those of open files. */
#define LINK_ID 0x08000000u
#define TRIES 1000

/* ---- dump ---- */

/* The folder of f's old name; -errno. */
static int folder_open(const struct dump *d, const struct ofile *f)
{
	const char *slash = strrchr(f->link, '/');
	char dir[PATH_MAX];

	if (!slash || !str_ends(f->link, DELETED) || slash - f->link >= PATH_MAX)
		return -EINVAL;
	snprintf(dir, sizeof(dir), "%.*s", slash == f->link ? 1 : (int)(slash - f->link), f->link);
	return fd_open_in_root(d->root_fd, dir, O_PATH | O_DIRECTORY, 0);
}

bool link_possible(const struct dump *d, const struct ofile *f)
{
	auto_fd int dir = -1;
	struct statx st;

	if (!S_ISREG(f->st.st_mode) || !f->st.st_nlink)
		return false;
	dir = folder_open(d, f);
	/* Links do not cross mounts. */
	return dir >= 0 && statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 && (int)st.stx_mnt_id == f->mnt_id &&
	       faccessat(dir, ".", W_OK, AT_EACCESS) == 0;
}

static int link_make(struct dump *d, const struct ofile *f, struct table_link *l, struct err *e)
{
	const char *slash = strrchr(f->link, '/');
	auto_fd int dir = folder_open(d, f);
	char name[48], self[48];
	int r = -EEXIST;

	if (dir < 0)
		return err_sys(e, dir, "the folder of %s", f->link);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->lfd);
	for (unsigned i = 0; i < TRIES && r == -EEXIST; i++) {
		snprintf(name, sizeof(name), LINK_NAME "%u", f->id + i);
		if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		r = d->guard ? guard_add(d->guard, "link", name, dir, e) : 0;
		if (r < 0)
			return r;
		r = linkat(AT_FDCWD, self, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_sys(e, r, "a link beside %s", f->link);
	l->dir = fd_take(&dir);
	l->dev = f->st.st_dev;
	l->ino = f->st.st_ino;
	l->id = LINK_ID + f->id;
	if (asprintf(&l->path, "%.*s%s", (int)(slash + 1 - f->link), f->link, name) < 0)
		l->path = NULL;
	return l->path ? 0 : err_sys(e, -ENOMEM, "a link");
}

/* As a file of its own. */
static int link_put(struct dump *d, const struct table_link *l, const RegFileEntry *of, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	RegFileEntry re = REG_FILE_ENTRY__INIT;
	FownEntry own = FOWN_ENTRY__INIT;

	re.id = fe.id = l->id;
	re.fown = &own;
	re.name = l->path;
	re.has_mnt_id = of->has_mnt_id;
	re.mnt_id = of->mnt_id;
	re.has_mode = of->has_mode;
	re.mode = of->mode;
	re.has_size = of->has_size;
	re.size = of->size;
	fe.type = FD_TYPES__REG;
	fe.reg = &re;
	return sink_put(d->sink, REC_FILES, fe.id, &fe.base, e);
}

static const struct table_link *link_of(struct dump *d, const struct ofile *f)
{
	struct table *tb = dump_table(d);

	for (size_t i = 0; tb && i < tb->n_links; i++)
		if (tb->links[i].dev == f->st.st_dev && tb->links[i].ino == f->st.st_ino)
			return &tb->links[i];
	return NULL;
}

bool link_is_made(struct dump *d, const struct ofile *f)
{
	return str_ends(f->link, DELETED) && link_of(d, f);
}

int link_capture(struct dump *d, const struct ofile *f, const RegFileEntry *re, struct err *e)
{
	RemapFilePathEntry rm = REMAP_FILE_PATH_ENTRY__INIT;
	struct table *tb = dump_table(d);
	const struct table_link *l = link_of(d, f);
	int r = 0;

	if (!l) {
		struct table_link n = { .dir = -1 };

		if (array_grow(tb->links, tb->n_links, tb->cap_links) < 0)
			return err_sys(e, -ENOMEM, "links");
		r = link_make(d, f, &n, e);
		tb->links[tb->n_links] = n;
		l = &tb->links[tb->n_links++];
		if (r == 0)
			r = link_put(d, l, re, e);
	}
	if (r < 0)
		return r;
	rm.orig_id = f->id;
	rm.remap_id = l->id;
	rm.has_remap_type = 1;
	rm.remap_type = REMAP_TYPE__LINKED;
	return sink_put(d->sink, REC_REMAP_FPATH, f->id, &rm.base, e);
}

void links_dump_done(struct dump *d)
{
	struct table *tb = dump_table(d);

	for (size_t i = 0; tb && i < tb->n_links; i++) {
		struct table_link *l = &tb->links[i];
		const char *slash = l->path ? strrchr(l->path, '/') : NULL;

		if (slash && !d->replaced && unlinkat(l->dir, slash + 1, 0) < 0)
			log_warn("the link %s stays: %s", l->path, strerror(errno));
		fd_close(&l->dir);
		free(l->path);
	}
	if (!tb)
		return;
	free(tb->links);
	tb->links = NULL;
	tb->n_links = tb->cap_links = 0;
}

/* ---- restore ---- */

static const RemapFilePathEntry *remap_of(struct restore *r, uint32_t id)
{
	const struct record *rec = image_find(r->image, REC_REMAP_FPATH, id, NULL);
	const RemapFilePathEntry *re = rec ? (const RemapFilePathEntry *)rec->msg : NULL;

	return re && re->has_remap_type && re->remap_type == REMAP_TYPE__LINKED ? re : NULL;
}

/* Nothing else is ever removed for an image. */
static bool is_link_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	uint64_t n;

	return slash && str_starts(slash + 1, LINK_NAME) &&
	       parse_u64(slash + 1 + strlen(LINK_NAME), 10, &n) == 0;
}

int link_load(struct restore *r, const struct rfile *f, struct err *e)
{
	const RemapFilePathEntry *re = remap_of(r, f->id);
	const struct rfile *l;

	if (!re)
		return 0;
	l = restore_file(r, re->remap_id);
	if (!r->opts || !l || l == f || l->kind != &file_kind_reg || !l->fe->reg || !is_link_name(l->fe->reg->name))
		return err_set(e, -EINVAL, "file %u: its link makes no sense", f->id);
	return 0;
}

const char *link_path(struct restore *r, const struct rfile *f)
{
	const RemapFilePathEntry *re = remap_of(r, f->id);
	const struct rfile *l = re ? restore_file(r, re->remap_id) : NULL;

	return l ? l->fe->reg->name : NULL;
}

/* If it is still the file that was opened by it. */
static void link_remove(struct restore *r, const struct rfile *l)
{
	const char *path = l->fe->reg->name, *slash = strrchr(path, '/');
	auto_free char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	auto_fd int dir = folder ? fd_open_in_root(r->root_fd, folder, O_PATH | O_DIRECTORY, 0) : -1;
	struct stat is, was;

	if (dir < 0 || fstatat(dir, slash + 1, &is, AT_SYMLINK_NOFOLLOW) < 0 || fstat(l->fd, &was) < 0 ||
	    is.st_dev != was.st_dev || is.st_ino != was.st_ino)
		return;
	if (unlinkat(dir, slash + 1, 0) < 0)
		log_warn("the link %s stays: %s", path, strerror(errno));
}

void links_restore_done(struct restore *r)
{
	for (size_t i = 0; r->complete && i < r->n_files; i++) {
		const RemapFilePathEntry *re = remap_of(r, r->files[i]->id);
		const struct rfile *l = re ? restore_file(r, re->remap_id) : NULL;

		if (l && l->fd >= 0)
			link_remove(r, l);
	}
}

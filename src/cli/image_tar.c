#include "cli/image_tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/interrupt.h"

struct image_tar {
	char *path, *part;
	struct archive *a;
};

static int fail(struct image_tar *t, struct err *e)
{
	const char *why = archive_error_string(t->a);
	int code = archive_errno(t->a);

	return err_set(e, code > 0 ? -code : -EIO, "cannot write %s: %s", t->path, why ? why : "unknown reason");
}

int image_tar_open(const char *path, struct image_tar **ret, struct err *e)
{
	struct image_tar *t = calloc(1, sizeof(*t));
	int r = 0;

	if (!t)
		return err_sys(e, -ENOMEM, "cannot write %s", path);
	t->path = strdup(path);
	t->a = archive_write_new();
	if (!t->path || !t->a || asprintf(&t->part, "%s.part", path) < 0) {
		t->part = NULL;
		image_tar_abort(t);
		return err_sys(e, -ENOMEM, "cannot write %s", path);
	}
	/* pax: it keeps file capabilities and long names. */
	if (archive_write_set_format_pax_restricted(t->a) != ARCHIVE_OK ||
	    archive_write_add_filter_zstd(t->a) != ARCHIVE_OK ||
	    archive_write_set_options(t->a, "zstd:compression-level=1") != ARCHIVE_OK ||
	    archive_write_open_filename(t->a, t->part) != ARCHIVE_OK)
		r = fail(t, e);
	if (r < 0) {
		image_tar_abort(t);
		return r;
	}
	*ret = t;
	return 0;
}

void image_tar_abort(struct image_tar *t)
{
	if (!t)
		return;
	if (t->a)
		archive_write_free(t->a);
	if (t->part)
		unlink(t->part);
	free(t->path);
	free(t->part);
	free(t);
}

int image_tar_finish(struct image_tar *t, struct err *e)
{
	int r = archive_write_close(t->a) == ARCHIVE_OK ? 0 : fail(t, e);

	if (r >= 0 && rename(t->part, t->path) < 0)
		r = err_sys(e, -errno, "cannot write %s", t->path);
	image_tar_abort(t);
	return r;
}

static int put(struct image_tar *t, const char *path, mode_t type, mode_t mode, const char *to, const void *data,
	       size_t len, struct err *e)
{
	struct archive_entry *en = archive_entry_new();
	int r = 0;

	if (!en)
		return err_sys(e, -ENOMEM, "cannot write %s", t->path);
	archive_entry_set_pathname(en, path);
	archive_entry_set_filetype(en, type);
	archive_entry_set_perm(en, mode);
	archive_entry_set_mtime(en, time(NULL), 0);
	archive_entry_set_uname(en, "root");
	archive_entry_set_gname(en, "root");
	if (to)
		archive_entry_set_symlink(en, to);
	if (type == AE_IFREG)
		archive_entry_set_size(en, (la_int64_t)len);
	if (archive_write_header(t->a, en) != ARCHIVE_OK ||
	    (len && archive_write_data(t->a, data, len) != (la_ssize_t)len))
		r = fail(t, e);
	archive_entry_free(en);
	return r;
}

int image_tar_dir(struct image_tar *t, const char *path, mode_t mode, struct err *e)
{
	return put(t, path, AE_IFDIR, mode, NULL, NULL, 0, e);
}

int image_tar_file(struct image_tar *t, const char *path, mode_t mode, const void *data, size_t len, struct err *e)
{
	return put(t, path, AE_IFREG, mode, NULL, data, len, e);
}

int image_tar_text(struct image_tar *t, const char *path, mode_t mode, const char *text, struct err *e)
{
	return image_tar_file(t, path, mode, text, strlen(text), e);
}

int image_tar_link(struct image_tar *t, const char *path, const char *to, struct err *e)
{
	return put(t, path, AE_IFLNK, 0777, to, NULL, 0, e);
}

/* "./etc/passwd" → "etc/passwd" */
static const char *plain(const char *path)
{
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	while (*path == '/')
		path++;
	return path;
}

static int copy_data(struct image_tar *t, struct archive *in, struct err *e)
{
	char part[65536];
	la_ssize_t n;

	/* Not by blocks: the tar writer takes no holes. */
	while ((n = archive_read_data(in, part, sizeof(part))) > 0) {
		if (archive_write_data(t->a, part, (size_t)n) != n)
			return fail(t, e);
	}
	return n == 0 ? 0 : err_set(e, -EIO, "the tar stream breaks off: %s", archive_error_string(in));
}

static int copy_entry(struct image_tar *t, struct archive *in, struct archive_entry *en, struct err *e)
{
	auto_buf path = BUF_INIT;
	auto_buf link = BUF_INIT;
	const char *name = plain(archive_entry_pathname(en)), *hard = archive_entry_hardlink(en);

	if (buf_addf(&path, *name ? "rootfs/%s" : "rootfs%s", name) < 0 ||
	    (hard && buf_addf(&link, "rootfs/%s", plain(hard)) < 0))
		return err_sys(e, -ENOMEM, "cannot write %s", t->path);
	archive_entry_set_pathname(en, path.data);
	if (hard)
		archive_entry_set_hardlink(en, link.data);
	if (archive_write_header(t->a, en) < ARCHIVE_WARN)
		return fail(t, e);
	return !hard && archive_entry_size(en) > 0 ? copy_data(t, in, e) : 0;
}

static int copy_all(struct image_tar *t, struct archive *in, bool (*wanted)(const char *path), struct err *e)
{
	struct archive_entry *en;
	int r;

	for (;;) {
		if (interrupt_count())
			return err_set(e, -ECANCELED, "interrupted");
		r = archive_read_next_header(in, &en);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r < ARCHIVE_WARN || !archive_entry_pathname(en))
			return err_set(e, -EIO, "the tar stream cannot be read: %s", archive_error_string(in));
		if (archive_entry_filetype(en) == AE_IFCHR || archive_entry_filetype(en) == AE_IFBLK ||
		    !wanted(plain(archive_entry_pathname(en))))
			continue;
		r = copy_entry(t, in, en, e);
		if (r < 0)
			return r;
	}
}

int image_tar_copy(struct image_tar *t, int fd, bool (*wanted)(const char *path), struct err *e)
{
	struct archive *in = archive_read_new();
	int r;

	if (!in || archive_read_support_format_tar(in) != ARCHIVE_OK || archive_read_open_fd(in, fd, 65536) != ARCHIVE_OK)
		r = err_set(e, -EIO, "the tar stream cannot be read: %s", in ? archive_error_string(in) : "no memory");
	else
		r = copy_all(t, in, wanted, e);
	if (in)
		archive_read_free(in);
	return r;
}

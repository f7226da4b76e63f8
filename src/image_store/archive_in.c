#include "image_store/archive_in.h"

struct archive *archive_in_open(int fd, const char *what, struct err *e)
{
	struct archive *a = archive_read_new();

	if (!a) {
		err_sys(e, -ENOMEM, "%s", what);
		return NULL;
	}
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, fd, 1 << 18) != ARCHIVE_OK) {
		err_set(e, -EINVAL, "%s is no tar archive that can be read (plain, gz, xz, zst or bz2): %s", what,
			archive_error_string(a) ? archive_error_string(a) : "");
		archive_read_free(a);
		return NULL;
	}
	return a;
}

int archive_in_next(struct archive *a, struct archive_entry **ret, const char *what, struct err *e)
{
	int r = archive_read_next_header(a, ret);

	if (r == ARCHIVE_EOF)
		return 0;
	/* A warning is about names and attributes that cannot be converted: the names are bytes to us. */
	if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
		return 1;
	return err_set(e, -EINVAL, "%s is no tar archive that can be read, or is damaged: %s", what,
		       archive_error_string(a) ? archive_error_string(a) : "");
}

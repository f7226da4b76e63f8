/* An image that is in the place where another shall be written: out of the way in a folder inside, until the new one
 * is there, or has failed. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "image/priv.h"

#define ASIDE ".godwit-replaced"
#define FILES_MAX 4000000

struct names {
	char **v;
	size_t n, cap;
};

static void names_done(struct names *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->v[i]);
	free(x->v);
}

static bool is_image(int dir, const char *name)
{
	struct stat st;

	return (str_ends(name, ".img") || strcmp(name, FOLDER_RECORDS) == 0) &&
	       fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* All at once, since what is renamed while a folder is read may be seen twice. */
static int names_read(int dir, struct names *ret)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!list) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	while (r == 0 && (de = readdir(list))) {
		if (!is_image(dir, de->d_name))
			continue;
		r = ret->n < FILES_MAX ? array_grow(ret->v, ret->n, ret->cap) : -EFBIG;
		if (r == 0)
			r = (ret->v[ret->n] = strdup(de->d_name)) ? 0 : -ENOMEM;
		ret->n += r == 0;
	}
	closedir(list);
	return r;
}

static int all_move(int from, int to)
{
	struct names x = { 0 };
	int r = names_read(from, &x);

	for (size_t i = 0; i < x.n && r == 0; i++)
		if (renameat(from, x.v[i], to, x.v[i]) < 0)
			r = -errno;
	names_done(&x);
	return r;
}

static int aside_open(int dir)
{
	return fd_open_beneath(dir, ASIDE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

int folder_put_aside(int dir_fd, struct err *e)
{
	struct names x = { 0 };
	auto_fd int aside = -1;
	int r = names_read(dir_fd, &x);
	size_t n = x.n;

	names_done(&x);
	if (r < 0 || n == 0)
		return r < 0 ? err_sys(e, r, "looking for images") : 0;
	folder_drop_aside(dir_fd); /* of one that was killed */
	if (mkdirat(dir_fd, ASIDE, 0700) < 0)
		return err_sys(e, -errno, "making room for the image that is replaced");
	aside = aside_open(dir_fd);
	r = aside < 0 ? aside : all_move(dir_fd, aside);
	if (r >= 0)
		return 1;
	err_sys(e, r, "moving the image that is replaced");
	folder_return_aside(dir_fd);
	return r;
}

void folder_return_aside(int dir_fd)
{
	auto_fd int aside = aside_open(dir_fd);

	if (aside >= 0 && all_move(aside, dir_fd) == 0)
		(void)unlinkat(dir_fd, ASIDE, AT_REMOVEDIR);
}

void folder_drop_aside(int dir_fd)
{
	auto_fd int aside = aside_open(dir_fd);
	struct names x = { 0 };

	if (aside < 0)
		return;
	(void)names_read(aside, &x);
	for (size_t i = 0; i < x.n; i++)
		(void)unlinkat(aside, x.v[i], 0);
	names_done(&x);
	(void)unlinkat(dir_fd, ASIDE, AT_REMOVEDIR);
}

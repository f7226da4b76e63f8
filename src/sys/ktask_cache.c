/* The layout of this kernel's tasks, remembered. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "sys/ktask_priv.h"

#define FOLDER "/run/godwit"
#define NAME "ktask"
#define FORMAT "1"

/* Nobody but root may have written what is read. */
static bool roots_own(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == 0 && !(st.st_mode & 022);
}

static int folder_open(void)
{
	auto_fd int fd = open(FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return roots_own(fd, S_IFDIR) ? fd_take(&fd) : -ENOENT;
}

/* A kernel is the same as long as it runs; its modules add types of their own behind. */
static int boot_id(char ret[40])
{
	auto_free char *id = NULL;

	if (fd_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, NULL) < 0 || strlen(id) < 36)
		return -ENOENT;
	snprintf(ret, 40, "%.36s", id);
	return 0;
}

int ktask_cache_read(struct ktask_layout *ret)
{
	auto_fd int dir = geteuid() == 0 ? folder_open() : -1, fd = -1;
	uint32_t words[KTASK_LAYOUT_WORDS];
	char text[1024], id[40], head[64];
	const char *p;
	uint64_t v;
	ssize_t n;

	if (dir < 0 || boot_id(id) < 0)
		return -ENOENT;
	fd = openat(dir, NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || !roots_own(fd, S_IFREG))
		return -ENOENT;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -ENOENT;
	text[n] = '\0';
	snprintf(head, sizeof(head), FORMAT " %s", id);
	if (!str_starts(text, head))
		return -ENOENT;
	p = text + strlen(head);
	for (size_t i = 0; i < KTASK_LAYOUT_WORDS; i++) {
		if (*p++ != ' ' || parse_u64_at(&p, 10, &v) < 0 || v > UINT32_MAX)
			return -ENOENT;
		words[i] = (uint32_t)v;
	}
	if (*p != '\n')
		return -ENOENT;
	memcpy(ret, words, sizeof(words));
	return ktask_layout_sane(ret) ? 0 : -ENOENT;
}

/* Renamed into place, so that a reader sees all of it or the one before. */
void ktask_cache_write(const struct ktask_layout *l)
{
	uint32_t words[KTASK_LAYOUT_WORDS];
	auto_fd int dir = -1, fd = -1;
	char text[1024], id[40], tmp[48];
	int n;

	if (geteuid() != 0 || boot_id(id) < 0 || (mkdir(FOLDER, 0700) < 0 && errno != EEXIST))
		return;
	dir = folder_open();
	if (dir < 0)
		return;
	memcpy(words, l, sizeof(words));
	n = snprintf(text, sizeof(text), FORMAT " %s", id);
	for (size_t i = 0; i < KTASK_LAYOUT_WORDS; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %u", words[i]);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "\n");
	snprintf(tmp, sizeof(tmp), "." NAME "-%d", (int)getpid());
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (fd_write_full(fd, text, (size_t)n) < 0 || renameat(dir, tmp, dir, NAME) < 0)
		unlinkat(dir, tmp, 0);
}

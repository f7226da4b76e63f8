#include "engine/folders.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

static int folder_open(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_sys(e, -errno, "opening the folder %s", path) : fd;
}

int folders_use(struct options *o, int images_fd, int work_fd, struct err *e)
{
	if (fchdir(work_fd >= 0 ? work_fd : images_fd) < 0)
		return err_sys(e, -errno, "going to the work folder");
	o->cr.images_fd = images_fd;
	return 0;
}

int folders_open(struct options *o, struct err *e)
{
	auto_fd int work = -1;
	int images = folder_open(o->images_dir ? o->images_dir : ".", e), r;

	if (images < 0)
		return images;
	if (o->work_dir)
		work = folder_open(o->work_dir, e);
	r = o->work_dir && work < 0 ? work : folders_use(o, images, work, e);
	if (r < 0)
		fd_close(&images);
	return r;
}

/* ---- the log ---- */

/* Which descriptor log.c writes to is its state; this is what has to be closed behind it. */
static int log_fd = 2;

static void level_set(int verbosity)
{
	/* CRIU's 1 to 4 are our levels from the first on. */
	log_set_level(verbosity <= 1 ? LOG_LV_ERROR : (enum log_level)(verbosity - 1));
}

int log_open(const struct options *o, struct err *e)
{
	int verbosity = o->verbosity < 0 ? 2 : o->verbosity, fd;
	/* Nobody reads a log that says nothing, but its file has to be there. */
	const char *path = !o->log_file && verbosity == 0 ? "/dev/null" : o->log_file;

	log_close();
	level_set(verbosity);
	if (!path)
		return 0;
	fd = strcmp(path, "-") == 0 ? fcntl(1, F_DUPFD_CLOEXEC, 3) :
	     open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "starting the log %s", path);
	if (verbosity == 0) {
		close(fd);
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return err_sys(e, -errno, "opening /dev/null");
	}
	log_fd = fd;
	log_set_fd(fd);
	return 0;
}

void log_notes(const struct options *o)
{
	for (const char *s = o->notes.data, *end; s && (end = strchr(s, '\n')); s = end + 1)
		log_warn("%.*s", (int)(end - s), s);
}

void log_close(void)
{
	log_set_fd(2);
	if (log_fd > 2)
		close(log_fd);
	log_fd = 2;
}

bool log_is_stderr(void)
{
	return log_fd == 2;
}

/* ---- small words to the caller ---- */

int pidfile_write(const char *path, pid_t pid, struct err *e)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", (int)pid), r;
	auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	r = fd < 0 ? -errno : fd_write_full(fd, text, (size_t)n);
	return r < 0 ? err_sys(e, r, "writing the pidfile %s", path) : 0;
}

int status_say(struct options *o, struct err *e)
{
	int fd = o->status_fd, r;

	if (fd < 0)
		return 0;
	o->status_fd = -1;
	r = fd_write_full(fd, "", 1);
	close(fd);
	return r < 0 ? err_sys(e, r, "writing to --status-fd %d", fd) : 0;
}

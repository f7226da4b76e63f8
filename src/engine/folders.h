/* folders - where an action reads and writes: the images, and the work folder with log, pidfile and statistics. */
#pragma once
#include "engine/options.h"

/* Opens o->images_dir (default ".") as o->cr.images_fd, and makes the work dir (default: the images) the current
 * one, so that all other relative names are in it. */
int folders_open(struct options *o, struct err *e);
/* The same where both are open already (RPC); both stay the caller's. */
int folders_use(struct options *o, int images_fd, int work_fd, struct err *e);

/* Starts o->log_file, empty, at once ("-" is stdout; NULL leaves the log on stderr), with o's level.  What
 * log_close ends. */
int log_open(const struct options *o, struct err *e);
void log_close(void);
void log_notes(const struct options *o); /* options that change nothing, by name */
bool log_is_stderr(void);

/* Decimal, as a new file or over an old one. */
int pidfile_write(const char *path, pid_t pid, struct err *e);
/* One zero byte, and the end. */
int status_say(struct options *o, struct err *e);

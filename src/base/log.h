/* log - lines for a person, on stderr or in a file.
 *
 * Only the top layers (mains, workers, stages) log; lower layers return errors.  A line is written
 * by one write(), so that processes can share a file.  The level is one of the two global
 * variables of the project (the other is the kernel-feature table). */
#pragma once
#include <stdarg.h>

enum log_level { LOG_LV_ERROR, LOG_LV_WARN, LOG_LV_INFO, LOG_LV_DEBUG };

/* What to print at most; the default is LOG_LV_INFO. */
void log_set_level(enum log_level lv);
enum log_level log_get_level(void);

/* Where to print; the fd stays the caller's and must outlive the logging.  Default 2. */
void log_set_fd(int fd);

/* A short word before each line, e.g. the program and the container; copied. */
void log_set_prefix(const char *prefix);

void log_line(enum log_level lv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LV_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LV_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LV_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LV_DEBUG, __VA_ARGS__)

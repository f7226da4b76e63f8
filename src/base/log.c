#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	enum log_level level;
	int fd;
	char prefix[64];
} log_state = { LOG_LV_INFO, 2, "" };

void log_set_level(enum log_level lv)
{
	log_state.level = lv;
}

enum log_level log_get_level(void)
{
	return log_state.level;
}

void log_set_fd(int fd)
{
	log_state.fd = fd;
}

void log_set_prefix(const char *prefix)
{
	snprintf(log_state.prefix, sizeof(log_state.prefix), "%s", prefix);
}

void log_line(enum log_level lv, const char *fmt, ...)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	char line[2048];
	struct timespec ts;
	struct tm tm;
	va_list ap;
	int saved = errno;
	size_t n;

	if (lv > log_state.level)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ %-5s %s%s", ts.tv_nsec / 1000,
			      names[lv], log_state.prefix, log_state.prefix[0] ? ": " : "");
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = strlen(line);
	/* One line is one line: what a foreign program put into a message must not fake another. */
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20)
			line[i] = ' ';
	line[n++] = '\n';
	if (write(log_state.fd, line, n) < 0) {
		/* Nowhere left to say it. */
	}
	errno = saved;
}

/* lxclog - liblxc says why something failed in its log only; the first error lines are the cause, the
 * later ones what followed from it. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "runtime/internal.h"

#define LXCLOG_READ_MAX 65536

int64_t lxclog_mark(const struct container *c)
{
	struct stat st;

	return stat(c->log_file, &st) < 0 ? 0 : (int64_t)st.st_size;
}

/* "lxc c1 20261123… ERROR    network - ../src/lxc/network.c:f:12 - what is wrong" */
static const char *line_text(char *line)
{
	char *p = strstr(line, " - ");

	if (!strstr(line, " ERROR ") || !p)
		return NULL;
	p = strstr(p + 3, " - ");
	return p ? p + 3 : NULL;
}

int lxclog_fail(const struct container *c, int64_t mark, int code, const char *what, struct err *e)
{
	auto_fd int fd = open(c->log_file, O_RDONLY | O_CLOEXEC);
	auto_free char *text = malloc(LXCLOG_READ_MAX + 1);
	char found[700] = "", *save = NULL;
	ssize_t n = -1;
	int lines = 0;

	if (fd >= 0 && text)
		n = pread(fd, text, LXCLOG_READ_MAX, mark);
	if (n > 0)
		text[n] = '\0';
	for (char *line = n > 0 ? strtok_r(text, "\n", &save) : NULL; line && lines < 3;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *t = line_text(line);
		size_t have = strlen(found);

		if (!t)
			continue;
		snprintf(found + have, sizeof(found) - have, "%s%.220s", have ? "; " : "", t);
		lines++;
	}
	if (!lines)
		return err_set(e, code, "%s; liblxc gave no reason (see %s)", what, c->log_file);
	return err_set(e, code, "%s: %s", what, found);
}

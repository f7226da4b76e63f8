#include "engine/config.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"

/* ---- syntax ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The word at s: in quotes `\"` stands for a quote and all else for itself.  *ret_next is behind it. */
static int word_take(char *s, char **ret_word, char **ret_next)
{
	char *out = s, *in = s;
	bool quoted = *s == '"';

	if (quoted)
		*ret_word = out = ++in;
	else
		*ret_word = s;
	for (; *in; in++) {
		if (quoted && *in == '\\' && in[1] == '"')
			in++;
		else if (quoted ? *in == '"' : is_blank(*in) || *in == '#')
			break;
		*out++ = *in;
	}
	if (quoted && *in != '"')
		return -EINVAL;
	if (quoted && in[1] && !is_blank(in[1]) && in[1] != '#')
		return -EINVAL;
	/* A comment may follow a word at once; its '#' must survive the NUL. */
	*ret_next = *in == '#' ? strchr(in, '\0') : *in ? in + 1 : in;
	*out = '\0';
	return 0;
}

static char *blanks_skip(char *s)
{
	while (is_blank(*s))
		s++;
	return *s == '#' ? strchr(s, '\0') : s;
}

static int line_parse(char *s, config_set set, void *arg, struct err *e)
{
	char *name, *value = NULL;

	s = blanks_skip(s);
	if (!*s)
		return 0;
	if (*s == '"')
		return err_set(e, -EINVAL, "an option is not in quotes");
	if (word_take(s, &name, &s) < 0)
		return err_set(e, -EINVAL, "a quote is not closed");
	s = blanks_skip(s);
	if (*s && word_take(s, &value, &s) < 0)
		return err_set(e, -EINVAL, "a quote is not closed, or something stands behind it");
	if (value && *blanks_skip(s))
		return err_set(e, -EINVAL, "'%s' has more than one argument", name);
	if (!value && (value = strchr(name, '=')))
		*value++ = '\0';
	return set(arg, name, value, e);
}

int config_parse(const char *text, size_t len, config_set set, void *arg, struct err *e)
{
	size_t line = 1;

	for (const char *s = text; s < text + len; line++) {
		const char *end = memchr(s, '\n', (size_t)(text + len - s));
		size_t n = (size_t)((end ? end : text + len) - s);
		auto_free char *copy = NULL;
		int r;

		if (memchr(s, '\0', n))
			return err_set(e, -EINVAL, "line %zu: a NUL", line);
		copy = strndup(s, n);
		if (!copy)
			return err_sys(e, -ENOMEM, "line %zu", line);
		r = line_parse(copy, set, arg, e);
		if (r < 0)
			return err_context(e, r, "line %zu", line);
		s += n + 1;
	}
	return 0;
}

/* ---- files ---- */

static int option_set(void *arg, const char *name, const char *value, struct err *e)
{
	struct options *o = arg;
	const char *kept = value ? options_keep(o, value) : NULL;

	if (value && !kept)
		return err_sys(e, -ENOMEM, "'%s'", name);
	/* A file that names files would be a way around the order of precedence. */
	if (strcmp(name, "config") == 0 || strcmp(name, "no-default-config") == 0)
		return err_set(e, -EINVAL, "'%s' cannot stand in a configuration file", name);
	return options_set(o, name, kept, e);
}

int config_apply_file(struct options *o, const char *path, struct err *e)
{
	/* A fifo would keep us waiting for its writer. */
	auto_fd int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	auto_free char *text = NULL;
	char self[32];
	struct stat st;
	size_t len;
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "opening the configuration file %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "the configuration %s is no regular file", path);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	r = fd_read_file_at(AT_FDCWD, self, CONFIG_MAX, &text, &len);
	if (r < 0)
		return err_sys(e, r, "reading the configuration file %s", path);
	r = config_parse(text, len, option_set, o, e);
	return r < 0 ? err_context(e, r, "%s", path) : 0;
}

static int file_optional(struct options *o, const char *path, struct err *e)
{
	int r = config_apply_file(o, path, e);

	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

int config_apply_default(struct options *o, struct err *e)
{
	/* Where we have rights that our caller has not, its environment is not ours to follow. */
	bool trusted = getauxval(AT_SECURE) == 0;
	const char *home = trusted ? getenv("HOME") : NULL;
	const char *named = trusted ? getenv("CRIU_CONFIG_FILE") : NULL;
	char path[PATH_MAX];
	int r = 0;

	if (!o->no_default_config)
		r = file_optional(o, "/etc/criu/default.conf", e);
	if (r >= 0 && !o->no_default_config && home && home[0] == '/' &&
	    snprintf(path, sizeof(path), "%s/.criu/default.conf", home) < (int)sizeof(path))
		r = file_optional(o, path, e);
	if (r >= 0 && named && !o->no_default_config)
		r = config_apply_file(o, named, e);
	if (r >= 0 && o->config)
		r = config_apply_file(o, o->config, e);
	return r;
}

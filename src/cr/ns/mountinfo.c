/* mountinfo - the kernel's list of mounts, and what each of them is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/ns/mounts.h"

#define TEXT_MAX (32u << 20)

void mnts_done(struct mnts *m)
{
	for (size_t i = 0; i < m->n; i++) {
		struct mnt *x = &m->list[i];

		free(x->root);
		free(x->path);
		free(x->opts);
		free(x->fstype);
		free(x->source);
		free(x->sopts);
	}
	free(m->list);
	*m = (struct mnts){ 0 };
}

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The next word, with \ooo undone; moves *p behind it. */
static char *word(const char **p)
{
	size_t len = strcspn(*p, " \n"), n = 0;
	const char *s = *p;
	char *w = malloc(len + 1);

	if (!w)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\' && i + 3 < len && octal(s[i + 1]) && octal(s[i + 2]) &&
		    octal(s[i + 3])) {
			w[n++] = (char)((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 +
					(s[i + 3] - '0'));
			i += 3;
		} else {
			w[n++] = s[i];
		}
	}
	w[n] = 0;
	*p += len;
	if (**p == ' ')
		(*p)++;
	return w;
}

static int number(const char **p, char behind, unsigned *ret)
{
	uint64_t v;

	if (parse_u64_at(p, 10, &v) < 0 || v > INT32_MAX || **p != behind)
		return -EPROTO;
	(*p)++;
	*ret = (unsigned)v;
	return 0;
}

static int optional_fields(const char **p, struct mnt *m)
{
	while (strncmp(*p, "- ", 2) != 0) {
		size_t len = strcspn(*p, " \n");

		if ((*p)[len] != ' ')
			return -EPROTO;
		if (str_starts(*p, "shared:"))
			m->shared = atoi(*p + 7);
		else if (str_starts(*p, "master:"))
			m->master = atoi(*p + 7);
		*p += len + 1;
	}
	*p += 2;
	return 0;
}

static int line_parse(const char **p, struct mnt *m)
{
	unsigned id, parent;

	if (number(p, ' ', &id) < 0 || number(p, ' ', &parent) < 0 ||
	    number(p, ':', &m->major) < 0 || number(p, ' ', &m->minor) < 0)
		return -EPROTO;
	m->id = (int)id;
	m->parent = (int)parent;
	m->root = word(p);
	m->path = word(p);
	m->opts = word(p);
	if (optional_fields(p, m) < 0)
		return -EPROTO;
	m->fstype = word(p);
	m->source = word(p);
	m->sopts = word(p);
	if (!m->root || !m->path || !m->opts || !m->fstype || !m->source || !m->sopts)
		return -ENOMEM;
	if (**p != '\n' || m->path[0] != '/')
		return -EPROTO;
	(*p)++;
	return 0;
}

int mnts_parse(const char *text, struct mnts *ret)
{
	struct mnts m = { 0 };
	const char *p = text;
	int r = 0;

	while (*p && r >= 0) {
		if (m.n >= MOUNTS_MAX) {
			r = -E2BIG;
		} else if (array_grow(m.list, m.n, m.cap) < 0) {
			r = -ENOMEM;
		} else {
			m.list[m.n] = (struct mnt){ 0 };
			r = line_parse(&p, &m.list[m.n++]);
		}
	}
	if (r < 0) {
		mnts_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

int mnts_read(int proc_fd, pid_t pid, struct mnts *ret, struct err *e)
{
	auto_free char *text = NULL;
	char path[40];
	int r;

	snprintf(path, sizeof(path), "%d/mountinfo", (int)pid);
	r = fd_read_file_at(proc_fd, path, TEXT_MAX, &text, NULL);
	if (r >= 0)
		r = mnts_parse(text, ret);
	return r < 0 ? err_sys(e, r, "reading the mounts of process %d", (int)pid) : 0;
}

const struct mnt *mnts_by_id(const struct mnts *m, int id)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->list[i].id == id)
			return &m->list[i];
	return NULL;
}

const struct mnt *mnts_top(const struct mnts *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->list[i].path, "/") == 0 && !mnts_by_id(m, m->list[i].parent))
			return &m->list[i];
	return NULL;
}

/* ---- what it is ---- */

static bool one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(s, *list) == 0)
			return true;
	return false;
}

bool mnt_is_tmpfs(const struct mnt *m)
{
	return strcmp(m->fstype, "tmpfs") == 0;
}

/* b lies at or below a, as paths; *ret_rest is what follows, without a leading slash. */
static bool path_below(const char *a, const char *b, const char **ret_rest)
{
	size_t n = strlen(a);

	if (n && a[n - 1] == '/')
		n--;
	if (strncmp(a, b, n) != 0 || (b[n] != '/' && b[n] != 0))
		return false;
	*ret_rest = b + n + (b[n] == '/');
	return true;
}

/* A bind is a mount of a part of a file system of which the container has another mount, made
 * before, through which the part can be reached. */
char *mnt_bind_source(const struct mnts *all, const struct mnt *m)
{
	const char *rest;
	char *path;

	for (const struct mnt *o = all->list; o < all->list + all->n; o++) {
		if (o == m || o->major != m->major || o->minor != m->minor)
			continue;
		if (!path_below(o->root, m->root, &rest))
			continue;
		/* Two mounts of the same root: the later one is the bind. */
		if (!*rest && (o->id > m->id || strcmp(o->path, m->path) == 0))
			continue;
		if (asprintf(&path, "%s%s%s", o->path[1] ? o->path : "",
			     *rest || !o->path[1] ? "/" : "", rest) < 0)
			return NULL;
		return path;
	}
	return strdup("");
}

enum mnt_way mnt_way(const struct mnts *all, const struct mnt *m)
{
	static const char *const made[] = { "tmpfs",  "proc",	 "sysfs",  "devpts",
					    "mqueue", "cgroup2", "cgroup", NULL };
	static const char *const optional[] = { "securityfs",  "debugfs",   "tracefs",	 "pstore",
						"fusectl",     "configfs",  "bpf",	 "efivarfs",
						"binfmt_misc", "selinuxfs", "hugetlbfs", NULL };
	auto_free char *source = NULL;

	if (m == mnts_top(all))
		return MNT_ADOPT;
	source = mnt_bind_source(all, m);
	if (source && *source)
		return MNT_BIND;
	if (one_of(m->fstype, optional))
		return MNT_OPTIONAL;
	/* The root of a cgroup mount is told as from our own cgroup namespace. */
	if (one_of(m->fstype, made) &&
	    (strcmp(m->root, "/") == 0 || str_starts(m->fstype, "cgroup")))
		return MNT_MAKE;
	if (str_starts(m->fstype, "fuse.") || strcmp(m->fstype, "fuse") == 0 ||
	    str_starts(m->fstype, "nfs") ||
	    one_of(m->fstype, (const char *const[]){ "autofs", "overlay", "ramfs", "9p", "cifs",
						     "ceph", "nsfs", NULL }))
		return MNT_REFUSE;
	return MNT_ADOPT;
}

unsigned long mnt_flags(const char *opts)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} table[] = { { "ro", MS_RDONLY },	   { "nosuid", MS_NOSUID },
		      { "nodev", MS_NODEV },	   { "noexec", MS_NOEXEC },
		      { "noatime", MS_NOATIME },   { "nodiratime", MS_NODIRATIME },
		      { "relatime", MS_RELATIME }, { "nosymfollow", MS_NOSYMFOLLOW } };
	unsigned long flags = 0;

	for (const char *p = opts; *p;) {
		size_t len = strcspn(p, ",");

		for (size_t i = 0; i < array_len(table); i++)
			if (strlen(table[i].name) == len && strncmp(p, table[i].name, len) == 0)
				flags |= table[i].flag;
		p += len + (p[len] == ',');
	}
	if (!(flags & (MS_NOATIME | MS_RELATIME)))
		flags |= MS_STRICTATIME;
	return flags;
}

#include "sys/procfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

#define NS 1000000000ll

int proc_open(int proc_fd, pid_t pid)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%d", (int)pid);
	fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int proc_open_thread(int dir, pid_t tid)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "task/%d", (int)tid);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int proc_file(int dir, const char *name, char **ret, size_t *ret_len, struct err *e)
{
	int r = fd_read_file_at(dir, name, PROC_FILE_MAX, ret, ret_len);

	return r < 0 ? err_sys(e, r, "reading %s of a process", name) : 0;
}

/* Numbers of one line into out; those that are there, at most max.  The count. */
static size_t line_numbers(const char *p, unsigned base, uint64_t *out, size_t max)
{
	size_t n = 0;

	while (n < max) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (parse_u64_at(&p, base, &out[n]) < 0)
			break;
		n++;
	}
	return n;
}

static int status_line(const char *line, struct proc_status *st)
{
	static const struct {
		const char *key;
		unsigned base;
		size_t offset, size;
	} simple[] = {
#define FIELD(key, base, member)                                     \
	{ key, base, offsetof(struct proc_status, member),           \
	  sizeof(((struct proc_status *)NULL)->member) }
		FIELD("Tgid:", 10, tgid), FIELD("Pid:", 10, pid), FIELD("PPid:", 10, ppid),
		FIELD("TracerPid:", 10, tracer), FIELD("Threads:", 10, threads),
		FIELD("SigBlk:", 16, sig_blocked), FIELD("SigPnd:", 16, sig_pending),
		FIELD("ShdPnd:", 16, sig_shared), FIELD("SigIgn:", 16, sig_ignored),
		FIELD("SigCgt:", 16, sig_caught), FIELD("CapInh:", 16, cap_inh),
		FIELD("CapPrm:", 16, cap_prm), FIELD("CapEff:", 16, cap_eff),
		FIELD("CapBnd:", 16, cap_bnd), FIELD("CapAmb:", 16, cap_amb),
		FIELD("Umask:", 8, umask), FIELD("Seccomp:", 10, seccomp), FIELD("NoNewPrivs:", 10, no_new_privs),
		FIELD("voluntary_ctxt_switches:", 10, ctxt_voluntary),
		FIELD("nonvoluntary_ctxt_switches:", 10, ctxt_involuntary),
#undef FIELD
	};
	uint64_t v[PROC_NS_LEVELS_MAX];
	size_t n;

	for (size_t i = 0; i < array_len(simple); i++) {
		const char *key = simple[i].key;

		if (line[0] != key[0] || !str_starts(line, key))
			continue;
		if (line_numbers(line + strlen(key), simple[i].base, v, 1) != 1)
			return -EPROTO;
		/* All are unsigned or pids, little-endian: the low bytes are the value. */
		memcpy((char *)st + simple[i].offset, v, simple[i].size);
		return 0;
	}
	if (str_starts(line, "State:")) {
		st->state = line[6] ? line[7] : 0;
	} else if (str_starts(line, "NStgid:")) {
		n = line_numbers(line + 7, 10, v, PROC_NS_LEVELS_MAX);
		if (n == 0)
			return -EPROTO;
		st->ns_tgid = (pid_t)v[n - 1];
	} else if (str_starts(line, "NSpid:")) {
		n = line_numbers(line + 6, 10, v, PROC_NS_LEVELS_MAX);
		if (n == 0)
			return -EPROTO;
		st->levels = n;
		for (size_t i = 0; i < n; i++)
			st->ns_pids[i] = (pid_t)v[i];
		st->ns_pid = (pid_t)v[n - 1];
	} else if (str_starts(line, "NSpgid:")) {
		n = line_numbers(line + 7, 10, v, PROC_NS_LEVELS_MAX);
		st->ns_pgid = n ? (pid_t)v[n - 1] : 0;
	} else if (str_starts(line, "NSsid:")) {
		n = line_numbers(line + 6, 10, v, PROC_NS_LEVELS_MAX);
		st->ns_sid = n ? (pid_t)v[n - 1] : 0;
	} else if (str_starts(line, "Uid:") || str_starts(line, "Gid:")) {
		uint32_t *out = line[0] == 'U' ? st->uid : st->gid;

		if (line_numbers(line + 4, 10, v, 4) != 4)
			return -EPROTO;
		for (size_t i = 0; i < 4; i++)
			out[i] = (uint32_t)v[i];
	} else if (str_starts(line, "Name:\t")) {
		snprintf(st->comm, sizeof(st->comm), "%.63s", line + 6);
	}
	return 0;
}

int proc_status_parse(const char *text, struct proc_status *ret)
{
	struct proc_status st = { 0 };
	char line[1024];

	for (const char *p = text; *p;) {
		const char *end = strchrnul(p, '\n');
		size_t len = (size_t)(end - p);
		int r;

		/* Only groups and masks of CPUs are longer, and they are not asked for. */
		if (len >= sizeof(line))
			len = sizeof(line) - 1;
		memcpy(line, p, len);
		line[len] = '\0';
		r = status_line(line, &st);
		if (r < 0)
			return r;
		p = *end ? end + 1 : end;
	}
	if (st.pid == 0 || st.state == 0)
		return -EPROTO;
	*ret = st;
	return 0;
}

int proc_status_read(int dir, struct proc_status *ret, struct err *e)
{
	auto_free char *text = NULL;
	int r = fd_read_piece_at(dir, "status", PROC_FILE_MAX, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading status of a process");
	r = proc_status_parse(text, ret);
	return r < 0 ? err_sys(e, r, "the status of a process is not what was expected") : 0;
}

int proc_stat_parse(const char *text, struct proc_stat *ret)
{
	/* The name may hold anything, parentheses too: the last one counts. */
	const char *p = strrchr(text, ')');
	int64_t v[52] = { 0 }; /* by the field's number in proc(5) minus 1 */
	size_t n = 3;

	if (!p || p[1] != ' ' || !p[2])
		return -EPROTO;
	*ret = (struct proc_stat){ .state = p[2] };
	p += 3;
	while (n < array_len(v)) {
		uint64_t u;
		int neg;

		while (*p == ' ')
			p++;
		neg = *p == '-';
		if (neg)
			p++;
		if (parse_u64_at(&p, 10, &u) < 0)
			break;
		v[n++] = neg ? -(int64_t)u : (int64_t)u;
	}
	if (n < array_len(v))
		return -EPROTO;
	ret->ppid = (pid_t)v[3];
	ret->pgrp = (pid_t)v[4];
	ret->session = (pid_t)v[5];
	ret->tty_nr = (int)v[6];
	ret->tpgid = (int)v[7];
	ret->flags = (uint32_t)v[8];
	ret->starttime = (uint64_t)v[21];
	ret->start_code = (uint64_t)v[25];
	ret->end_code = (uint64_t)v[26];
	ret->start_stack = (uint64_t)v[27];
	ret->start_data = (uint64_t)v[44];
	ret->end_data = (uint64_t)v[45];
	ret->start_brk = (uint64_t)v[46];
	ret->arg_start = (uint64_t)v[47];
	ret->arg_end = (uint64_t)v[48];
	ret->env_start = (uint64_t)v[49];
	ret->env_end = (uint64_t)v[50];
	ret->processor = (int)v[38];
	ret->exit_code = (int)v[51];
	return 0;
}

int proc_stat_read(int dir, struct proc_stat *ret, struct err *e)
{
	auto_free char *text = NULL;
	int r = fd_read_piece_at(dir, "stat", PROC_FILE_MAX, &text, NULL);

	if (r < 0)
		return err_sys(e, r, "reading stat of a process");
	r = proc_stat_parse(text, ret);
	return r < 0 ? err_sys(e, r, "the stat line of a process is not what was expected") : 0;
}

/* The kernel's record of a folder's entry (getdents64). */
struct entry {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

static int numbered_entries(int dir, const char *name, int **ret, size_t *ret_n, struct err *e)
{
	auto_fd int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct entry) char buf[8192];
	auto_free int *list = NULL;
	size_t n = 0, cap = 0;
	long got = 0;

	if (fd < 0)
		return err_sys(e, -errno, "listing %s of a process", name);
	while ((got = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got;) {
			const struct entry *x = (const struct entry *)(buf + at);
			int v;

			at += x->len;
			if (parse_int(x->name, &v) < 0)
				continue;
			if (array_grow(list, n, cap) < 0)
				return err_sys(e, -ENOMEM, "listing %s of a process", name);
			list[n++] = v;
		}
	}
	/* What ends meanwhile has no more entries. */
	if (got < 0 && errno != ENOENT && errno != ESRCH)
		return err_sys(e, -errno, "listing %s of a process", name);
	*ret = ptr_take(list);
	*ret_n = n;
	return 0;
}

int proc_threads(int dir, pid_t pid, pid_t **ret, size_t *ret_n, struct err *e)
{
	struct stat st;
	pid_t *one;

	/* The folder has a link for each thread, beside its own two.  One is the leader. */
	if (fstatat(dir, "task", &st, 0) < 0)
		return err_sys(e, -errno, "listing task of a process");
	if (st.st_nlink != 3)
		return numbered_entries(dir, "task", ret, ret_n, e);
	one = malloc(sizeof(*one));
	if (!one)
		return err_sys(e, -ENOMEM, "listing task of a process");
	*one = pid;
	*ret = one;
	*ret_n = 1;
	return 0;
}

int proc_fds(int dir, int **ret, size_t *ret_n, struct err *e)
{
	return numbered_entries(dir, "fd", ret, ret_n, e);
}

/* Lines of a few digits each: what is this much shorter than a page is all there is. */
#define CHILDREN_ROOM 4096
#define CHILDREN_LINE 16

static int children_text(int dir, const char *name, char **ret)
{
	auto_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	char text[CHILDREN_ROOM];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	if ((size_t)n > sizeof(text) - CHILDREN_LINE)
		return fd_read_file_at(dir, name, PROC_FILE_MAX, ret, NULL);
	text[n] = '\0';
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

int proc_children_of(int dir, const pid_t *tids, size_t n_tids, pid_t **ret, size_t *ret_n, struct err *e)
{
	auto_free pid_t *list = NULL;
	size_t n = 0, cap = 0;

	for (size_t i = 0; i < n_tids; i++) {
		auto_free char *text = NULL;
		const char *p;
		char name[40];
		uint64_t v;
		int r;

		snprintf(name, sizeof(name), "task/%d/children", (int)tids[i]);
		r = children_text(dir, name, &text);
		if (r == -ENOENT || r == -ESRCH) /* the thread ended meanwhile */
			continue;
		if (r < 0)
			return err_sys(e, r, "reading the children of a process");
		for (p = text; parse_u64_at(&p, 10, &v) >= 0; p += *p == ' ') {
			if (array_grow(list, n, cap) < 0)
				return err_sys(e, -ENOMEM, "reading the children of a process");
			list[n++] = (pid_t)v;
		}
	}
	*ret = ptr_take(list);
	*ret_n = n;
	return 0;
}

int proc_children(int dir, pid_t pid, pid_t **ret, size_t *ret_n, struct err *e)
{
	auto_free pid_t *threads = NULL;
	size_t n = 0;
	int r = proc_threads(dir, pid, &threads, &n, e);

	return r < 0 ? r : proc_children_of(dir, threads, n, ret, ret_n, e);
}

int proc_fdinfo(int dir, int fd, char **ret, struct err *e)
{
	char name[32];

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	return proc_file(dir, name, ret, NULL, e);
}

int proc_fdinfo_u64(const char *text, const char *key, unsigned base, uint64_t *ret)
{
	size_t len = strlen(key);

	for (const char *p = text; *p;) {
		const char *end = strchrnul(p, '\n');

		if (strncmp(p, key, len) == 0 && p[len] == ':') {
			p += len + 1;
			while (*p == ' ' || *p == '\t')
				p++;
			if (base == 16 && p[0] == '0' && p[1] == 'x')
				p += 2;
			return parse_u64_at(&p, base, ret);
		}
		p = *end ? end + 1 : end;
	}
	return -ENOENT;
}

int proc_readlink(int dir, const char *name, char **ret, struct err *e)
{
	char buf[8192];
	ssize_t n = readlinkat(dir, name, buf, sizeof(buf) - 1);

	if (n < 0)
		return err_sys(e, -errno, "reading the link %s of a process", name);
	if ((size_t)n == sizeof(buf) - 1)
		return err_sys(e, -ENAMETOOLONG, "reading the link %s of a process", name);
	buf[n] = '\0';
	*ret = strdup(buf);
	return *ret ? 0 : err_sys(e, -ENOMEM, "reading the link %s of a process", name);
}

int proc_cgroup_v2(int dir, char **ret, struct err *e)
{
	auto_free char *text = NULL;
	int r = proc_file(dir, "cgroup", &text, NULL, e);

	if (r < 0)
		return r;
	for (char *p = text; p && *p;) {
		char *end = strchrnul(p, '\n');

		if (str_starts(p, "0::/")) {
			*ret = strndup(p + 3, (size_t)(end - p - 3));
			return *ret ? 0 : err_sys(e, -ENOMEM, "reading the cgroup of a process");
		}
		p = *end ? end + 1 : end;
	}
	return err_set(e, -ENOENT, "the process is in no cgroup of the unified hierarchy");
}

/* Lines like "monotonic  5  0", the seconds with a sign. */
int64_t proc_clock_offset(int dir, const char *name, int clock)
{
	const char *word = clock == CLOCK_MONOTONIC ? "monotonic" : "boottime", *p;
	auto_free char *text = NULL;
	uint64_t sec, ns;
	bool neg;

	if (clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME && clock != CLOCK_BOOTTIME_ALARM)
		return 0;
	if (fd_read_file_at(dir, name, 4096, &text, NULL) < 0)
		return 0;
	p = strstr(text, word);
	if (!p)
		return 0;
	p += strlen(word);
	p += strspn(p, " \t");
	neg = *p == '-';
	p += neg;
	if (parse_u64_at(&p, 10, &sec) < 0 || sec > INT64_MAX / NS / 2)
		return 0;
	p += strspn(p, " \t");
	if (parse_u64_at(&p, 10, &ns) < 0 || ns >= (uint64_t)NS)
		return 0;
	return (neg ? -(int64_t)sec : (int64_t)sec) * NS + (int64_t)ns;
}

#include "snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "sys/procfs.h"

static const char *const status_keys[] = { "Name:", "Umask:", "Uid:", "Gid:", "Groups:",
					   "Threads:", "SigBlk:", "SigIgn:",
					   "SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:",
					   "CapAmb:", "NoNewPrivs:", "Seccomp:",
					   "Seccomp_filters:", NULL };

/* Without those of timers, which may come between two looks, and SIGSTOP, by which the target of a move
 * stops what was stopped, when it is thawed. */
static void add_pending(struct buf *b, const char *line, const char *who)
{
	const uint64_t timers = 1ull << 13 | 1ull << 18 | 1ull << 25 | 1ull << 26 | ~0ull << 31;
	uint64_t set;

	if ((str_starts(line, "SigPnd:\t") || str_starts(line, "ShdPnd:\t")) &&
	    parse_u64(line + 8, 16, &set) >= 0)
		buf_addf(b, "%s %.6s %llx\n", who, line, (unsigned long long)(set & ~timers));
}

static void add_status(struct buf *b, int dir, const char *who)
{
	auto_free char *text = NULL;
	char *save = NULL;

	if (proc_file(dir, "status", &text, NULL, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		/* The last number only: the container's. */
		if (str_starts(l, "NSpid:") || str_starts(l, "NSpgid:") || str_starts(l, "NSsid:"))
			buf_addf(b, "%s %.6s %s\n", who, l, strrchr(l, '\t') ? strrchr(l, '\t') + 1 : "?");
		add_pending(b, l, who);
		for (size_t i = 0; status_keys[i]; i++)
			if (str_starts(l, status_keys[i]))
				buf_addf(b, "%s %s\n", who, l);
	}
}

static void add_file_lines(struct buf *b, int dir, const char *name, const char *who)
{
	auto_free char *text = NULL;
	char *save = NULL;

	if (proc_file(dir, name, &text, NULL, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		buf_addf(b, "%s %s %s\n", who, name, l);
}

/* Adjacent mappings that look the same may have been merged or not; numbers of devices and inodes
 * are the kernel's affair. */
static void add_maps(struct buf *b, int dir, const char *who)
{
	auto_free char *text = NULL;
	char *save = NULL;

	if (proc_file(dir, "maps", &text, NULL, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char range[64], perms[8], offset[32];
		int at = 0;

		if (sscanf(l, "%63s %7s %31s %*s %*s %n", range, perms, offset, &at) < 3)
			continue;
		buf_addf(b, "%s map %s %s %s %s\n", who, range, perms,
			 at && l[at] == '/' ? offset : "-", at ? l + at : "");
	}
}

static int int_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void add_fds(struct buf *b, int dir, const char *who)
{
	auto_free int *fds = NULL;
	size_t n = 0;

	if (proc_fds(dir, &fds, &n, NULL) < 0)
		return;
	qsort(fds, n, sizeof(*fds), int_cmp);
	for (size_t i = 0; i < n; i++) {
		auto_free char *link = NULL, *info = NULL;
		uint64_t pos = 0, flags = 0;
		char name[32];
		char *colon;

		snprintf(name, sizeof(name), "fd/%d", fds[i]);
		if (proc_readlink(dir, name, &link, NULL) < 0 || proc_fdinfo(dir, fds[i], &info, NULL) < 0)
			continue;
		proc_fdinfo_u64(info, "pos", 10, &pos);
		proc_fdinfo_u64(info, "flags", 8, &flags);
		/* "pipe:[123]": the number is the kernel's. */
		colon = link[0] != '/' ? strchr(link, '[') : NULL;
		if (colon && strchr(link, ':') == colon - 1)
			*colon = '\0';
		buf_addf(b, "%s fd %d %s flags %llo pos %llu\n", who, fds[i], link,
			 (unsigned long long)flags, (unsigned long long)pos);
	}
}

static void add_links(struct buf *b, int dir, const char *who)
{
	static const char *const names[] = { "cwd", "root", "exe" };

	for (size_t i = 0; i < array_len(names); i++) {
		auto_free char *link = NULL;

		if (proc_readlink(dir, names[i], &link, NULL) >= 0)
			buf_addf(b, "%s %s %s\n", who, names[i], link);
	}
}

static void add_process(struct buf *b, int proc, pid_t pid, unsigned depth)
{
	auto_free pid_t *kids = NULL, *tids = NULL;
	auto_fd int dir = proc_open(proc, pid);
	struct proc_status st;
	size_t n = 0;
	char who[64];

	if (depth > 100 || dir < 0 || proc_status_read(dir, &st, NULL) < 0)
		return;
	snprintf(who, sizeof(who), "process %d", (int)st.ns_pid);
	if (st.state == 'Z') {
		buf_addf(b, "%s is a zombie, group %d session %d\n", who, (int)st.ns_pgid, (int)st.ns_sid);
	} else {
		add_status(b, dir, who);
		add_file_lines(b, dir, "limits", who);
		add_file_lines(b, dir, "cmdline", who);
		add_file_lines(b, dir, "oom_score_adj", who);
		add_maps(b, dir, who);
		add_fds(b, dir, who);
		add_links(b, dir, who);
	}
	if (proc_threads(dir, pid, &tids, &n, NULL) >= 0)
		for (size_t i = 0; i < n; i++) {
			auto_fd int td = proc_open_thread(dir, tids[i]);
			struct proc_status ts;

			if (tids[i] == pid || td < 0 || proc_status_read(td, &ts, NULL) < 0)
				continue;
			snprintf(who, sizeof(who), "process %d thread %d", (int)st.ns_pid, (int)ts.ns_pid);
			add_status(b, td, who);
		}
	if (proc_children(dir, pid, &kids, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		auto_fd int kd = proc_open(proc, kids[i]);
		struct proc_status ks;

		if (kd >= 0 && proc_status_read(kd, &ks, NULL) >= 0)
			buf_addf(b, "process %d parent %d\n", (int)ks.ns_pid, (int)st.ns_pid);
		add_process(b, proc, kids[i], depth + 1);
	}
}

int snapshot_take(pid_t init, struct buf *ret)
{
	auto_fd int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (proc < 0)
		return -errno;
	add_process(ret, proc, init, 0);
	return ret->len ? 0 : -ESRCH;
}

/* ---- comparing: both as sorted lines ---- */

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **lines_of(char *text, size_t *ret_n)
{
	char **list = NULL, *save = NULL;
	size_t n = 0, cap = 0;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (array_grow(list, n, cap) < 0)
			abort();
		list[n++] = l;
	}
	if (n)
		qsort(list, n, sizeof(*list), line_cmp);
	*ret_n = n;
	return list;
}

int snapshot_compare(const char *before, const char *after)
{
	auto_free char *a = strdup(before), *b = strdup(after);
	size_t na, nb, i = 0, k = 0;
	auto_free char **la = lines_of(a, &na), **lb = lines_of(b, &nb);
	int differences = 0;

	while (i < na || k < nb) {
		int c = i == na ? 1 : k == nb ? -1 : strcmp(la[i], lb[k]);

		if (c == 0) {
			i++;
			k++;
			continue;
		}
		printf("# difference: %s %s\n", c < 0 ? "before:" : "after: ", c < 0 ? la[i++] : lb[k++]);
		differences++;
	}
	return differences;
}

#include "runtime/runpid.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"

int runpid_of(pid_t pid, struct runpid *ret)
{
	auto_free char *text = NULL;
	const char *p;
	char path[48];
	uint64_t v = 0;
	int r;

	if (pid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, 8192, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	/* The name in parentheses may itself hold blanks and parentheses: what counts is the last one. */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	if (!p || parse_u64_at(&p, 10, &v) < 0)
		return -EINVAL;
	*ret = (struct runpid){ .pid = pid, .start = v };
	return 0;
}

int runpid_write(const char *dir, const char *file, const struct runpid *p)
{
	auto_free char *path = NULL;
	char text[64];
	int n;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return -ENOMEM;
	n = snprintf(text, sizeof(text), "%d %llu\n", (int)p->pid, (unsigned long long)p->start);
	return fd_replace_file_at(AT_FDCWD, path, text, (size_t)n, 0644);
}

int runpid_read(const char *dir, const char *file, struct runpid *ret)
{
	auto_free char *path = NULL, *text = NULL;
	uint64_t pid, start;
	const char *p;
	int r;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return -ENOMEM;
	r = fd_read_file_at(AT_FDCWD, path, 256, &text, NULL);
	if (r < 0)
		return r;
	p = text;
	if (parse_u64_at(&p, 10, &pid) < 0 || *p++ != ' ' || parse_u64_at(&p, 10, &start) < 0)
		return -EINVAL;
	if (*p == '\n')
		p++;
	if (*p || pid == 0 || pid > INT32_MAX)
		return -EINVAL;
	*ret = (struct runpid){ .pid = (pid_t)pid, .start = start };
	return 0;
}

int runpid_open(const struct runpid *p)
{
	auto_fd int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	struct runpid now;

	if (fd < 0)
		return -errno;
	/* Read after the pidfd is there: if the start time agrees now, the pidfd is of this process. */
	if (runpid_of(p->pid, &now) < 0 || now.start != p->start)
		return -ESRCH;
	return fd_take(&fd);
}

int runpid_open_file(const char *dir, const char *file, pid_t *ret_pid)
{
	struct runpid p;
	int r, fd;

	r = runpid_read(dir, file, &p);
	if (r < 0)
		return r;
	fd = runpid_open(&p);
	if (fd >= 0 && ret_pid)
		*ret_pid = p.pid;
	return fd;
}

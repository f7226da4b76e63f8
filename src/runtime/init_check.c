/* init_check - whether a root file system has what a container is started with. */
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "runtime/internal.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#endif

static int lacks(const char *program, const char *what, const char *needs, struct err *e)
{
	return err_set(e, -ENOEXEC, "its first process %s cannot be executed: %s%s%s. The image is incomplete, or not "
		       "for this host; put a right one there", program, what, needs ? " " : "", needs ? needs : "");
}

static bool in_root(int root, const char *path)
{
	auto_fd int fd = fd_open_in_root(root, path, O_PATH, 0);

	return fd >= 0;
}

/* "#!/bin/sh -e" */
static int check_script(int root, const char *program, char *head, struct err *e)
{
	char *word = head + 2 + strspn(head + 2, " \t");

	word[strcspn(word, " \t\r\n")] = '\0';
	return in_root(root, word) ? 0 : lacks(program, "it is a script for", word, e);
}

static int check_elf(int root, int fd, const char *program, const Elf64_Ehdr *h, struct err *e)
{
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != MACHINE)
		return lacks(program, "it is made for another architecture", NULL, e);
	for (unsigned i = 0; i < h->e_phnum && i < 64; i++) {
		char loader[PATH_MAX];
		Elf64_Phdr p;
		ssize_t n;

		if (pread(fd, &p, sizeof(p), (off_t)(h->e_phoff + i * sizeof(p))) != sizeof(p))
			return lacks(program, "it is a broken file", NULL, e);
		if (p.p_type != PT_INTERP)
			continue;
		n = pread(fd, loader, sizeof(loader) - 1, (off_t)p.p_offset);
		if (n <= 0)
			return lacks(program, "it is a broken file", NULL, e);
		loader[n] = '\0';
		if (!in_root(root, loader))
			return lacks(program, "it needs the loader", loader, e);
	}
	return 0;
}

static int check_head(int root, int fd, const char *program, struct err *e)
{
	union {
		Elf64_Ehdr elf;
		char text[256];
	} head = { 0 };
	ssize_t n = pread(fd, &head, sizeof(head) - 1, 0);

	if (n > 2 && memcmp(head.text, "#!", 2) == 0)
		return check_script(root, program, head.text, e);
	if (n >= (ssize_t)sizeof(head.elf) && memcmp(head.text, ELFMAG, SELFMAG) == 0)
		return check_elf(root, fd, program, &head.elf, e);
	return lacks(program, "it is neither a program nor a script", NULL, e);
}

int init_check(const char *rootfs, const char *program, struct err *e)
{
	auto_fd int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	struct stat st;

	if (root < 0)
		return err_sys(e, -errno, "the root file system %s", rootfs);
	fd = fd_open_in_root(root, program, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return err_set(e, -ENOEXEC, "it has no %s, which is to be its first process. Put an init there (an image with "
			       "busybox, sysvinit or systemd has one), or name another program: godwit config set NAME "
			       "raw.lxc=\"lxc.init.cmd = /path\"", program);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, fd < 0 ? fd : -errno, "its first process %s cannot be read", program);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return lacks(program, S_ISREG(st.st_mode) ? "its mode does not allow it" : "it is not a file", NULL, e);
	return check_head(root, fd, program, e);
}

/* The value of a line "lxc.init.cmd = VALUE". */
static const char *init_line(const char *line, size_t len, size_t *ret_len)
{
	static const char key[] = "lxc.init.cmd";
	const char *end = line + len;

	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	if ((size_t)(end - line) < sizeof(key) - 1 || memcmp(line, key, sizeof(key) - 1) != 0)
		return NULL;
	line += sizeof(key) - 1;
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	if (line == end || *line++ != '=')
		return NULL;
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	*ret_len = (size_t)(end - line);
	return line;
}

int init_command(const char *raw, struct buf *ret_command, struct buf *ret_rest)
{
	const char *said = NULL;
	size_t said_len = 0;
	int r = 0;

	for (const char *p = raw ? raw : ""; *p && r == 0;) {
		size_t len = strcspn(p, "\n"), n;
		const char *v = init_line(p, len, &n);

		if (v) {
			said = v;
			said_len = n;
		} else {
			r = buf_add(ret_rest, p, len);
			if (r == 0)
				r = buf_add(ret_rest, "\n", 1);
		}
		p += len + (p[len] == '\n');
	}
	if (r < 0)
		return r;
	return said_len ? buf_add(ret_command, said, said_len) : buf_adds(ret_command, "/sbin/init");
}

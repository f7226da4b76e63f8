/* Files, mounts and namespaces. */
#include "engine/probe.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

/* Whether the text of a file of /proc has the word in it. */
static int text_has(const char *path, const char *word, struct err *e)
{
	auto_free char *text = NULL;
	int r = fd_read_file_at(AT_FDCWD, path, 1u << 20, &text, NULL);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_sys(e, r, "reading %s", path) : strstr(text, word) != NULL;
}

static int exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static int fdinfo_has(int fd, const char *word, struct err *e)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return text_has(path, word, e);
}

int probe_mnt_id(struct err *e)
{
	auto_fd int fd = open("/", O_PATH | O_CLOEXEC);

	return fdinfo_has(fd, "mnt_id:", e);
}

int probe_fdinfo_lock(struct err *e)
{
	auto_fd int fd = memfd_create("lock", MFD_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_sys(e, -errno, "locking a file");
	return fdinfo_has(fd, "lock:", e);
}

int probe_timerfd(struct err *e)
{
	auto_fd int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t ticks = 1;

	if (fd < 0)
		return 0;
	return ioctl(fd, _IOW('T', 0, uint64_t), &ticks) >= 0; /* TFD_IOC_SET_TICKS */
}

int probe_tun(struct err *e)
{
	auto_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	unsigned flags;

	if (fd < 0)
		return errno == EACCES || errno == EPERM ? err_sys(e, -errno, "/dev/net/tun") : 0;
	return ioctl(fd, _IOR('T', 207, unsigned), &flags) >= 0; /* TUNGETFEATURES */
}

/* In mounts of our own, over a folder that every system has and that we need no more. */
static int autofs_ask(void *arg)
{
	auto_fd int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *text = NULL;
	char options[96];
	int ends[2], r;

	if (self < 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    pipe(ends) < 0)
		return -errno;
	snprintf(options, sizeof(options), "fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", ends[1], (int)getpgrp());
	if (mount("godwit-probe", "/proc", "autofs", 0, options) < 0)
		return errno == ENODEV ? 0 : -errno;
	r = fd_read_file_at(self, "mountinfo", 1u << 20, &text, NULL);
	return r < 0 ? r : strstr(text, "pipe_ino=") != NULL;
}

int probe_autofs(struct err *e)
{
	int r = text_has("/proc/filesystems", "\tautofs\n", e);

	return r <= 0 ? r : probe_in_child(autofs_ask, NULL, e);
}

int probe_kcmp_epoll(struct err *e)
{
	auto_fd int ep = epoll_create1(EPOLL_CLOEXEC), fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	struct {
		uint32_t efd, tfd, toff;
	} slot = { (uint32_t)ep, (uint32_t)fd, 0 };

	if (ep < 0 || fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_sys(e, -errno, "an epoll");
	if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_EPOLL_TFD, fd, &slot) < 0)
		return errno == EPERM ? err_sys(e, -errno, "kcmp") : 0;
	return 1;
}

int probe_openat2(struct err *e)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH };
	auto_fd int fd = (int)syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how));

	return fd >= 0;
}

/* A flag that is not known is EINVAL before descriptors are looked at. */
int probe_move_mount_set_group(struct err *e)
{
	enum { SET_GROUP = 0x100 };

	if (syscall(SYS_move_mount, -1, "", -1, "", SET_GROUP) < 0 && errno == EPERM)
		return err_sys(e, -EPERM, "move_mount");
	return errno != EINVAL && errno != ENOSYS;
}

int probe_apparmor_stacking(struct err *e)
{
	return text_has("/sys/kernel/security/apparmor/features/domain/stack", "yes", e);
}

int probe_ns_pid(struct err *e)
{
	return text_has("/proc/self/status", "\nNSpid:", e);
}

int probe_userns(struct err *e)
{
	return exists("/proc/self/ns/user");
}

int probe_cgroupns(struct err *e)
{
	return exists("/proc/self/ns/cgroup");
}

int probe_timens(struct err *e)
{
	return exists("/proc/self/ns/time") && exists("/proc/self/timens_offsets");
}

int probe_cgroup2(struct err *e)
{
	return text_has("/proc/self/mountinfo", " - cgroup2 ", e);
}

/* What inotify's watches are found again by. */
int probe_file_handles(struct err *e)
{
	struct {
		struct file_handle h;
		char room[MAX_HANDLE_SZ];
	} a = { .h = { .handle_bytes = MAX_HANDLE_SZ } };
	auto_fd int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	int id;

	if (root < 0 || name_to_handle_at(AT_FDCWD, "/", &a.h, &id, 0) < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : err_sys(e, -errno, "name_to_handle_at");
	fd = open_by_handle_at(root, &a.h, O_PATH | O_CLOEXEC);
	return fd >= 0 ? 1 : err_sys(e, -errno, "open_by_handle_at");
}

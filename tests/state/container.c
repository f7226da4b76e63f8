#include "container.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

/* ---- the root folder ---- */

static const char *const folders[] = { "usr", "etc", "dev", "proc", "sys", "tmp", "run", "root", "test", "work",
				       "mnt", "var", "var/tmp", NULL };
static const char *const links[][2] = { { "usr/bin", "bin" }, { "usr/sbin", "sbin" }, { "usr/lib", "lib" },
					{ "usr/lib64", "lib64" } };

static int copy_file(const char *from, const char *to)
{
	auto_free char *data = NULL;
	size_t len;
	auto_fd int fd = -1;
	int r = fd_read_file_at(AT_FDCWD, from, 256u << 20, &data, &len);

	if (r < 0)
		return r;
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	return fd < 0 ? -errno : fd_write_full(fd, data, len);
}

static int cgroup_top(char *ret, size_t size)
{
	char line[4096], point[256];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	int r = -ENOENT;

	while (f && r < 0 && fgets(line, sizeof(line), f))
		if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s %*s %255s", point) == 1)
			r = snprintf(ret, size, "%s", point) < (int)size ? 0 : -ENAMETOOLONG;
	if (f)
		fclose(f);
	return r;
}

int place_make(struct place *p, const char *program, struct err *e)
{
	char path[512];
	uid_t owner = p->userns ? MAP_FIRST : 0;

	snprintf(p->dir, sizeof(p->dir), "/tmp/gw-state-XXXXXX");
	if (!mkdtemp(p->dir) || chmod(p->dir, 0755) < 0)
		return err_sys(e, -errno, "making a folder");
	if (cgroup_top(p->cgroup_top, sizeof(p->cgroup_top)) < 0)
		return err_set(e, -ENOENT, "no cgroup v2 hierarchy is mounted");
	snprintf(p->root, sizeof(p->root), "%s/root", p->dir);
	mkdir(p->root, 0755);
	if (chown(p->root, owner, owner) < 0)
		return err_sys(e, -errno, "%s", p->root);
	for (size_t i = 0; folders[i]; i++) {
		snprintf(path, sizeof(path), "%s/%s", p->root, folders[i]);
		if (mkdir(path, 0755) < 0 || chown(path, owner, owner) < 0)
			return err_sys(e, -errno, "%s", path);
		if (strstr(folders[i], "tmp") || strcmp(folders[i], "work") == 0)
			chmod(path, 01777);
	}
	for (size_t i = 0; i < array_len(links); i++) {
		snprintf(path, sizeof(path), "%s/%s", p->root, links[i][1]);
		if (symlink(links[i][0], path) < 0)
			return err_sys(e, -errno, "%s", path);
	}
	snprintf(path, sizeof(path), "%s/test/init", p->root);
	if (copy_file(p->init, path) < 0)
		return err_set(e, -ENOENT, "copying %s", p->init);
	snprintf(path, sizeof(path), "%s/test/program", p->root);
	if (copy_file(program, path) < 0)
		return err_set(e, -ENOENT, "copying %s", program);
	snprintf(path, sizeof(path), "%s/test/engine", p->root);
	if (p->engine && copy_file(p->engine, path) < 0)
		return err_set(e, -ENOENT, "copying %s", p->engine);
	snprintf(path, sizeof(path), "%s/job", p->dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/job/gw-init", p->dir);
	if (copy_file(p->guest, path) < 0)
		return err_set(e, -ENOENT, "copying %s", p->guest);
	snprintf(path, sizeof(path), "%s/job/wait", p->dir);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	return 0;
}

int place_sync(const struct place *p)
{
	char from[320], to[320];
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		snprintf(from, sizeof(from), "%s/", p->root);
		snprintf(to, sizeof(to), "%s/", p->next);
		execlp("rsync", "rsync", "-aHAXSxc", "--delete", "--exclude=/.godwit", from, to, NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

int place_next(struct place *p, struct err *e)
{
	snprintf(p->next, sizeof(p->next), "%s/root%u", p->dir, ++p->n_roots);
	if (mkdir(p->next, 0755) < 0)
		return err_sys(e, -errno, "%s", p->next);
	return place_sync(p) < 0 ? err_set(e, -EIO, "rsync of the root folder failed") : 0;
}

void place_moved(struct place *p)
{
	memcpy(p->root, p->next, sizeof(p->root));
	p->next[0] = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	remove(path);
	return 0;
}

void place_remove(struct place *p)
{
	if (p->dir[0])
		nftw(p->dir, remove_one, 20, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- inside ---- */

static _Noreturn void die(const char *what)
{
	dprintf(2, "container: %s: %m\n", what);
	_exit(1);
}

static void must_mount(const char *src, const char *dst, const char *type, unsigned long flags, const char *data)
{
	if (mount(src, dst, type, flags, data) < 0)
		die(dst);
}

static void dev_make(const struct place *p)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 },    { "full", 1, 7 },
		      { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
	char path[64], from[64];

	must_mount("none", "dev", "tmpfs", MS_NOSUID, "mode=0755,size=1m");
	for (size_t i = 0; i < array_len(nodes); i++) {
		snprintf(path, sizeof(path), "dev/%s", nodes[i].name);
		snprintf(from, sizeof(from), "/dev/%s", nodes[i].name);
		if (!p->userns) {
			if (mknod(path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
				die(path);
			chmod(path, 0666);
			continue;
		}
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
		must_mount(from, path, NULL, MS_BIND, NULL);
	}
	mkdir("dev/pts", 0755);
	mkdir("dev/shm", 01777);
	chmod("dev/shm", 01777);
	must_mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	if (symlink("pts/ptmx", "dev/ptmx") < 0 || symlink("/proc/self/fd", "dev/fd") < 0)
		die("links in /dev");
}

static void mounts_make(const struct place *p, bool target)
{
	const char *root = target ? p->next : p->root;
	char job[300];

	snprintf(job, sizeof(job), "%s/job", p->dir);
	must_mount("", "/", NULL, MS_REC | MS_SLAVE, NULL);
	must_mount(root, root, NULL, MS_BIND, NULL);
	if (chdir(root) < 0)
		die(root);
	must_mount("/usr", "usr", NULL, MS_BIND, NULL);
	must_mount("/etc", "etc", NULL, MS_BIND, NULL);
	must_mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	must_mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
	dev_make(p);
	if (target)
		must_mount(job, ".godwit", NULL, MS_BIND, NULL);
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die("pivot_root");
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		die("lo");
	close(s);
}

/* Forbids what nobody here calls, as a library would compile it, or another one. */
static void policy_install(bool other)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kexec_load, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { (unsigned short)(other ? 5 : 4), f };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		die("seccomp");
}

static _Noreturn void inside(const struct place *p, char *const argv[], int go)
{
	static char *waiting[] = { "/.godwit/gw-init", NULL };
	char *list[64] = { "/test/init", "/test/program" };
	char byte;

	if (read(go, &byte, 1) != 1)
		_exit(1);
	if (p->userns && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		die("ids");
	if (unshare(CLONE_NEWCGROUP) < 0)
		die("cgroup namespace");
	umask(022);
	mounts_make(p, !argv);
	sethostname("state", 5);
	loopback_up();
	setsid();
	for (int fd = 0; fd < 2; fd++)
		close(fd);
	if (syscall(SYS_close_range, 3, ~0u, 0) < 0)
		_exit(1);
	for (int s = 1; s < 65; s++)
		signal(s, SIG_DFL);
	if (p->policy)
		policy_install(p->policy == 2 && !argv);
	close(2);
	for (size_t i = 0; argv && argv[i] && i + 3 < array_len(list); i++)
		list[i + 2] = argv[i];
	execve(argv ? list[0] : waiting[0], argv ? list : waiting, (char *[]){ "PATH=/bin:/sbin", NULL });
	_exit(127);
}

/* ---- outside ---- */

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fd_write_file_at(AT_FDCWD, path, text);
}

/* A time namespace holds for children only; so a process between makes the init, as our child. */
static _Noreturn void between(const struct place *p, struct ct *c, char *const argv[], int go, int tell)
{
	struct clone_args ca = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC |
			 CLONE_PARENT | CLONE_INTO_CGROUP | (p->userns ? CLONE_NEWUSER : 0),
		.cgroup = (uint64_t)c->cgroup_fd,
	};
	char text[128];
	long pid;

	if (unshare(CLONE_NEWTIME) < 0)
		die("time namespace");
	snprintf(text, sizeof(text), "monotonic %d 0\nboottime %d 0\n", CLOCK_AHEAD_S, CLOCK_AHEAD_S);
	if (fd_write_file_at(AT_FDCWD, "/proc/self/timens_offsets", text) < 0)
		die("time offsets");
	pid = syscall(SYS_clone3, &ca, sizeof(ca));
	if (pid < 0)
		die("clone3");
	if (pid == 0)
		inside(p, argv, go);
	if (write(tell, &pid, sizeof(pid)) < 0)
		_exit(1);
	_exit(0);
}

static int cgroup_make(struct place *p, struct ct *c, struct err *e)
{
	/* Unique like the folder: a runner may be the first process of a PID namespace. */
	snprintf(c->cgroup, sizeof(c->cgroup), "%s/%s-%u", p->cgroup_top, strrchr(p->dir, '/') + 1, p->n_made++);
	if (mkdir(c->cgroup, 0755) < 0)
		return err_sys(e, -errno, "%s", c->cgroup);
	c->cgroup_fd = open(c->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->cgroup_fd < 0)
		return err_sys(e, -errno, "%s", c->cgroup);
	/* It is the container's to divide, as with liblxc. */
	if (p->userns && (fchown(c->cgroup_fd, MAP_FIRST, MAP_FIRST) < 0 ||
			  fchownat(c->cgroup_fd, "cgroup.procs", MAP_FIRST, MAP_FIRST, 0) < 0))
		return err_sys(e, -errno, "%s", c->cgroup);
	return 0;
}

int ct_start(struct place *p, char *const argv[], struct ct *ret, struct err *e)
{
	struct ct c = { .cgroup_fd = -1 };
	int go[2], tell[2], status, r;
	char text[64], path[400];
	long pid = 0;
	pid_t mid;

	r = cgroup_make(p, &c, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/.godwit", p->next);
	if (!argv && mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "%s", path);
	if (!argv && p->userns && chown(path, MAP_FIRST, MAP_FIRST) < 0)
		return err_sys(e, -errno, "%s", path);
	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(tell, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "a pipe");
	mid = fork();
	if (mid == 0)
		between(p, &c, argv, go[0], tell[1]);
	close(go[0]);
	close(tell[1]);
	r = fd_read_full(tell[0], &pid, sizeof(pid));
	close(tell[0]);
	waitpid(mid, &status, 0);
	c.init = (pid_t)pid;
	if (r >= 0 && p->userns) {
		snprintf(text, sizeof(text), "0 %d %d\n", MAP_FIRST, MAP_COUNT);
		r = write_proc(c.init, "uid_map", text);
		if (r >= 0)
			r = write_proc(c.init, "gid_map", text);
	}
	if (r >= 0 && p->net.on && net_link(&p->net, c.init, argv != NULL, &c.link) < 0)
		r = -EIO;
	if (r >= 0)
		r = fd_write_full(go[1], "g", 1);
	close(go[1]);
	*ret = c;
	return r < 0 ? err_sys(e, r, "starting a container") : 0;
}

void ct_kill(struct ct *c)
{
	if (c->cgroup_fd >= 0) {
		fd_write_file_at(c->cgroup_fd, "cgroup.kill", "1");
		fd_write_file_at(c->cgroup_fd, "cgroup.freeze", "0");
	}
	if (c->init > 0)
		waitpid(c->init, NULL, 0);
	for (int i = 0; c->cgroup_fd >= 0 && i < 200; i++) {
		/* Sub-cgroups of programs that made some. */
		nftw(c->cgroup, remove_one, 20, FTW_DEPTH | FTW_PHYS);
		if (rmdir(c->cgroup) == 0 || errno == ENOENT)
			break;
		usleep(10000);
	}
	fd_close(&c->cgroup_fd);
	c->init = 0;
}

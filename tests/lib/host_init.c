/* host_init - a test host on this machine: namespaces, cgroups and a small init.
 *
 *   host-init boot  --dir DIR --name NAME --id ID [--ahead SECONDS] [--keep PATH]...
 *   host-init enter --dir DIR -- CMD...      runs a command in the host; its exit status is ours
 *   host-init halt  --dir DIR                power failure: everything in it is killed at once
 *
 * A host has PID, mount, network, UTS, IPC, cgroup and time namespaces of its own; the machine's file
 * systems with a private /tmp (DIR/tmp), /run, /dev, /proc and /sys; and one cgroup in each hierarchy of
 * the machine (called ID-NAME), which is the root of its cgroup namespace.  DIR/pid holds "PID STARTTIME"
 * of the host's first process, DIR/cgroups the folders of its cgroups.  Halting leaves DIR alone.
 *
 * --ahead: the host's monotonic and boot clocks run this much ahead of the machine's.  Two hosts of one
 * machine otherwise share the clocks, and every mistake with them stays hidden.
 * --keep: a folder that has to be seen in the host although it lies below /tmp. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP_MAX 8
#define HIERARCHIES_MAX 24
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define HOST_NAMESPACES                                                                            \
	(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWTIME | \
	 CLONE_NEWPID)

struct hierarchy {
	bool v2;
	char at[256];      /* where the machine has it mounted */
	char options[128]; /* of a v1 mount: the controllers or name= */
	char own[PATH_MAX]; /* the host's own cgroup in it, absolute */
};

struct host {
	const char *dir, *name, *id;
	long long ahead;
	const char *keep[KEEP_MAX];
	size_t n_keep;
	struct hierarchy h[HIERARCHIES_MAX];
	size_t n_h;
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fputs("host-init: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(125);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("cannot write %s", path);
	close(fd);
}

static bool write_existing(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void make_dirs(const char *path)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(part, 0755);
		*p = '/';
	}
	if (mkdir(part, 0755) < 0 && errno != EEXIST)
		die("cannot make the folder %s", part);
}

/* ------------------------------------------ cgroups ------------------------------------------- */

/* Our own path in a v1 hierarchy, so that limits somebody set on us hold for the hosts too. */
static void cgroup_own_path(const char *options, char *ret, size_t size)
{
	char line[PATH_MAX];
	FILE *f = fopen("/proc/self/cgroup", "re");

	snprintf(ret, size, "/");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		char *names = strchr(line, ':'), *path;

		line[strcspn(line, "\n")] = 0;
		if (!names || !(path = strchr(++names, ':')))
			continue;
		*path++ = 0;
		if (strcmp(names, options) == 0)
			snprintf(ret, size, "%s", path);
	}
	fclose(f);
}

/* The controllers among the super block's options ("rw,cpu,cpuacct", "rw,xattr,name=systemd"). */
static void cgroup_controllers(const char *super, char *ret, size_t size)
{
	static const char *const others[] = { "rw", "ro", "xattr", "clone_children", "noprefix" };
	char copy[256], *save = NULL;

	ret[0] = 0;
	snprintf(copy, sizeof(copy), "%s", super);
	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		bool skip = strncmp(w, "release_agent=", 14) == 0;

		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			skip |= strcmp(w, others[i]) == 0;
		if (skip)
			continue;
		snprintf(ret + strlen(ret), size - strlen(ret), "%s%s", ret[0] ? "," : "", w);
	}
}

static void hierarchies_find(struct host *o)
{
	char line[4096], at[256], type[32], super[256], own[PATH_MAX / 2];
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (!f)
		die("cannot read mountinfo");
	while (fgets(line, sizeof(line), f) && o->n_h < HIERARCHIES_MAX) {
		struct hierarchy *h = &o->h[o->n_h];
		char *dash = strstr(line, " - ");

		if (!dash || sscanf(line, "%*s %*s %*s %*s %255s", at) != 1 ||
		    sscanf(dash, " - %31s %*s %255s", type, super) != 2 ||
		    strncmp(type, "cgroup", 6) != 0)
			continue;
		h->v2 = strcmp(type, "cgroup2") == 0;
		snprintf(h->at, sizeof(h->at), "%s", at);
		if (h->v2) {
			snprintf(own, sizeof(own), "/");
		} else {
			cgroup_controllers(super, h->options, sizeof(h->options));
			cgroup_own_path(h->options, own, sizeof(own));
		}
		snprintf(h->own, sizeof(h->own), "%s%s/%s-%s", at, strcmp(own, "/") ? own : "", o->id,
			 o->name);
		o->n_h++;
	}
	fclose(f);
	if (o->n_h == 0) {
		errno = ENOENT;
		die("no cgroup hierarchy is mounted");
	}
}

/* A new cpuset is empty and takes no process: it gets what its parent has. */
static void cpuset_inherit(const char *own, const char *file)
{
	char path[PATH_MAX + 64], text[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/../%s", own, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	snprintf(path, sizeof(path), "%s/%s", own, file);
	if (!write_existing(path, text))
		die("cannot fill %s", path);
}

static void cgroups_make(struct host *o)
{
	char path[PATH_MAX];
	FILE *list;

	snprintf(path, sizeof(path), "%s/cgroups", o->dir);
	list = fopen(path, "we");
	if (!list)
		die("cannot write %s", path);
	for (size_t i = 0; i < o->n_h; i++) {
		struct hierarchy *h = &o->h[i];

		fprintf(list, "%s\n", h->own);
		if (mkdir(h->own, 0755) < 0)
			die("cannot make the cgroup %s", h->own);
		if (strstr(h->options, "cpuset")) {
			cpuset_inherit(h->own, "cpuset.cpus");
			cpuset_inherit(h->own, "cpuset.mems");
		}
	}
	if (fclose(list) != 0)
		die("cannot write %s", path);
}

static void cgroups_join(const char *dir)
{
	char path[PATH_MAX], line[PATH_MAX], procs[PATH_MAX + 64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroups", dir);
	f = fopen(path, "re");
	if (!f)
		die("cannot read %s", path);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		/* On a machine with cgroup2 alone the host's processes live in a leaf, since a cgroup
		 * with processes of its own cannot give controllers to its children. */
		snprintf(procs, sizeof(procs), "%s/init.scope/cgroup.procs", line);
		if (access(procs, F_OK) < 0)
			snprintf(procs, sizeof(procs), "%s/cgroup.procs", line);
		if (!write_existing(procs, "0"))
			die("cannot enter the cgroup %s", procs);
	}
	fclose(f);
}

/* Removes a cgroup with all below it; a child goes before its parent. */
static void cgroup_remove(const char *path)
{
	char sub[PATH_MAX];
	DIR *d = opendir(path);
	struct dirent *de;

	if (!d)
		return;
	while ((de = readdir(d))) {
		if (de->d_type != DT_DIR || strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue; /* names with a dot in front are: liblxc makes `.lxc` */
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		cgroup_remove(sub);
	}
	closedir(d);
	rmdir(path);
}

/* ------------------------------------------- mounts ------------------------------------------- */

static void mount_or_die(const char *what, const char *at, const char *type, unsigned long flags,
			 const char *data)
{
	if (mount(what, at, type, flags, data) < 0)
		die("cannot mount %s on %s", what, at);
}

static void mount_dev(void)
{
	static const struct {
		const char *path;
		mode_t mode;
		unsigned major, minor;
	} nodes[] = {
		{ "/dev/null", 0666, 1, 3 },	{ "/dev/zero", 0666, 1, 5 },
		{ "/dev/full", 0666, 1, 7 },	{ "/dev/random", 0666, 1, 8 },
		{ "/dev/urandom", 0666, 1, 9 }, { "/dev/tty", 0666, 5, 0 },
		{ "/dev/fuse", 0666, 10, 229 }, { "/dev/net/tun", 0666, 10, 200 },
	};

	mount_or_die("dev", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=4m");
	make_dirs("/dev/pts");
	make_dirs("/dev/shm");
	make_dirs("/dev/mqueue");
	make_dirs("/dev/net");
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		if (mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(nodes[i].major, nodes[i].minor)) < 0 ||
		    chmod(nodes[i].path, nodes[i].mode) < 0)
			die("cannot make %s", nodes[i].path);
	}
	mount_or_die("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
	mount_or_die("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	if (symlink("pts/ptmx", "/dev/ptmx") < 0 || symlink("/proc/self/fd", "/dev/fd") < 0 ||
	    symlink("/proc/self/fd/0", "/dev/stdin") < 0 || symlink("/proc/self/fd/1", "/dev/stdout") < 0 ||
	    symlink("/proc/self/fd/2", "/dev/stderr") < 0)
		die("cannot make the links of /dev");
}

/* Mounted anew inside of the cgroup namespace, so that the host sees its own cgroup as the root. */
static void mount_cgroups(struct host *o)
{
	bool only_v2 = o->n_h == 1 && o->h[0].v2;

	if (!only_v2)
		mount_or_die("cgroup", "/sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m");
	for (size_t i = 0; i < o->n_h; i++) {
		struct hierarchy *h = &o->h[i];

		if (!only_v2)
			make_dirs(h->at);
		mount_or_die("cgroup", h->at, h->v2 ? "cgroup2" : "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			     h->v2 ? NULL : h->options);
	}
}

static void mount_tmp(struct host *o)
{
	int keep[KEEP_MAX];
	char path[PATH_MAX];

	for (size_t i = 0; i < o->n_keep; i++) {
		keep[i] = open(o->keep[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (keep[i] < 0)
			die("cannot open %s", o->keep[i]);
	}
	snprintf(path, sizeof(path), "%s/tmp", o->dir);
	make_dirs(path);
	if (chmod(path, 01777) < 0)
		die("cannot chmod %s", path);
	mount_or_die(path, "/tmp", NULL, MS_BIND, NULL);
	for (size_t i = 0; i < o->n_keep; i++) {
		if (strncmp(o->keep[i], "/tmp/", 5) == 0) {
			snprintf(path, sizeof(path), "/proc/self/fd/%d", keep[i]);
			make_dirs(o->keep[i]);
			mount_or_die(path, o->keep[i], NULL, MS_BIND | MS_REC, NULL);
		}
		close(keep[i]);
	}
}

/* With newuidmap installed liblxc maps only what these files give to root. */
static void mount_subids(struct host *o)
{
	static const char *const files[] = { "/etc/subuid", "/etc/subgid" };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/subids", o->dir);
	write_text(path, "root:1000000:1000000000\n");
	for (size_t i = 0; i < 2; i++) {
		if (access(files[i], F_OK) == 0)
			mount_or_die(path, files[i], NULL, MS_BIND, NULL);
	}
}

static void mounts_make(struct host *o)
{
	mount_or_die("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	mount_subids(o);
	mount_tmp(o);
	mount_or_die("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	make_dirs("/run/lock");
	mount_dev();
	mount_or_die("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_cgroups(o);
}

/* -------------------------------------------- boot -------------------------------------------- */

static uint64_t starttime_of(pid_t pid)
{
	char path[64], text[1024], *p;
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
				"%*d %llu", &start) != 1)
		return 0;
	return start;
}

/* The host's first process: reaps whatever is left to it, and nothing else.  Its death is the power
 * failure: the kernel kills the whole PID namespace. */
__attribute__((noreturn)) static void init_run(int ready)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	if (write(ready, "1", 1) != 1)
		die("the one who boots us is gone");
	close(ready);
	for (;;) {
		siginfo_t si;

		if (waitid(P_ALL, 0, &si, WEXITED) < 0)
			sigwaitinfo(&all, &si);
	}
}

static void init_stdio(const char *dir)
{
	char path[PATH_MAX];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), log;

	snprintf(path, sizeof(path), "%s/init.log", dir);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		die("cannot open %s", path);
}

static void clocks_set(long long ahead)
{
	char text[128];

	if (!ahead)
		return;
	snprintf(text, sizeof(text), "monotonic %lld 0\nboottime %lld 0\n", ahead, ahead);
	if (!write_existing("/proc/self/timens_offsets", text))
		die("cannot set the clocks");
}

/* In the process that becomes the parent of the host's init: it has to stay behind, since neither the
 * PID nor the time namespace holds for who unshared it. */
static pid_t host_fork(struct host *o, int ready)
{
	pid_t pid;

	cgroups_join(o->dir);
	if (unshare(CLONE_NEWCGROUP) < 0)
		die("cannot make a cgroup namespace");
	if (o->n_h == 1 && o->h[0].v2) {
		char leaf[PATH_MAX + 16];

		snprintf(leaf, sizeof(leaf), "%s/init.scope", o->h[0].own);
		make_dirs(leaf);
		cgroups_join(o->dir);
	}
	if (unshare(HOST_NAMESPACES & ~CLONE_NEWCGROUP) < 0)
		die("cannot make the namespaces");
	clocks_set(o->ahead);
	pid = fork();
	if (pid < 0)
		die("cannot fork");
	if (pid > 0)
		return pid;
	setsid();
	if (sethostname(o->name, strlen(o->name)) < 0)
		die("cannot set the host's name");
	mounts_make(o);
	init_stdio(o->dir);
	if (chdir("/") < 0)
		die("cannot go to /");
	prctl(PR_SET_NAME, "host-init");
	init_run(ready);
}

static int do_boot(struct host *o)
{
	int ready[2], status;
	char path[PATH_MAX], text[64], byte;
	pid_t middle;

	hierarchies_find(o);
	make_dirs(o->dir);
	cgroups_make(o);
	if (pipe2(ready, O_CLOEXEC) < 0)
		die("cannot make a pipe");
	middle = fork();
	if (middle < 0)
		die("cannot fork");
	if (middle == 0) {
		pid_t pid;

		close(ready[0]);
		pid = host_fork(o, ready[1]);
		snprintf(path, sizeof(path), "%s/pid", o->dir);
		snprintf(text, sizeof(text), "%d %llu\n", (int)pid, (unsigned long long)starttime_of(pid));
		write_text(path, text);
		_exit(0);
	}
	close(ready[1]);
	if (waitpid(middle, &status, 0) != middle || status != 0 || read(ready[0], &byte, 1) != 1) {
		fprintf(stderr, "host-init: %s did not come up; see %s/init.log\n", o->name, o->dir);
		return 125;
	}
	return 0;
}

/* ---------------------------------------- enter and halt -------------------------------------- */

/* A pidfd of the host's init, -1 when it is not up (or its number belongs to another by now). */
static int host_pidfd(const char *dir)
{
	char path[PATH_MAX];
	unsigned long long start;
	int pid, fd;
	FILE *f;

	snprintf(path, sizeof(path), "%s/pid", dir);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%d %llu", &pid, &start) != 2)
		pid = -1;
	fclose(f);
	if (pid <= 1)
		return -1;
	fd = syscall(SYS_pidfd_open, pid, 0);
	if (fd >= 0 && starttime_of(pid) != start) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static pid_t entered;

static void pass_on(int sig)
{
	if (entered > 0)
		kill(entered, sig);
}

static int do_enter(const char *dir, char **argv)
{
	char cwd[PATH_MAX];
	int pidfd = host_pidfd(dir), status;

	if (pidfd < 0) {
		fprintf(stderr, "host-init: the host of %s is not up\n", dir);
		return 125;
	}
	if (!getcwd(cwd, sizeof(cwd)))
		snprintf(cwd, sizeof(cwd), "/");
	cgroups_join(dir);
	if (setns(pidfd, HOST_NAMESPACES) < 0)
		die("cannot enter the host");
	if (chdir(cwd) < 0 && chdir("/") < 0)
		die("cannot go to /");
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	signal(SIGINT, SIG_IGN); /* the terminal sends it to the command as well */
	signal(SIGQUIT, SIG_IGN);
	entered = fork();
	if (entered < 0)
		die("cannot fork");
	if (entered == 0) {
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGQUIT, SIG_DFL);
		execvp(argv[0], argv);
		fprintf(stderr, "host-init: cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	while (waitpid(entered, &status, 0) < 0) {
		if (errno != EINTR)
			die("cannot wait");
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* cgroup.kill first: it takes those too that were entered but have not forked yet. */
static int do_halt(const char *dir)
{
	char path[PATH_MAX], line[PATH_MAX], kill_file[PATH_MAX + 64];
	int pidfd = host_pidfd(dir);
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroups", dir);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		snprintf(kill_file, sizeof(kill_file), "%s/cgroup.kill", line);
		write_existing(kill_file, "1");
	}
	if (pidfd >= 0) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };

		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		if (poll(&p, 1, 30000) != 1) {
			fprintf(stderr, "host-init: the host of %s does not die\n", dir);
			return 125;
		}
		close(pidfd);
	}
	for (int tries = 0; f && tries < 100; tries++) {
		bool left = false;

		rewind(f);
		while (fgets(line, sizeof(line), f)) {
			line[strcspn(line, "\n")] = 0;
			cgroup_remove(line);
			left |= access(line, F_OK) == 0;
		}
		if (!left)
			break;
		usleep(50000);
		if (tries == 99) {
			fprintf(stderr, "host-init: cgroups of %s are left\n", dir);
			return 125;
		}
	}
	if (f) {
		fclose(f);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/pid", dir);
	unlink(path);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },   { "name", required_argument, NULL, 'n' },
		{ "id", required_argument, NULL, 'i' },	   { "ahead", required_argument, NULL, 'a' },
		{ "keep", required_argument, NULL, 'k' },  { NULL, 0, NULL, 0 },
	};
	static struct host o;
	const char *verb = argc > 1 ? argv[1] : "";
	int c;

	optind = 2;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == 'd')
			o.dir = optarg;
		else if (c == 'n')
			o.name = optarg;
		else if (c == 'i')
			o.id = optarg;
		else if (c == 'a')
			o.ahead = atoll(optarg);
		else if (c == 'k' && o.n_keep < KEEP_MAX)
			o.keep[o.n_keep++] = optarg;
		else
			return 125;
	}
	if (o.dir && strcmp(verb, "boot") == 0 && o.name && o.id)
		return do_boot(&o);
	if (o.dir && strcmp(verb, "enter") == 0 && optind < argc)
		return do_enter(o.dir, argv + optind);
	if (o.dir && strcmp(verb, "halt") == 0)
		return do_halt(o.dir);
	fprintf(stderr, "usage: host-init boot|enter|halt --dir DIR ...; see the head of host_init.c\n");
	return 125;
}

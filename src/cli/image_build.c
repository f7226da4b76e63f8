#include "cli/image_build.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/image_tar.h"
#include "cli/interrupt.h"
#include "cli/remote.h"

#define LAST_LINES 6

struct progress {
	image_build_progress fn;
	void *arg;
	char last[LAST_LINES][256]; /* of the program's stderr: the sentence when it fails */
	unsigned n;
};

static void say(struct progress *p, const char *text)
{
	if (p->fn)
		p->fn(text, p->arg);
}

static int put_metadata(struct image_tar *t, const char *description, const char *os, const char *release,
			const char *init, struct err *e)
{
	struct utsname u;
	char text[1024];

	uname(&u);
	snprintf(text, sizeof(text),
		 "architecture: %s\ncreation_date: %lld\nproperties:\n  architecture: %s\n  description: %s\n"
		 "  os: %s\n  release: %s\n  init: %s\n",
		 u.machine, (long long)time(NULL), u.machine, description, os, release, init);
	return image_tar_text(t, "metadata.yaml", 0644, text, e);
}

/* ------------------------------------------ busybox ------------------------------------------- */

static const char *const busybox_dirs[] = { "bin", "dev", "etc", "etc/init.d", "home", "mnt", "proc", "run", "sbin",
					    "sys", "usr", "usr/bin", "usr/sbin", "var", "var/log" };

static const struct {
	const char *path;
	mode_t mode;
	const char *text;
} busybox_files[] = {
	{ "etc/passwd", 0644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" },
	{ "etc/group", 0644, "root:x:0:\nnogroup:x:65534:\n" },
	{ "etc/hosts", 0644, "127.0.0.1 localhost\n::1 localhost\n" },
	{ "etc/hostname", 0644, "busybox\n" },
	{ "etc/profile", 0644, "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n" },
	/* No terminal is opened: there is none before somebody comes by exec. */
	{ "etc/inittab", 0644, "::sysinit:/etc/init.d/rcS\n::ctrlaltdel:/sbin/reboot\n::shutdown:/bin/true\n" },
	{ "etc/init.d/rcS", 0755, "#!/bin/sh\nexec </dev/null >/dev/null 2>&1\nhostname -F /etc/hostname\n"
				  "for f in /etc/init.d/S*; do\n\t[ -x \"$f\" ] && \"$f\" start\ndone\nexit 0\n" },
};

static char *busybox_find(void)
{
	static const char *const places[] = { "/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static" };

	for (size_t i = 0; i < array_len(places); i++) {
		if (access(places[i], X_OK) == 0)
			return strdup(places[i]);
	}
	return NULL;
}

/* An ELF file that asks for a loader is not static and would not run alone. */
static bool is_static(const char *data, size_t len)
{
	return len > 64 && memcmp(data, "\177ELF", 4) == 0 && !memmem(data, len < 8192 ? len : 8192, "/ld-", 4);
}

/* What `busybox --list-full` prints: "sbin/init", "usr/bin/env"… */
static int busybox_applets(const char *busybox, struct buf *ret, struct err *e)
{
	int out[2], status;
	char part[4096];
	ssize_t n;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot run %s", busybox);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		execl(busybox, "busybox", "--list-full", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while (pid > 0 && (n = read(out[0], part, sizeof(part))) > 0) {
		if (buf_add(ret, part, (size_t)n) < 0)
			break;
	}
	close(out[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 || ret->len == 0)
		return err_set(e, -EIO, "%s does not say what it can do", busybox);
	return 0;
}

static int busybox_links(struct image_tar *t, const char *busybox, struct err *e)
{
	auto_buf list = BUF_INIT;
	char *save = NULL;
	int r = busybox_applets(busybox, &list, e);

	for (char *w = r >= 0 ? strtok_r(list.data, "\n", &save) : NULL; w && r >= 0; w = strtok_r(NULL, "\n", &save)) {
		char path[256], to[64] = "";

		if (str_eq(w, "bin/busybox") || strlen(w) > 128 || strstr(w, "..") ||
		    !(str_starts(w, "bin/") || str_starts(w, "sbin/") || str_starts(w, "usr/bin/") ||
		      str_starts(w, "usr/sbin/")))
			continue;
		snprintf(path, sizeof(path), "rootfs/%s", w);
		for (const char *s = w; (s = strchr(s, '/')); s++)
			strcat(to, "../");
		strcat(to, "bin/busybox");
		r = image_tar_link(t, path, to, e);
	}
	return r;
}

static int busybox_fill(struct image_tar *t, const char *busybox, const char *data, size_t len, struct err *e)
{
	char path[128];
	int r = put_metadata(t, "busybox", "busybox", "static", "busybox", e);

	if (r >= 0)
		r = image_tar_dir(t, "rootfs", 0755, e);
	for (size_t i = 0; r >= 0 && i < array_len(busybox_dirs); i++) {
		snprintf(path, sizeof(path), "rootfs/%s", busybox_dirs[i]);
		r = image_tar_dir(t, path, 0755, e);
	}
	if (r >= 0)
		r = image_tar_dir(t, "rootfs/root", 0700, e);
	if (r >= 0)
		r = image_tar_dir(t, "rootfs/tmp", 01777, e);
	for (size_t i = 0; r >= 0 && i < array_len(busybox_files); i++) {
		snprintf(path, sizeof(path), "rootfs/%s", busybox_files[i].path);
		r = image_tar_text(t, path, busybox_files[i].mode, busybox_files[i].text, e);
	}
	if (r >= 0)
		r = image_tar_file(t, "rootfs/bin/busybox", 0755, data, len, e);
	return r < 0 ? r : busybox_links(t, busybox, e);
}

int image_build_busybox(const char *out_tar, image_build_progress progress, void *arg, struct err *e)
{
	struct progress p = { .fn = progress, .arg = arg };
	auto_free char *busybox = busybox_find(), *data = NULL;
	struct image_tar *t = NULL;
	size_t len;
	int r;

	if (!busybox)
		return err_set(e, -ENOENT, "this machine has no busybox: `apt install busybox-static`");
	r = fd_read_file_at(AT_FDCWD, busybox, 64 << 20, &data, &len);
	if (r < 0)
		return err_sys(e, r, "cannot read %s", busybox);
	if (!is_static(data, len))
		return err_set(e, -ENOEXEC, "%s needs libraries and would not run alone: `apt install busybox-static`",
			       busybox);
	say(&p, "writing the busybox image");
	r = image_tar_open(out_tar, &t, e);
	if (r < 0)
		return r;
	r = busybox_fill(t, busybox, data, len, e);
	if (r < 0) {
		image_tar_abort(t);
		return r;
	}
	return image_tar_finish(t, e);
}

/* ------------------------------------------- debian ------------------------------------------- */

/* Left out of every image: what is of this machine, or made anew below. */
static const char *const never[] = { "dev/*", "etc/hostname", "etc/hosts", "etc/inittab", "etc/resolv.conf",
				     "etc/machine-id", "var/lib/dbus/machine-id", "etc/fstab", "var/cache/apt/*.bin",
				     "var/lib/apt/lists/*_*" };
/* Boot scripts for hardware and for a root file system that is one's own: a container has neither. */
static const char *const no_scripts[] = { "etc/rc?.d/S??checkroot.sh", "etc/rc?.d/S??checkroot-bootclean.sh",
					  "etc/rc?.d/S??checkfs.sh", "etc/rc?.d/???hwclock.sh",
					  "etc/rc?.d/S??hwclockfirst.sh", "etc/rc?.d/???umountfs",
					  "etc/rc?.d/???umountroot", "etc/rc?.d/???umountnfs.sh", "etc/rc?.d/S??udev",
					  "etc/rc?.d/S??kmod", "etc/rc?.d/S??mount-configfs" };

static bool debian_wanted(const char *path)
{
	for (size_t i = 0; i < array_len(never); i++) {
		if (fnmatch(never[i], path, 0) == 0)
			return false;
	}
	for (size_t i = 0; i < array_len(no_scripts); i++) {
		if (fnmatch(no_scripts[i], path, FNM_PATHNAME) == 0)
			return false;
	}
	return true;
}

/* No gettys: the container has no terminals.  Power failure is how liblxc asks for a halt, ctrl-alt-del
 * how it asks for a reboot. */
static const char sysv_inittab[] =
	"id:2:initdefault:\n"
	"si::sysinit:/etc/init.d/rcS\n"
	"l0:0:wait:/etc/init.d/rc 0\n"
	"l1:1:wait:/etc/init.d/rc 1\n"
	"l2:2:wait:/etc/init.d/rc 2\n"
	"l3:3:wait:/etc/init.d/rc 3\n"
	"l4:4:wait:/etc/init.d/rc 4\n"
	"l5:5:wait:/etc/init.d/rc 5\n"
	"l6:6:wait:/etc/init.d/rc 6\n"
	"ca:12345:ctrlaltdel:/sbin/shutdown -t1 -r now\n"
	"pf::powerwait:/sbin/shutdown -t1 -h now\n"
	"p0::powerfail:/sbin/shutdown -t1 -h now\n";

static int debian_files(struct image_tar *t, const char *init, struct err *e)
{
	int r = image_tar_dir(t, "rootfs/dev", 0755, e);

	if (r >= 0)
		r = image_tar_text(t, "rootfs/etc/hostname", 0644, "debian\n", e);
	if (r >= 0)
		r = image_tar_text(t, "rootfs/etc/hosts", 0644, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n", e);
	if (r >= 0)
		r = image_tar_text(t, "rootfs/etc/fstab", 0644, "", e);
	if (r >= 0 && str_eq(init, "systemd")) /* systemd fills an empty one at the first boot */
		r = image_tar_text(t, "rootfs/etc/machine-id", 0444, "", e);
	if (r >= 0 && str_eq(init, "sysvinit"))
		r = image_tar_text(t, "rootfs/etc/inittab", 0644, sysv_inittab, e);
	return r;
}

static bool packages_valid(const char *list)
{
	return strspn(list, "abcdefghijklmnopqrstuvwxyz0123456789+-.,:") == strlen(list) && *list != '-';
}

static void keep_line(struct progress *p, char *line)
{
	/* "I: downloading packages with apt..." */
	if (str_starts(line, "I: ")) {
		char text[256];

		snprintf(text, sizeof(text), "building: %.200s", line + 3);
		say(p, text);
	}
	snprintf(p->last[p->n++ % LAST_LINES], sizeof(p->last[0]), "%s", line);
}

struct child {
	pid_t pid;
	int out, err;
};

static int debian_start(const char *suite, const char *packages, struct child *ret, struct err *e)
{
	char include[2048];
	int out[2], err[2];

	snprintf(include, sizeof(include), "--include=%s", packages);
	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot run mmdebstrap");
	if (pipe2(err, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return err_sys(e, -errno, "cannot run mmdebstrap");
	}
	ret->pid = fork();
	if (ret->pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		setpgid(0, 0); /* mmdebstrap ends by a signal to its whole group, which must not be ours */
		dup2(null, 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		setenv("LC_ALL", "C.UTF-8", 1);
		execlp("mmdebstrap", "mmdebstrap", "--variant=minbase", "--verbose", "--format=tar", include,
		       "--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\"",
		       "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		       "--dpkgopt=path-exclude=/usr/share/doc/*", suite, "-", (char *)NULL);
		dprintf(2, "E: mmdebstrap cannot be run (%s): apt install mmdebstrap\n", strerror(errno));
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	ret->out = out[0];
	ret->err = err[0];
	if (ret->pid > 0)
		return 0;
	close(out[0]);
	close(err[0]);
	return err_sys(e, -EAGAIN, "cannot run mmdebstrap");
}

/* Reads stderr until the tar begins to come, or ^C; mmdebstrap says next to nothing after that. */
static void debian_listen(struct child *c, struct progress *p)
{
	char line[256];
	size_t n = 0;

	for (;;) {
		struct pollfd f[2] = { { .fd = c->err, .events = POLLIN }, { .fd = c->out, .events = POLLIN } };
		char ch;

		if (interrupt_count())
			return;
		/* With an end: a ^C just before it would not be noticed. */
		if (poll(f, 2, 500) <= 0)
			continue;
		if (f[1].revents & POLLIN)
			return;
		if (read(c->err, &ch, 1) != 1)
			return;
		if (ch != '\n' && ch != '\r') {
			if (n < sizeof(line) - 1)
				line[n++] = ch;
			continue;
		}
		line[n] = 0;
		if (n)
			keep_line(p, line);
		n = 0;
	}
}

/* It takes what it has mounted and unpacked away; that may need some seconds. */
static int debian_interrupt(struct child *c, struct err *e)
{
	int status, asked = interrupt_count();
	char rest[4096];
	pid_t pid = 0;

	progress_clear();
	fprintf(stderr, "Ending mmdebstrap, which tidies up; ^C again leaves that to it.\n");
	kill(-c->pid, SIGTERM);
	close(c->out);
	fd_set_nonblock(c->err, 1);
	while (pid != c->pid && interrupt_count() == asked) {
		struct pollfd f = { .fd = c->err, .events = POLLIN };

		if (poll(&f, 1, 50) > 0 && read(c->err, rest, sizeof(rest)) <= 0)
			poll(NULL, 0, 50);
		pid = waitpid(c->pid, &status, WNOHANG);
	}
	close(c->err);
	return err_set(e, -ECANCELED, "interrupted: no image was built");
}

static int debian_end(struct child *c, struct progress *p, int r, struct err *e)
{
	auto_buf why = BUF_INIT;
	char line[256], rest[4096];
	bool cut_short;
	int status = -1;
	FILE *f;

	if (interrupt_count())
		return debian_interrupt(c, e);
	/* What ends too early is no tar, but that is not the reason. */
	cut_short = r < 0 && read(c->out, rest, sizeof(rest)) == 0;
	f = fdopen(c->err, "r");
	while (r >= 0 && read(c->out, rest, sizeof(rest)) > 0) /* the padding behind the tar's end */
		;
	close(c->out);
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = 0;
		keep_line(p, line);
	}
	if (f)
		fclose(f);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status == 0 || (r < 0 && !cut_short)) /* when we have stopped reading, its failure is only ours again */
		return r;
	for (unsigned i = p->n > LAST_LINES ? p->n - LAST_LINES : 0; i < p->n; i++)
		buf_addf(&why, "\n  %s", p->last[i % LAST_LINES]);
	return err_set(e, -EIO, "mmdebstrap failed:%s%s", why.data ? why.data : " it says nothing",
		       geteuid() == 0 ? "" : "\nWho is not root needs the package uidmap for it, and entries in /etc/subuid and "
					     "/etc/subgid");
}

int image_build_debian(const char *suite, const char *include, const char *init, const char *out_tar,
		       image_build_progress progress, void *arg, struct err *e)
{
	struct progress p = { .fn = progress, .arg = arg };
	struct image_tar *t = NULL;
	struct child c = { .pid = -1, .out = -1, .err = -1 };
	char packages[1536], description[256];
	int r;

	if (include && !packages_valid(include))
		return err_set(e, -EINVAL, "'%s' is no list of packages (PKG,PKG)", include);
	r = snprintf(packages, sizeof(packages), "%s,procps,iproute2,netbase%s%s",
		     str_eq(init, "systemd") ? "systemd-sysv,dbus" : "sysvinit-core,initscripts,orphan-sysvinit-scripts",
		     include ? "," : "", include ? include : "");
	if (r >= (int)sizeof(packages))
		return err_set(e, -E2BIG, "that are too many packages");
	say(&p, "building: starting mmdebstrap");
	r = image_tar_open(out_tar, &t, e);
	if (r >= 0) {
		snprintf(description, sizeof(description), "Debian %s (%s)", suite, init);
		r = put_metadata(t, description, "debian", suite, init, e);
	}
	if (r >= 0)
		r = debian_start(suite, packages, &c, e);
	if (r < 0) {
		image_tar_abort(t);
		return r;
	}
	debian_listen(&c, &p);
	r = interrupt_count() ? -ECANCELED : 0;
	if (r >= 0) {
		say(&p, "building: writing the image");
		r = image_tar_copy(t, c.out, debian_wanted, e);
	}
	if (r >= 0)
		r = debian_files(t, init, e);
	r = debian_end(&c, &p, r, e);
	if (r < 0) {
		image_tar_abort(t);
		return r;
	}
	return image_tar_finish(t, e);
}

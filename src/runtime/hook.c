/* gw-hook - what liblxc's monitor runs for us: `gw-hook RUNDIR OFFSET`, OFFSET being the host's own
 * of CLOCK_BOOTTIME in ns.
 *
 * start-host: the container stands, its init waits to be executed.  Writes down who the monitor and the
 * init are (again at each reboot inside) and puts the veth into the bridge that RUNDIR/link names
 * ("VETH BRIDGE"), unless a restore is to come (RUNDIR/job/wait): then that happens at COMMIT.
 * post-stop: the init is gone; for good, or (LXC_TARGET=reboot) about to be started again.
 * What went wrong is left in RUNDIR/hook-error for the job that starts the container. */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "network/link.h"
#include "runtime/clocks.h"
#include "runtime/runpid.h"

static int path_of(const char *dir, const char *file, char **ret)
{
	return asprintf(ret, "%s/%s", dir, file) < 0 ? -ENOMEM : 0;
}

static int link_attach(const char *dir, struct err *e)
{
	auto_free char *wait = NULL, *link = NULL, *text = NULL;
	char *bridge;
	int r;

	if (path_of(dir, "job/wait", &wait) < 0 || path_of(dir, "link", &link) < 0)
		return err_sys(e, -ENOMEM, "hook");
	if (access(wait, F_OK) == 0)
		return 0;
	r = fd_read_file_at(AT_FDCWD, link, 256, &text, NULL);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_sys(e, r, "cannot read %s", link);
	text[strcspn(text, "\n")] = '\0';
	bridge = strchr(text, ' ');
	if (!bridge)
		return err_set(e, -EINVAL, "%s is malformed", link);
	*bridge++ = '\0';
	return link_join_bridge(text, bridge, e);
}

/* The start time as the daemon will read it, whose offset of CLOCK_BOOTTIME is `host`; see clocks.h. */
static int runpid_for_host(pid_t pid, int64_t host, struct runpid *ret, struct err *e)
{
	int64_t own;
	int r = clock_boottime_offset(&own, e);

	if (r < 0)
		return r;
	r = runpid_of(pid, ret);
	if (r < 0)
		return err_sys(e, r, "process %d", (int)pid);
	ret->start = (uint64_t)((int64_t)ret->start - clock_ticks_between(own, host));
	return 0;
}

static int pids_write(const char *dir, const char *host_offset, struct err *e)
{
	const char *text = getenv("LXC_PID");
	struct runpid monitor, init;
	int64_t host;
	int pid = 0, r;

	if (!host_offset || parse_i64(host_offset, 10, &host) < 0)
		return err_set(e, -EINVAL, "the host's offset of CLOCK_BOOTTIME is missing");
	if (!text || parse_int(text, &pid) < 0)
		return err_set(e, -EINVAL, "liblxc gave no LXC_PID");
	r = runpid_for_host(getppid(), host, &monitor, e);
	if (r == 0)
		r = runpid_for_host(pid, host, &init, e);
	if (r < 0)
		return r;
	r = runpid_write(dir, "monitor", &monitor);
	if (r == 0)
		r = runpid_write(dir, "init", &init);
	return r < 0 ? err_sys(e, r, "cannot write down the container's processes in %s", dir) : 0;
}

static int stopped(const char *dir, struct err *e)
{
	auto_free char *init = NULL;

	if (path_of(dir, "init", &init) < 0)
		return err_sys(e, -ENOMEM, "hook");
	if (unlink(init) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "cannot remove %s", init);
	return 0;
}

int main(int argc, char **argv)
{
	auto_free char *report = NULL;
	struct err e = { 0 };
	const char *type = getenv("LXC_HOOK_TYPE");
	int r;

	if (argc < 2) {
		fprintf(stderr, "gw-hook is run by liblxc, with the folder of a container\n");
		return 2;
	}
	if (!type)
		type = "";
	if (strcmp(type, "start-host") == 0) {
		r = pids_write(argv[1], argc > 2 ? argv[2] : NULL, &e);
		if (r == 0)
			r = link_attach(argv[1], &e);
	} else if (strcmp(type, "post-stop") == 0) {
		r = stopped(argv[1], &e);
	} else {
		r = err_set(&e, -EINVAL, "unknown hook \"%s\"", type);
	}
	if (r == 0)
		return 0;
	fprintf(stderr, "%s\n", err_text(&e));
	if (path_of(argv[1], "hook-error", &report) == 0)
		(void)!fd_replace_file_at(AT_FDCWD, report, err_text(&e), strlen(err_text(&e)), 0600);
	return 1;
}

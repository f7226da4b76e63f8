/* time - the clocks of the time namespace.
 *
 * State: the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME.  Read: gw_header has the container's
 * clocks at the freeze.  Put back: by whoever starts the container at the target (a restore on its own: by
 * timens_make), since offsets can only be written before anyone has entered the namespace; here it is checked
 * that the clocks do not go back. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cr/cr.h"
#include "cr/ns/ns.h"

#define NS 1000000000ll

static int offset_of(int proc_fd, const char *pid, const char *clock, int64_t *ret)
{
	auto_free char *text = NULL;
	char path[48];
	long long sec, nsec;
	const char *at;
	int r;

	snprintf(path, sizeof(path), "%s/timens_offsets", pid);
	r = fd_read_file_at(proc_fd, path, 4096, &text, NULL);
	if (r < 0)
		return r;
	at = strstr(text, clock);
	if (!at || sscanf(at + strlen(clock), "%lld %lld", &sec, &nsec) != 2)
		return -EPROTO;
	*ret = sec * NS + nsec;
	return 0;
}

static int clock_check(struct restore *r, clockid_t id, const char *name, uint64_t was,
		       struct err *e)
{
	int64_t theirs = 0, ours = 0, now;
	struct timespec ts;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)r->init_pid);
	if (offset_of(r->proc_fd, pid, name, &theirs) < 0 ||
	    offset_of(r->proc_fd, "self", name, &ours) < 0)
		theirs = ours =
			0; /* a kernel without time namespaces: all containers have the host's */
	clock_gettime(id, &ts);
	now = ts.tv_sec * NS + ts.tv_nsec - ours + theirs;
	if ((uint64_t)now < was)
		return err_set(e, -ERANGE, "the %s clock of the container would go back by %.3f s",
			       name, (double)((int64_t)was - now) / 1e9);
	return 0;
}

/* Seconds and nanoseconds as the kernel wants them: the latter never negative. */
static void split(int64_t ns, long long *ret_s, long long *ret_ns)
{
	*ret_s = ns / NS - (ns % NS < 0);
	*ret_ns = ns % NS + (ns % NS < 0 ? NS : 0);
}

static int offset_for(struct restore *r, clockid_t id, const char *name, uint64_t was, int64_t *ret)
{
	struct timespec ts;
	int64_t ours = 0;
	auto_fd int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (was > INT64_MAX / 2)
		return -ERANGE;
	(void)offset_of(proc_fd, "self", name, &ours);
	clock_gettime(id, &ts);
	*ret = (int64_t)was - (ts.tv_sec * NS + ts.tv_nsec - ours);
	return 0;
}

int timens_make(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = (const GwHeader *)rec->msg;
	long long ms, mn, bs, bn;
	int64_t mono, boot;
	char text[160];
	int x = offset_for(r, CLOCK_MONOTONIC, "monotonic", h->monotonic_ns, &mono);

	if (x >= 0)
		x = offset_for(r, CLOCK_BOOTTIME, "boottime", h->boottime_ns, &boot);
	if (x < 0)
		return err_set(e, -EPROTO, "the image has impossible clocks");
	if (unshare(CLONE_NEWTIME) < 0)
		return err_sys(e, -errno, "making a time namespace (the kernel needs CONFIG_TIME_NS)");
	split(mono, &ms, &mn);
	split(boot, &bs, &bn);
	snprintf(text, sizeof(text), "monotonic %lld %lld\nboottime %lld %lld\n", ms, mn, bs, bn);
	x = fd_write_file_at(AT_FDCWD, "/proc/self/timens_offsets", text);
	return x < 0 ? err_sys(e, x, "setting the clocks of the time namespace") : 0;
}

static int build(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = rec ? (const GwHeader *)rec->msg : NULL;
	int x = 0;

	if (h && h->has_monotonic_ns)
		x = clock_check(r, CLOCK_MONOTONIC, "monotonic", h->monotonic_ns, e);
	if (h && h->has_boottime_ns && x >= 0)
		x = clock_check(r, CLOCK_BOOTTIME, "boottime", h->boottime_ns, e);
	return x;
}

const struct cr_part cr_part_time = { .name = "clocks", .ns = CLONE_NEWTIME, .build = build };

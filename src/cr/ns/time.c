/* time - the clocks of the time namespace.
 *
 * State: the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME.  Read: gw_header has the container's
 * clocks at the freeze.  Put back: by whoever starts the container at the target (a restore on its own: by
 * timens_make), since offsets can only be written before anyone has entered the namespace; here it is checked
 * that the clocks do not go back. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/fd.h"
#include "cr/cr.h"
#include "cr/ns/ns.h"
#include "sys/procfs.h"

#define NS 1000000000ll

static int64_t now_of(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NS + ts.tv_nsec;
}

int64_t clock_theirs(const struct dump *d, clockid_t clock, int64_t ours)
{
	return ours - proc_clock_offset(AT_FDCWD, "/proc/self/timens_offsets", clock) +
	       proc_clock_offset(d->tasks[0]->proc_fd, "timens_offsets", clock);
}

/* How far the container's clock is ahead of ours. */
static int64_t ahead(const struct restore *r, clockid_t clock)
{
	char theirs[48];

	snprintf(theirs, sizeof(theirs), "%d/timens_offsets", (int)r->init_pid);
	return proc_clock_offset(r->proc_fd, theirs, clock) -
	       proc_clock_offset(r->proc_fd, "self/timens_offsets", clock);
}

int64_t clock_shift(const struct restore *r, clockid_t clock)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = rec ? (const GwHeader *)rec->msg : NULL;
	int64_t was = !h ? 0 :
		      clock == CLOCK_MONOTONIC ? (int64_t)h->monotonic_ns :
		      clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM ? (int64_t)h->boottime_ns :
										 0;
	int64_t now = now_of(clock) + ahead(r, clock);

	return now < was ? now - was : 0;
}

int64_t clock_ours(const struct restore *r, clockid_t clock, int64_t theirs)
{
	return theirs + clock_shift(r, clock) - ahead(r, clock);
}

static int clock_check(struct restore *r, clockid_t id, const char *name, struct err *e)
{
	int64_t back = clock_shift(r, id);

	return back < 0 ? err_set(e, -ERANGE, "the %s clock of the container would go back by %.3f s", name,
				  (double)-back / 1e9) :
			  0;
}

/* Seconds and nanoseconds as the kernel wants them: the latter never negative. */
static void split(int64_t ns, long long *ret_s, long long *ret_ns)
{
	*ret_s = ns / NS - (ns % NS < 0);
	*ret_ns = ns % NS + (ns % NS < 0 ? NS : 0);
}

static int offset_for(clockid_t id, uint64_t was, int64_t *ret)
{
	if (was > INT64_MAX / 2)
		return -ERANGE;
	*ret = (int64_t)was - now_of(id) + proc_clock_offset(AT_FDCWD, "/proc/self/timens_offsets", id);
	return 0;
}

int timens_make(struct restore *r, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_GW_HEADER, REC_ANY, NULL);
	const GwHeader *h = (const GwHeader *)rec->msg;
	long long ms, mn, bs, bn;
	int64_t mono, boot;
	char text[160];
	int x = offset_for(CLOCK_MONOTONIC, h->monotonic_ns, &mono);

	if (x >= 0)
		x = offset_for(CLOCK_BOOTTIME, h->boottime_ns, &boot);
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
		x = clock_check(r, CLOCK_MONOTONIC, "monotonic", e);
	if (h && h->has_boottime_ns && x >= 0)
		x = clock_check(r, CLOCK_BOOTTIME, "boottime", e);
	return x;
}

const struct cr_part cr_part_time = { .name = "clocks", .ns = CLONE_NEWTIME, .build = build };

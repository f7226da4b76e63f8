/* time - the clocks of the time namespace.
 *
 * State: the offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME.  Read: gw_header has the container's
 * clocks at the freeze.  Put back: by whoever starts the container at the target, since offsets can
 * only be written before anyone has entered the namespace; here it is checked that the clocks do
 * not go back. */
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

#include "runtime/clocks.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define NS 1000000000ll

/* "monotonic  -100  5" with seconds and nanoseconds (the latter never negative); "self" for pid 0. */
static int offset_read(pid_t pid, clockid_t clock, int64_t *ret_ns, struct err *e)
{
	const char *name = clock == CLOCK_MONOTONIC ? "monotonic" : "boottime", *p;
	auto_free char *text = NULL;
	long long s, ns;
	char path[48];
	int r;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/timens_offsets", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/self/timens_offsets");
	r = fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL);
	if (r == -ENOENT && !pid) {
		*ret_ns = 0; /* a kernel without time namespaces */
		return 0;
	}
	if (r < 0)
		return err_sys(e, r, "cannot read %s", path);
	p = strstr(text, name);
	if (!p || sscanf(p + strlen(name), "%lld %lld", &s, &ns) != 2)
		return err_set(e, -EINVAL, "%s has no offset of %s", path, name);
	*ret_ns = s * NS + ns;
	return 0;
}

/* The clock of the machine's initial time namespace. */
static int clock_initial(clockid_t clock, int64_t *ret_ns, struct err *e)
{
	struct timespec t;
	int64_t own;
	int r = offset_read(0, clock, &own, e);

	if (r < 0)
		return r;
	if (clock_gettime(clock, &t) < 0)
		return err_sys(e, -errno, "cannot read a clock");
	*ret_ns = t.tv_sec * NS + t.tv_nsec - own;
	return 0;
}

int clock_boottime_offset(int64_t *ret_ns, struct err *e)
{
	return offset_read(0, CLOCK_BOOTTIME, ret_ns, e);
}

static int64_t tick_ns(void)
{
	long hz = sysconf(_SC_CLK_TCK);

	return NS / (hz > 0 ? hz : 100);
}

int64_t clock_ticks_between(int64_t here_ns, int64_t there_ns)
{
	return (here_ns - there_ns) / tick_ns();
}

int clock_offsets_for(uint64_t monotonic_ns, uint64_t boottime_ns, struct clock_offsets *ret, struct err *e)
{
	int64_t mono, boot, own, apart, tick = tick_ns();
	int r = clock_initial(CLOCK_MONOTONIC, &mono, e);

	if (r == 0)
		r = clock_initial(CLOCK_BOOTTIME, &boot, e);
	if (r == 0)
		r = clock_boottime_offset(&own, e);
	if (r < 0)
		return r;
	if (monotonic_ns > INT64_MAX / 2 || boottime_ns > INT64_MAX / 2)
		return err_set(e, -ERANGE, "a clock of %llu ns cannot be", (unsigned long long)monotonic_ns);
	apart = (int64_t)boottime_ns - boot - own;
	/* Up to the next whole tick; the remainder of a negative number is negative: that is up already. */
	if (apart % tick > 0)
		apart += tick;
	apart -= apart % tick;
	*ret = (struct clock_offsets){ .monotonic_ns = (int64_t)monotonic_ns - mono,
				       .boottime_ns = own + apart };
	return 0;
}

/* The kernel wants nanoseconds from 0 to 999999999 also where the whole is negative. */
static void offset_split(int64_t ns, long long *ret_s, long long *ret_ns)
{
	*ret_s = ns / NS;
	*ret_ns = ns % NS;
	if (*ret_ns < 0) {
		*ret_ns += NS;
		*ret_s -= 1;
	}
}

int clock_namespace_make(const struct clock_offsets *o, struct err *e)
{
	long long ms, mn, bs, bn;
	char text[160];
	int r;

	offset_split(o->monotonic_ns, &ms, &mn);
	offset_split(o->boottime_ns, &bs, &bn);
	if (unshare(CLONE_NEWTIME) < 0)
		return err_sys(e, -errno, "cannot make a time namespace (the kernel needs CONFIG_TIME_NS)");
	snprintf(text, sizeof(text), "monotonic %lld %lld\nboottime %lld %lld\n", ms, mn, bs, bn);
	r = fd_write_file_at(AT_FDCWD, "/proc/self/timens_offsets", text);
	return r < 0 ? err_sys(e, r, "cannot set the clocks of the time namespace") : 0;
}

int clock_of(pid_t pid, clockid_t clock, uint64_t *ret_ns, struct err *e)
{
	int64_t now, offset;
	int r = offset_read(pid, clock, &offset, e);

	if (r == 0)
		r = clock_initial(clock, &now, e);
	if (r < 0)
		return r;
	*ret_ns = (uint64_t)(now + offset);
	return 0;
}

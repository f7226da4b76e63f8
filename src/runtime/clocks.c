#include "runtime/clocks.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"

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

int clock_offset(clockid_t clock, uint64_t want_ns, int64_t *ret_seconds, struct err *e)
{
	int64_t now, offset;
	int r = clock_initial(clock, &now, e);

	if (r < 0)
		return r;
	if (want_ns > INT64_MAX / 2)
		return err_set(e, -ERANGE, "a clock of %llu ns cannot be", (unsigned long long)want_ns);
	offset = (int64_t)want_ns - now;
	/* Division truncates towards 0, which for negative offsets is already upwards. */
	*ret_seconds = offset / NS + (offset > 0 && offset % NS != 0);
	return 0;
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

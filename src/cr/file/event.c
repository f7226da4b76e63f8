/* event - eventfd and signalfd.
 *
 * State: counter and semaphore mode; the set of signals.  Read: fdinfo.  Back: made by the engine
 * (neither is tied to its maker: a signalfd shows the signals of who reads it); a counter is
 * written. eventfd_file_entry.flags has bit 0 set for a semaphore (the access mode is always
 * read-write). */
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/file.h"
#include "cr/file/kinds.h"

static bool eventfd_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[eventfd]");
}

static int eventfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	EventfdFileEntry ee = EVENTFD_FILE_ENTRY__INIT;
	FownEntry own;
	uint64_t sem = 0;
	int r;

	r = fdinfo_u64(f->fdinfo, "eventfd-count", 16, &ee.counter);
	if (r < 0)
		return err_sys(e, r, "fdinfo of an eventfd");
	fdinfo_u64(f->fdinfo, "eventfd-semaphore", 10, &sem); /* not there before Linux 6.5 */
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	ee.id = f->id;
	ee.flags = f->flags | (sem ? EFD_SEMAPHORE : 0);
	ee.fown = &own;
	fe.efd = &ee;
	return ofile_put(d, f, &fe, e);
}

static int eventfd_load(struct restore *r, struct rfile *f, struct err *e)
{
	return f->fe->efd ? 0 : err_set(e, -EINVAL, "file %u: not the record of an eventfd", f->id);
}

static int eventfd_build(struct restore *r, struct rfile *f, struct err *e)
{
	const EventfdFileEntry *ee = f->fe->efd;
	auto_fd int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK |
					    (ee->flags & EFD_SEMAPHORE ? EFD_SEMAPHORE : 0));
	int got;

	if (fd < 0)
		return err_sys(e, -errno, "eventfd");
	if (ee->counter && write(fd, &ee->counter, sizeof(ee->counter)) != sizeof(ee->counter))
		return err_sys(e, -errno, "counter of an eventfd");
	got = rfile_set_flags(f, fd, ee->flags, e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

static int eventfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	return fown_restore(r, f, f->fe->efd->fown, f->fe->efd->flags, e);
}

const struct file_kind file_kind_eventfd = {
	.name = "eventfd",
	.type = FD_TYPES__EVENTFD,
	.recognise = eventfd_recognise,
	.capture = eventfd_capture,
	.load = eventfd_load,
	.build = eventfd_build,
	.placed = eventfd_placed,
};

static bool signalfd_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[signalfd]");
}

static int signalfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	SignalfdEntry se = SIGNALFD_ENTRY__INIT;
	FownEntry own;
	int r;

	r = fdinfo_u64(f->fdinfo, "sigmask", 16, &se.sigmask);
	if (r < 0)
		return err_sys(e, r, "fdinfo of a signalfd");
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	se.id = f->id;
	se.flags = f->flags;
	se.fown = &own;
	fe.sgfd = &se;
	return ofile_put(d, f, &fe, e);
}

static int signalfd_load(struct restore *r, struct rfile *f, struct err *e)
{
	return f->fe->sgfd ? 0
			   : err_set(e, -EINVAL, "file %u: not the record of a signalfd", f->id);
}

static int signalfd_build(struct restore *r, struct rfile *f, struct err *e)
{
	uint64_t mask = f->fe->sgfd->sigmask; /* the kernel's set has 64 bits, libc's has more */
	auto_fd int fd = (int)syscall(SYS_signalfd4, -1, &mask, sizeof(mask), SFD_CLOEXEC);
	int got;

	if (fd < 0)
		return err_sys(e, -errno, "signalfd");
	got = rfile_set_flags(f, fd, f->fe->sgfd->flags, e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

static int signalfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	return fown_restore(r, f, f->fe->sgfd->fown, f->fe->sgfd->flags, e);
}

const struct file_kind file_kind_signalfd = {
	.name = "signalfd",
	.type = FD_TYPES__SIGNALFD,
	.recognise = signalfd_recognise,
	.capture = signalfd_capture,
	.load = signalfd_load,
	.build = signalfd_build,
	.placed = signalfd_placed,
};

/* timerfd - timers that are read as files.
 *
 * State: clock, expirations not yet read, time left, interval, flags of settime.
 * Read: timerfd_gettime of our descriptor (it also folds what a periodic timer has missed into the
 * count, which changes nothing for its reader), then fdinfo.
 * Back: made by the engine, counted by TFD_IOC_SET_TICKS, set late (`placed`). A relative timer
 * goes on with the time it had left; an absolute one is set to the same instant of the container's
 * clock, by a task of the container, whose time namespace the kernel then applies.
 * Not covered: whether the clock was changed since (TFD_TIMER_CANCEL_ON_SET, ECANCELED not yet
 * read). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cr/file/fdinfo.h"
#include "cr/file/kinds.h"
#include "sys/procfs.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define SEC 1000000000ll

static bool timerfd_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[timerfd]");
}

static int extra_put(struct dump *d, const struct ofile *f, const TimerfdEntry *te, struct err *e)
{
	GwFile gf = GW_FILE__INIT;
	struct timespec now;

	if (!(te->settime_flags & TFD_TIMER_ABSTIME) || (!te->vsec && !te->vnsec))
		return 0;
	if (clock_gettime((clockid_t)te->clockid, &now) < 0)
		return err_sys(e, -errno, "clock %u", te->clockid);
	gf.has_expiry_ns = 1;
	gf.expiry_ns = now.tv_sec * SEC + now.tv_nsec +
		       proc_clock_offset(d->tasks[0]->proc_fd, "timens_offsets", te->clockid) -
		       proc_clock_offset(AT_FDCWD, "/proc/self/timens_offsets", te->clockid) +
		       (int64_t)te->vsec * SEC + (int64_t)te->vnsec;
	return sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int timerfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	TimerfdEntry te = TIMERFD_ENTRY__INIT;
	FownEntry own;
	struct itimerspec its;
	auto_free char *info = NULL;
	uint64_t clock, flags;
	char path[64];
	int r;

	if (timerfd_gettime(f->lfd, &its) < 0)
		return err_sys(e, -errno, "timerfd_gettime");
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", f->lfd);
	r = fd_read_file_at(AT_FDCWD, path, 65536, &info, NULL);
	if (r < 0 || fdinfo_u64(info, "clockid", 10, &clock) < 0 ||
	    fdinfo_u64(info, "ticks", 10, &te.ticks) < 0 ||
	    fdinfo_u64(info, "settime flags", 8, &flags) < 0)
		return err_set(e, -EPROTO, "fdinfo of a timerfd");
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	te.id = f->id;
	te.flags = f->flags;
	te.fown = &own;
	te.clockid = (uint32_t)clock;
	te.settime_flags = (uint32_t)flags;
	te.vsec = (uint64_t)its.it_value.tv_sec;
	te.vnsec = (uint64_t)its.it_value.tv_nsec;
	te.isec = (uint64_t)its.it_interval.tv_sec;
	te.insec = (uint64_t)its.it_interval.tv_nsec;
	fe.tfd = &te;
	r = ofile_put(d, f, &fe, e);
	return r == 0 ? extra_put(d, f, &te, e) : r;
}

static int timerfd_load(struct restore *r, struct rfile *f, struct err *e)
{
	const TimerfdEntry *te = f->fe->tfd;

	if (!te || te->vnsec >= (uint64_t)SEC || te->insec >= (uint64_t)SEC ||
	    te->vsec > INT64_MAX || te->isec > INT64_MAX)
		return err_set(e, -EINVAL, "file %u: the record of a timerfd makes no sense",
			       f->id);
	return 0;
}

static int timerfd_build(struct restore *r, struct rfile *f, struct err *e)
{
	const TimerfdEntry *te = f->fe->tfd;
	auto_fd int fd = timerfd_create((int)te->clockid, TFD_CLOEXEC);
	int got;

	if (fd < 0)
		return err_sys(e, -errno, "timerfd of clock %u", te->clockid);
	got = rfile_set_flags(f, fd, te->flags, e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

/* Absolute: by a task of the container. */
static int set_inside(struct restore *r, const struct rfile *f, const struct itimerspec *its,
		      int flags, struct err *e)
{
	struct rtask *t = f->task ? f->task : r->tasks[0];
	struct aprog *p;
	int number = f->number, got = 0;

	if (!f->task)
		got = agent_put_fd(t->agent, f->fd, &number, e);
	if (got < 0)
		return got;
	p = aprog_new();
	if (!p)
		return err_sys(e, -ENOMEM, "a timer");
	APROG_CALL(p, 0, SYS_timerfd_settime, aarg_imm((uint64_t)number), aarg_imm((uint64_t)flags),
		   aprog_in(p, its, sizeof(*its)), aarg_imm(0));
	if (!f->task)
		APROG_CALL(p, 0, SYS_close, aarg_imm((uint64_t)number));
	got = agent_run(t->agent, p, e);
	aprog_free(p);
	return got < 0 ? got : 0;
}

static int timerfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const TimerfdEntry *te = f->fe->tfd;
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);
	const GwFile *gf = rec ? (const GwFile *)rec->msg : NULL;
	struct itimerspec its = { .it_value = { (time_t)te->vsec, (long)te->vnsec },
				  .it_interval = { (time_t)te->isec, (long)te->insec } };
	int flags = (int)(te->settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)), got;

	if (gf && gf->has_expiry_ns && gf->expiry_ns > 0) {
		its.it_value.tv_sec = gf->expiry_ns / SEC;
		its.it_value.tv_nsec = gf->expiry_ns % SEC;
		got = set_inside(r, f, &its, flags, e);
		if (got < 0)
			return got;
	} else if ((te->vsec || te->vnsec) &&
		   timerfd_settime(f->fd, flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET),
				   &its, NULL) < 0) {
		return err_sys(e, -errno, "timerfd_settime");
	}
	if (te->ticks && ioctl(f->fd, TFD_IOC_SET_TICKS, &te->ticks) < 0)
		return err_sys(e, -errno, "expirations of a timerfd");
	return fown_restore(r, f, te->fown, te->flags, e);
}

const struct file_kind file_kind_timerfd = {
	.name = "timerfd",
	.type = FD_TYPES__TIMERFD,
	.recognise = timerfd_recognise,
	.capture = timerfd_capture,
	.load = timerfd_load,
	.build = timerfd_build,
	.placed = timerfd_placed,
};

/* timerfd - timers that are read as files.
 *
 * State: clock, expirations not yet read, time left, interval, flags of settime.
 * Read: timerfd_gettime of our descriptor (it also folds what a periodic timer has missed into the
 * count, which changes nothing for its reader), and fdinfo.
 * Back: made by the engine, counted by TFD_IOC_SET_TICKS, set late (`placed`). A relative timer
 * expires at the instant of the container's clock at which it would have; an absolute one is set to
 * the same instant of its clock, by a task of the container, whose time namespace the kernel then applies.
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
#include "cr/ns/ns.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define SEC 1000000000ll
#define END_TRIES 5
#define END_NEAR_NS 3000

static bool timerfd_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[timerfd]");
}

/* By which clock it runs: a span of the wall clock does not follow when that is set. */
static uint32_t runs_by(const TimerfdEntry *te)
{
	return te->clockid == CLOCK_REALTIME && !(te->settime_flags & TFD_TIMER_ABSTIME) ? CLOCK_MONOTONIC :
											     te->clockid;
}

static int64_t ns_of(const struct timespec *ts)
{
	return ts->tv_sec * SEC + ts->tv_nsec;
}

/* What is left, and when it ends by our clock.  That lies between the readings before and after; a few tries
 * take out what came between them.  Never too early. */
static int end_read(int fd, uint32_t clock, struct itimerspec *its, int64_t *ret)
{
	int64_t least = 0, most = INT64_MAX;
	struct timespec before, after;

	for (int i = 0; i < END_TRIES && most - least > END_NEAR_NS; i++) {
		if (clock_gettime((clockid_t)clock, &before) < 0 || timerfd_gettime(fd, its) < 0 ||
		    clock_gettime((clockid_t)clock, &after) < 0)
			return -errno;
		if (ns_of(&its->it_interval)) {
			/* It may have gone on to its next end meanwhile. */
			most = ns_of(&after) + ns_of(&its->it_value);
			break;
		}
		if (ns_of(&before) + ns_of(&its->it_value) > least)
			least = ns_of(&before) + ns_of(&its->it_value);
		if (ns_of(&after) + ns_of(&its->it_value) < most)
			most = ns_of(&after) + ns_of(&its->it_value);
	}
	*ret = most;
	return 0;
}

static int extra_put(struct dump *d, const struct ofile *f, const TimerfdEntry *te, int64_t end, struct err *e)
{
	GwFile gf = GW_FILE__INIT;

	if (!te->vsec && !te->vnsec)
		return 0;
	gf.has_expiry_ns = 1;
	gf.expiry_ns = clock_theirs(d, (clockid_t)runs_by(te), end);
	return sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int info_read(int fd, TimerfdEntry *te)
{
	auto_free char *info = NULL;
	uint64_t clock, flags;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (fd_read_file_at(AT_FDCWD, path, 65536, &info, NULL) < 0 ||
	    fdinfo_u64(info, "clockid", 10, &clock) < 0 || fdinfo_u64(info, "ticks", 10, &te->ticks) < 0 ||
	    fdinfo_u64(info, "settime flags", 8, &flags) < 0)
		return -EPROTO;
	te->clockid = (uint32_t)clock;
	te->settime_flags = (uint32_t)flags;
	return 0;
}

/* Count and end of one moment: an expiration between the two readings would be in both, or in neither. */
static int state_read(int fd, TimerfdEntry *te, struct itimerspec *its, int64_t *end)
{
	int r = info_read(fd, te);

	for (int i = 0; i < END_TRIES && r >= 0; i++) {
		uint64_t ticks = te->ticks;

		r = end_read(fd, runs_by(te), its, end);
		if (r >= 0)
			r = info_read(fd, te);
		if (ticks == te->ticks)
			break;
	}
	return r;
}

static int timerfd_capture(struct dump *d, struct ofile *f, struct err *e)
{
	FileEntry fe = FILE_ENTRY__INIT;
	TimerfdEntry te = TIMERFD_ENTRY__INIT;
	FownEntry own;
	struct itimerspec its;
	int64_t end;
	int r = state_read(f->lfd, &te, &its, &end);

	if (r < 0)
		return err_sys(e, r, "the state of a timerfd");
	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	te.id = f->id;
	te.flags = f->flags;
	te.fown = &own;
	te.vsec = (uint64_t)its.it_value.tv_sec;
	te.vnsec = (uint64_t)its.it_value.tv_nsec;
	te.isec = (uint64_t)its.it_interval.tv_sec;
	te.insec = (uint64_t)its.it_interval.tv_nsec;
	fe.tfd = &te;
	r = ofile_put(d, f, &fe, e);
	return r == 0 ? extra_put(d, f, &te, end, e) : r;
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

/* What is left of a span, and how often a periodic timer has expired in the move. */
static int span_left(struct restore *r, const TimerfdEntry *te, int64_t expiry, struct itimerspec *its,
		     uint64_t *ticks, struct err *e)
{
	uint32_t clock = runs_by(te);
	int64_t every = (int64_t)te->isec * SEC + (int64_t)te->insec;
	struct timespec now;
	int64_t left;

	if (clock_gettime((clockid_t)clock, &now) < 0)
		return err_sys(e, -errno, "clock %u", clock);
	left = clock_ours(r, (clockid_t)clock, expiry) - ns_of(&now);
	if (left <= 0 && every > 0) {
		*ticks += (uint64_t)(-left / every + 1);
		left = every - -left % every;
	}
	left = left > 0 ? left : 1; /* it expires at once */
	its->it_value = (struct timespec){ left / SEC, left % SEC };
	return 0;
}

static int timerfd_placed(struct restore *r, struct rfile *f, struct err *e)
{
	const TimerfdEntry *te = f->fe->tfd;
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);
	const GwFile *gf = rec ? (const GwFile *)rec->msg : NULL;
	struct itimerspec its = { .it_value = { (time_t)te->vsec, (long)te->vnsec },
				  .it_interval = { (time_t)te->isec, (long)te->insec } };
	int flags = (int)(te->settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)), got = 0;
	bool known = gf && gf->has_expiry_ns && gf->expiry_ns > 0;
	uint64_t ticks = te->ticks;

	if (known && flags & TFD_TIMER_ABSTIME) {
		its.it_value = (struct timespec){ gf->expiry_ns / SEC, gf->expiry_ns % SEC };
		got = set_inside(r, f, &its, flags, e);
	} else if (te->vsec || te->vnsec) {
		if (known)
			got = span_left(r, te, gf->expiry_ns, &its, &ticks, e);
		if (got >= 0 && timerfd_settime(f->fd, 0, &its, NULL) < 0)
			got = err_sys(e, -errno, "timerfd_settime");
	}
	if (got < 0)
		return got;
	if (ticks && ioctl(f->fd, TFD_IOC_SET_TICKS, &ticks) < 0)
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

/* epoll - event polls.
 *
 * State: which open files are watched under which number, events, data.
 * Read: "tfd" lines of fdinfo. A line has a number and an inode, but the file may have been closed
 * there since and live on elsewhere: KCMP_EPOLL_TFD tells which of our descriptors it is. (That
 * call walks the whole poll, so it is left out for sockets, whose inode says it all.)
 * Back: empty polls by the engine; the files are added by a task that has the poll (phase
 * `placed`), because the kernel remembers the number under which a file was added. Where another
 * file has that number now, the task lends it for the call.
 * Refused: a watched file that nobody in the container has. Edges not yet delivered are
 * delivered once more. */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/parse.h"
#include "cr/file/kinds.h"
#include "cr/file/table.h"

#define ITEMS_MAX (1u << 22)
#define BATCH 200 /* items of one program of an agent */

static bool epoll_recognise(const struct ofile *f)
{
	return str_eq(f->link, "anon_inode:[eventpoll]");
}

struct items {
	struct fdinfo_epoll *list;
	size_t n, cap;
};

static int items_read(const struct ofile *f, struct items *ret, struct err *e)
{
	const char *line = NULL;

	while ((line = fdinfo_line(f->fdinfo, "tfd", line))) {
		if (array_grow(ret->list, ret->n, ret->cap) < 0)
			return err_sys(e, -ENOMEM, "files of an event poll");
		if (ret->n >= ITEMS_MAX || fdinfo_epoll(line, &ret->list[ret->n]) < 0)
			return err_set(e, -EPROTO, "fdinfo of an event poll cannot be read");
		ret->n++;
	}
	return 0;
}

/* How many lines before i have the same number (KCMP_EPOLL_TFD counts them). Lines come ordered by
 * file and number, so that equal numbers may be anywhere; they are rare. */
static unsigned same_before(const struct items *it, size_t i)
{
	unsigned n = 0;

	for (size_t j = 0; j < i; j++)
		n += it->list[j].fd == it->list[i].fd;
	return n;
}

static bool is_target(const struct ofile *ep, const struct items *it, size_t i,
		      const struct ofile *o)
{
	struct kcmp_epoll_slot slot = { (uint32_t)ep->lfd, (uint32_t)it->list[i].fd, 0 };
	const struct fdinfo_epoll *x = &it->list[i];

	if (o->st.st_ino != x->ino || o->st.st_dev != makedev(x->sdev >> 20, x->sdev & 0xfffff))
		return false;
	if (S_ISSOCK(o->st.st_mode))
		return true;
	slot.toff = same_before(it, i);
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_EPOLL_TFD, (long)o->lfd, (long)&slot) ==
	       0;
}

static struct ofile *file_at(struct dump *d, const struct task *t, int fd)
{
	struct table *tb = dump_table(d);

	for (size_t i = 0; i < tb->n_tasks; i++) {
		const struct table_task *tt = &tb->tasks[i];
		size_t lo = 0, hi = tt->n;

		if (tt->task != t)
			continue;
		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (tt->fds[mid].fd == fd)
				return tt->fds[mid].of;
			if (tt->fds[mid].fd < fd)
				lo = mid + 1;
			else
				hi = mid;
		}
	}
	return NULL;
}

static struct ofile *target_of(struct dump *d, const struct ofile *ep, const struct items *it,
			       size_t i)
{
	const struct fdinfo_epoll *x = &it->list[i];
	struct ofile *o = ep->fd >= 0 ? file_at(d, ep->task, x->fd) : NULL;

	if (o && is_target(ep, it, i, o))
		return o;
	for (o = NULL;
	     (o = dump_inode_next(d, makedev(x->sdev >> 20, x->sdev & 0xfffff), x->ino, o));)
		if (is_target(ep, it, i, o))
			return o;
	return NULL;
}

static int epoll_check(struct dump *d, struct ofile *f, struct err *e)
{
	struct items it = { 0 };
	int r = items_read(f, &it, e);

	for (size_t i = 0; r == 0 && i < it.n; i++)
		if (!target_of(d, f, &it, i) &&
		    ofile_refuse(d, f, "event poll",
				 "it watches a file that was number %d and that no process "
				 "of the container has open any more",
				 it.list[i].fd) < 0)
			r = err_sys(e, -ENOMEM, "refusal");
	free(it.list);
	return r;
}

static int items_put(struct dump *d, const struct ofile *f, const struct items *it,
		     EventpollFileEntry *ee, struct err *e)
{
	auto_free EventpollTfdEntry *tf = calloc(it->n + 1, sizeof(*tf));
	auto_free EventpollTfdEntry **tp = calloc(it->n + 1, sizeof(*tp));
	auto_free uint32_t *ids = calloc(it->n + 1, sizeof(*ids));
	FileEntry fe = FILE_ENTRY__INIT;
	GwFile gf = GW_FILE__INIT;
	int r;

	if (!tf || !tp || !ids)
		return err_sys(e, -ENOMEM, "files of an event poll");
	for (size_t i = 0; i < it->n; i++) {
		const struct fdinfo_epoll *x = &it->list[i];
		const struct ofile *o = target_of(d, f, it, i);

		if (!o)
			return err_set(e, -EOPNOTSUPP, "number %d of an event poll is nowhere open",
				       x->fd);
		eventpoll_tfd_entry__init(&tf[i]);
		tf[i].id = f->id;
		tf[i].tfd = (uint32_t)x->fd;
		tf[i].events = x->events;
		tf[i].data = x->data;
		tf[i].has_dev = tf[i].has_inode = tf[i].has_pos = 1;
		tf[i].dev = (uint32_t)x->sdev;
		tf[i].inode = x->ino;
		tf[i].pos = x->pos;
		tp[i] = &tf[i];
		ids[i] = o->id;
	}
	ee->n_tfd = it->n;
	ee->tfd = tp;
	fe.epfd = ee;
	gf.n_targets = it->n;
	gf.targets = ids;
	r = ofile_put(d, f, &fe, e);
	return r < 0 ? r : sink_put(d->sink, REC_GW_FILE, f->id, &gf.base, e);
}

static int epoll_capture(struct dump *d, struct ofile *f, struct err *e)
{
	EventpollFileEntry ee = EVENTPOLL_FILE_ENTRY__INIT;
	struct items it = { 0 };
	FownEntry own;
	int r;

	r = fown_read(d, f, &own, e);
	if (r < 0)
		return r;
	ee.id = f->id;
	ee.flags = f->flags;
	ee.fown = &own;
	r = items_read(f, &it, e);
	if (r == 0)
		r = items_put(d, f, &it, &ee, e);
	free(it.list);
	return r;
}

/* ---- restore ---- */

static const GwFile *extra_of(struct restore *r, const struct rfile *f)
{
	const struct record *rec = image_find(r->image, REC_GW_FILE, f->id, NULL);

	return rec ? (const GwFile *)rec->msg : NULL;
}

static int epoll_load(struct restore *r, struct rfile *f, struct err *e)
{
	const EventpollFileEntry *ee = f->fe->epfd;
	const GwFile *gf = extra_of(r, f);

	if (!ee || !gf || gf->n_targets != ee->n_tfd)
		return err_set(e, -EINVAL, "file %u: the record of an event poll is not complete",
			       f->id);
	for (size_t i = 0; i < ee->n_tfd; i++)
		if (ee->tfd[i]->tfd > 1u << 30 || !restore_file(r, gf->targets[i]) ||
		    gf->targets[i] == f->id)
			return err_set(e, -EINVAL, "file %u: an event poll of file %u", f->id,
				       gf->targets[i]);
	return 0;
}

static int epoll_build(struct restore *r, struct rfile *f, struct err *e)
{
	auto_fd int fd = epoll_create1(EPOLL_CLOEXEC);
	int got;

	if (fd < 0)
		return err_sys(e, -errno, "epoll_create1");
	got = rfile_set_flags(f, fd, f->fe->epfd->flags, e);
	if (got == 0)
		f->fd = fd_take(&fd);
	return got;
}

/* The kernel's structure is packed. */
static struct epoll_event event_of(const EventpollTfdEntry *x)
{
	struct epoll_event ev = { 0 };

	ev.events = x->events;
	ev.data.u64 = x->data;
	return ev;
}

/* Items whose file is at its number: many in one round trip. */
static int add_batch(struct rtask *t, int ep, const EventpollTfdEntry *const *x, size_t n,
		     struct err *e)
{
	struct aprog *p = aprog_new();
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "an event poll");
	for (size_t i = 0; i < n; i++) {
		struct epoll_event ev = event_of(x[i]);

		APROG_CALL(p, 0, SYS_epoll_ctl, aarg_imm((uint64_t)ep), aarg_imm(EPOLL_CTL_ADD),
			   aarg_imm(x[i]->tfd), aprog_in(p, &ev, sizeof(ev)));
	}
	r = agent_run(t->agent, p, e);
	aprog_free(p);
	return r < 0 ? r : 0;
}

static int channel_away(struct rtask *t, int number, struct err *e)
{
	for (size_t i = 0; i < t->n_threads; i++) {
		struct agent *a = t->threads[i].agent;
		int at = number + 1 + (int)i, r;

		if (!a || agent_channel_number(a) != number)
			continue;
		r = agent_move_channel(a, at, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Another file, or none, has the number: target takes its place for the call. */
static int add_lent(struct restore *r, struct rtask *t, int ep, const EventpollTfdEntry *x,
		    const struct rfile *target, struct err *e)
{
	const struct rfile *there = restore_file_at(r, t, (int)x->tfd);
	struct fd_place pl = { target->fd, (int)x->tfd, true };
	int got;

	if (!there) {
		got = channel_away(t, (int)x->tfd, e);
		if (got < 0)
			return got;
	}
	if ((int)x->tfd == ep)
		return err_set(e, -EOPNOTSUPP,
			       "an event poll that stands where one of its files was");
	got = agent_place_fds(t->agent, &pl, 1, e);
	if (got >= 0)
		got = add_batch(t, ep, &x, 1, e);
	if (got < 0)
		return got;
	if (!there)
		return AGENT_CALL(t->agent, NULL, e, SYS_close, x->tfd);
	pl.fd = there->fd;
	pl.cloexec = restore_cloexec_at(r, t, (int)x->tfd);
	return agent_place_fds(t->agent, &pl, 1, e);
}

static int items_add(struct restore *r, struct rfile *f, struct rtask *t, int ep, struct err *e)
{
	const EventpollFileEntry *ee = f->fe->epfd;
	const GwFile *gf = extra_of(r, f);
	const EventpollTfdEntry *batch[BATCH];
	size_t n = 0;
	int got = 0;

	for (size_t i = 0; got >= 0 && i < ee->n_tfd; i++) {
		const struct rfile *target = restore_file(r, gf->targets[i]);

		if (restore_file_at(r, t, (int)ee->tfd[i]->tfd) != target) {
			got = add_lent(r, t, ep, ee->tfd[i], target, e);
			continue;
		}
		batch[n++] = ee->tfd[i];
		if (n == BATCH) {
			got = add_batch(t, ep, batch, n, e);
			n = 0;
		}
	}
	return got >= 0 && n ? add_batch(t, ep, batch, n, e) : got;
}

static int epoll_placed(struct restore *r, struct rfile *f, struct err *e)
{
	struct rtask *t = f->task ? f->task : r->tasks[0];
	int ep = f->number, got = 0;

	if (!f->task)
		got = agent_put_fd(t->agent, f->fd, &ep, e);
	if (got >= 0)
		got = items_add(r, f, t, ep, e);
	if (got >= 0 && !f->task)
		got = AGENT_CALL(t->agent, NULL, e, SYS_close, (uint64_t)ep);
	return got < 0 ? got : fown_restore(r, f, f->fe->epfd->fown, f->fe->epfd->flags, e);
}

const struct file_kind file_kind_epoll = {
	.name = "event poll",
	.type = FD_TYPES__EVENTPOLL,
	.recognise = epoll_recognise,
	.check = epoll_check,
	.capture = epoll_capture,
	.load = epoll_load,
	.build = epoll_build,
	.placed = epoll_placed,
};

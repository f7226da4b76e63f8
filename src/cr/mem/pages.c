/* Page content of a dump, from the frozen tasks into the stream.
 *
 * process_vm_readv in pieces of 1 MiB into one buffer that stays in the cache, then write: faster
 * here than any other way from outside (shared/kernel.md 2).  It obeys the protection of a mapping,
 * so memory without PROT_READ is read by /proc/PID/mem.  Anonymous shared objects are read whole,
 * by a descriptor from map_files, and once, whoever maps how much of them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "cr/mem/priv.h"

#define FRAME_PAGES 4096u /* 16 MiB: what an agent reads in one go at the other end */
#define FRAME_RANGES 1024u
#define HUGE_PAGES 512u

/* All data of a shared object; holes stay holes. */
static int plan_shm(struct shm *s)
{
	off_t at = 0, end;

	while ((uint64_t)at < s->size) {
		int r;

		at = lseek(s->fd, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(s->fd, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		at &= ~(off_t)(PAGE - 1);
		r = ranges_add(&s->pages, (uint64_t)at, ((uint64_t)(end - at) + PAGE - 1) / PAGE);
		if (r < 0)
			return r;
		at = end;
	}
	return 0;
}

int mem_plan_shms(struct mem_all *all, struct err *e)
{
	for (size_t i = 0; i < all->n_shms; i++) {
		int r = plan_shm(&all->shms[i]);

		if (r < 0)
			return err_sys(e, r, "looking for the data of shared memory");
		all->pages += all->shms[i].pages.pages;
	}
	return 0;
}

struct sender {
	struct sink *sink;
	char *buf;
	mem_progress progress;
	void *arg;
	uint64_t sent, total; /* bytes, with what was left out */
	bool sparse;          /* pages of zeros are left out */
	uint64_t written;     /* pages of the present source */
	/* the present source */
	pid_t pid;
	const MmEntry *mm; /* NULL: a shared object */
	int fd; /* of /proc/PID/mem or of the shared object; pread at the page's address */
};

static int read_slowly(struct sender *s, char *to, uint64_t at, size_t len)
{
	while (len) {
		ssize_t n = pread(s->fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Fills the buffer from these pieces, `len` bytes in all. */
static int read_pieces(struct sender *s, const struct iovec *v, size_t n, size_t len)
{
	struct iovec local = { s->buf, len };
	ssize_t got = s->pid ? process_vm_readv(s->pid, &local, 1, v, n, 0) : 0;
	size_t done = got > 0 ? (size_t)got : 0, at = 0;

	if (got < 0 && errno != EFAULT)
		return -errno;
	for (size_t i = 0; i < n && done < len; i++) {
		size_t skip = done > at ? done - at : 0;

		if (skip < v[i].iov_len) {
			int r = read_slowly(s, s->buf + at + skip, (uint64_t)(uintptr_t)v[i].iov_base + skip,
					    v[i].iov_len - skip);
			if (r < 0)
				return r;
			done = at + v[i].iov_len;
		}
		at += v[i].iov_len;
	}
	return 0;
}

static int write_vector(int fd, struct iovec *v, size_t n)
{
	while (n) {
		ssize_t done = writev(fd, v, n < IOV_MAX ? (int)n : IOV_MAX);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		while (n && (size_t)done >= v->iov_len) {
			done -= (ssize_t)v->iov_len;
			v++;
			n--;
		}
		if (n) {
			v->iov_base = (char *)v->iov_base + done;
			v->iov_len -= (size_t)done;
		}
	}
	return 0;
}

/* One after the other: the pieces of data follow each other as the runs do, but end elsewhere. */
static int write_runs(struct sender *s, uint32_t id, const struct kept *k, struct err *e)
{
	size_t piece = 0, off = 0;
	int r = 0;

	for (size_t i = 0; i < k->n; i++) {
		uint64_t left = k->v[i].n_pages * PAGE;

		r = sink_pages(s->sink, id, &k->v[i], 1, e);
		if (r < 0)
			return r;
		while (left) {
			const struct iovec *v = &k->data[piece];
			size_t len = v->iov_len - off < left ? v->iov_len - off : (size_t)left;

			r = fd_write_full(sink_fd(s->sink), (char *)v->iov_base + off, len);
			if (r < 0)
				return err_sys(e, r, "writing pages");
			left -= len;
			off += len;
			if (off == v->iov_len) {
				piece++;
				off = 0;
			}
		}
	}
	return 0;
}

/* Announces what is worth it of the pieces in the buffer, and writes it. */
static int write_sparse(struct sender *s, uint32_t id, const struct iovec *v, size_t n, struct err *e)
{
	struct kept k;
	size_t at = 0;
	int r, fd;

	k.n = k.n_data = 0;
	k.pages = 0;
	for (size_t i = 0; i < n; i++) {
		pages_keep(&k, s->mm, (uint64_t)(uintptr_t)v[i].iov_base, s->buf + at, v[i].iov_len);
		at += v[i].iov_len;
	}
	s->written += k.pages;
	if (!k.n)
		return 0;
	if (sink_runwise(s->sink))
		return write_runs(s, id, &k, e);
	r = sink_pages(s->sink, id, k.v, k.n, e);
	if (r < 0)
		return r;
	fd = sink_fd(s->sink);
	r = fd < 0 ? fd : write_vector(fd, k.data, k.n_data);
	return r < 0 ? err_sys(e, r, "writing pages") : 0;
}

static int write_all(struct sender *s, size_t len, struct err *e)
{
	int fd = sink_fd(s->sink), r = fd < 0 ? fd : fd_write_full(fd, s->buf, len);

	s->written += len / PAGE;
	return r < 0 ? err_sys(e, r, "writing pages to the stream") : 0;
}

static int send_frame(struct sender *s, uint32_t id, const struct page_range *v, size_t n, struct err *e)
{
	struct iovec piece[IOV_MAX];
	size_t n_pieces = 0, len = 0;
	int r = s->sparse ? 0 : sink_pages(s->sink, id, v, n, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		uint64_t at = v[i].vaddr, left = v[i].n_pages * PAGE;

		while (left) {
			size_t take = left < COPY_LEN - len ? (size_t)left : COPY_LEN - len;

			piece[n_pieces++] = (struct iovec){ (void *)(uintptr_t)at, take };
			len += take;
			at += take;
			left -= take;
			if (len < COPY_LEN && n_pieces < IOV_MAX && (left || i + 1 < n))
				continue;
			r = read_pieces(s, piece, n_pieces, len);
			if (r < 0)
				return err_sys(e, r, "reading memory at %llx",
					       (unsigned long long)(uintptr_t)piece[0].iov_base);
			r = s->sparse ? write_sparse(s, id, piece, n_pieces, e) : write_all(s, len, e);
			if (r < 0)
				return r;
			s->sent += len;
			n_pieces = len = 0;
		}
	}
	if (s->progress && s->progress(s->arg, s->sent, s->total) < 0)
		return err_set(e, -ECANCELED, "the transfer of memory was given up");
	return 0;
}

static int send_ranges(struct sender *s, uint32_t id, const struct ranges *rs, struct err *e)
{
	struct page_range frame[FRAME_RANGES];
	size_t n = 0;
	uint64_t pages = 0;

	for (size_t i = 0; i < rs->n; i++) {
		uint64_t at = rs->v[i].vaddr, left = rs->v[i].n_pages;

		while (left) {
			uint64_t take = left < FRAME_PAGES - pages ? left : FRAME_PAGES - pages;
			uint64_t over = (at / PAGE + take) % HUGE_PAGES;

			/* A frame ends where a huge page may begin, not within one. */
			if (take < left && take > over)
				take -= over;
			frame[n++] = (struct page_range){ at, take };
			pages += take;
			at += take * PAGE;
			left -= take;
			if (left || pages == FRAME_PAGES || n == FRAME_RANGES) {
				int r = send_frame(s, id, frame, n, e);

				if (r < 0)
					return r;
				n = 0;
				pages = 0;
			}
		}
	}
	return n ? send_frame(s, id, frame, n, e) : 0;
}

static int send_all(struct dump *d, struct sender *s, struct err *e)
{
	struct mem_all *all = d->tasks[0]->mem->all;
	int r = 0;

	for (size_t i = 0; i < all->n_shms && r >= 0; i++) {
		s->pid = 0;
		s->mm = NULL;
		s->fd = all->shms[i].fd;
		r = send_ranges(s, REC_SHM_ID((uint32_t)i), &all->shms[i].pages, e);
		if (r < 0)
			err_context(e, r, "shared memory");
	}
	all->shm_written = s->written;
	for (size_t i = 0; i < d->n_tasks && r >= 0; i++) {
		struct task *t = d->tasks[i];
		auto_fd int fd = -1;

		if (t->zombie || !t->mem->pages.n)
			continue;
		fd = openat(t->proc_fd, "mem", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return err_sys(e, -errno, "opening the memory of process %d", (int)t->nspid);
		s->pid = t->pid;
		s->mm = t->mem->mm;
		s->fd = fd;
		r = send_ranges(s, (uint32_t)t->nspid, &t->mem->pages, e);
		if (r < 0)
			err_context(e, r, "process %d", (int)t->nspid);
	}
	all->written = s->written - all->shm_written;
	return r;
}

int mem_send_pages(struct dump *d, mem_progress progress, void *arg, struct err *e)
{
	struct sender s = { .sink = d->sink, .progress = progress, .arg = arg,
			    .sparse = sink_piecewise(d->sink),
			    .total = mem_pages(d) * PAGE };
	int r;

	/* Page aligned and populated, so that the copies fault nothing in. */
	s.buf = mmap(NULL, COPY_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		     -1, 0);
	if (s.buf == MAP_FAILED)
		return err_sys(e, -errno, "a buffer for pages");
	/* A pipe as long as one copy; less is only slower (without CAP_SYS_RESOURCE 1 MiB is the most). */
	(void)fcntl(sink_fd(d->sink), F_SETPIPE_SZ, COPY_LEN);
	r = send_all(d, &s, e);
	munmap(s.buf, COPY_LEN);
	if (r >= 0 && s.sent != s.total)
		return err_set(e, -EIO, "%llu bytes of memory were sent, %llu were planned",
			       (unsigned long long)s.sent, (unsigned long long)s.total);
	return r;
}

#include "engine/stats.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "stats.pb-c.h"

/* The two words that such a file begins with (pycriu's magic.py: IMG_SERVICE, STATS). */
#define MAGIC_SERVICE 0x55105940u
#define MAGIC_STATS 0x57093306u

/* The format's times have 32 bits: 71 minutes. */
static uint32_t us(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static int entry_write(const char *name, const StatsEntry *entry, struct err *e)
{
	uint32_t head[3] = { MAGIC_SERVICE, MAGIC_STATS, (uint32_t)stats_entry__get_packed_size(entry) };
	auto_buf b = BUF_INIT;
	auto_fd int fd = -1;
	uint8_t *p;
	int r = buf_add(&b, head, sizeof(head));

	p = r < 0 ? NULL : buf_reserve(&b, head[2]);
	if (!p)
		return err_sys(e, -ENOMEM, "writing %s", name);
	b.len += stats_entry__pack(entry, p);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : fd_write_full(fd, b.data, b.len);
	return r < 0 ? err_sys(e, r, "writing %s", name) : 0;
}

static int dump_write(const struct cr_stats *s, struct err *e)
{
	DumpStatsEntry d = DUMP_STATS_ENTRY__INIT;
	StatsEntry entry = STATS_ENTRY__INIT;

	d.freezing_time = us(s->freezing_us);
	d.frozen_time = us(s->frozen_us);
	d.memdump_time = us(s->memdump_us);
	d.memwrite_time = us(s->memwrite_us);
	d.pages_scanned = s->pages_scanned;
	d.pages_skipped_parent = s->pages_skipped_parent;
	d.pages_written = s->pages_written;
	d.pages_lazy = s->pages_lazy;
	d.has_irmap_resolve = d.has_page_pipes = d.has_page_pipe_bufs = 1;
	d.irmap_resolve = us(s->irmap_us);
	d.page_pipes = s->page_pipes;
	d.page_pipe_bufs = s->page_pipe_bufs;
	d.has_shpages_scanned = d.has_shpages_skipped_parent = d.has_shpages_written = 1;
	d.shpages_scanned = s->shpages_scanned;
	d.shpages_skipped_parent = s->shpages_skipped_parent;
	d.shpages_written = s->shpages_written;
	entry.dump = &d;
	return entry_write("stats-dump", &entry, e);
}

static int restore_write(const struct cr_stats *s, struct err *e)
{
	RestoreStatsEntry d = RESTORE_STATS_ENTRY__INIT;
	StatsEntry entry = STATS_ENTRY__INIT;

	d.forking_time = us(s->forking_us);
	d.restore_time = us(s->restore_us);
	d.pages_compared = s->pages_compared;
	d.pages_skipped_cow = s->pages_skipped_cow;
	d.has_pages_restored = 1;
	d.pages_restored = s->pages_restored;
	entry.restore = &d;
	return entry_write("stats-restore", &entry, e);
}

int stats_save(const struct cr_stats *s, bool restore, struct err *e)
{
	return restore ? restore_write(s, e) : dump_write(s, e);
}

void stats_print(const struct cr_stats *s, bool restore)
{
	if (restore)
		printf("restored: %" PRIu64 " pages, forking %" PRIu64 " us, all %" PRIu64 " us\n", s->pages_restored,
		       s->forking_us, s->restore_us);
	else
		printf("dumped: %" PRIu64 " pages of %" PRIu64 " looked at, freezing %" PRIu64 " us, frozen %" PRIu64
		       " us, memory %" PRIu64 " us, writing %" PRIu64 " us\n", s->pages_written, s->pages_scanned,
		       s->freezing_us, s->frozen_us, s->memdump_us, s->memwrite_us);
}

#include "cr/opts.h"
#include "image/folder.h"

static uint32_t us32(uint64_t us)
{
	return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static int dump_write(int dir_fd, const struct cr_stats *s, struct err *e)
{
	DumpStatsEntry d = DUMP_STATS_ENTRY__INIT;
	StatsEntry all = STATS_ENTRY__INIT;

	d.freezing_time = us32(s->freezing_us);
	d.frozen_time = us32(s->frozen_us);
	d.memdump_time = us32(s->memdump_us);
	d.memwrite_time = us32(s->memwrite_us);
	d.has_irmap_resolve = s->irmap_us != 0;
	d.irmap_resolve = us32(s->irmap_us);
	d.pages_scanned = s->pages_scanned;
	d.pages_skipped_parent = s->pages_skipped_parent;
	d.pages_written = s->pages_written;
	d.pages_lazy = s->pages_lazy;
	d.has_page_pipes = d.has_page_pipe_bufs = 1;
	d.page_pipes = s->page_pipes;
	d.page_pipe_bufs = s->page_pipe_bufs;
	d.has_shpages_scanned = d.has_shpages_skipped_parent = d.has_shpages_written = 1;
	d.shpages_scanned = s->shpages_scanned;
	d.shpages_skipped_parent = s->shpages_skipped_parent;
	d.shpages_written = s->shpages_written;
	all.dump = &d;
	return stats_write(dir_fd, &all, e);
}

static int restore_write(int dir_fd, const struct cr_stats *s, struct err *e)
{
	RestoreStatsEntry r = RESTORE_STATS_ENTRY__INIT;
	StatsEntry all = STATS_ENTRY__INIT;

	r.pages_compared = s->pages_compared;
	r.pages_skipped_cow = s->pages_skipped_cow;
	r.forking_time = us32(s->forking_us);
	r.restore_time = us32(s->restore_us);
	r.has_pages_restored = 1;
	r.pages_restored = s->pages_restored;
	all.restore = &r;
	return stats_write(dir_fd, &all, e);
}

int cr_stats_write(int dir_fd, bool restore, const struct cr_stats *s, struct err *e)
{
	return restore ? restore_write(dir_fd, s, e) : dump_write(dir_fd, s, e);
}

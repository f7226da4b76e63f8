#include "engine/stats.h"

#include <inttypes.h>
#include <stdio.h>

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

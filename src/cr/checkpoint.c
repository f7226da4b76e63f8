#include "cr/checkpoint.h"

#include "base/mem.h"
#include "cr/dump.h"
#include "cr/restore.h"

static struct dump_subject subject_of(const struct cr_opts *o)
{
	return (struct dump_subject){ .pid = o->pid, .opts = o };
}

int checkpoint_dump(const struct cr_opts *o, struct refusals *ret_refusals, struct cr_stats *ret,
		    struct err *e)
{
	struct dump_opts d = { .subject = subject_of(o), .data_fd = -1 };
	struct dump_times times;
	uint64_t bytes;
	int r = dump_run(&d, ret_refusals, &bytes, &times, e);

	if (r < 0)
		return r;
	*ret = (struct cr_stats){ .freezing_us = times.freeze_us, .frozen_us = times.frozen_us,
				  .memdump_us = times.pages_us, .memwrite_us = times.pages_us,
				  .pages_scanned = times.mem.pages, .pages_written = times.mem.written,
				  .shpages_scanned = times.mem.shm_pages,
				  .shpages_written = times.mem.shm_written };
	return 0;
}

int checkpoint_check(const struct cr_opts *o, struct refusals *ret_refusals, struct err *e)
{
	struct dump_subject s = subject_of(o);

	return dump_check(&s, ret_refusals, e);
}

int checkpoint_restore(const struct cr_opts *o, pid_t *ret_pid, struct cr_stats *ret, struct err *e)
{
	struct restore_opts ro = { .opts = o, .data_fd = -1 };
	struct restore_times times;
	int r = restore_run(&ro, &times, ret_pid, e);

	if (r < 0)
		return r;
	*ret = (struct cr_stats){ .forking_us = times.build_us,
				  .restore_us = times.build_us + times.pages_us + times.finish_us };
	return 0;
}

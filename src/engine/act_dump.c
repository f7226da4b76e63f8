#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "cr/checkpoint.h"
#include "engine/action.h"
#include "engine/cpuinfo.h"
#include "engine/page_server.h"
#include "engine/stats.h"
#include "image/folder.h"

/* The list goes to the log, line by line; what is returned is a reason of one line. */
static int refused_say(const struct refusals *rf, struct err *e)
{
	auto_free char *text = refusals_text(rf);
	const struct refusal *x = rf->list;

	for (char *line = text, *end; line && *line; line = end + 1) {
		end = strchr(line, '\n');
		*end = '\0';
		log_error("refused: %s", line);
	}
	return err_set(e, -EOPNOTSUPP, "refused, nothing was touched: %zu thing%s cannot be carried%s process %d%s%s: "
		       "%s: %s", rf->n, rf->n == 1 ? "" : "s", rf->n == 1 ? ":" : ", the first:", (int)x->pid,
		       *x->where ? ", " : "", x->where, x->what, x->why);
}

/* The images, without regard to what is in the folder. */
static int images_write(struct options *o, struct cr_stats *ret, struct err *e)
{
	struct refusals rf = REFUSALS_INIT;
	bool cpu = !o->cpu_cap_given || o->cpu_cap;
	int r = cpu ? cpuinfo_write(o->cr.images_fd, e) : 0;

	if (r < 0)
		return r;
	r = checkpoint_dump(&o->cr, &rf, ret, e);
	if (r < 0 && rf.n)
		r = refused_say(&rf, e);
	refusals_done(&rf);
	if (r < 0 && cpu)
		unlinkat(o->cr.images_fd, CPUINFO_IMG, 0);
	return r;
}

/* An old image is there again if there is no new one. */
static int images_replace(struct options *o, struct cr_stats *ret, struct err *e)
{
	int dir = o->cr.images_fd, r = folder_put_aside(dir, e), aside = r;

	if (r >= 0)
		r = images_write(o, ret, e);
	if (aside > 0 && r < 0)
		folder_return_aside(dir);
	else if (aside > 0)
		folder_drop_aside(dir);
	return r;
}

int action_dump(struct options *o, struct scripts *s, struct err *e)
{
	struct cr_stats stats = { 0 };
	auto_fd int pages = -1;
	int r;

	o->cr.act = scripts_act;
	o->cr.arg = s;
	if (!o->replace && faccessat(o->cr.images_fd, "inventory.img", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "the folder has an image already (inventory.img)");
	if (o->page_server) {
		pages = page_server_connect(o, e);
		if (pages < 0)
			return pages;
		o->cr.page_sock = pages;
	}
	r = o->replace ? images_replace(o, &stats, e) : images_write(o, &stats, e);
	if (r < 0)
		return r;
	/* The tree may be gone by now, and its image is whole: no failure any more. */
	if (stats_save(&stats, false, e) < 0)
		log_warn("%s", err_text(e));
	if (o->display_stats)
		stats_print(&stats, false);
	log_info("dumped process %d: %llu pages", (int)o->cr.pid, (unsigned long long)stats.pages_written);
	return 0;
}

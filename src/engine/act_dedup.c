#include "base/log.h"
#include "engine/action.h"
#include "image/folder.h"

int action_dedup(const struct options *o, struct err *e)
{
	uint64_t pages;
	int r = image_dedup(o->cr.images_fd, &pages, e);

	if (r >= 0)
		log_info("%llu pages were taken out of older images", (unsigned long long)pages);
	return r;
}

#include "daemon/verbs.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/verbs.h"
#include "image_store/verbs.h"
#include "migrate/verbs.h"
#include "network/verbs.h"
#include "runtime/verbs.h"

int verbs_main(const char *verb)
{
	const struct {
		const struct job_verb *const *verbs;
		size_t n;
	} rooms[] = {
		{ image_store_verbs, image_store_verbs_n },
		{ network_verbs, network_verbs_n },
		{ runtime_verbs, runtime_verbs_n },
		{ migrate_verbs, migrate_verbs_n },
		{ api_verbs, api_verbs_n },
	};
	const struct job_verb **all;
	size_t n = 0, at = 0;
	int r;

	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		n += rooms[i].n;
	all = calloc(n, sizeof(*all));
	if (!all)
		return 1;
	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		for (size_t k = 0; k < rooms[i].n; k++)
			all[at++] = rooms[i].verbs[k];
	r = job_main(all, n, verb);
	free(all);
	return r;
}

/* Text of fdinfo: names in it come from the container. */
#include <stdlib.h>
#include <string.h>

#include "cr/file/fdinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const keys[] = { "pos", "flags", "tfd", "lock", "inotify wd" };
	char *text = malloc(len + 1);
	struct idmap_range ranges[8];
	uint64_t u;
	int64_t i;
	size_t n;

	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = 0;
	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		fdinfo_u64(text, keys[k], 16, &u);
		fdinfo_i64(text, keys[k], &i);
		for (const char *p = NULL; (p = fdinfo_line(text, keys[k], p));) {
			struct fdinfo_lock l;
			struct fdinfo_epoll t;
			bool waits;

			if (fdinfo_lock(p, &l, &waits) == 0 && !fdinfo_lock_same(&l, &l))
				abort();
			fdinfo_epoll(p, &t);
		}
	}
	for (const char *p = text; (p = strstr(p, "wd:")); p++) {
		struct fdinfo_inotify w;

		fdinfo_inotify(p, &w);
	}
	idmap_parse(text, ranges, 8, &n);
	free(text);
	return 0;
}

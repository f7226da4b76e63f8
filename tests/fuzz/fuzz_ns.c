/* Mount lists, id maps and rtnetlink messages. */
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "cr/ns/ids.h"
#include "cr/ns/mounts.h"
#include "cr/ns/rtnl.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t len);

static void text_run(const char *text, int which)
{
	static struct id_map map;
	struct mnts m;

	if (which == 0) {
		if (id_map_parse(text, &map) == 0)
			id_inside(&map, id_outside(&map, 7));
	} else if (mnts_parse(text, &m) == 0) {
		for (size_t i = 0; i < m.n; i++) {
			free(mnt_bind_source(&m, &m.list[i]));
			mnt_way(&m, &m.list[i]);
			mnt_flags(m.list[i].opts);
		}
		mnts_done(&m);
	}
}

static void messages_run(const void *data, size_t len)
{
	const struct nlmsghdr *m;
	size_t pos = 0;

	while ((m = rtnl_next(data, len, &pos))) {
		const struct rtattr *a;
		size_t at = 0;
		uint32_t v;

		while ((a = rtnl_attr_next(m, sizeof(struct rtmsg), &at)))
			rtnl_attr_u32(a, &v);
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t len)
{
	char *copy;

	if (!len)
		return 0;
	copy = malloc(len); /* aligned, as a record's bytes are */
	memcpy(copy, data + 1, len - 1);
	copy[len - 1] = 0;
	if (data[0] % 3 == 2)
		messages_run(copy, len - 1);
	else
		text_run(copy, data[0] % 3);
	free(copy);
	return 0;
}

#include <stdlib.h>
#include <string.h>

#include "cr/mem/priv.h"

int ranges_add(struct ranges *rs, uint64_t vaddr, uint64_t n_pages)
{
	int r;

	if (!n_pages)
		return 0;
	rs->pages += n_pages;
	if (rs->n && rs->v[rs->n - 1].vaddr + rs->v[rs->n - 1].n_pages * PAGE == vaddr) {
		rs->v[rs->n - 1].n_pages += n_pages;
		return 0;
	}
	r = array_grow(rs->v, rs->n, rs->cap);
	if (r < 0)
		return r;
	rs->v[rs->n++] = (struct page_range){ vaddr, n_pages };
	return 0;
}

void ranges_done(struct ranges *rs)
{
	free(rs->v);
	memset(rs, 0, sizeof(*rs));
}

int ranges_to_pb(const struct ranges *rs, GwRanges **ret)
{
	GwRanges *pb = malloc(sizeof(*pb));

	if (!pb)
		return -ENOMEM;
	gw_ranges__init(pb);
	pb->v = malloc((rs->n ? rs->n : 1) * 2 * sizeof(*pb->v));
	if (!pb->v) {
		free(pb);
		return -ENOMEM;
	}
	for (size_t i = 0; i < rs->n; i++) {
		pb->v[pb->n_v++] = rs->v[i].vaddr;
		pb->v[pb->n_v++] = rs->v[i].n_pages;
	}
	*ret = pb;
	return 0;
}

int ranges_from_pb(const GwRanges *pb, uint64_t end, struct ranges *ret)
{
	struct ranges rs = { 0 };
	uint64_t last = 0;
	int r = 0;

	if (pb && pb->n_v % 2)
		return -EPROTO;
	for (size_t i = 0; pb && i < pb->n_v && r == 0; i += 2) {
		uint64_t at = pb->v[i], n = pb->v[i + 1];

		if (at % PAGE || at < last || at > end || !n || n > (end - at) / PAGE) {
			r = -EPROTO;
			break;
		}
		last = at + n * PAGE;
		r = ranges_add(&rs, at, n);
	}
	if (r < 0) {
		ranges_done(&rs);
		return r;
	}
	*ret = rs;
	return 0;
}

/* Pages of zeros, which a folder need not hold: private anonymous memory and shared objects are zero where
 * nothing is put.  Told by content while it is copied, since most of them are really there. */
#include <string.h>

#include "cr/mem/priv.h"

static bool page_is_zero(const char *p)
{
	const uint64_t *w = (const uint64_t *)p;

	/* Nearly every page says no at once. */
	if (w[0] | w[1] | w[2] | w[3])
		return false;
	return memcmp(p, p + 32, PAGE - 32) == 0;
}

static bool is_anonymous(const MmEntry *mm, uint64_t at)
{
	size_t lo = 0, hi = mm->n_vmas;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->vmas[mid]->end <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mm->n_vmas && mm->vmas[lo]->start <= at && mm->vmas[lo]->status & MS_ANON_PRIVATE;
}

void pages_keep(struct kept *k, const MmEntry *mm, uint64_t at, char *data, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE, at += PAGE) {
		struct page_range *last = k->n ? &k->v[k->n - 1] : NULL;
		struct iovec *to = k->n_data ? &k->data[k->n_data - 1] : NULL;

		if (page_is_zero(data + i) && (!mm || is_anonymous(mm, at)))
			continue;
		if (last && last->vaddr + last->n_pages * PAGE == at)
			last->n_pages++;
		else
			k->v[k->n++] = (struct page_range){ at, 1 };
		if (to && (char *)to->iov_base + to->iov_len == data + i)
			to->iov_len += PAGE;
		else
			k->data[k->n_data++] = (struct iovec){ data + i, PAGE };
		k->pages++;
	}
}

/* Seccomp filters as CRIU's image has them: every filter once, with the one that was installed before it, and of
 * each thread the last.  A thousand processes of one service have one and the same chain. */
#include "cr/task/seccomp_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cr/task/attr.h"

#define COPIES_MAX (1ull << 30) /* bytes of filters of all threads, when each has its own again */

void filters_done(struct filters *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->v[i].filter.data);
	free(f->v);
	*f = (struct filters){ 0 };
}

static bool is_filter(const SeccompFilter *f, const ProtobufCBinaryData *data, uint32_t flags, const uint32_t *prev)
{
	return f->has_prev == (prev != NULL) && (!prev || f->prev == *prev) && f->flags == flags &&
	       f->filter.len == data->len && memcmp(f->filter.data, data->data, data->len) == 0;
}

/* Where the filter is in the list; its data is taken over. */
static int filter_index(struct filters *f, ProtobufCBinaryData *data, uint32_t flags, const uint32_t *prev,
			uint32_t *ret)
{
	SeccompFilter *x;

	for (size_t i = f->n; i-- > 0;)
		if (is_filter(&f->v[i], data, flags, prev)) {
			free(ptr_take(data->data));
			*ret = (uint32_t)i;
			return 0;
		}
	if (array_grow(f->v, f->n, f->cap) < 0)
		return -ENOMEM;
	x = &f->v[f->n];
	seccomp_filter__init(x);
	x->filter.len = data->len;
	x->filter.data = ptr_take(data->data);
	x->has_flags = true;
	x->flags = flags;
	x->has_prev = prev != NULL;
	x->prev = prev ? *prev : 0;
	*ret = (uint32_t)f->n++;
	return 0;
}

int filters_take(struct filters *f, struct thread *th)
{
	ThreadCoreEntry *tc = th->core->thread_core;
	GwThread *x = th->extra;
	uint32_t last = 0;
	int r = 0;

	if (!tc || !x || !x->n_seccomp)
		return 0;
	for (size_t i = 0; i < x->n_seccomp && r >= 0; i++) {
		uint32_t before = last;

		r = filter_index(f, &x->seccomp[i], x->seccomp_flags[i], i ? &before : NULL, &last);
	}
	if (r < 0)
		return r;
	tc->has_seccomp_filter = true;
	tc->seccomp_filter = last;
	free(ptr_take(x->seccomp));
	free(ptr_take(x->seccomp_flags));
	x->n_seccomp = x->n_seccomp_flags = 0;
	return 0;
}

int filters_put(struct dump *d, struct filters *f, struct err *e)
{
	auto_free SeccompFilter **list = calloc(f->n + 1, sizeof(*list));
	SeccompEntry s = SECCOMP_ENTRY__INIT;

	if (!f->n)
		return 0;
	if (!list)
		return err_sys(e, -ENOMEM, "writing seccomp filters");
	for (size_t i = 0; i < f->n; i++)
		list[i] = &f->v[i];
	s.seccomp_filters = list;
	s.n_seccomp_filters = f->n;
	return sink_put(d->sink, REC_SECCOMP, 0, &s.base, e);
}

/* ---- restore ---- */

/* Filters from this one on down; prev always points to an earlier one, so that it ends. */
static size_t chain_length(const SeccompEntry *s, uint32_t last, size_t max)
{
	size_t n = 1;

	if (last >= s->n_seccomp_filters)
		return 0;
	while (s->seccomp_filters[last]->has_prev) {
		uint32_t prev = s->seccomp_filters[last]->prev;

		if (prev >= last || ++n > max)
			return 0;
		last = prev;
	}
	return n;
}

static int chain_give(const SeccompEntry *s, uint32_t last, size_t n, GwThread *x, uint64_t *copied)
{
	x->seccomp = calloc(n, sizeof(*x->seccomp));
	x->seccomp_flags = calloc(n, sizeof(*x->seccomp_flags));
	if (!x->seccomp || !x->seccomp_flags)
		return -ENOMEM;
	x->n_seccomp = x->n_seccomp_flags = n;
	for (size_t i = n; i-- > 0;) {
		const SeccompFilter *f = s->seccomp_filters[last];

		*copied += f->filter.len;
		if (*copied > COPIES_MAX)
			return -E2BIG;
		x->seccomp[i].data = malloc(f->filter.len + 1);
		if (!x->seccomp[i].data)
			return -ENOMEM;
		memcpy(x->seccomp[i].data, f->filter.data, f->filter.len);
		x->seccomp[i].len = f->filter.len;
		x->seccomp_flags[i] = f->has_flags ? f->flags : 0;
		last = f->prev;
	}
	return 0;
}

int filters_give(struct restore *r, size_t max, struct err *e)
{
	const struct record *rec = image_find(r->image, REC_SECCOMP, REC_ANY, NULL);
	uint64_t copied = 0;

	for (size_t i = 0; rec && i < r->n_tasks; i++)
		for (size_t k = 0; k < r->tasks[i]->n_threads; k++) {
			const struct rthread *th = &r->tasks[i]->threads[k];
			const ThreadCoreEntry *tc = th->core->thread_core;
			const SeccompEntry *s = (const SeccompEntry *)rec->msg;
			size_t n;
			int x;

			/* The record is the image's, which is the restore's. */
			if (!tc || !tc->has_seccomp_filter || !th->extra || th->extra->n_seccomp)
				continue;
			n = chain_length(s, tc->seccomp_filter, max);
			if (!n)
				return err_set(e, -EPROTO, "thread %d: its seccomp filters are not ones", (int)th->nstid);
			x = chain_give(s, tc->seccomp_filter, n, (GwThread *)th->extra, &copied);
			if (x < 0)
				return err_sys(e, x, "thread %d: its seccomp filters", (int)th->nstid);
		}
	return 0;
}

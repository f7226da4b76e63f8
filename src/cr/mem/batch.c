#include "cr/mem/priv.h"

/* Well below what one program takes, with any arguments. */
#define BATCH_OPS 128

struct aprog *batch_prog(struct batch *b)
{
	if (!b->p)
		b->p = aprog_new();
	return b->p;
}

int batch_flush(struct batch *b, struct err *e)
{
	int r = b->n ? agent_run(b->a, b->p, e) : 0;

	batch_done(b);
	return r < 0 ? r : 0;
}

void batch_done(struct batch *b)
{
	b->p = aprog_free(b->p);
	b->n = 0;
	b->bytes = 0;
}

int batch_call(struct batch *b, unsigned flags, struct err *e, long nr, size_t n_args,
	       const struct aarg *args)
{
	if (!batch_prog(b))
		return err_set(e, -ENOMEM, "no memory");
	aprog_call(b->p, flags, nr, n_args, args);
	return ++b->n >= BATCH_OPS ? batch_flush(b, e) : 0;
}

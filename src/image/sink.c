/* Sinks: what all have in common, and the one that is a stream. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/frame.h"
#include "image/priv.h"

struct stream {
	struct sink s;
	int fd;
	struct buf batch; /* whole frames, not written yet */
};

/* Records go out as one frame that holds many, so that the reader, which must not read ahead into
 * pages, still needs few calls. */
static int batch_write(struct stream *st, struct err *e)
{
	struct frame_head h = { .kind = REC_BATCH, .len = st->batch.len };
	int r;

	if (st->batch.len == 0)
		return 0;
	r = fd_write_full(st->fd, &h, sizeof(h));
	if (r >= 0)
		r = fd_write_full(st->fd, st->batch.data, st->batch.len);
	if (r < 0)
		return err_sys(e, r, "writing records to the stream");
	st->s.bytes += sizeof(h);
	st->batch.len = 0;
	return 0;
}

static int stream_put(struct sink *s, uint32_t kind, uint32_t id, const ProtobufCMessage *m, size_t len,
		      struct err *e)
{
	struct stream *st = (struct stream *)s;
	struct frame_head h = { .kind = kind, .id = id, .len = len };
	uint8_t *p = buf_reserve(&st->batch, sizeof(h) + len);

	if (!p)
		return err_sys(e, -ENOMEM, "writing a record %s", rec_kind_name(kind));
	memcpy(p, &h, sizeof(h));
	protobuf_c_message_pack(m, p + sizeof(h));
	st->batch.len += sizeof(h) + len;
	s->bytes += sizeof(h) + len;
	return st->batch.len >= FRAME_BATCH_MIN ? batch_write(st, e) : 0;
}

static int stream_pages(struct sink *s, uint32_t id, const struct page_range *ranges, size_t n,
			struct err *e)
{
	struct stream *st = (struct stream *)s;
	struct frame_head h = { .kind = REC_PAGES, .id = id };
	uint32_t counts[2] = { (uint32_t)n, 0 };
	auto_buf b = BUF_INIT;
	int r = batch_write(st, e);

	if (r < 0)
		return r;
	h.len = sizeof(counts) + n * sizeof(*ranges);
	r = buf_add(&b, &h, sizeof(h));
	if (r >= 0)
		r = buf_add(&b, counts, sizeof(counts));
	if (r >= 0)
		r = buf_add(&b, ranges, n * sizeof(*ranges));
	if (r >= 0)
		r = fd_write_full(st->fd, b.data, b.len);
	if (r < 0)
		return err_sys(e, r, "writing a frame of pages");
	s->bytes += b.len;
	return 0;
}

static int stream_fd(struct sink *s)
{
	struct stream *st = (struct stream *)s;
	int r = batch_write(st, NULL);

	return r < 0 ? r : st->fd;
}

static int stream_end(struct sink *s, struct err *e)
{
	struct stream *st = (struct stream *)s;
	struct frame_head h = { .kind = REC_END };
	int r = batch_write(st, e);

	if (r < 0)
		return r;
	r = fd_write_full(st->fd, &h, sizeof(h));
	if (r < 0)
		return err_sys(e, r, "writing the end of the stream");
	s->bytes += sizeof(h);
	return 0;
}

static void stream_free(struct sink *s)
{
	struct stream *st = (struct stream *)s;

	buf_done(&st->batch);
	free(st);
}

static const struct sink_ops stream_ops = {
	.put = stream_put,
	.pages = stream_pages,
	.fd = stream_fd,
	.end = stream_end,
	.free = stream_free,
};

int sink_stream_new(int fd, struct sink **ret, struct err *e)
{
	struct stream *st = calloc(1, sizeof(*st));
	int r;

	if (!st)
		return err_sys(e, -ENOMEM, "starting the stream");
	st->s.ops = &stream_ops;
	st->fd = fd;
	r = fd_write_full(fd, STREAM_MAGIC, STREAM_MAGIC_LEN);
	if (r < 0) {
		free(st);
		return err_sys(e, r, "writing the head of the stream");
	}
	*ret = &st->s;
	return 0;
}

/* ---- of all sinks ---- */

struct sink *sink_free(struct sink *s)
{
	if (s)
		s->ops->free(s);
	return NULL;
}

int sink_put(struct sink *s, enum rec_kind kind, uint32_t id, const ProtobufCMessage *m, struct err *e)
{
	size_t len;

	if (rec_kind_type(kind) != m->descriptor)
		return err_set(e, -EINVAL, "a record of kind %u does not hold a %s", (unsigned)kind,
			       m->descriptor->name);
	if (s->ended)
		return err_set(e, -EINVAL, "a record was written behind the end");
	len = protobuf_c_message_get_packed_size(m);
	if (len > REC_LEN_MAX)
		return err_set(e, -EFBIG, "a record %s of %zu bytes is longer than a record may be",
			       rec_kind_name(kind), len);
	return s->ops->put(s, kind, id, m, len, e);
}

int sink_pages(struct sink *s, uint32_t id, const struct page_range *ranges, size_t n, struct err *e)
{
	if (n == 0 || n > FRAME_RANGES_MAX)
		return err_set(e, -EINVAL, "a frame of %zu page ranges", n);
	return s->ops->pages(s, id, ranges, n, e);
}

int sink_fd(struct sink *s)
{
	return s->ops->fd(s);
}

bool sink_piecewise(const struct sink *s)
{
	return s->ops->piecewise;
}

bool sink_runwise(const struct sink *s)
{
	return s->runwise;
}

int sink_end(struct sink *s, struct err *e)
{
	int r = s->ops->end(s, e);

	if (r >= 0)
		s->ended = true;
	return r;
}

uint64_t sink_bytes(const struct sink *s)
{
	return s->bytes;
}

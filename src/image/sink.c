#include "image/record.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/frame.h"

struct sink {
	int fd;
	struct buf batch; /* whole frames, not written yet */
	uint64_t bytes;
	bool ended;
};

int sink_stream_new(int fd, struct sink **ret, struct err *e)
{
	struct sink *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sys(e, -ENOMEM, "starting the stream");
	s->fd = fd;
	r = fd_write_full(fd, STREAM_MAGIC, STREAM_MAGIC_LEN);
	if (r < 0) {
		free(s);
		return err_sys(e, r, "writing the head of the stream");
	}
	*ret = s;
	return 0;
}

struct sink *sink_free(struct sink *s)
{
	if (s) {
		buf_done(&s->batch);
		free(s);
	}
	return NULL;
}

/* Records go out as one frame that holds many, so that the reader, which must not read ahead into
 * pages, still needs few calls. */
static int batch_write(struct sink *s, struct err *e)
{
	struct frame_head h = { .kind = REC_BATCH, .len = s->batch.len };
	int r;

	if (s->batch.len == 0)
		return 0;
	r = fd_write_full(s->fd, &h, sizeof(h));
	if (r >= 0)
		r = fd_write_full(s->fd, s->batch.data, s->batch.len);
	if (r < 0)
		return err_sys(e, r, "writing records to the stream");
	s->bytes += sizeof(h) + s->batch.len;
	s->batch.len = 0;
	return 0;
}

int sink_put(struct sink *s, enum rec_kind kind, uint32_t id, const ProtobufCMessage *m, struct err *e)
{
	struct frame_head h = { .kind = kind, .id = id };
	uint8_t *p;

	if (rec_kind_type(kind) != m->descriptor)
		return err_set(e, -EINVAL, "a record of kind %u does not hold a %s", (unsigned)kind,
			       m->descriptor->name);
	if (s->ended)
		return err_set(e, -EINVAL, "a record was written behind the end of the stream");
	h.len = protobuf_c_message_get_packed_size(m);
	if (h.len > REC_LEN_MAX)
		return err_set(e, -EFBIG, "a record %s of %llu bytes is longer than a record may be",
			       rec_kind_name(kind), (unsigned long long)h.len);
	p = buf_reserve(&s->batch, sizeof(h) + h.len);
	if (!p)
		return err_sys(e, -ENOMEM, "writing a record %s", rec_kind_name(kind));
	memcpy(p, &h, sizeof(h));
	protobuf_c_message_pack(m, p + sizeof(h));
	s->batch.len += sizeof(h) + h.len;
	return s->batch.len >= FRAME_BATCH_MIN ? batch_write(s, e) : 0;
}

int sink_pages(struct sink *s, uint32_t id, const struct page_range *ranges, size_t n, struct err *e)
{
	struct frame_head h = { .kind = REC_PAGES, .id = id };
	uint32_t counts[2] = { (uint32_t)n, 0 };
	auto_buf b = BUF_INIT;
	int r;

	if (n == 0 || n > FRAME_RANGES_MAX)
		return err_set(e, -EINVAL, "a frame of %zu page ranges", n);
	r = batch_write(s, e);
	if (r < 0)
		return r;
	h.len = sizeof(counts) + n * sizeof(*ranges);
	r = buf_add(&b, &h, sizeof(h));
	if (r >= 0)
		r = buf_add(&b, counts, sizeof(counts));
	if (r >= 0)
		r = buf_add(&b, ranges, n * sizeof(*ranges));
	if (r >= 0)
		r = fd_write_full(s->fd, b.data, b.len);
	if (r < 0)
		return err_sys(e, r, "writing a frame of pages");
	s->bytes += b.len;
	return 0;
}

int sink_fd(struct sink *s)
{
	int r = batch_write(s, NULL);

	return r < 0 ? r : s->fd;
}

int sink_end(struct sink *s, struct err *e)
{
	struct frame_head h = { .kind = REC_END };
	int r = batch_write(s, e);

	if (r < 0)
		return r;
	r = fd_write_full(s->fd, &h, sizeof(h));
	if (r < 0)
		return err_sys(e, r, "writing the end of the stream");
	s->bytes += sizeof(h);
	s->ended = true;
	return 0;
}

uint64_t sink_bytes(const struct sink *s)
{
	return s->bytes + s->batch.len;
}

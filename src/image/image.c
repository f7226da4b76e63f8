/* Reads what a sink wrote.  Everything here comes from another host: each length is checked before
 * it is used, and nothing is allocated that the sender has not sent. */
#include "image/record.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/frame.h"

struct index {
	uint32_t kind, id, pos;
};

struct image {
	struct record *rec;
	size_t n, cap;
	uint64_t total;
	struct index *by_id, *by_pos; /* sorted by (kind, id, pos) and by (kind, pos) */
	bool ended;                   /* REC_END was read */
	bool pages_waiting;           /* `head` is a page frame not yet given out */
	struct frame_head head;
};

struct image *image_free(struct image *im)
{
	if (!im)
		return NULL;
	for (size_t i = 0; i < im->n; i++)
		protobuf_c_message_free_unpacked(im->rec[i].msg, NULL);
	free(im->rec);
	free(im->by_id);
	free(im->by_pos);
	free(im);
	return NULL;
}
AUTO_OF_DEFINE(image)

static int record_add(struct image *im, const struct frame_head *h, const uint8_t *data, struct err *e)
{
	const ProtobufCMessageDescriptor *type = rec_kind_type(h->kind);
	ProtobufCMessage *m;

	/* A newer sender may have kinds we do not know: they would be state we silently drop. */
	if (!type)
		return err_set(e, -EPROTO, "the stream has a record of unknown kind %" PRIu32, h->kind);
	if (im->n >= REC_COUNT_MAX)
		return err_set(e, -EPROTO, "the stream has more than %u records", REC_COUNT_MAX);
	if (array_grow(im->rec, im->n, im->cap) < 0)
		return err_sys(e, -ENOMEM, "reading records");
	m = protobuf_c_message_unpack(type, NULL, h->len, data);
	if (!m)
		return err_set(e, -EPROTO, "record %zu (%s) of the stream is malformed", im->n,
			       rec_kind_name(h->kind));
	im->rec[im->n++] = (struct record){ .kind = h->kind, .id = h->id, .msg = m };
	return 0;
}

static int batch_parse(struct image *im, const uint8_t *data, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		struct frame_head h;
		int r;

		if (len - at < sizeof(h))
			return err_set(e, -EPROTO, "the stream has half a record");
		memcpy(&h, data + at, sizeof(h));
		at += sizeof(h);
		if (h.len > len - at)
			return err_set(e, -EPROTO, "a record is longer than the frame it is in");
		r = record_add(im, &h, data + at, e);
		if (r < 0)
			return r;
		at += h.len;
	}
	return 0;
}

static int batch_read(struct image *im, int fd, struct buf *b, struct err *e)
{
	uint64_t len = im->head.len;
	int r;

	if (len > REC_LEN_MAX + FRAME_BATCH_MIN + sizeof(struct frame_head))
		return err_set(e, -EPROTO, "a frame of records of %" PRIu64 " bytes is too long", len);
	im->total += len;
	if (im->total > REC_TOTAL_MAX)
		return err_set(e, -EPROTO, "the records of the stream are longer than they may be");
	b->len = 0;
	/* In pieces: the memory grows with what really came. */
	while (b->len < len) {
		size_t piece = len - b->len < (1u << 20) ? len - b->len : (1u << 20);
		char *p = buf_reserve(b, piece);

		if (!p)
			return err_sys(e, -ENOMEM, "reading records");
		r = fd_read_full(fd, p, piece);
		if (r < 0)
			return err_sys(e, r, "the stream broke off within its records");
		b->len += piece;
	}
	return batch_parse(im, (const uint8_t *)b->data, b->len, e);
}

static int by_id_cmp(const void *pa, const void *pb)
{
	const struct index *a = pa, *b = pb;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->pos < b->pos ? -1 : a->pos > b->pos;
}

static int by_pos_cmp(const void *pa, const void *pb)
{
	const struct index *a = pa, *b = pb;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->pos < b->pos ? -1 : a->pos > b->pos;
}

static int index_make(struct image *im, struct err *e)
{
	im->by_id = calloc(im->n + 1, sizeof(*im->by_id));
	im->by_pos = calloc(im->n + 1, sizeof(*im->by_pos));
	if (!im->by_id || !im->by_pos)
		return err_sys(e, -ENOMEM, "reading records");
	for (size_t i = 0; i < im->n; i++)
		im->by_id[i] = im->by_pos[i] =
			(struct index){ im->rec[i].kind, im->rec[i].id, (uint32_t)i };
	qsort(im->by_id, im->n, sizeof(*im->by_id), by_id_cmp);
	qsort(im->by_pos, im->n, sizeof(*im->by_pos), by_pos_cmp);
	return 0;
}

int image_read_stream(int fd, struct image **ret, struct err *e)
{
	auto_of(image) *im = calloc(1, sizeof(*im));
	char magic[STREAM_MAGIC_LEN];
	auto_buf b = BUF_INIT;
	int r;

	if (!im)
		return err_sys(e, -ENOMEM, "reading the stream");
	r = fd_read_full(fd, magic, sizeof(magic));
	if (r < 0)
		return err_sys(e, r, "the stream broke off before it began");
	if (memcmp(magic, STREAM_MAGIC, STREAM_MAGIC_LEN) != 0)
		return err_set(e, -EPROTO, "this is not a stream of ours, or one of another version");
	for (;;) {
		r = fd_read_full(fd, &im->head, sizeof(im->head));
		if (r < 0)
			return err_sys(e, r, "the stream broke off within its records");
		if (im->head.kind == REC_PAGES) {
			im->pages_waiting = true;
			break;
		}
		if (im->head.kind == REC_END) {
			im->ended = true;
			break;
		}
		if (im->head.kind != REC_BATCH)
			return err_set(e, -EPROTO, "the stream has an unknown frame %" PRIu32,
				       im->head.kind);
		r = batch_read(im, fd, &b, e);
		if (r < 0)
			return r;
	}
	r = index_make(im, e);
	if (r < 0)
		return r;
	*ret = ptr_take(im);
	return 0;
}

size_t image_count(const struct image *im)
{
	return im->n;
}

const struct record *image_at(const struct image *im, size_t i)
{
	return i < im->n ? &im->rec[i] : NULL;
}

const struct record *image_find(const struct image *im, enum rec_kind kind, uint32_t id, size_t *pos)
{
	int (*cmp)(const void *, const void *) = id == REC_ANY ? by_pos_cmp : by_id_cmp;
	const struct index *ix = id == REC_ANY ? im->by_pos : im->by_id;
	struct index key = { kind, id, 0 };
	size_t lo = 0, hi = im->n;

	if (pos) {
		if (*pos >= im->n)
			return NULL;
		key.pos = (uint32_t)*pos;
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (cmp(&ix[mid], &key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo >= im->n || ix[lo].kind != kind || (id != REC_ANY && ix[lo].id != id))
		return NULL;
	if (pos)
		*pos = (size_t)ix[lo].pos + 1;
	return &im->rec[ix[lo].pos];
}

static int ranges_check(const struct page_range *rg, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t bytes, end;

		if (rg[i].n_pages == 0 || (rg[i].vaddr & 4095) ||
		    __builtin_mul_overflow(rg[i].n_pages, 4096ull, &bytes) ||
		    __builtin_add_overflow(rg[i].vaddr, bytes, &end) || end > 1ull << 57)
			return err_set(e, -EPROTO, "the stream has an impossible run of pages");
	}
	return 0;
}

int image_next_pages(struct image *im, int fd, uint32_t *ret_id, struct page_range **ret, size_t *ret_n,
		     struct err *e)
{
	auto_free struct page_range *rg = NULL;
	uint32_t counts[2];
	int r;

	if (im->ended)
		return 0;
	if (!im->pages_waiting) {
		r = fd_read_full(fd, &im->head, sizeof(im->head));
		if (r < 0)
			return err_sys(e, r, "the stream broke off within memory");
	}
	im->pages_waiting = false;
	if (im->head.kind == REC_END) {
		im->ended = true;
		return 0;
	}
	if (im->head.kind != REC_PAGES)
		return err_set(e, -EPROTO, "the stream has a frame of kind %" PRIu32 " among its pages",
			       im->head.kind);
	r = fd_read_full(fd, counts, sizeof(counts));
	if (r < 0)
		return err_sys(e, r, "the stream broke off within memory");
	if (counts[0] == 0 || counts[0] > FRAME_RANGES_MAX ||
	    im->head.len != sizeof(counts) + counts[0] * sizeof(*rg))
		return err_set(e, -EPROTO, "the stream has a malformed frame of pages");
	rg = malloc(counts[0] * sizeof(*rg));
	if (!rg)
		return err_sys(e, -ENOMEM, "reading a frame of pages");
	r = fd_read_full(fd, rg, counts[0] * sizeof(*rg));
	if (r < 0)
		return err_sys(e, r, "the stream broke off within memory");
	r = ranges_check(rg, counts[0], e);
	if (r < 0)
		return r;
	*ret_id = im->head.id;
	*ret = ptr_take(rg);
	*ret_n = counts[0];
	return 1;
}

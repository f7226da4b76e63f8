/* Reads what a sink wrote: images as such, and those from a stream (folder_read.c has the others).
 * Everything here comes from another host: each length is checked before it is used, and nothing is
 * allocated that the sender has not sent. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/frame.h"
#include "image/priv.h"

struct image *image_free(struct image *im)
{
	if (!im)
		return NULL;
	for (size_t i = 0; i < im->n; i++)
		protobuf_c_message_free_unpacked(im->rec[i].msg, NULL);
	free(im->rec);
	free(im->by_id);
	free(im->by_pos);
	if (im->pages) {
		folder_pages_free(im->pages);
		fd_close(&im->data_fd);
	}
	free(im);
	return NULL;
}
AUTO_OF_DEFINE(image)

int image_add(struct image *im, uint32_t kind, uint32_t id, ProtobufCMessage *m, struct err *e)
{
	int r = 0;

	if (im->n >= REC_COUNT_MAX)
		r = err_set(e, -EPROTO, "there are more than %u records", REC_COUNT_MAX);
	else if (array_grow(im->rec, im->n, im->cap) < 0)
		r = err_sys(e, -ENOMEM, "reading records");
	if (r < 0) {
		protobuf_c_message_free_unpacked(m, NULL);
		return r;
	}
	im->rec[im->n++] = (struct record){ .kind = kind, .id = id, .msg = m };
	return 0;
}

int image_add_packed(struct image *im, uint32_t kind, uint32_t id, const uint8_t *data, size_t len,
		     struct err *e)
{
	const ProtobufCMessageDescriptor *type = rec_kind_type(kind);
	ProtobufCMessage *m;

	/* A newer sender may have kinds we do not know: they would be state we silently drop. */
	if (!type)
		return err_set(e, -EPROTO, "there is a record of unknown kind %" PRIu32, kind);
	m = protobuf_c_message_unpack(type, NULL, len, data);
	if (!m)
		return err_set(e, -EPROTO, "record %zu (%s) is malformed", im->n, rec_kind_name(kind));
	return image_add(im, kind, id, m, e);
}

int image_add_frames(struct image *im, const uint8_t *data, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		struct frame_head h;
		int r;

		if (len - at < sizeof(h))
			return err_set(e, -EPROTO, "there is half a record");
		memcpy(&h, data + at, sizeof(h));
		at += sizeof(h);
		if (h.len > len - at)
			return err_set(e, -EPROTO, "a record is longer than what it is in");
		r = image_add_packed(im, h.kind, h.id, data + at, h.len, e);
		if (r < 0)
			return r;
		at += h.len;
	}
	return 0;
}

static int batch_read(struct image *im, int fd, struct buf *b, struct err *e)
{
	uint64_t len = im->frame_len;
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
	return image_add_frames(im, (const uint8_t *)b->data, b->len, e);
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

int image_index(struct image *im, struct err *e)
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

static int head_read(struct image *im, int fd, const char *within, struct err *e)
{
	struct frame_head h;
	int r = fd_read_full(fd, &h, sizeof(h));

	if (r < 0)
		return err_sys(e, r, "the stream broke off within %s", within);
	im->frame_kind = h.kind;
	im->frame_id = h.id;
	im->frame_len = h.len;
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
	im->data_fd = fd;
	r = fd_read_full(fd, magic, sizeof(magic));
	if (r < 0)
		return err_sys(e, r, "the stream broke off before it began");
	if (memcmp(magic, STREAM_MAGIC, STREAM_MAGIC_LEN) != 0)
		return err_set(e, -EPROTO, "this is not a stream of ours, or one of another version");
	for (;;) {
		r = head_read(im, fd, "its records", e);
		if (r < 0)
			return r;
		if (im->frame_kind == REC_PAGES) {
			im->pages_waiting = true;
			break;
		}
		if (im->frame_kind == REC_END) {
			im->ended = true;
			break;
		}
		if (im->frame_kind != REC_BATCH)
			return err_set(e, -EPROTO, "the stream has an unknown frame %" PRIu32,
				       im->frame_kind);
		r = batch_read(im, fd, &b, e);
		if (r < 0)
			return r;
	}
	r = image_index(im, e);
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

int page_ranges_check(const struct page_range *rg, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t bytes, end;

		if (rg[i].n_pages == 0 || (rg[i].vaddr & 4095) ||
		    __builtin_mul_overflow(rg[i].n_pages, 4096ull, &bytes) ||
		    __builtin_add_overflow(rg[i].vaddr, bytes, &end) || end > 1ull << 57)
			return err_set(e, -EPROTO, "there is an impossible run of pages");
	}
	return 0;
}

static int stream_next_pages(struct image *im, int fd, uint32_t *ret_id, struct page_range **ret,
			     size_t *ret_n, struct err *e)
{
	auto_free struct page_range *rg = NULL;
	uint32_t counts[2];
	int r;

	if (im->ended)
		return 0;
	if (!im->pages_waiting) {
		r = head_read(im, fd, "memory", e);
		if (r < 0)
			return r;
	}
	im->pages_waiting = false;
	if (im->frame_kind == REC_END) {
		im->ended = true;
		return 0;
	}
	if (im->frame_kind != REC_PAGES)
		return err_set(e, -EPROTO, "the stream has a frame of kind %" PRIu32 " among its pages",
			       im->frame_kind);
	r = fd_read_full(fd, counts, sizeof(counts));
	if (r < 0)
		return err_sys(e, r, "the stream broke off within memory");
	if (counts[0] == 0 || counts[0] > FRAME_RANGES_MAX ||
	    im->frame_len != sizeof(counts) + counts[0] * sizeof(*rg))
		return err_set(e, -EPROTO, "the stream has a malformed frame of pages");
	rg = malloc(counts[0] * sizeof(*rg));
	if (!rg)
		return err_sys(e, -ENOMEM, "reading a frame of pages");
	r = fd_read_full(fd, rg, counts[0] * sizeof(*rg));
	if (r < 0)
		return err_sys(e, r, "the stream broke off within memory");
	r = page_ranges_check(rg, counts[0], e);
	if (r < 0)
		return r;
	*ret_id = im->frame_id;
	*ret = ptr_take(rg);
	*ret_n = counts[0];
	return 1;
}

int image_data_fd(const struct image *im)
{
	return im->data_fd;
}

int image_next_pages(struct image *im, int fd, uint32_t *ret_id, struct page_range **ret, size_t *ret_n,
		     struct err *e)
{
	return im->pages ? folder_pages_next(im, ret_id, ret, ret_n, e) :
			   stream_next_pages(im, fd, ret_id, ret, ret_n, e);
}

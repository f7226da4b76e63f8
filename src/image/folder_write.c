/* A sink that writes a folder.  A file is buffered and written as a whole where it is small: a checkpoint
 * of a thousand processes is some seven thousand of them.
 *
 * Bytes that belong to a record (blobs behind it) stand where the format has a place for them: behind the
 * entry, in chunks, or as pages.  How they were cut, and senders' addresses, which the format has no place
 * for, stand in a gw_pieces; most are plain and need none. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/mem.h"
#include "core.pb-c.h"
#include "ghost-file.pb-c.h"
#include "godwit.pb-c.h"
#include "image/frame.h"
#include "image/page_proto.h"
#include "image/priv.h"
#include "memfd.pb-c.h"
#include "pagemap.pb-c.h"
#include "pipe-data.pb-c.h"
#include "sk-packet.pb-c.h"
#include "tcp-stream.pb-c.h"

#define BUFFER_MAX (1u << 20) /* of one file; more is written at once */
#define INVENTORY_IMG "inventory.img"
#define INVENTORY_UNDONE INVENTORY_IMG ".new"

struct out { /* a file in the making */
	struct buf b;
	int fd; /* -1: nothing is written yet */
	bool begun;
	uint32_t id;
};

struct ids {
	uint32_t *v;
	size_t n, cap;
};

/* The record that was put last, whose blobs may follow. */
struct owner {
	uint32_t kind, id, nth;
	uint64_t want[2]; /* bytes of its blobs: in all, or of each of two */
	GwPiece *pieces;
	size_t n, cap;
	uint64_t bytes;
};

struct pages_out {
	bool open;
	uint32_t id; /* as given to sink_pages */
	int fd;
	struct buf map; /* of the pagemap file: without the entry `last` */
	struct page_range last;
};

struct folder {
	struct sink s;
	int dir;
	struct out out[REC_KIND_MAX]; /* of a kind PER_*: the one that is written now */
	struct out recs;
	struct ids done[REC_KIND_MAX]; /* ids of which the kind has a file */
	uint32_t counts[REC_KIND_MAX];
	TaskKobjIdsEntry *ids; /* of the first process */
	struct owner owner;
	struct pages_out pages;
	uint32_t next_pages;
	int page_server; /* socket; -1: pages are files here */
	uint64_t n_pages;  /* of sink_pages */
	struct ids mapped; /* ids of sink_pages that have a pagemap */
	char (*made)[FOLDER_NAME_MAX];
	size_t n_made, cap_made;
};

/* ---- files ---- */

static int file_make(struct folder *f, const char *name, int *ret, struct err *e)
{
	int fd;

	if (array_grow(f->made, f->n_made, f->cap_made) < 0)
		return err_sys(e, -ENOMEM, "writing %s", name);
	fd = fd_open_beneath(f->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd == -EEXIST)
		return err_set(e, fd, "there is a file %s already: the folder for images has to be without any", name);
	if (fd < 0)
		return err_sys(e, fd, "making %s", name);
	snprintf(f->made[f->n_made++], FOLDER_NAME_MAX, "%s", name);
	*ret = fd;
	return 0;
}

static void out_name(const struct folder *f, const struct out *o, char name[FOLDER_NAME_MAX])
{
	uint32_t kind = (uint32_t)(o - f->out);

	if (o == &f->recs)
		snprintf(name, FOLDER_NAME_MAX, FOLDER_RECORDS);
	else if (folder_kind(kind)->per == PER_NS)
		folder_name(name, kind, folder_ns_number(kind, f->ids ? &f->ids->base : NULL));
	else
		folder_name(name, kind, o->id);
}

static int out_flush(struct folder *f, struct out *o, struct err *e)
{
	char name[FOLDER_NAME_MAX];
	int r = 0;

	out_name(f, o, name);
	if (o == &f->out[REC_INVENTORY])
		snprintf(name, sizeof(name), INVENTORY_UNDONE);
	if (o->fd < 0)
		r = file_make(f, name, &o->fd, e);
	if (r >= 0)
		r = fault_at("image", "made", NULL, e);
	if (r < 0)
		return r;
	r = fd_write_full(o->fd, o->b.data, o->b.len);
	if (r < 0)
		return err_sys(e, r, "writing %s", name);
	f->s.bytes += o->b.len;
	o->b.len = 0;
	return 0;
}

/* Whoever sees it sees all of it. */
static int inventory_name(struct folder *f, struct err *e)
{
	if (renameat2(f->dir, INVENTORY_UNDONE, f->dir, INVENTORY_IMG, RENAME_NOREPLACE) < 0 &&
	    (errno != EINVAL || renameat(f->dir, INVENTORY_UNDONE, f->dir, INVENTORY_IMG) < 0))
		return err_sys(e, -errno, "making %s", INVENTORY_IMG);
	/* To be taken away again by its new name. */
	snprintf(f->made[f->n_made - 1], FOLDER_NAME_MAX, INVENTORY_IMG);
	return 0;
}

static int out_finish(struct folder *f, struct out *o, struct err *e)
{
	int r = o->begun ? out_flush(f, o, e) : 0;

	if (r >= 0 && o->begun && o == &f->out[REC_INVENTORY])
		r = inventory_name(f, e);
	fd_close(&o->fd);
	o->begun = false;
	return r;
}

static int out_add(struct folder *f, struct out *o, const void *data, size_t len, struct err *e)
{
	if (buf_add(&o->b, data, len) < 0)
		return err_sys(e, -ENOMEM, "writing images");
	/* A file of a namespace has no name yet. */
	return o->b.len >= BUFFER_MAX && folder_kind((uint32_t)(o - f->out))->per != PER_NS ?
		       out_flush(f, o, e) : 0;
}

static int buf_entry(struct buf *b, const ProtobufCMessage *m)
{
	uint32_t len = (uint32_t)protobuf_c_message_get_packed_size(m);
	uint8_t *p = buf_reserve(b, sizeof(len) + len);

	if (!p)
		return -ENOMEM;
	memcpy(p, &len, sizeof(len));
	protobuf_c_message_pack(m, p + sizeof(len));
	b->len += sizeof(len) + len;
	return 0;
}

static int out_entry(struct folder *f, struct out *o, const ProtobufCMessage *m, struct err *e)
{
	if (buf_entry(&o->b, m) < 0)
		return err_sys(e, -ENOMEM, "writing images");
	return out_add(f, o, "", 0, e);
}

static int ids_add(struct ids *s, uint32_t id)
{
	if (array_grow(s->v, s->n, s->cap) < 0)
		return -ENOMEM;
	s->v[s->n++] = id;
	return 0;
}

/* The file that takes this record; the one before is finished. */
static int out_begin(struct folder *f, uint32_t kind, uint32_t id, struct out **ret, struct err *e)
{
	const struct folder_kind *k = folder_kind(kind);
	uint32_t magic[2] = { IMG_COMMON_MAGIC, k->magic };
	struct out *o = &f->out[kind];
	bool one = k->per == PER_ALL || k->per == PER_NS;
	/* The only one without the magic of all. */
	size_t skip = kind == REC_INVENTORY;
	int r = 0;

	*ret = o;
	if (o->begun && (one || o->id == id))
		return 0;
	r = out_finish(f, o, e);
	if (r < 0)
		return r;
	o->begun = true;
	o->id = id;
	if (buf_add(&o->b, magic + skip, (2 - skip) * sizeof(*magic)) < 0 ||
	    (!one && ids_add(&f->done[kind], id) < 0))
		return err_sys(e, -ENOMEM, "writing images");
	return 0;
}

static int recs_add(struct folder *f, uint32_t kind, uint32_t id, const ProtobufCMessage *m, size_t len,
		    struct err *e)
{
	struct frame_head h = { .kind = kind, .id = id, .len = len };
	uint8_t *p;

	if (!f->recs.begun && buf_add(&f->recs.b, FOLDER_RECORDS_MAGIC, 8) < 0)
		return err_sys(e, -ENOMEM, "writing images");
	f->recs.begun = true;
	p = buf_reserve(&f->recs.b, sizeof(h) + len);
	if (!p)
		return err_sys(e, -ENOMEM, "writing images");
	memcpy(p, &h, sizeof(h));
	protobuf_c_message_pack(m, p + sizeof(h));
	f->recs.b.len += sizeof(h) + len;
	return f->recs.b.len >= BUFFER_MAX ? out_flush(f, &f->recs, e) : 0;
}

/* ---- pages ---- */

static int pagemap_last(struct pages_out *p)
{
	while (p->last.n_pages) {
		PagemapEntry pe = PAGEMAP_ENTRY__INIT;
		uint64_t n = p->last.n_pages < UINT32_MAX ? p->last.n_pages : UINT32_MAX;

		pe.vaddr = p->last.vaddr;
		pe.nr_pages = (uint32_t)n;
		pe.has_flags = 1;
		pe.flags = PE_PRESENT;
		if (buf_entry(&p->map, &pe.base) < 0)
			return -ENOMEM;
		p->last.vaddr += n * FOLDER_PAGE;
		p->last.n_pages -= n;
	}
	return 0;
}

static int pages_close(struct folder *f, struct err *e)
{
	struct pages_out *p = &f->pages;
	char name[FOLDER_NAME_MAX];
	auto_fd int fd = -1;
	int r;

	if (!p->open)
		return 0;
	p->open = false;
	fd_close(&p->fd);
	if (f->page_server >= 0)
		return 0;
	if (pagemap_last(p) < 0)
		return err_sys(e, -ENOMEM, "writing a pagemap");
	pagemap_name(name, p->id & REC_SHM_ID(0), p->id & ~REC_SHM_ID(0));
	r = file_make(f, name, &fd, e);
	if (r < 0)
		return r;
	r = fd_write_full(fd, p->map.data, p->map.len);
	if (r < 0)
		return err_sys(e, r, "writing %s", name);
	f->s.bytes += p->map.len;
	p->map.len = 0;
	return 0;
}

static int pages_open_there(struct folder *f, uint32_t id, struct err *e)
{
	struct pages_out *p = &f->pages;
	int r = page_client_open(f->page_server, id & REC_SHM_ID(0), id & ~REC_SHM_ID(0), e);

	if (r < 0)
		return r;
	p->fd = fcntl(f->page_server, F_DUPFD_CLOEXEC, 3);
	if (p->fd < 0 || ids_add(&f->mapped, id) < 0)
		return err_sys(e, p->fd < 0 ? -errno : -ENOMEM, "writing pages");
	p->open = true;
	p->id = id;
	return 0;
}

/* id: a process, or REC_SHM_ID of a shmid (which is not the index). */
static int pages_open(struct folder *f, uint32_t id, struct err *e)
{
	struct pages_out *p = &f->pages;
	PagemapHead h = PAGEMAP_HEAD__INIT;
	uint32_t magic[2] = { IMG_COMMON_MAGIC, PAGEMAP_MAGIC };
	char name[FOLDER_NAME_MAX];
	int r;

	if (p->open && p->id == id)
		return 0;
	r = pages_close(f, e);
	if (r < 0)
		return r;
	if (f->page_server >= 0)
		return pages_open_there(f, id, e);
	h.pages_id = f->next_pages++;
	snprintf(name, sizeof(name), "pages-%u.img", h.pages_id);
	r = file_make(f, name, &p->fd, e);
	if (r < 0)
		return r;
	p->open = true;
	p->id = id;
	p->last = (struct page_range){ 0 };
	if (buf_add(&p->map, magic, sizeof(magic)) < 0 || buf_entry(&p->map, &h.base) < 0 ||
	    ids_add(&f->mapped, id) < 0)
		return err_sys(e, -ENOMEM, "writing a pagemap");
	return 0;
}

/* Runs of the present pagemap.  joined: with the one before where they touch. */
static int pages_add(struct folder *f, const struct page_range *v, size_t n, bool joined, struct err *e)
{
	struct page_range *last = &f->pages.last;

	if (f->page_server >= 0)
		return n != 1 ? err_set(e, -EINVAL, "%zu runs of pages, where a page server takes one", n) :
				page_client_run(f->page_server, v->vaddr, v->n_pages, e);
	for (size_t i = 0; i < n; i++) {
		if (joined && last->n_pages && last->vaddr + last->n_pages * FOLDER_PAGE == v[i].vaddr) {
			last->n_pages += v[i].n_pages;
			continue;
		}
		if (pagemap_last(&f->pages) < 0)
			return err_sys(e, -ENOMEM, "writing a pagemap");
		*last = v[i];
	}
	return 0;
}

/* ---- blobs ---- */

static int pieces_put(struct folder *f, struct err *e)
{
	struct owner *w = &f->owner;
	auto_free GwPiece **list = calloc(w->n + 1, sizeof(*list));
	GwPieces p = GW_PIECES__INIT;
	bool plain = folder_kind(w->kind)->raw == RAW_TCP || w->n == (w->want[0] || w->kind == REC_SK_QUEUES ? 1 : 0);

	for (size_t i = 0; i < w->n; i++)
		plain &= !w->pieces[i].has_offset && !w->pieces[i].has_addr;
	if (plain)
		return 0;
	if (!list)
		return err_sys(e, -ENOMEM, "writing images");
	for (size_t i = 0; i < w->n; i++)
		list[i] = &w->pieces[i];
	p.has_kind = p.has_nth = 1;
	p.kind = w->kind;
	p.nth = w->nth;
	p.pieces = list;
	p.n_pieces = w->n;
	return recs_add(f, REC_GW_PIECES, w->id, &p.base, protobuf_c_message_get_packed_size(&p.base), e);
}

static void owner_forget(struct owner *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->pieces[i].addr.data);
	free(w->pieces);
	*w = (struct owner){ 0 };
}

static int owner_end(struct folder *f, struct err *e)
{
	struct owner *w = &f->owner;
	enum folder_raw raw = folder_kind(w->kind)->raw;
	int r = 0;

	if (raw == RAW_PIPE || raw == RAW_QUEUE || raw == RAW_TCP) {
		if (w->bytes != w->want[0] + w->want[1] ||
		    (raw == RAW_TCP && (w->n != 2 || w->pieces[0].len != w->want[0])))
			r = err_set(e, -EINVAL, "a record %s says another number of bytes than follow it",
				    rec_kind_name(w->kind));
		else
			r = pieces_put(f, e);
	}
	if (r >= 0 && raw == RAW_MEMFD && f->pages.open)
		r = pages_close(f, e);
	owner_forget(w);
	return r;
}

static void owner_begin(struct folder *f, uint32_t kind, uint32_t id, const ProtobufCMessage *m)
{
	struct owner *w = &f->owner;

	*w = (struct owner){ .kind = kind, .id = id, .nth = f->counts[kind] - 1 };
	switch (folder_kind(kind)->raw) {
	case RAW_PIPE:
		w->want[0] = ((const PipeDataEntry *)m)->bytes;
		break;
	case RAW_QUEUE:
		w->want[0] = ((const SkPacketEntry *)m)->length;
		break;
	case RAW_TCP:
		w->want[0] = ((const TcpStreamEntry *)m)->inq_len;
		w->want[1] = ((const TcpStreamEntry *)m)->outq_len;
		break;
	case RAW_MEMFD:
		w->want[0] = ((const MemfdInodeEntry *)m)->size;
		w->want[1] = ((const MemfdInodeEntry *)m)->shmid;
		break;
	default:
		break;
	}
}

static int piece_note(struct folder *f, const GwBlob *b, struct err *e)
{
	struct owner *w = &f->owner;
	GwPiece *p;

	if (folder_kind(w->kind)->raw == RAW_TCP && (b->has_offset || b->has_addr))
		return err_set(e, -EINVAL, "a queue of a connection has no offset and no sender");
	if (array_grow(w->pieces, w->n, w->cap) < 0)
		return err_sys(e, -ENOMEM, "writing images");
	p = &w->pieces[w->n];
	gw_piece__init(p);
	p->has_len = 1;
	p->len = b->data.len;
	p->has_offset = b->has_offset;
	p->offset = b->offset;
	p->has_addr = b->has_addr;
	if (b->has_addr && b->addr.len) {
		p->addr.data = malloc(b->addr.len);
		if (!p->addr.data)
			return err_sys(e, -ENOMEM, "writing images");
		memcpy(p->addr.data, b->addr.data, b->addr.len);
		p->addr.len = b->addr.len;
	}
	w->n++;
	w->bytes += b->data.len;
	return 0;
}

static int chunk_put(struct folder *f, const GwBlob *b, struct err *e)
{
	GhostChunkEntry c = GHOST_CHUNK_ENTRY__INIT;
	struct out *o = &f->out[REC_GHOST_FILE];
	int r;

	c.len = b->data.len;
	c.off = b->offset;
	r = out_entry(f, o, &c.base, e);
	return r < 0 ? r : out_add(f, o, b->data.data, b->data.len, e);
}

/* Content of a memfd: a run of pages each, the last one filled up with zeros. */
static int memfd_put(struct folder *f, const GwBlob *b, struct err *e)
{
	static const char zeros[FOLDER_PAGE];
	struct owner *w = &f->owner;
	size_t rest = b->data.len % FOLDER_PAGE, fill = rest ? FOLDER_PAGE - rest : 0;
	struct page_range v = { b->offset, (b->data.len + fill) / FOLDER_PAGE };
	int r;

	if (b->offset % FOLDER_PAGE || !v.n_pages || (fill && b->offset + b->data.len != w->want[0]))
		return err_set(e, -EINVAL, "a memfd has a hole that does not end with a page");
	r = pages_open(f, REC_SHM_ID((uint32_t)w->want[1]), e);
	if (r >= 0)
		r = pages_add(f, &v, 1, false, e);
	if (r < 0)
		return r;
	r = fd_write_full(f->pages.fd, b->data.data, b->data.len);
	if (r >= 0)
		r = fd_write_full(f->pages.fd, zeros, fill);
	return r < 0 ? err_sys(e, r, "writing the content of a memfd") : 0;
}

static int blob_put(struct folder *f, uint32_t id, const GwBlob *b, size_t len, struct err *e)
{
	struct owner *w = &f->owner;
	int r;

	if (id != w->id || !w->kind)
		return err_set(e, -EINVAL, "a blob belongs to no record");
	switch (folder_kind(w->kind)->raw) {
	case RAW_GHOST:
		return chunk_put(f, b, e);
	case RAW_MEMFD:
		return memfd_put(f, b, e);
	case RAW_NONE:
		if (folder_kind(w->kind)->per != PER_NONE)
			return err_set(e, -EINVAL, "a record %s has bytes that no image takes",
				       rec_kind_name(w->kind));
		return recs_add(f, REC_GW_BLOB, id, &b->base, len, e);
	default:
		r = piece_note(f, b, e);
		return r < 0 ? r : out_add(f, &f->out[w->kind], b->data.data, b->data.len, e);
	}
}

/* ---- the sink ---- */

static int first_ids(struct folder *f, const ProtobufCMessage *m, size_t len)
{
	auto_free uint8_t *packed = malloc(len + 1);

	if (!packed)
		return -ENOMEM;
	protobuf_c_message_pack(m, packed);
	f->ids = task_kobj_ids_entry__unpack(NULL, len, packed);
	return f->ids ? 0 : -ENOMEM;
}

/* crit and others tell by this how the content is stored. */
static int ghost_entry(struct folder *f, struct out *o, const GhostFileEntry *g, struct err *e)
{
	GhostFileEntry x = *g;

	x.has_chunks = x.chunks = S_ISREG(g->mode);
	return out_entry(f, o, &x.base, e);
}

static int entry_put(struct folder *f, uint32_t kind, uint32_t id, const ProtobufCMessage *m, struct err *e)
{
	const struct folder_kind *k = folder_kind(kind);
	struct out *o = NULL;
	uint32_t own = 0;
	int r;

	if (k->per == PER_ALL || k->per == PER_NS) {
		if (k->id_at)
			memcpy(&own, (const char *)m + k->id_at, sizeof(own));
		if (own != id)
			return err_set(e, -EINVAL, "a record %s of %u says it is %u's", rec_kind_name(kind), id,
				       own);
	}
	r = out_begin(f, kind, id, &o, e);
	if (r < 0)
		return r;
	return kind == REC_GHOST_FILE ? ghost_entry(f, o, (const GhostFileEntry *)m, e) : out_entry(f, o, m, e);
}

static int folder_put(struct sink *s, uint32_t kind, uint32_t id, const ProtobufCMessage *m, size_t len,
		      struct err *e)
{
	struct folder *f = (struct folder *)s;
	int r;

	if (kind == REC_GW_PIECES || kind == REC_GW_FOLDER)
		return err_set(e, -EINVAL, "records %s are the folder's own", rec_kind_name(kind));
	f->counts[kind]++;
	if (kind == REC_GW_BLOB)
		return blob_put(f, id, (const GwBlob *)m, len, e);
	r = owner_end(f, e);
	if (r < 0)
		return r;
	/* The table of descriptors is named by it. */
	if (kind == REC_IDS && ((const TaskKobjIdsEntry *)m)->files_id != id)
		return err_set(e, -EINVAL, "process %u has descriptors of another", id);
	if (kind == REC_IDS && !f->ids && first_ids(f, m, len) < 0)
		return err_sys(e, -ENOMEM, "writing images");
	if (folder_kind(kind)->per == PER_NONE || folder_kind_apart(kind, m))
		r = recs_add(f, kind, id, m, len, e);
	else
		r = entry_put(f, kind, id, m, e);
	if (r >= 0)
		owner_begin(f, kind, id, m);
	return r;
}

static int folder_pages(struct sink *s, uint32_t id, const struct page_range *v, size_t n, struct err *e)
{
	struct folder *f = (struct folder *)s;
	int r = owner_end(f, e);

	if (r >= 0)
		r = pages_open(f, id & REC_SHM_ID(0) ? id + 1 : id, e);
	for (size_t i = 0; i < n; i++)
		f->n_pages += v[i].n_pages;
	return r < 0 ? r : pages_add(f, v, n, true, e);
}

static int folder_fd(struct sink *s)
{
	const struct folder *f = (const struct folder *)s;

	return f->pages.open ? f->pages.fd : -EBADF;
}

static int id_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void ids_sort(struct ids *s)
{
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), id_cmp);
}

static bool ids_has(const struct ids *s, uint32_t id)
{
	return s->n && bsearch(&id, s->v, s->n, sizeof(*s->v), id_cmp);
}

/* Every process has a pagemap, and a table of descriptors, though there be nothing in them: readers look
 * for the files. */
static int empty_put(struct folder *f, struct err *e)
{
	int r = 0;

	ids_sort(&f->mapped);
	ids_sort(&f->done[REC_FDINFO]);
	for (size_t i = 0; i < f->done[REC_MM].n && r >= 0; i++)
		if (!ids_has(&f->mapped, f->done[REC_MM].v[i]))
			r = pages_open(f, f->done[REC_MM].v[i], e);
	if (r >= 0)
		r = pages_close(f, e);
	for (size_t i = 0, n = f->done[REC_FDINFO].n; i < f->done[REC_IDS].n && r >= 0; i++) {
		struct ids had = { f->done[REC_FDINFO].v, n, n };
		struct out *o;

		if (!ids_has(&had, f->done[REC_IDS].v[i]))
			r = out_begin(f, REC_FDINFO, f->done[REC_IDS].v[i], &o, e);
	}
	return r;
}

static int counts_put(struct folder *f, struct err *e)
{
	uint32_t kinds[REC_KIND_MAX], counts[REC_KIND_MAX];
	GwFolder m = GW_FOLDER__INIT;

	for (uint32_t k = 0; k < REC_KIND_MAX; k++) {
		if (!f->counts[k])
			continue;
		kinds[m.n_kinds++] = k;
		counts[m.n_counts++] = f->counts[k];
	}
	m.kinds = kinds;
	m.counts = counts;
	m.has_pages = 1;
	m.pages = f->n_pages;
	return recs_add(f, REC_GW_FOLDER, 0, &m.base, protobuf_c_message_get_packed_size(&m.base), e);
}

static int folder_end(struct sink *s, struct err *e)
{
	struct folder *f = (struct folder *)s;
	int r = owner_end(f, e);

	if (r >= 0 && !f->out[REC_INVENTORY].begun)
		r = err_set(e, -EINVAL, "a checkpoint without an inventory");
	if (r >= 0)
		r = pages_close(f, e);
	if (r >= 0)
		r = empty_put(f, e);
	if (r >= 0 && f->page_server >= 0)
		r = page_client_close(f->page_server, e);
	for (uint32_t k = REC_INVENTORY + 1; k < REC_KIND_MAX && r >= 0; k++)
		r = out_finish(f, &f->out[k], e);
	if (r >= 0)
		r = counts_put(f, e);
	if (r >= 0)
		r = out_finish(f, &f->recs, e);
	return r < 0 ? r : out_finish(f, &f->out[REC_INVENTORY], e);
}

static void folder_free(struct sink *s)
{
	struct folder *f = (struct folder *)s;

	for (uint32_t k = 0; k < REC_KIND_MAX; k++) {
		buf_done(&f->out[k].b);
		fd_close(&f->out[k].fd);
		free(f->done[k].v);
	}
	buf_done(&f->recs.b);
	fd_close(&f->recs.fd);
	buf_done(&f->pages.map);
	fd_close(&f->pages.fd);
	owner_forget(&f->owner);
	if (f->ids)
		task_kobj_ids_entry__free_unpacked(f->ids, NULL);
	free(f->mapped.v);
	free(f->made);
	free(f);
}

static const struct sink_ops folder_ops = {
	.put = folder_put,
	.pages = folder_pages,
	.fd = folder_fd,
	.end = folder_end,
	.free = folder_free,
	.piecewise = true,
};

int sink_folder_new(int dir_fd, struct sink **ret, struct err *e)
{
	struct folder *f;

	if (faccessat(dir_fd, INVENTORY_IMG, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "the folder for images has a checkpoint in it already");
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_sys(e, -ENOMEM, "writing images");
	f->s.ops = &folder_ops;
	f->dir = dir_fd;
	f->next_pages = 1;
	f->pages.fd = f->recs.fd = f->page_server = -1;
	for (uint32_t k = 0; k < REC_KIND_MAX; k++)
		f->out[k].fd = -1;
	*ret = &f->s;
	return 0;
}

void sink_folder_pages_to(struct sink *s, int sock)
{
	((struct folder *)s)->page_server = sock;
	s->runwise = true;
}

void sink_folder_remove(struct sink *s)
{
	struct folder *f = (struct folder *)s;

	for (size_t i = 0; i < f->n_made; i++)
		(void)unlinkat(f->dir, f->made[i], 0);
	f->n_made = 0;
}

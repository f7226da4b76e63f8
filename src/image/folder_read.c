/* Reads the records of a folder, in the order of the table of kinds: processes first, then what belongs
 * to each, by the names that follow from what was read before.  Files that nothing refers to are not
 * looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "core.pb-c.h"
#include "fdinfo.pb-c.h"
#include "ghost-file.pb-c.h"
#include "godwit.pb-c.h"
#include "image/priv.h"
#include "memfd.pb-c.h"
#include "pipe-data.pb-c.h"
#include "pstree.pb-c.h"
#include "remap-file-path.pb-c.h"
#include "sk-packet.pb-c.h"
#include "tcp-stream.pb-c.h"

#define BLOB_MAX (1u << 20) /* of a file's content, as its writer cuts it */

AUTO_OF_DEFINE(image)

struct reader {
	int dir;
	struct image *im;
	struct image *recs;   /* of godwit.records; NULL: there is none */
	const GwPieces **pieces; /* sorted by kind and nth */
	size_t n_pieces;
	uint64_t left;        /* bytes that may still be read */
	uint32_t nth[REC_KIND_MAX];
	size_t from[REC_KIND_MAX], to[REC_KIND_MAX]; /* in im->rec; blobs among them */
};

/* One file while it is read. */
struct in {
	struct reader *r;
	uint32_t kind, id;
	const char *name;
	const char *data;
	size_t len, at;
};

/* ---- bytes behind entries ---- */

static int blob_add(struct reader *r, uint32_t id, const void *data, size_t len, const GwPiece *like, bool offset,
		    uint64_t at, struct err *e)
{
	GwBlob *b = malloc(sizeof(*b));

	if (!b)
		return err_sys(e, -ENOMEM, "reading images");
	gw_blob__init(b);
	b->has_data = 1;
	if (len) {
		b->data.data = malloc(len);
		if (b->data.data) {
			memcpy(b->data.data, data, len);
			b->data.len = len;
		}
	}
	b->has_offset = offset || (like && like->has_offset);
	b->offset = offset ? at : like && like->has_offset ? like->offset : 0;
	b->has_addr = like && like->has_addr;
	if (b->has_addr && like->addr.len) {
		b->addr.data = malloc(like->addr.len);
		if (b->addr.data) {
			memcpy(b->addr.data, like->addr.data, like->addr.len);
			b->addr.len = like->addr.len;
		}
	}
	if (b->data.len != len || (b->has_addr && b->addr.len != like->addr.len)) {
		gw_blob__free_unpacked(b, NULL);
		return err_sys(e, -ENOMEM, "reading images");
	}
	return image_add(r->im, REC_GW_BLOB, id, &b->base, e);
}

static int in_take(struct in *in, uint64_t len, const char **ret, struct err *e)
{
	if (len > in->len - in->at)
		return err_set(e, -EPROTO, "%s ends within the bytes of an entry", in->name);
	*ret = in->data + in->at;
	in->at += len;
	return 0;
}

static int pieces_cmp(const void *pa, const void *pb)
{
	const GwPieces *a = *(const GwPieces *const *)pa, *b = *(const GwPieces *const *)pb;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->nth < b->nth ? -1 : a->nth > b->nth;
}

static const GwPieces *pieces_of(const struct reader *r, uint32_t kind, uint32_t nth)
{
	GwPieces key = { .kind = kind, .nth = nth };
	const GwPieces *k = &key, **at;

	at = r->n_pieces ? bsearch(&k, r->pieces, r->n_pieces, sizeof(*r->pieces), pieces_cmp) : NULL;
	return at ? *at : NULL;
}

/* The bytes of an entry that has `len` of them, cut as its writer had them. */
static int raw_read(struct in *in, uint32_t id, uint64_t len, struct err *e)
{
	const GwPieces *p = pieces_of(in->r, in->kind, in->r->nth[in->kind] - 1);
	uint64_t sum = 0;
	const char *data = NULL;
	int r;

	if (!p) {
		r = in_take(in, len, &data, e);
		if (r < 0 || (!len && in->kind != REC_SK_QUEUES))
			return r;
		return blob_add(in->r, id, data, len, NULL, false, 0, e);
	}
	for (size_t i = 0; i < p->n_pieces; i++) {
		uint64_t n = p->pieces[i]->len;

		if (n > len - sum)
			return err_set(e, -EPROTO, "%s: an entry is cut into more than it has", in->name);
		sum += n;
		r = in_take(in, n, &data, e);
		if (r >= 0)
			r = blob_add(in->r, id, data, n, p->pieces[i], false, 0, e);
		if (r < 0)
			return r;
	}
	return sum == len ? 0 : err_set(e, -EPROTO, "%s: an entry is cut into less than it has", in->name);
}

static int tcp_read(struct in *in, const TcpStreamEntry *t, struct err *e)
{
	uint64_t lens[2] = { t->inq_len, t->outq_len };
	int r = 0;

	for (int i = 0; i < 2 && r >= 0; i++) {
		const char *data = NULL;

		r = in_take(in, lens[i], &data, e);
		if (r >= 0)
			r = blob_add(in->r, in->id, data, lens[i], NULL, false, 0, e);
	}
	return r;
}

static int chunks_read(struct in *in, struct err *e)
{
	int r = 0;

	while (in->at < in->len && r >= 0) {
		const uint8_t *p;
		const char *data = NULL;
		GhostChunkEntry *c;
		uint64_t len, off;
		size_t n;

		r = folder_entry(in->data, in->len, &in->at, &p, &n, in->name, e);
		if (r < 0)
			return r;
		c = ghost_chunk_entry__unpack(NULL, n, p);
		if (!c)
			return err_set(e, -EPROTO, "%s has a malformed chunk", in->name);
		len = c->len;
		off = c->off;
		ghost_chunk_entry__free_unpacked(c, NULL);
		r = in_take(in, len, &data, e);
		if (r >= 0)
			r = blob_add(in->r, in->id, data, len, NULL, true, off, e);
	}
	return r;
}

static int ghost_read(struct in *in, GhostFileEntry *g, struct err *e)
{
	const char *data = NULL;
	uint64_t at = 0;

	if (g->has_chunks && g->chunks) {
		g->has_chunks = g->chunks = 0;
		return chunks_read(in, e);
	}
	g->has_chunks = 0;
	if (in->at < in->len && !S_ISREG(g->mode))
		return err_set(e, -EPROTO, "%s has the content of a file that cannot have any", in->name);
	while (in->at < in->len) {
		size_t len = in->len - in->at < BLOB_MAX ? in->len - in->at : BLOB_MAX;
		int r = in_take(in, len, &data, e);

		if (r >= 0)
			r = blob_add(in->r, in->id, data, len, NULL, true, at, e);
		if (r < 0)
			return r;
		at += len;
	}
	return 0;
}

static int memfd_run(struct reader *r, int fd, uint32_t id, struct page_range v, uint64_t size, char *buf,
		     struct err *e)
{
	uint64_t at = v.vaddr, end = at + v.n_pages * FOLDER_PAGE;

	while (at < end) {
		size_t len = end - at < BLOB_MAX ? (size_t)(end - at) : BLOB_MAX, keep = len;
		int x;

		if (at >= size || (end > size && end - size >= FOLDER_PAGE))
			return err_set(e, -EPROTO, "pages beyond the end of memfd %u", id);
		if (len > r->left)
			return err_set(e, -EFBIG, "memfd %u: the images are longer than they may be", id);
		r->left -= len;
		x = fd_read_full(fd, buf, len);
		if (x < 0)
			return err_sys(e, x, "reading the content of memfd %u", id);
		if (keep > size - at)
			keep = size - at;
		x = blob_add(r, id, buf, keep, NULL, true, at, e);
		if (x < 0)
			return x;
		at += len;
	}
	return 0;
}

static int memfd_read(struct reader *r, const MemfdInodeEntry *m, struct err *e)
{
	auto_free char *buf = NULL;
	char name[FOLDER_NAME_MAX];
	struct pagemap pm = { 0 };
	auto_fd int fd = -1;
	int x;

	if (m->inode_id > UINT32_MAX)
		return err_set(e, -EPROTO, "a memfd has an impossible number");
	pagemap_name(name, true, m->shmid);
	x = pagemap_read(r->dir, name, &r->left, &pm, e);
	if (x == -ENOENT)
		return 0;
	if (x < 0)
		return x;
	buf = malloc(BLOB_MAX);
	x = buf ? pagemap_open(r->dir, &pm, &fd, e) : err_sys(e, -ENOMEM, "reading images");
	for (size_t i = 0; i < pm.n && x >= 0; i++)
		x = memfd_run(r, fd, (uint32_t)m->inode_id, pm.v[i], m->size, buf, e);
	pagemap_done(&pm);
	return x;
}

/* ---- files ---- */

static int raw_of(struct in *in, uint32_t id, ProtobufCMessage *m, struct err *e)
{
	switch (folder_kind(in->kind)->raw) {
	case RAW_PIPE:
		return raw_read(in, id, ((const PipeDataEntry *)m)->bytes, e);
	case RAW_QUEUE:
		return raw_read(in, id, ((const SkPacketEntry *)m)->length, e);
	case RAW_TCP:
		return tcp_read(in, (const TcpStreamEntry *)m, e);
	case RAW_GHOST:
		return ghost_read(in, (GhostFileEntry *)m, e);
	case RAW_MEMFD:
		return memfd_read(in->r, (const MemfdInodeEntry *)m, e);
	case RAW_NONE:
		break;
	}
	return 0;
}

static int entries_read(struct in *in, struct err *e)
{
	const struct folder_kind *k = folder_kind(in->kind);
	int r = 0;

	while (in->at < in->len && r >= 0) {
		uint32_t id = in->id;
		ProtobufCMessage *m;
		const uint8_t *p;
		size_t n;

		r = folder_entry(in->data, in->len, &in->at, &p, &n, in->name, e);
		if (r >= 0)
			r = image_add_packed(in->r->im, in->kind, id, p, n, e);
		if (r < 0)
			return err_context(e, r, "%s", in->name);
		m = in->r->im->rec[in->r->im->n - 1].msg;
		if (k->id_at) {
			memcpy(&id, (const char *)m + k->id_at, sizeof(id));
			in->r->im->rec[in->r->im->n - 1].id = id;
		}
		in->r->nth[in->kind]++;
		r = raw_of(in, id, m, e);
	}
	return r;
}

static int file_read(struct reader *r, uint32_t kind, uint32_t number, uint32_t id, struct err *e)
{
	const struct folder_kind *k = folder_kind(kind);
	struct in in = { .r = r, .kind = kind, .id = id };
	char name[FOLDER_NAME_MAX];
	auto_free char *data = NULL;
	int x;

	folder_name(name, kind, number);
	x = folder_file_read(r->dir, name, &r->left, &data, &in.len, e);
	if (x == -ENOENT)
		return k->needed ? err_set(e, x, kind == REC_INVENTORY ?
					   "there is no %s: this is no folder of a finished checkpoint" :
					   "%s is missing", name) : 0;
	if (x < 0)
		return x;
	in.name = name;
	in.data = data;
	in.at = 2 * sizeof(uint32_t);
	if (kind != REC_INVENTORY) {
		x = folder_magic_check(data, in.len, k->magic, name, e);
	} else {
		in.at = sizeof(uint32_t);
		if (in.len < in.at || memcmp(data, &k->magic, in.at) != 0)
			x = err_set(e, -EPROTO, "%s does not begin like an image of its kind", name);
	}
	return x < 0 ? x : entries_read(&in, e);
}

/* ---- names that follow from records ---- */

/* The next record of the kind, which has been read; blobs are passed by. */
static const struct record *next_of(const struct reader *r, uint32_t kind, size_t *pos)
{
	if (*pos < r->from[kind])
		*pos = r->from[kind];
	while (*pos < r->to[kind]) {
		const struct record *rec = &r->im->rec[(*pos)++];

		if (rec->kind == kind)
			return rec;
	}
	return NULL;
}

static int each_process(struct reader *r, uint32_t kind, enum folder_per per, struct err *e)
{
	size_t pos = 0, ids_pos = 0;
	int x = 0;

	while (x >= 0) {
		const struct record *rec = next_of(r, REC_PSTREE, &pos), *ids;
		const PstreeEntry *p;
		uint32_t number;
		size_t back = ids_pos;

		if (!rec)
			return 0;
		p = (const PstreeEntry *)rec->msg;
		number = p->pid;
		for (size_t i = 0; per == PER_TID && i < p->n_threads && x >= 0; i++)
			x = file_read(r, kind, p->threads[i], p->threads[i], e);
		if (per == PER_TID)
			continue;
		/* ids-PID stand in the same order; not every process has them (zombies). */
		ids = per == PER_FILES ? next_of(r, REC_IDS, &ids_pos) : NULL;
		if (ids && ids->id == p->pid)
			number = ((const TaskKobjIdsEntry *)ids->msg)->files_id;
		else
			ids_pos = back;
		x = file_read(r, kind, number, p->pid, e);
	}
	return x;
}

struct name {
	uint32_t id;
	size_t nth; /* place in the list */
};

static int name_cmp(const void *pa, const void *pb)
{
	const struct name *a = pa, *b = pb;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->nth < b->nth ? -1 : a->nth > b->nth;
}

static int name_nth_cmp(const void *pa, const void *pb)
{
	const struct name *a = pa, *b = pb;

	return a->nth < b->nth ? -1 : a->nth > b->nth;
}

/* Each id once, where it came first. */
static size_t names_once(struct name *v, size_t n)
{
	size_t kept = 0;

	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), name_cmp);
	for (size_t i = 0; i < n; i++)
		if (!i || v[i].id != v[kept - 1].id)
			v[kept++] = v[i];
	qsort(v, kept, sizeof(*v), name_nth_cmp);
	return kept;
}

/* The ids that others name, in the order in which they do. */
static int each_named(struct reader *r, uint32_t kind, struct err *e)
{
	uint32_t by = kind == REC_GHOST_FILE ? REC_REMAP_FPATH : REC_FILES;
	auto_free struct name *v = calloc(r->to[by] - r->from[by] + 1, sizeof(*v));
	const struct record *rec;
	size_t pos = 0, n = 0;
	int x = 0;

	if (!v)
		return err_sys(e, -ENOMEM, "reading images");
	while ((rec = next_of(r, by, &pos))) {
		const RemapFilePathEntry *re = (const RemapFilePathEntry *)rec->msg;
		const FileEntry *fe = (const FileEntry *)rec->msg;

		if (by == REC_REMAP_FPATH && (!re->has_remap_type || re->remap_type == REMAP_TYPE__GHOST))
			v[n] = (struct name){ re->remap_id, n }, n++;
		if (by == REC_FILES && fe->isk && fe->isk->type == SOCK_STREAM)
			v[n] = (struct name){ fe->isk->ino, n }, n++;
	}
	n = names_once(v, n);
	for (size_t i = 0; i < n && x >= 0; i++)
		x = file_read(r, kind, v[i].id, v[i].id, e);
	return x;
}

static int kind_read(struct reader *r, uint32_t kind, struct err *e)
{
	const struct folder_kind *k = folder_kind(kind);
	const struct record *ids;
	size_t pos = 0;

	switch (k->per) {
	case PER_NONE:
		return 0;
	case PER_ALL:
		return file_read(r, kind, 0, 0, e);
	case PER_NS:
		ids = next_of(r, REC_IDS, &pos);
		return file_read(r, kind, folder_ns_number(kind, ids ? ids->msg : NULL), 0, e);
	case PER_ID:
		return each_named(r, kind, e);
	default:
		return each_process(r, kind, k->per, e);
	}
}

/* ---- all of it ---- */

static int records_read(struct reader *r, struct err *e)
{
	auto_of(image) *recs = calloc(1, sizeof(*recs));
	auto_free char *data = NULL;
	size_t len;
	int x = folder_file_read(r->dir, FOLDER_RECORDS, &r->left, &data, &len, e);

	if (x == -ENOENT)
		return 0;
	if (x < 0)
		return x;
	if (!recs)
		return err_sys(e, -ENOMEM, "reading images");
	if (len < 8 || memcmp(data, FOLDER_RECORDS_MAGIC, 8) != 0)
		return err_set(e, -EPROTO, "%s does not begin like one of ours", FOLDER_RECORDS);
	x = image_add_frames(recs, (const uint8_t *)data + 8, len - 8, e);
	if (x < 0)
		return err_context(e, x, "%s", FOLDER_RECORDS);
	r->pieces = calloc(recs->n + 1, sizeof(*r->pieces));
	if (!r->pieces)
		return err_sys(e, -ENOMEM, "reading images");
	for (size_t i = 0; i < recs->n; i++)
		if (recs->rec[i].kind == REC_GW_PIECES)
			r->pieces[r->n_pieces++] = (const GwPieces *)recs->rec[i].msg;
	if (r->n_pieces)
		qsort(r->pieces, r->n_pieces, sizeof(*r->pieces), pieces_cmp);
	r->recs = ptr_take(recs);
	return 0;
}

/* Moves what stands in godwit.records behind the rest. */
static int records_join(struct reader *r, const GwFolder **ret, struct err *e)
{
	struct image *recs = r->recs;

	for (size_t i = 0; recs && i < recs->n; i++) {
		struct record *rec = &recs->rec[i];
		int x;

		if (rec->kind == REC_GW_PIECES)
			continue;
		if (rec->kind == REC_GW_FOLDER) {
			*ret = (const GwFolder *)rec->msg;
			continue;
		}
		if (folder_kind(rec->kind)->per != PER_NONE && !folder_kind_apart(rec->kind, rec->msg))
			return err_set(e, -EPROTO, "%s has a record %s, which has a file of its own",
				       FOLDER_RECORDS, rec_kind_name(rec->kind));
		x = image_add(r->im, rec->kind, rec->id, ptr_take(rec->msg), e);
		if (x < 0)
			return x;
	}
	return 0;
}

static int counts_check(const struct image *im, const GwFolder *f, struct err *e)
{
	uint32_t n[REC_KIND_MAX] = { 0 };

	for (size_t i = 0; i < im->n; i++)
		n[im->rec[i].kind]++;
	for (size_t i = 0; i < f->n_kinds; i++) {
		uint32_t k = f->kinds[i];

		if (i >= f->n_counts || k >= REC_KIND_MAX || !rec_kind_type(k))
			return err_set(e, -EPROTO, "the list of what the folder holds makes no sense");
		if (n[k] != f->counts[i])
			return err_set(e, -EPROTO, "the checkpoint was written with %u records %s, and has %u: a "
				       "file of it is missing or was changed", f->counts[i], rec_kind_name(k), n[k]);
	}
	return 0;
}

static int unique_check(const struct image *im, struct err *e)
{
	for (size_t i = 1; i < im->n; i++) {
		const struct index *a = &im->by_id[i - 1], *b = &im->by_id[i];
		const struct folder_kind *k = folder_kind(b->kind);

		if (a->kind == b->kind && a->id == b->id && k->per != PER_NONE && !k->many)
			return err_set(e, -EPROTO, "there are two records %s of %u", rec_kind_name(b->kind), b->id);
	}
	return 0;
}

/* What names others comes before them. */
static const uint32_t order[] = {
	REC_INVENTORY, REC_PSTREE, REC_IDS, REC_CORE, REC_MM, REC_CREDS, REC_FS, REC_FDINFO, REC_FILES,
	REC_PIPES_DATA, REC_FIFO_DATA, REC_SK_QUEUES, REC_TCP_STREAM, REC_REMAP_FPATH, REC_GHOST_FILE,
	REC_TTY_INFO, REC_TTY_DATA, REC_MEMFD, REC_UTSNS, REC_MOUNTPOINTS, REC_CGROUP, REC_SECCOMP,
	REC_TIMENS, REC_USERNS, REC_FILELOCKS,
};

static int all_read(struct reader *r, struct err *e)
{
	const GwFolder *counts = NULL;
	int x = records_read(r, e);

	for (size_t i = 0; i < array_len(order) && x >= 0; i++) {
		r->from[order[i]] = r->im->n;
		x = kind_read(r, order[i], e);
		r->to[order[i]] = r->im->n;
	}
	if (x >= 0)
		x = records_join(r, &counts, e);
	if (x >= 0 && r->recs && !counts)
		x = err_set(e, -EPROTO, "%s ends early", FOLDER_RECORDS);
	if (x >= 0 && counts)
		x = counts_check(r->im, counts, e);
	if (x >= 0)
		x = image_index(r->im, e);
	if (x >= 0)
		x = unique_check(r->im, e);
	return x < 0 ? x : folder_pages_new(r->dir, r->im, &r->left, counts && counts->has_pages ? &counts->pages : NULL, e);
}

int image_read_folder(int dir_fd, struct image **ret, struct err *e)
{
	auto_of(image) *im = calloc(1, sizeof(*im));
	struct reader r = { .dir = dir_fd, .im = im, .left = REC_TOTAL_MAX };
	int x;

	if (!im)
		return err_sys(e, -ENOMEM, "reading images");
	im->data_fd = -1;
	x = all_read(&r, e);
	image_free(r.recs);
	free(r.pieces);
	if (x < 0)
		return x;
	*ret = ptr_take(im);
	return 0;
}

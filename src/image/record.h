/* record - what a checkpoint consists of: typed protobuf records, and runs of memory pages.
 *
 * The record types are those of CRIU's image format (src/image/proto, one .proto for a family) plus
 * ours in godwit.proto.  A sink takes them: a stream, or a folder of .img files (folder.h); a source
 * gives them back.  In a stream all records stand before the first page, so that a restore has its
 * whole plan before memory arrives.
 *
 * Stream: magic "GWSTRM01", then frames { u32 kind, u32 id, u64 len } little-endian and len bytes.
 * Records are frames within frames of kind REC_BATCH (a reader may not read ahead into pages, and a
 * call for each record would cost milliseconds).
 * kind REC_PAGES: payload is { u32 n, u32 zero, n * { u64 vaddr, u64 n_pages } } followed OUTSIDE of
 * len by the pages themselves, in order.  kind REC_END closes the stream; a stream without it is
 * truncated and an error. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The name of a kind is that of its image file without number and ".img". */
enum rec_kind {
	REC_END = 0,
	REC_INVENTORY = 1,
	REC_PSTREE,     /* pstree_entry, one for each process, parents first */
	REC_CORE,       /* core_entry; id: tid in the container */
	REC_IDS,        /* task_kobj_ids_entry; id: pid */
	REC_MM,         /* mm_entry; id: pid */
	REC_CREDS,      /* creds_entry; id: pid */
	REC_FS,         /* fs_entry; id: pid */
	REC_FDINFO,     /* fdinfo_entry; id: pid, one for each descriptor */
	REC_FILES,      /* file_entry; id: file id */
	REC_PIPES_DATA, /* pipe_data_entry + raw, id: pipe id; bytes in gw_blob */
	REC_FIFO_DATA,
	REC_SK_QUEUES,
	REC_TCP_STREAM, /* id: inode */
	REC_GHOST_FILE, /* id: ghost id */
	REC_REMAP_FPATH,
	REC_TTY_INFO,
	REC_TTY_DATA,
	REC_MEMFD,
	REC_UTSNS,
	REC_MOUNTPOINTS,
	REC_NETDEV,
	REC_IFADDR,
	REC_ROUTE,
	REC_SYSCTL,
	REC_CGROUP,
	REC_SECCOMP,
	REC_TIMENS,
	REC_USERNS,
	REC_FILELOCKS,
	REC_STATS,
	/* Ours (godwit.proto), ignored by others. */
	REC_GW_BLOB = 100, /* gw_blob: bytes that belong to the record before */
	REC_GW_TASK,       /* gw_task; id: pid */
	REC_GW_THREAD,     /* gw_thread; id: tid */
	REC_GW_VMA,        /* gw_vma_extra; id: pid */
	REC_GW_TREE_ENTRY, /* gw_tree_entry: one object of a tmpfs; id: mount id */
	REC_GW_INOTIFY,
	REC_GW_SOCK,       /* gw_sock_extra; id: file id */
	REC_GW_HEADER,     /* gw_header: kernel, versions, clocks; first of a stream */
	REC_GW_NET,
	REC_GW_CGROUP,
	REC_GW_MISC,
	REC_GW_MEM,        /* gw_mem; id: pid: what mm_entry cannot say */
	REC_GW_FILE,       /* gw_file; id: file id: what file_entry cannot say */
	REC_GW_PIECES,     /* gw_pieces: of a folder only, never handed out */
	REC_GW_FOLDER,     /* gw_folder: likewise */
	REC_PAGES = 200,
	REC_BATCH = 201,
	REC_KIND_MAX = 256,
};

const char *rec_kind_name(uint32_t kind); /* NULL: unknown */
/* The message type of a kind; NULL: none (pages, end) or unknown. */
const ProtobufCMessageDescriptor *rec_kind_type(uint32_t kind);

/* ---- writing ---- */
struct sink;

/* A stream into fd (stays the caller's). */
int sink_stream_new(int fd, struct sink **ret, struct err *e);
struct sink *sink_free(struct sink *s);
int sink_put(struct sink *s, enum rec_kind kind, uint32_t id, const ProtobufCMessage *m, struct err *e);
/* Announces pages of task `id` (or of a shared memory object: REC_SHM_ID, vaddr is the offset in it); the caller then writes exactly the announced bytes to sink_fd(). */
#define REC_SHM_ID(index) (0x80000000u | (index)) /* index: gw_vma_extra.shm */
struct page_range {
	uint64_t vaddr, n_pages;
};
int sink_pages(struct sink *s, uint32_t id, const struct page_range *ranges, size_t n, struct err *e);
int sink_fd(struct sink *s); /* everything buffered is written first */
/* Whether announcing pages costs nothing, so that it can be done piece by piece while they are copied
 * (a folder).  In a stream each announcement is a frame of its own. */
bool sink_piecewise(const struct sink *s);
/* Whether each run of pages has to be announced by itself, its pages behind it (a page server). */
bool sink_runwise(const struct sink *s);
int sink_end(struct sink *s, struct err *e);
uint64_t sink_bytes(const struct sink *s); /* of records, without pages */

/* ---- reading ---- */
/* Bounds: one record REC_LEN_MAX, all of a stream together REC_TOTAL_MAX, REC_COUNT_MAX records. */
#define REC_LEN_MAX (64u << 20)
#define REC_TOTAL_MAX (2ull << 30)
#define REC_COUNT_MAX 4000000u

struct record {
	uint32_t kind, id;
	ProtobufCMessage *msg; /* unpacked; owned by the image */
};
struct image; /* all records of a stream or folder; of each kind in the order they were written in */

/* Reads records up to the first page frame or the end.  *ret is freed with image_free. */
int image_read_stream(int fd, struct image **ret, struct err *e);
struct image *image_free(struct image *im);
size_t image_count(const struct image *im);
const struct record *image_at(const struct image *im, size_t i);
/* The first record of this kind and id (any id: pass REC_ANY) at or behind position *pos (NULL: 0);
 * *pos is moved behind it.  NULL: no more.  Indexed, not a scan, where id is given. */
#define REC_ANY UINT32_MAX
const struct record *image_find(const struct image *im, enum rec_kind kind, uint32_t id, size_t *pos);

/* The next frame of pages: 1 (ranges, freed by the caller with free), 0 at REC_END, else an error.
 * The caller then reads exactly the announced pages from fd, or has a task do so. */
int image_next_pages(struct image *im, int fd, uint32_t *ret_id, struct page_range **ret, size_t *ret_n,
		     struct err *e);

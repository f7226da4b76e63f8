/* Inside of image: a sink and an image behind the interface of record.h, of whatever sort. */
#pragma once
#include <stdbool.h>

#include "image/folder.h"
#include "image/record.h"

/* ---- writing ---- */

struct sink_ops {
	/* m is of the kind's type, and its packed length is `len`, within bounds. */
	int (*put)(struct sink *s, uint32_t kind, uint32_t id, const ProtobufCMessage *m, size_t len,
		   struct err *e);
	int (*pages)(struct sink *s, uint32_t id, const struct page_range *v, size_t n, struct err *e);
	int (*fd)(struct sink *s);
	int (*end)(struct sink *s, struct err *e);
	void (*free)(struct sink *s);
	bool piecewise;
};

struct sink {
	const struct sink_ops *ops;
	uint64_t bytes;
	bool ended;
	bool runwise; /* record.h */
};

/* ---- reading ---- */

struct index {
	uint32_t kind, id, pos;
};

struct image {
	struct record *rec;
	size_t n, cap;
	uint64_t total;               /* bytes of records */
	struct index *by_id, *by_pos; /* sorted by (kind, id, pos) and by (kind, pos) */
	bool ended;                   /* nothing is left of the pages */
	int data_fd;                  /* where pages are read; owned by a folder's */
	/* of a stream */
	bool pages_waiting;  /* `head` is a page frame not yet given out */
	uint32_t frame_kind, frame_id;
	uint64_t frame_len;
	/* of a folder; NULL: a stream */
	struct folder_pages *pages;
};

/* Takes m over. */
int image_add(struct image *im, uint32_t kind, uint32_t id, ProtobufCMessage *m, struct err *e);
int image_add_packed(struct image *im, uint32_t kind, uint32_t id, const uint8_t *data, size_t len,
		     struct err *e);
int image_index(struct image *im, struct err *e);
/* Frames within a batch, or within godwit.records. */
int image_add_frames(struct image *im, const uint8_t *data, size_t len, struct err *e);
int page_ranges_check(const struct page_range *v, size_t n, struct err *e);

/* ---- folders ---- */

enum folder_raw { /* bytes behind an entry */
	RAW_NONE,
	RAW_PIPE,  /* pipe_data_entry.bytes */
	RAW_QUEUE, /* sk_packet_entry.length */
	RAW_TCP,   /* inq_len and outq_len */
	RAW_GHOST, /* chunks: entries of their own, each with its bytes */
	RAW_MEMFD, /* none: a pagemap of its own, as for shared memory */
};

enum folder_per {
	PER_NONE, /* in godwit.records */
	PER_ALL,  /* one file */
	PER_PID,  /* one for each process, named by its pid */
	PER_TID,
	PER_FILES, /* by files_id of ids-PID */
	PER_NS,   /* one, with the number of the first process' namespace */
	PER_ID,   /* one for each id, which other records name */
};

struct folder_kind {
	const char *pattern; /* of the file's name: %u or %x is its number */
	uint32_t magic;
	enum folder_per per;
	enum folder_raw raw;
	size_t id_at;   /* offset in the message of the uint32_t that is the record's id; 0: the id is 0 */
	size_t ns_at;   /* PER_NS: offset in TaskKobjIdsEntry of the number and of its has_ */
	size_t ns_has_at;
	bool many;      /* an id may come more than once */
	bool needed;    /* no checkpoint without it */
};

/* Never NULL. */
const struct folder_kind *folder_kind(uint32_t kind);
/* Whether this record stands in godwit.records although its kind has a file: crit does not know it. */
bool folder_kind_apart(uint32_t kind, const ProtobufCMessage *m);

#define FOLDER_NAME_MAX 48
#define FOLDER_RECORDS "godwit.records"
#define FOLDER_RECORDS_MAGIC "GWRECS01"
#define FOLDER_NS_UNKNOWN 1u /* of a file PER_NS where nothing says the number */

#define IMG_COMMON_MAGIC 0x54564319u
#define PAGEMAP_MAGIC 0x56084025u

void folder_name(char ret[FOLDER_NAME_MAX], uint32_t kind, uint32_t number);
uint32_t folder_ns_number(uint32_t kind, const ProtobufCMessage *ids); /* ids may be NULL */

#define FOLDER_PAGE 4096u
#define PE_PARENT 1u /* pagemap_entry.flags */
#define PE_LAZY 2u
#define PE_PRESENT 4u

/* All of a file of the folder, which has to be a regular file, at most *left bytes, which are taken off
 * *left.  -ENOENT without a sentence. */
int folder_file_read(int dir, const char *name, uint64_t *left, char **ret, size_t *ret_len, struct err *e);
/* Opens one for reading; -ENOENT without a sentence. */
int folder_file_open(int dir, const char *name, uint64_t *ret_size, struct err *e);

/* The entry at *at, moving it behind; the view is into data. */
int folder_entry(const char *data, size_t len, size_t *at, const uint8_t **ret, size_t *ret_len,
		 const char *name, struct err *e);
int folder_magic_check(const char *data, size_t len, uint32_t want, const char *name, struct err *e);

/* A pagemap that was read, and its pages. */
struct pagemap {
	uint32_t pages_id;
	struct page_range *v;
	size_t n, cap;
	uint64_t pages;
};
int pagemap_read(int dir, const char *name, uint64_t *left, struct pagemap *ret, struct err *e);
void pagemap_done(struct pagemap *pm);
/* The pages of it, which have to be all there and nothing else. */
int pagemap_open(int dir, const struct pagemap *pm, int *ret_fd, struct err *e);
/* How a pagemap's file is called: of a process, or of shared memory by its shmid. */
void pagemap_name(char ret[FOLDER_NAME_MAX], bool shm, uint32_t number);

/* want: how many pages there have to be; NULL: not known. */
int folder_pages_new(int dir, struct image *im, uint64_t *left, const uint64_t *want, struct err *e);
struct folder_pages *folder_pages_free(struct folder_pages *fp);
int folder_pages_next(struct image *im, uint32_t *ret_id, struct page_range **ret, size_t *ret_n,
		      struct err *e);

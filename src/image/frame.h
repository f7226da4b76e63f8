/* frame - the stream's framing, shared by its writer and its reader. */
#pragma once
#include <stdint.h>

#define STREAM_MAGIC "GWSTRM01"
#define STREAM_MAGIC_LEN 8

/* Little-endian, as the only architecture we run on is. */
struct frame_head {
	uint32_t kind, id;
	uint64_t len;
};

/* Ranges of one page frame. */
#define FRAME_RANGES_MAX 65536u
/* A batch is begun anew at this size; one record may make it longer. */
#define FRAME_BATCH_MIN (256u << 10)

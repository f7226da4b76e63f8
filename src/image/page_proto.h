/* page_proto - what a dump and a page server say to each other, by the protocol of CRIU's page server: messages of one
 * struct, each run of pages behind its message; answers of a byte or an int. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ps_iov {
	uint32_t cmd; /* command in the lower 16 bits, flags of the run in the upper */
	uint32_t nr_pages;
	uint64_t vaddr;
	uint64_t dst_id; /* kind of owner in the lower 8 bits, its number above */
};
enum {
	PS_ADD = 1, /* pages follow */
	PS_HOLE = 2,
	PS_OPEN = 3,
	PS_OPEN2 = 4, /* answered by a byte: is there a parent */
	PS_PARENT = 5, /* the same question alone, answered by an int */
	PS_ADD_F = 6, /* as ADD, with flags */
	PS_GET = 7,
	PS_CLOSE = 0x1023, /* answered by an int, 0 */
	PS_FORCE_CLOSE = 0x1024,
};
enum { PS_OWNER_PID = 1, PS_OWNER_SHM = 2 };
enum { PS_FLAG_PARENT = 1, PS_FLAG_LAZY = 2, PS_FLAG_PRESENT = 4 };

/* ---- the dump's side; SIGPIPE has to be ignored ---- */
int page_client_open(int sock, bool shm, uint32_t number, struct err *e);
/* The caller then writes the pages to the socket. */
int page_client_run(int sock, uint64_t vaddr, uint64_t n_pages, struct err *e);
/* Comes back when the server has everything. */
int page_client_close(int sock, struct err *e);

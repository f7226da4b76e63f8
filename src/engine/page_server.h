/* page_server - pages that come over a connection become pagemap and pages images, by the protocol of CRIU's
 * page server.  Whoever connects is believed nothing: bounds and order of all runs are checked, files are new ones. */
#pragma once
#include "engine/options.h"

/* ---- the protocol: messages of this struct, answers of a byte or an int ---- */
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

/* Serves one connection, into the folder; what was written goes again where it fails. */
int page_server_serve(int sock, int images_fd, struct err *e);

/* Listens; *ret_port is the one that was chosen where o->port is 0. */
int page_server_listen(const struct options *o, int *ret_port, struct err *e);

/* Starts it in a process of its own and comes back when it listens: our child, or nobody's, in the background.  The
 * descriptor `ours` (-1: none) is not left open in it. */
int page_server_start(struct options *o, bool child, int ours, pid_t *ret_pid, int *ret_port, struct err *e);

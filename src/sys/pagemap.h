/* pagemap - which pages of a process exist, and where. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* PAGEMAP_SCAN, Linux 6.7; Debian 12's headers are of 6.1. */
struct pagemap_region {
	uint64_t start, end; /* addresses */
	uint64_t categories;
};

struct pagemap_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_IOC_SCAN _IOWR('f', 16, struct pagemap_scan_arg)

enum {
	PMC_WPALLOWED = 1 << 0,
	PMC_WRITTEN = 1 << 1,
	PMC_FILE = 1 << 2,
	PMC_PRESENT = 1 << 3,
	PMC_SWAPPED = 1 << 4,
	PMC_PFNZERO = 1 << 5,
	PMC_HUGE = 1 << 6,
	PMC_SOFT_DIRTY = 1 << 7,
	PMC_GUARD = 1 << 8, /* 6.15 */
};

struct pagemap_query {
	uint64_t all;  /* categories a page must have */
	uint64_t none; /* categories it must not have */
	uint64_t any;  /* at least one of these; 0: no such condition */
};

/* Calls `each` with every run of matching pages in [start, end), ascending; a negative value from it
 * ends the scan.  fd is an open /proc/PID/pagemap.  -ENOTTY: the kernel has no PAGEMAP_SCAN. */
int pagemap_scan(int fd, uint64_t start, uint64_t end, const struct pagemap_query *q,
		 int (*each)(void *arg, uint64_t from, uint64_t to), void *arg);

/* The raw entries of n pages from address start; bits 0..54 of a present page are its frame number. */
int pagemap_entries(int fd, uint64_t start, uint64_t *ret, size_t n);
#define PAGEMAP_E_PRESENT (1ull << 63)
#define PAGEMAP_E_SWAPPED (1ull << 62)
#define PAGEMAP_E_PFN ((1ull << 55) - 1)

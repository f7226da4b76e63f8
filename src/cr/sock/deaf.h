/* deaf - see deaf.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct deaf {
	struct {
		int fd;
		uint32_t ino;
	} *socks;
	size_t n, cap;
};

struct owned;

/* All TCP listeners of the namespace of `diag` (sock_diag.h) that processes of this cgroup hold; cgroup -1: those
 * that are among `owned`. */
int deaf_begin(struct deaf *l, int cgroup, const struct owned *owned, int diag);
bool deaf_is(const struct deaf *l, uint32_t ino);
/* They hear again; l is empty. */
void deaf_end(struct deaf *l);
/* Of a socket that may have the filter without being in a list. */
void deaf_heal(int fd);

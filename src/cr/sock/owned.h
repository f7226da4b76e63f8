/* owned - which sockets the processes of a tree hold, as /proc tells it: for what looks at the sockets of a network
 * namespace before the tables of descriptors are read, where others have sockets too. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct owned_sock {
	uint32_t ino;
	pid_t pid; /* one of those that hold it, */
	int fd;    /*   and its number there */
};
struct owned {
	struct owned_sock *v; /* ascending by inode, each once */
	size_t n, cap;
};

/* The tree below root stands; processes that are gone have none. */
int owned_read(pid_t root, struct owned *ret);
const struct owned_sock *owned_find(const struct owned *o, uint32_t ino); /* NULL: nobody's of the tree */
void owned_done(struct owned *o);

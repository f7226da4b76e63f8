/* lock_table - the packet filter table that silences TCP connections (lock_table.c). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What passes a lock: packets that we forge (SO_MARK). */
#define LOCK_MARK 0x47574c4bu

/* A connection as it is on the wire; ports and addresses in network order, IPv4 in the first four bytes. */
struct lock_conn {
	uint8_t self[16], peer[16];
	uint16_t sport, dport;
	bool v6;
};
int lock_conn_cmp(const void *a, const void *b);

#define LOCK_NAME_MAX 48
/* Of a process, by its number and start time: no other tree of this boot has the same. */
void lock_name(char ret[LOCK_NAME_MAX], pid_t pid, uint64_t start);

/* sock: NETLINK_NETFILTER, in the network namespace that is meant.
 * owned: the kernel takes the table away when sock is closed, however that comes about.
 * whole: everything but LOCK_MARK is dropped; else what belongs to one of the connections.  A table of that name
 * that was there is replaced, in one step. */
int lock_table_make(int sock, const char *name, bool owned, bool whole, const struct lock_conn *v, size_t n);
int lock_table_add(int sock, const char *name, const struct lock_conn *v, size_t n);
/* 0 also where there is none.  What is sent, or closed, on sock next waits for the kernel to have freed them, for
 * milliseconds. */
int lock_tables_remove(int sock, const char *const *names, size_t n_names);

/* world - a world outside of the containers: a bridge with address 10.77.0.1 and fd77::1, to which the
 * running container's eth0 (10.77.0.2, fd77::2, port 1024 and up at will) is joined, and a program that
 * is the other end of its connections ("PROGRAM peer"). */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

struct net {
	bool on;
	pid_t peer; /* 0: none */
	unsigned n_links;
};

/* Moves the calling process into a network namespace of its own with the bridge. */
int net_make(struct net *n);
/* Starts the other end. */
int net_peer(struct net *n, const char *program);
/* A link for a container; in the bridge at once, or (a target) up, but not joined yet. */
int net_link(struct net *n, pid_t init, bool joined, unsigned *ret_link);
int net_joined(const struct net *n, unsigned link, bool joined);
/* Takes it away: before a container is killed, whose closing sockets would say goodbye. */
int net_drop(const struct net *n, unsigned link);
/* Ends the other end; 0: it was content. */
int net_done(struct net *n);

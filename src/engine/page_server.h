/* page_server - pages that come over a connection become pagemap and pages images, by the protocol of CRIU's
 * page server.  Whoever connects is believed nothing: bounds and order of all runs are checked, files are new ones. */
#pragma once
#include "engine/options.h"
#include "image/page_proto.h"

/* Serves one connection, into the folder; what was written goes again where it fails. */
int page_server_serve(int sock, int images_fd, struct err *e);

/* Listens; *ret_port is the one that was chosen where o->port is 0. */
int page_server_listen(const struct options *o, int *ret_port, struct err *e);

/* Starts it in a process of its own and comes back when it listens: our child, or nobody's, in the background.  The
 * descriptor `ours` (-1: none) is not left open in it. */
int page_server_start(struct options *o, bool child, int ours, pid_t *ret_pid, int *ret_port, struct err *e);

/* A dump's connection to one: o->ps_socket, or a new one to o->address. */
int page_server_connect(const struct options *o, struct err *e);

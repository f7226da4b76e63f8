/* request - MHD's callbacks for one request; private to this room. */
#pragma once
#include <microhttpd.h>

#include "http/server_int.h"

enum MHD_Result request_on_access(void *arg, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *data, size_t *len, void **con_cls);
void request_on_completed(void *arg, struct MHD_Connection *c, void **con_cls,
			  enum MHD_RequestTerminationCode toe);
/* Wakes all parked requests with "the daemon is stopping". */
void request_end_all(struct http_server *s);
struct http_peer *server_peer_of(struct MHD_Connection *c);

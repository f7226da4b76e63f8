/* server_info - what others ask the server's file; private to this room. */
#pragma once
#include "api/core.h"

/* "HOST:PORT" strings at which clients may reach this server. */
json_t *server_addresses(struct api *a);

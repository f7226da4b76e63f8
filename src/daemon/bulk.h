/* bulk - connections of the bulk protocol: each gets a godwit-wire, which does TLS and says who calls. */
#pragma once
#include "api/api.h"

/* What bulk_accept needs to know; once, before the server listens. */
void bulk_setup(const char *crt_path, const char *key_path);
/* For struct http_handler: arg is the struct api; fd is taken. */
void bulk_accept(int fd, const char *address, void *arg);

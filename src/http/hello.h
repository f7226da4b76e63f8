/* hello - what a TLS ClientHello offers as ALPN, read without consuming it.  Input is untrusted. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLO_MAX (5 + 16384)
#define HELLO_BULK_ALPN "godwit-bulk/1"

/* 1: decided, *ret_bulk says whether the bulk protocol is offered; 0: *ret_need bytes are needed to say;
 * what is no ClientHello at all is decided as "not bulk" (TLS will say why it fails). */
int hello_look(const uint8_t *data, size_t len, bool *ret_bulk, size_t *ret_need);

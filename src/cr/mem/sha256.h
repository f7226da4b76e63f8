/* sha256 - of small things (the vdso); the engine links no crypto library. */
#pragma once
#include <stddef.h>
#include <stdint.h>

void sha256(const void *data, size_t len, uint8_t ret_hash[32]);

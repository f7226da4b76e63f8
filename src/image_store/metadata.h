/* metadata - the metadata.yaml of an image, as far as it is used: architecture, creation_date, expiry_date
 * and properties (a map of words).  Untrusted: no aliases, no nesting beyond what is known, bounded. */
#pragma once
#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

#define METADATA_MAX 65536

/* {architecture, creation_date (integer), expiry_date (integer), properties{}}; what is not there is
 * "" / 0 / {}. */
int metadata_parse(const char *text, size_t len, json_t **ret, struct err *e);

/* token - what `config trust add` prints and `remote add` takes: base64 of a JSON object with the client's name,
 * the server's fingerprint and addresses, and a secret. */
#pragma once
#include <jansson.h>

#include "base/err.h"

/* 1: a token; *ret is its object, *ret_text the token without blanks that came into it (both the caller's).
 * 0: nothing that was meant to be one.  -EINVAL: meant to be one, but damaged; the sentence says how. */
int token_parse(const char *text, json_t **ret, char **ret_text, struct err *e);

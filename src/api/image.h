/* image - uploads; private to this room. */
#pragma once
#include "api/core.h"

/* Where and how much: called at the head of POST /1.0/images. */
void image_upload_begin(struct api *a, struct http_request *q);
/* An alias or the beginning of a fingerprint → the image's row. */
int image_resolve(struct api *a, const char *ref, json_t **ret, struct err *e);

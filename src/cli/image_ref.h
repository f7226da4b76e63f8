/* image_ref - what names an image: "[REMOTE:]ALIAS" (aliases may hold slashes) or a fingerprint. */
#pragma once
#include "cli/remote.h"

int image_ref_split(const struct conf *c, const char *ref, char **ret_remote, char **ret_image, struct err *e);
/* Its whole fingerprint at that remote (malloc'd); -ENOENT with what to do. */
int image_find(struct remote *r, const char *image, char **ret_fingerprint, struct err *e);
/* For a path of the API: "debian/12" → "debian%2F12" (malloc'd). */
char *image_escape(const char *image);

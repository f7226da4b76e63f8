/* tarpath - names of an archive's entries, made plain. */
#pragma once
#include <stddef.h>

/* Removes leading "./" and repeated and trailing slashes.  -EINVAL: absolute, empty parts that climb (".."),
 * or longer than PATH_MAX; "" is the top itself. */
int tarpath_clean(const char *raw, char *ret, size_t size);
/* What lies behind "prefix/" ("" for the prefix itself); NULL: it is not below it. */
const char *tarpath_below(const char *clean, const char *prefix);

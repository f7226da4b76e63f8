#include "image_store/tarpath.h"

#include <errno.h>
#include <string.h>

int tarpath_clean(const char *raw, char *ret, size_t size)
{
	size_t n = 0;

	if (!raw || *raw == '/')
		return -EINVAL;
	while (*raw) {
		size_t len = strcspn(raw, "/");

		if (len == 2 && raw[0] == '.' && raw[1] == '.')
			return -EINVAL;
		if (len && !(len == 1 && raw[0] == '.')) {
			if (len > 255 || n + len + 2 > size)
				return -EINVAL;
			if (n)
				ret[n++] = '/';
			memcpy(ret + n, raw, len);
			n += len;
		}
		raw += len;
		while (*raw == '/')
			raw++;
	}
	if (size == 0)
		return -EINVAL;
	ret[n] = '\0';
	return 0;
}

const char *tarpath_below(const char *clean, const char *prefix)
{
	size_t n = strlen(prefix);

	if (n == 0)
		return clean;
	if (strncmp(clean, prefix, n) != 0)
		return NULL;
	if (clean[n] == '\0')
		return clean + n;
	return clean[n] == '/' ? clean + n + 1 : NULL;
}

/* What comes with a stranger's image: its metadata, the names in it, and the archive as a whole. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <stdio.h>
#include <unistd.h>

#include "image_store/metadata.h"
#include "image_store/tarpath.h"
#include "image_store/unpack.h"
#include "network/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void archive(const uint8_t *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	char path[48];
	struct unpack_look l = { .file = path, .below = "rootfs" };

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (unpack_check(&l, NULL) == 0)
		free(l.metadata);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct range ranges[RANGES_MAX];
	char *text = malloc(len + 1), clean[512];
	json_t *m;

	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	if (metadata_parse(text, len, &m, NULL) == 0)
		json_decref(m);
	if (tarpath_clean(text, clean, sizeof(clean)) == 0 &&
	    (clean[0] == '/' || strstr(clean, "/../") || strncmp(clean, "../", 3) == 0))
		abort();
	ranges_parse(text, ranges, RANGES_MAX);
	archive(data, len);
	free(text);
	return 0;
}

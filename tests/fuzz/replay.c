/* Runs the target over every file of a corpus: what once was found stays found.  TAP. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int main(int argc, char **argv)
{
	struct dirent **list;
	int dir = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int n = dir < 0 ? -1 : scandir(argv[1], &list, NULL, alphasort), done = 0;

	for (int i = 0; i < n; i++) {
		char *data;
		size_t len;

		if (list[i]->d_name[0] != '.' && fd_read_file_at(dir, list[i]->d_name, 1 << 20, &data, &len) >= 0) {
			/* Without the NUL behind it, so that reading over the end is seen. */
			uint8_t *own = malloc(len ? len : 1);

			if (!own)
				return 1;
			for (size_t k = 0; k < len; k++)
				own[k] = (uint8_t)data[k];
			LLVMFuzzerTestOneInput(own, len);
			free(own);
			free(data);
			done++;
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	printf("1..1\n%sok 1 - %d inputs of the corpus\n", done > 20 ? "" : "not ", done);
	return done > 20 ? 0 : 1;
}

/* Answers of sock_diag: the first byte chooses the parser. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sys/sock_diag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct udiag_sock u = { 0 };
	struct idiag_sock i;
	void *copy;

	if (len < 4)
		return 0;
	copy = malloc(len - 4 ? len - 4 : 1); /* aligned, as netlink messages are */
	if (!copy)
		return 0;
	memcpy(copy, data + 4, len - 4);
	if (data[0] & 1) {
		if (udiag_parse(copy, len - 4, &u) == 0)
			free(u.icons);
	} else {
		(void)idiag_parse(copy, len - 4, &i);
	}
	free(copy);
	return 0;
}

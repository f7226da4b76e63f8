/* Texts of the kernel that part mem and the attributes read. */
#include <stdlib.h>
#include <string.h>

#include "cr/mem/vma.h"
#include "cr/task/limits_parse.h"
#include "cr/task/timers_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct limit limits[LIMITS_MAX];
	struct timer_list timers;
	struct vma_list l;
	char *text = malloc(len + 1);

	memcpy(text, data, len);
	text[len] = '\0';
	(void)limits_parse(text, limits);
	if (timers_parse(text, &timers) == 0)
		free(timers.v);
	/* Takes the text over, and frees it even where it fails. */
	if (vma_parse(text, len, &l, NULL) == 0)
		vma_list_done(&l);
	return 0;
}

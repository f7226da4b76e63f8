/* The first bytes of any TLS connection. */
#include "http/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t need = 0;
	bool bulk;

	if (hello_look(data, size, &bulk, &need) == 0 && (need <= size || need > HELLO_MAX))
		__builtin_trap();
	return 0;
}

/* One target for all readers of the engine: the first byte says which. */
#include <stddef.h>
#include <stdint.h>

#define LLVMFuzzerTestOneInput fuzz_stream
#include "fuzz_stream.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_folder
#include "fuzz_folder.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_fdinfo
#include "fuzz_fdinfo.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_mem
#include "fuzz_mem.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_ns
#include "fuzz_ns.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_sock
#include "fuzz_sock.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_msg
#include "fuzz_msg.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_engine
#include "fuzz_engine.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_files
#include "fuzz_files.c"
#undef LLVMFuzzerTestOneInput

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Numbers stay what they are: the corpus has them. */
static int (*const readers[])(const uint8_t *data, size_t len) = {
	fuzz_stream, fuzz_folder, fuzz_fdinfo, fuzz_mem, fuzz_ns, fuzz_sock, fuzz_msg, fuzz_engine,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* Later ones have a byte of their own, so that those numbers stay. */
	if (len && data[0] == 'F')
		return fuzz_files(data + 1, len - 1);
	return len ? readers[data[0] % (sizeof(readers) / sizeof(readers[0]))](data + 1, len - 1) : 0;
}

/* Messages between our processes: a worker that a hostile stream has taken over can send anything. */
#include "base/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg m;
	uint64_t v;

	if (msg_parse((const char *)data, size, &m) < 0)
		return 0;
	if (!m.verb || m.n > MSG_KEYS_MAX)
		__builtin_trap();
	for (size_t i = 0; i < m.n; i++)
		msg_get_u64(&m, m.kv[i].key, &v);
	msg_done(&m);
	return 0;
}

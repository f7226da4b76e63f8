/* What callers send to the engine: the first byte says whether it is an RPC request or a configuration file. */
#include <stdlib.h>
#include <string.h>

#include "engine/config.h"
#include "engine/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int set(void *arg, const char *name, const char *value, struct err *e)
{
	struct options *o = arg;

	/* Ours are the fuzzer's. */
	if (strcmp(name, "close") == 0)
		return 0;
	return options_set(o, name, value ? options_keep(o, value) : NULL, e);
}

static void request(const uint8_t *data, size_t len)
{
	struct err e = { 0 };
	char unknown[256];
	struct options o;
	CriuReq *q;

	if (rpc_unpack(data, len, &q, NULL) < 0)
		return;
	rpc_unknown(&q->base, unknown, sizeof(unknown));
	if (q->opts) {
		rpc_unknown(&q->opts->base, unknown, sizeof(unknown));
		options_init(&o);
		/* A failure says why. */
		if (rpc_opts_apply(&o, q->opts, len & 1, &e) < 0 && !e.text[0])
			__builtin_trap();
		o.action = ACTION_RESTORE;
		options_check(&o, &e);
		options_done(&o);
	}
	criu_req__free_unpacked(q, NULL);
}

static void config(const uint8_t *data, size_t len)
{
	struct err e = { 0 };
	struct options o;

	options_init(&o);
	if (config_parse((const char *)data, len, set, &o, &e) < 0 && !e.text[0])
		__builtin_trap();
	options_check(&o, &e);
	options_done(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	if (data[0] & 1)
		request(data + 1, len - 1);
	else
		config(data + 1, len - 1);
	return 0;
}

/* prog - the inside of a program (agent.h) and its form on the channel. */
#pragma once
#include "inject/internal.h"

struct aprog {
	struct agent_op *ops;
	size_t n_ops, cap_ops;
	char *data; /* offsets of arguments count from its start until it is packed */
	size_t len, cap;
	char *out; /* the data as it came back; NULL before it ran */
	int error;
};

int aprog_pack(struct aprog *p, size_t max, char **ret, size_t *ret_len, struct err *e);
int aprog_unpack(struct aprog *p, const char *msg, size_t len, struct err *e);

/* prog - building programs for an agent (agent.h), in the layout of pie/proto.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "inject/prog.h"

struct aprog *aprog_new(void)
{
	return calloc(1, sizeof(struct aprog));
}

struct aprog *aprog_free(struct aprog *p)
{
	if (p) {
		free(p->ops);
		free(p->data);
		free(p->out);
		free(p);
	}
	return NULL;
}

struct aarg aarg_imm(uint64_t v)
{
	return (struct aarg){ AARG_IMM, v };
}

struct aarg aarg_result(size_t op)
{
	return (struct aarg){ AARG_RESULT, op };
}

static struct aarg data_add(struct aprog *p, const void *data, size_t len)
{
	size_t at = (p->len + 15) & ~(size_t)15, cap = p->cap;
	char *grown;

	if (p->error)
		return aarg_imm(0);
	if (len > AGENT_DATA_MAX || at + len > AGENT_DATA_MAX) {
		p->error = -EMSGSIZE;
		return aarg_imm(0);
	}
	while (cap < at + len || !cap)
		cap = cap ? cap * 2 : 512;
	if (cap != p->cap) {
		grown = realloc(p->data, cap);
		if (!grown) {
			p->error = -ENOMEM;
			return aarg_imm(0);
		}
		p->data = grown;
		p->cap = cap;
	}
	memset(p->data + p->len, 0, at - p->len);
	if (data && len)
		memcpy(p->data + at, data, len);
	else
		memset(p->data + at, 0, len);
	p->len = at + len;
	return (struct aarg){ AARG_DATA, at };
}

struct aarg aprog_in(struct aprog *p, const void *data, size_t len)
{
	return data_add(p, data, len);
}

struct aarg aprog_str(struct aprog *p, const char *s)
{
	return data_add(p, s, strlen(s) + 1);
}

struct aarg aprog_out(struct aprog *p, size_t len)
{
	return data_add(p, NULL, len);
}

static size_t op_add(struct aprog *p, unsigned flags, unsigned kind, long nr, size_t n_args,
		     const struct aarg *args)
{
	struct agent_op *op;

	if (n_args > 6)
		p->error = -EINVAL;
	else if (!p->error && array_grow(p->ops, p->n_ops, p->cap_ops) < 0)
		p->error = -ENOMEM;
	if (p->error)
		return 0;
	op = &p->ops[p->n_ops];
	memset(op, 0, sizeof(*op));
	op->kind = (uint8_t)kind;
	op->flags = flags & AOP_MAY_FAIL ? AGENT_F_MAY_FAIL : 0;
	op->nr = nr;
	for (size_t i = 0; i < n_args; i++) {
		op->args[i] = args[i].value;
		op->arg_kind[i] = args[i].kind == AARG_DATA	? AGENT_ARG_DATA
				  : args[i].kind == AARG_RESULT ? AGENT_ARG_RESULT
								: AGENT_ARG_IMM;
	}
	return p->n_ops++;
}

size_t aprog_call(struct aprog *p, unsigned flags, long nr, size_t n_args, const struct aarg *args)
{
	return op_add(p, flags, AGENT_OP_CALL, nr, n_args, args);
}

size_t aprog_op(struct aprog *p, unsigned flags, unsigned kind, size_t n_args,
		const struct aarg *args)
{
	return op_add(p, flags, kind, 0, n_args, args);
}

size_t aprog_park(struct aprog *p, long nr, const struct aarg args[6])
{
	return op_add(p, 0, AGENT_OP_PARK, nr, 6, args);
}

size_t aprog_read_full(struct aprog *p, int fd, uint64_t addr, uint64_t len)
{
	return op_add(
		p, 0, AGENT_OP_READ, 0, 3,
		(struct aarg[]){ aarg_imm((uint64_t)(int64_t)fd), aarg_imm(addr), aarg_imm(len) });
}

size_t aprog_poke(struct aprog *p, uint64_t addr, const void *data, size_t len)
{
	struct aarg from = aprog_in(p, data, len);

	return op_add(p, 0, AGENT_OP_POKE, 0, 3,
		      (struct aarg[]){ aarg_imm(addr), from, aarg_imm(len) });
}

long aprog_result(const struct aprog *p, size_t op)
{
	return op < p->n_ops ? (long)p->ops[op].result : -EINVAL;
}

void *aprog_out_data(struct aprog *p, struct aarg out)
{
	if (!p->out || out.kind != AARG_DATA || out.value > p->len)
		return NULL;
	return p->out + out.value;
}

int aprog_pack(struct aprog *p, size_t max, char **ret, size_t *ret_len, struct err *e)
{
	size_t ops = sizeof(struct agent_msg) + p->n_ops * sizeof(struct agent_op);
	size_t at = (ops + 15) & ~(size_t)15, len = at + p->len;
	struct agent_msg *m;

	if (p->error)
		return err_sys(e, p->error, "building a program of %zu calls", p->n_ops);
	if (len > max)
		return err_set(e, -EMSGSIZE,
			       "a program of %zu calls has %zu bytes, the agent takes %zu",
			       p->n_ops, len, max);
	m = calloc(1, len);
	if (!m)
		return err_sys(e, -ENOMEM, "a program of %zu calls", p->n_ops);
	m->len = (uint32_t)len;
	m->n_ops = (uint32_t)p->n_ops;
	if (p->n_ops)
		memcpy(m + 1, p->ops, p->n_ops * sizeof(*p->ops));
	for (size_t i = 0; i < p->n_ops; i++) {
		struct agent_op *op = (struct agent_op *)(m + 1) + i;

		for (unsigned k = 0; k < 6; k++)
			if (op->arg_kind[k] == AGENT_ARG_DATA)
				op->args[k] += at;
	}
	if (p->len)
		memcpy((char *)m + at, p->data, p->len);
	*ret = (char *)m;
	*ret_len = len;
	return 0;
}

int aprog_unpack(struct aprog *p, const char *msg, size_t len, struct err *e)
{
	size_t ops = sizeof(struct agent_msg) + p->n_ops * sizeof(struct agent_op);
	size_t at = (ops + 15) & ~(size_t)15;

	if (len != at + p->len)
		return err_set(e, -EPROTO, "the agent answered %zu bytes, %zu were due", len,
			       at + p->len);
	for (size_t i = 0; i < p->n_ops; i++)
		p->ops[i].result =
			((const struct agent_op *)(msg + sizeof(struct agent_msg)))[i].result;
	free(p->out);
	p->out = malloc(p->len + 1);
	if (!p->out)
		return err_sys(e, -ENOMEM, "an agent's answer");
	memcpy(p->out, msg + at, p->len);
	return 0;
}

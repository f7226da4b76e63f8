/* The POSIX timers of a process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sys/ktask_priv.h"

/* On the program's stack: what it writes, and a pointer. */
#define AT(field) (-(int)sizeof(struct ktask_timer) + (int)offsetof(struct ktask_timer, field))
#define AT_POINTER (-(int)sizeof(struct ktask_timer) - 8)

/* The lengths of the pieces that are jumped over. */
#define LEN_HEAD 4
#define LEN_BODY 46

/* head = &task->signal->posix_timers;
 * for (node = head->first, n = 0; node && node != head && n < max; node = node->next, n++) seq_write(...) */
int ktask_timers_load(const struct ktask_layout *l)
{
	const __typeof__(l->timer) *f = &l->timer;
	const struct bpf_insn code[] = {
		PROLOGUE,
		READ(AT_POINTER, 8, TASK, f->signal),
		LOAD(R7, FP, AT_POINTER),
		ADD(R7, f->head),
		READ(AT_POINTER, 8, R7, 0),
		LOAD(R6, FP, AT_POINTER),
		SET(R9, 0),
		/* head */
		INSN(BPF_JMP | BPF_JEQ | BPF_K, R6, 0, LEN_HEAD + LEN_BODY - 1, 0),
		INSN(BPF_JMP | BPF_JEQ | BPF_X, R6, R7, LEN_HEAD + LEN_BODY - 2, 0),
		INSN(BPF_JMP | BPF_JGE | BPF_K, R9, 0, LEN_HEAD + LEN_BODY - 3, KTASK_TIMERS_MAX),
		ADD(R9, 1),
		/* body */
		ADD(R6, -(int)f->list),
		STORE_IMM(AT(base), 0),
		READ(AT(id), 4, R6, f->id),
		READ(AT(clock), 4, R6, f->clock),
		READ(AT(expires_ns), 8, R6, f->expires),
		READ(AT_POINTER, 8, R6, f->base),
		LOAD(R3, FP, AT_POINTER),
		READ(AT(base), 4, R3, f->index),
		MOV(R1, SEQ),
		MOV(R2, FP),
		ADD(R2, AT(id)),
		SET(R3, sizeof(struct ktask_timer)),
		CALL(BPF_FUNC_seq_write),
		READ(AT_POINTER, 8, R6, f->list),
		LOAD(R6, FP, AT_POINTER),
		INSN(BPF_JMP | BPF_JA, 0, 0, -(LEN_HEAD + LEN_BODY), 0),
		SET(R0, 0),
		EXIT,
	};

	return ktask_prog_load(code, array_len(code), l->target);
}

int ktask_timers_find(const struct btf *b, struct ktask_layout *l)
{
	const struct {
		const char *type, *path;
		uint32_t *ret;
	} wanted[] = {
		{ "task_struct", "signal", &l->timer.signal },
		{ "signal_struct", "posix_timers", &l->timer.head },
		{ "k_itimer", "list", &l->timer.list },
		{ "k_itimer", "it_id", &l->timer.id },
		{ "k_itimer", "it_clock", &l->timer.clock },
		{ "k_itimer", "it.real.timer._softexpires", &l->timer.expires },
		{ "k_itimer", "it.real.timer.base", &l->timer.base },
		{ "hrtimer_clock_base", "index", &l->timer.index },
	};

	for (size_t i = 0; i < array_len(wanted); i++)
		if (btf_field(b, wanted[i].type, wanted[i].path, wanted[i].ret) < 0)
			return -ENOENT;
	return 0;
}

int ktask_timers(const struct ktask *k, pid_t pid, struct ktask_timer **ret, size_t *ret_n)
{
	auto_free struct ktask_timer *list = calloc(KTASK_TIMERS_MAX, sizeof(*list));
	ssize_t n;

	if (!list)
		return -ENOMEM;
	n = ktask_run(k->timers, pid, list, KTASK_TIMERS_MAX * sizeof(*list));
	if (n < 0)
		return (int)n;
	*ret = ptr_take(list);
	*ret_n = (size_t)n / sizeof(**ret);
	return 0;
}

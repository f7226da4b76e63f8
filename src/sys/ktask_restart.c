/* The restart block of a task. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "sys/ktask_priv.h"

#define NS 1000000000ll
#define BLOCK_MAX 64 /* of the kernel's struct, of 56 bytes, more than its fields with a time */

/* What the program writes for its task; the name of the function that would go on follows. */
struct account {
	char block[BLOCK_MAX];
	uint64_t monotonic, boottime, tai; /* the moment, by the kernel's clocks */
};

/* On the program's stack. */
#define AT_ACCOUNT (-(int)sizeof(struct account))
#define AT(field) (AT_ACCOUNT + (int)offsetof(struct account, field))
#define AT_FORMAT (AT_ACCOUNT - 8)

/* account = ...; seq_write(account); seq_printf("%ps", account.block.fn) */
static int prog_load(uint32_t target, uint32_t block, uint32_t fn)
{
	const struct bpf_insn code[] = {
		PROLOGUE,
		READ(AT(block), BLOCK_MAX, TASK, block),
		CALL(BPF_FUNC_ktime_get_ns),
		STORE(AT(monotonic), R0),
		CALL(BPF_FUNC_ktime_get_boot_ns),
		STORE(AT(boottime), R0),
		CALL(BPF_FUNC_ktime_get_tai_ns),
		STORE(AT(tai), R0),
		MOV(R1, SEQ),
		MOV(R2, FP),
		ADD(R2, AT_ACCOUNT),
		SET(R3, sizeof(struct account)),
		CALL(BPF_FUNC_seq_write),
		STORE_IMM(AT_FORMAT, 's' << 16 | 'p' << 8 | '%'),
		MOV(R1, SEQ),
		MOV(R2, FP),
		ADD(R2, AT_FORMAT),
		SET(R3, 4),
		MOV(R4, FP),
		ADD(R4, AT(block) + (int)fn),
		SET(R5, 8),
		CALL(BPF_FUNC_seq_printf),
		SET(R0, 0),
		EXIT,
	};

	return ktask_prog_load(code, array_len(code), target);
}

int ktask_restart_find(const struct btf *b, struct ktask_layout *l)
{
	uint32_t *const at[] = { &l->at.fn,   &l->at.clock, &l->at.expires,
				 &l->at.time, &l->at.sec,   &l->at.nsec };
	static const char *const names[][2] = {
		{ "fn" }, { "nanosleep.clockid" }, { "nanosleep.expires" }, { "futex.time" },
		{ "poll.tv_sec", "poll.end_time.tv_sec" }, { "poll.tv_nsec", "poll.end_time.tv_nsec" },
	};

	for (size_t i = 0; i < array_len(names); i++) {
		if (btf_field(b, "restart_block", names[i][0], at[i]) < 0 &&
		    (!names[i][1] || btf_field(b, "restart_block", names[i][1], at[i]) < 0))
			return -ENOENT;
	}
	return btf_field(b, "task_struct", "restart_block", &l->block);
}

bool ktask_layout_sane(const struct ktask_layout *l)
{
	const uint32_t at[] = { l->at.fn, l->at.clock, l->at.expires, l->at.time, l->at.sec, l->at.nsec };

	for (size_t i = 0; i < array_len(at); i++)
		if (at[i] > BLOCK_MAX - 8)
			return false;
	return l->at.fn % 8 == 0;
}

int ktask_restart_load(const struct ktask_layout *l)
{
	return prog_load(l->target, l->block, l->at.fn);
}

static enum restart_kind kind_of(const char *fn)
{
	static const struct {
		const char *word;
		enum restart_kind kind;
	} known[] = {
		{ "do_no_restart", RESTART_NONE },    { "hrtimer_nanosleep", RESTART_SLEEP },
		{ "posix_cpu_nsleep", RESTART_CPU_SLEEP }, { "restart_poll", RESTART_POLL },
		{ "futex_wait", RESTART_FUTEX },
	};

	for (size_t i = 0; i < array_len(known); i++)
		if (strstr(fn, known[i].word))
			return known[i].kind;
	return RESTART_OTHER;
}

/* The monotonic time at which another clock shows `end`. */
static int64_t monotonic_of(const struct account *a, int32_t clock, int64_t end)
{
	uint64_t now = clock == CLOCK_BOOTTIME ? a->boottime : clock == CLOCK_TAI ? a->tai : a->monotonic;

	return end == INT64_MAX ? end : end - (int64_t)now + (int64_t)a->monotonic;
}

static int64_t number_at(const struct account *a, uint32_t off)
{
	int64_t v;

	memcpy(&v, a->block + off, sizeof(v));
	return v;
}

static void account_read(const struct ktask *k, const struct account *a, const char *fn,
			 struct restart_block *ret)
{
	struct restart_block b = { .kind = kind_of(fn), .end_ns = INT64_MAX };
	int64_t sec = number_at(a, k->l.at.sec);

	memcpy(&b.clock, a->block + k->l.at.clock, sizeof(b.clock));
	switch (b.kind) {
	case RESTART_SLEEP:
		b.end_ns = monotonic_of(a, b.clock, number_at(a, k->l.at.expires));
		break;
	case RESTART_CPU_SLEEP:
		b.end_ns = number_at(a, k->l.at.expires);
		break;
	case RESTART_FUTEX:
		b.end_ns = number_at(a, k->l.at.time);
		break;
	case RESTART_POLL:
		b.end_ns = sec > INT64_MAX / NS - 1 ? INT64_MAX : sec * NS + number_at(a, k->l.at.nsec);
		break;
	default:
		break;
	}
	*ret = b;
}

int ktask_restart(const struct ktask *k, pid_t tid, struct restart_block *ret)
{
	struct {
		struct account a;
		char fn[128];
	} got = { 0 };
	ssize_t n = ktask_run(k->restart, tid, &got, sizeof(got) - 1);

	if (n < 0)
		return (int)n;
	if ((size_t)n <= sizeof(got.a))
		return -ESRCH;
	account_read(k, &got.a, got.fn, ret);
	return 0;
}

#include "sys/restart_block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "sys/btf.h"

#define NS 1000000000ll
#define BLOCK_MAX 64 /* of the kernel's struct, of 56 bytes, more than its fields with a time */

/* What the program writes for its task; the name of the function that would go on follows. */
struct account {
	char block[BLOCK_MAX];
	uint64_t monotonic, boottime, tai; /* the moment, by the kernel's clocks */
};

struct restart_reader {
	int prog;
	struct { /* of fields, in the block */
		uint32_t fn, clock, expires, time, sec, nsec;
	} at;
};

AUTO_OF_DEFINE(btf)

struct restart_reader *restart_reader_free(struct restart_reader *r)
{
	if (r) {
		fd_close(&r->prog);
		free(r);
	}
	return NULL;
}
AUTO_OF_DEFINE(restart_reader)

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

#define INSN(op, dst, src, o, i) { .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (int32_t)(i) }
#define MOV(dst, src) INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define SET(dst, v) INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, v)
#define ADD(dst, v) INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, v)
#define LOAD(dst, src, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, o, 0)
#define STORE(o, src) INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, src, o, 0)
#define STORE_IMM(o, v) INSN(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, o, v)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* On the program's stack. */
#define AT_ACCOUNT (-(int)sizeof(struct account))
#define AT(field) (AT_ACCOUNT + (int)offsetof(struct account, field))
#define AT_FORMAT (AT_ACCOUNT - 8)

/* for the task and its end (NULL): if (task) { account = ...; seq_write(account); seq_printf("%ps", fn) } */
static int prog_load(uint32_t target, uint32_t block, uint32_t fn)
{
	enum { R0, R1, R2, R3, R4, R5, R6, TASK, SEQ, R9, FP };
	const struct bpf_insn code[] = {
		LOAD(TASK, R1, 8),
		LOAD(R1, R1, 0),
		INSN(BPF_JMP | BPF_JNE | BPF_K, TASK, 0, 2, 0),
		SET(R0, 0),
		EXIT,
		LOAD(SEQ, R1, 0),
		MOV(R1, FP),
		ADD(R1, AT(block)),
		SET(R2, BLOCK_MAX),
		MOV(R3, TASK),
		ADD(R3, block),
		CALL(BPF_FUNC_probe_read_kernel),
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
	union bpf_attr a = {
		.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_ITER,
		.attach_btf_id = target,
		.insns = (uintptr_t)code,
		.insn_cnt = array_len(code),
		/* These helpers want a word that the GPL is among a program's licences.  It is, for the
		 * instructions above. */
		.license = (uintptr_t) "Dual BSD/GPL",
		.prog_name = "godwit_restart",
	};

	return sys_bpf(BPF_PROG_LOAD, &a);
}

static int fields_find(const struct btf *b, struct restart_reader *r, uint32_t *ret_block)
{
	uint32_t *const at[] = { &r->at.fn,   &r->at.clock, &r->at.expires,
				 &r->at.time, &r->at.sec,   &r->at.nsec };
	static const char *const names[][2] = {
		{ "fn" }, { "nanosleep.clockid" }, { "nanosleep.expires" }, { "futex.time" },
		{ "poll.tv_sec", "poll.end_time.tv_sec" }, { "poll.tv_nsec", "poll.end_time.tv_nsec" },
	};

	for (size_t i = 0; i < array_len(names); i++) {
		if (btf_field(b, "restart_block", names[i][0], at[i]) < 0 &&
		    (!names[i][1] || btf_field(b, "restart_block", names[i][1], at[i]) < 0))
			return -ENOENT;
		if (*at[i] > BLOCK_MAX - 8)
			return -EPROTO;
	}
	if (r->at.fn % 8)
		return -EPROTO;
	return btf_field(b, "task_struct", "restart_block", ret_block);
}

int restart_reader_open(struct restart_reader **ret, struct err *e)
{
	auto_of(restart_reader) *r = calloc(1, sizeof(*r));
	auto_of(btf) *b = NULL;
	uint32_t block, target;
	int x;

	if (!r)
		return err_sys(e, -ENOMEM, "looking at interrupted calls");
	r->prog = -1;
	x = btf_open(NULL, 0, &b);
	if (x < 0)
		return err_sys(e, x, "the kernel's description of its types");
	x = fields_find(b, r, &block);
	if (x >= 0)
		x = btf_func(b, "bpf_iter_task", &target);
	if (x < 0)
		return err_set(e, x, "this kernel keeps interrupted calls in another way");
	r->prog = prog_load(target, block, r->at.fn);
	if (r->prog < 0)
		return err_sys(e, r->prog, "a BPF program that reads restart blocks");
	*ret = ptr_take(r);
	return 0;
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

static void account_read(const struct restart_reader *r, const struct account *a, const char *fn,
			 struct restart_block *ret)
{
	struct restart_block b = { .kind = kind_of(fn), .end_ns = INT64_MAX };
	int64_t sec = number_at(a, r->at.sec);

	memcpy(&b.clock, a->block + r->at.clock, sizeof(b.clock));
	switch (b.kind) {
	case RESTART_SLEEP:
		b.end_ns = monotonic_of(a, b.clock, number_at(a, r->at.expires));
		break;
	case RESTART_CPU_SLEEP:
		b.end_ns = number_at(a, r->at.expires);
		break;
	case RESTART_FUTEX:
		b.end_ns = number_at(a, r->at.time);
		break;
	case RESTART_POLL:
		b.end_ns = sec > INT64_MAX / NS - 1 ? INT64_MAX : sec * NS + number_at(a, r->at.nsec);
		break;
	default:
		break;
	}
	*ret = b;
}

/* An iterator over this one task. */
static int iter_open(const struct restart_reader *r, pid_t tid)
{
	union bpf_iter_link_info which = { .task = { .tid = (uint32_t)tid } };
	union bpf_attr a = { .link_create = { .prog_fd = (uint32_t)r->prog,
					      .attach_type = BPF_TRACE_ITER,
					      .iter_info = (uintptr_t)&which,
					      .iter_info_len = sizeof(which) } };
	auto_fd int link = sys_bpf(BPF_LINK_CREATE, &a);

	if (link < 0)
		return link;
	a = (union bpf_attr){ .iter_create = { .link_fd = (uint32_t)link } };
	return sys_bpf(BPF_ITER_CREATE, &a);
}

int restart_reader_get(const struct restart_reader *r, pid_t tid, struct restart_block *ret)
{
	struct {
		struct account a;
		char fn[128];
	} got = { 0 };
	auto_fd int fd = iter_open(r, tid);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	do {
		n = read(fd, (char *)&got + len, sizeof(got) - 1 - len);
		if (n < 0)
			return -errno;
		len += (size_t)n;
	} while (n && len < sizeof(got) - 1);
	if (len <= sizeof(got.a))
		return -ESRCH;
	account_read(r, &got.a, got.fn, ret);
	return 0;
}

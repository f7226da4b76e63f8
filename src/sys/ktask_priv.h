/* ktask's own: its parts, and BPF instructions. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <sys/types.h>

#include "sys/btf.h"
#include "sys/ktask.h"

/* Where this kernel keeps what we look for: byte offsets, and the number of the function that is attached to. */
struct ktask_layout {
	uint32_t target;
	uint32_t block; /* in a task, and fields in that: */
	struct {
		uint32_t fn, clock, expires, time, sec, nsec;
	} at;
	struct {
		uint32_t signal, head, list, id, clock, expires, base, index;
	} timer;
};
#define KTASK_LAYOUT_WORDS (sizeof(struct ktask_layout) / sizeof(uint32_t))

struct ktask {
	int restart, timers; /* programs */
	struct ktask_layout l;
};

/* From the kernel's description of its types.  -ENOENT: it has no such fields. */
int ktask_restart_find(const struct btf *b, struct ktask_layout *l);
int ktask_timers_find(const struct btf *b, struct ktask_layout *l);
bool ktask_layout_sane(const struct ktask_layout *l);
/* Programs; a descriptor or -errno. */
int ktask_restart_load(const struct ktask_layout *l);
int ktask_timers_load(const struct ktask_layout *l);

/* The layout as it was found before under this very kernel (boot id), since finding it takes longer than most dumps:
 * in a folder of root's alone, and only for root.  -ENOENT: not there, or not to be trusted. */
int ktask_cache_read(struct ktask_layout *ret);
void ktask_cache_write(const struct ktask_layout *l);

int ktask_prog_load(const struct bpf_insn *code, size_t n, uint32_t target);
/* What the program writes for this task; the length. */
ssize_t ktask_run(int prog, pid_t tid, void *buf, size_t len);

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP };

#define INSN(op, dst, src, o, i) { .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (int32_t)(i) }
#define MOV(dst, src) INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define SET(dst, v) INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, v)
#define ADD(dst, v) INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, v)
#define LOAD(dst, src, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, o, 0)
#define STORE(o, src) INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, src, o, 0)
#define STORE_IMM(o, v) INSN(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, o, v)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define READ(o, len, src, at)                                                                     \
	MOV(R1, FP), ADD(R1, o), SET(R2, len), MOV(R3, src), ADD(R3, at), CALL(BPF_FUNC_probe_read_kernel)

/* The beginning of each: TASK and SEQ are set, or it ends (after the last task it is called once more). */
#define TASK R7
#define SEQ R8
#define PROLOGUE                                                                                    \
	LOAD(TASK, R1, 8), LOAD(R1, R1, 0), INSN(BPF_JMP | BPF_JNE | BPF_K, TASK, 0, 2, 0), SET(R0, 0), \
		EXIT, LOAD(SEQ, R1, 0)

/* proto - what the agent in the task (agent.c) and its master outside (inject/) tell each other: the
 * layout of the blob's mapping and of the messages on the channel.
 *
 * Freestanding: included by both sides.  One message is one packet: a request comes, the same bytes
 * go back with the results filled in.  Data follows the operations and is addressed where it lies.
 *
 * The mapping (AGENT_SPAN bytes at `base`):
 *   base                    the blob's text, AGENT_TEXT bytes, r-x
 *   base + AGENT_TEXT       struct agent_head, a page, rw-
 *   base + AGENT_SLOT0      the leader's slot: struct agent_slot, data, stack, rw-
 * Slots of further threads come in chunks of their own: AGENT_CHUNK_SLOTS return stubs (r-x), then as many
 * slots (rw-). */
#pragma once
#include <stdint.h>

#define AGENT_TEXT 0x4000u
#define AGENT_SLOT0 0x5000u
#define AGENT_SLOT0_DATA 0x1000u
#define AGENT_SLOT0_DATA_LEN 0x10000u
#define AGENT_SLOT0_LEN 0x15000u /* 16 KiB of it are stack */
#define AGENT_USED (AGENT_SLOT0 + AGENT_SLOT0_LEN)

#define AGENT_SLOT_LEN 0x4000u
#define AGENT_SLOT_DATA 0x100u
#define AGENT_SLOT_DATA_LEN 0x2e00u /* the rest, 4352 bytes, is stack */
#define AGENT_CHUNK_SLOTS 32u
#define AGENT_STUB_LEN 0x200u
#define AGENT_CHUNK_STUBS (AGENT_CHUNK_SLOTS * AGENT_STUB_LEN)
#define AGENT_CHUNK_LEN (AGENT_CHUNK_STUBS + AGENT_CHUNK_SLOTS * AGENT_SLOT_LEN)

/* Entry points, as offsets in the text (agent_head.S keeps them). */
#define AGENT_ENTRY_FIRST 0x00u   /* mprotect with the arguments in registers, then as RUN */
#define AGENT_ENTRY_RUN 0x40u     /* rdi: the slot */
#define AGENT_ENTRY_SYSCALL 0x80u /* a syscall instruction and a loop that stands still */
#define AGENT_ENTRY_LEAVE 0xc0u   /* rdi: the slot; closes the channel and leaves */

struct agent_head {
	int64_t users; /* agents that may still run in the mapping; the last one out unmaps it */
};

enum {
	AGENT_LEAVE_EXIT = 0,   /* the channel closed: exit_group, there is nothing to go back to */
	AGENT_LEAVE_RETURN = 1, /* jump to the stub, which brings the thread's own state back */
};

#define AGENT_SLOT_MAGIC 0x746f6c5374697764ull

struct agent_slot {
	uint64_t magic; /* in the first slot of a chunk from the moment it is mapped: how it is known again */
	uint64_t stub;
	uint64_t data; /* address */
	uint32_t data_len;
	uint32_t leave;
	int32_t channel; /* -1: to be made by the agent itself */
	int32_t pair[2]; /* made by itself: its end and ours, which it closes at once */
	int32_t error;   /* of making it: negative errno */
	int64_t result;  /* of the call of AGENT_OP_PARK, once it has ended */
};

enum agent_op_kind {
	AGENT_OP_CALL = 0,
	AGENT_OP_READ,   /* args: fd, address, length: exactly length bytes */
	AGENT_OP_POKE,   /* args: address, data, length */
	AGENT_OP_FORK,   /* args: flags, pid; a channel's end came with the message, the pidfd goes back */
	AGENT_OP_THREAD, /* args: tid, slot, stack; as above */
	AGENT_OP_PLACE,  /* args: data (struct agent_place[]), n; n descriptors came */
	AGENT_OP_PUT,    /* result: number of the one descriptor that came */
	AGENT_OP_CHANNEL, /* args: number; the channel moves there */
	AGENT_OP_JUMP,   /* args: text, slot, stack: goes on in another mapping */
	AGENT_OP_PARK,   /* closes the channel, makes the call nr (-1: none) and then stands still: no answer */
};

#define AGENT_ARG_IMM 0
#define AGENT_ARG_DATA 1
#define AGENT_ARG_RESULT 2 /* low half: of which operation; high half is added to it */

#define AGENT_F_MAY_FAIL 1u

struct agent_op {
	uint8_t kind, flags;
	uint8_t arg_kind[6];
	int64_t nr;
	uint64_t args[6];
	int64_t result;
};

struct agent_msg {
	uint32_t len; /* of all */
	uint32_t n_ops;
	int32_t status; /* 0, or the error of the operation `failed` */
	uint32_t failed;
	/* struct agent_op ops[n_ops], then data; data offsets count from the start of the message */
};

struct agent_place {
	int32_t number, cloexec;
};

#define AGENT_FDS_MAX 250

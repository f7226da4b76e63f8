/* agent - runs inside another process and executes the system calls it is sent.
 *
 * Freestanding and position independent, general registers only (so that the thread's extended
 * state is never touched).  It is sent programs over a SOCK_SEQPACKET channel and sends them back
 * with the results.  When the channel closes, its master is dead or done: it leaves (proto.h,
 * enum). */
#include "pie/proto.h"

#define NR_read 0
#define NR_close 3
#define NR_pause 34
#define NR_sendmsg 46
#define NR_recvmsg 47
#define NR_socketpair 53
#define NR_fcntl 72
#define NR_exit_group 231
#define NR_dup3 292
#define NR_clone3 435

#define E_INTR (-4)
#define E_BADF (-9)
#define E_EXIST (-17)
#define E_INVAL (-22)
#define E_PIPE (-32)
#define E_PROTO (-71)

#define O_CLOEXEC_ 02000000
#define F_SETFD_ 2
#define F_DUPFD_CLOEXEC_ 1030
#define MSG_NOSIGNAL_ 0x4000
#define MSG_CMSG_CLOEXEC_ 0x40000000
#define MSG_TRUNC_ 0x20
#define MSG_CTRUNC_ 0x08
#define CLONE_PIDFD_ 0x1000

struct iov {
	void *base;
	uint64_t len;
};

struct msghdr_ {
	void *name;
	uint32_t name_len;
	struct iov *iov;
	uint64_t n_iov;
	void *control;
	uint64_t control_len;
	int32_t flags;
};

struct cmsg {
	uint64_t len;
	int32_t level, type;
	int32_t fds[AGENT_FDS_MAX];
};

struct clone_args_ {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size, cgroup;
};

struct inbox {
	int32_t fds[AGENT_FDS_MAX];
	uint32_t n;
};

long agent_clone_thread(struct clone_args_ *ca, uint64_t len, struct agent_slot *slot);
void agent_run(struct agent_slot *s);
void agent_leave(struct agent_slot *s);

static long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS1(nr, a) sys6(nr, (uint64_t)(a), 0, 0, 0, 0, 0)
#define SYS3(nr, a, b, c) sys6(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

__attribute__((noreturn)) void agent_leave(struct agent_slot *s)
{
	if (s->leave != AGENT_LEAVE_RETURN) {
		for (;;)
			SYS1(NR_exit_group, 1);
	}
	if (s->channel >= 0)
		SYS1(NR_close, s->channel);
	__asm__ volatile("jmp *%0" : : "r"(s->stub) : "memory");
	__builtin_unreachable();
}

/* ---- operations ---- */

static long op_read(const uint64_t *a)
{
	uint64_t done = 0;

	while (done < a[2]) {
		uint64_t want = a[2] - done;
		long n;

		if (want > 0x40000000)
			want = 0x40000000;
		n = SYS3(NR_read, a[0], a[1] + done, want);
		if (n == E_INTR)
			continue;
		if (n <= 0)
			return n ? n : E_PIPE;
		done += (uint64_t)n;
	}
	return 0;
}

static long op_poke(const uint64_t *a)
{
	volatile uint8_t *to = (volatile uint8_t *)a[0];
	const uint8_t *from = (const uint8_t *)a[1];

	for (uint64_t i = 0; i < a[2]; i++)
		to[i] = from[i];
	return 0;
}

static void clone_args_fill(struct clone_args_ *ca, uint64_t flags, int32_t *pid, int32_t *pidfd)
{
	volatile uint64_t *w = (volatile uint64_t *)ca;

	for (unsigned i = 0; i < sizeof(*ca) / 8; i++)
		w[i] = 0;
	ca->flags = flags | CLONE_PIDFD_;
	ca->pidfd = (uint64_t)pidfd;
	ca->set_tid = (uint64_t)pid;
	ca->set_tid_size = 1;
}

/* 1: this is the child, which answers nothing. */
static long op_fork(struct agent_slot *s, struct agent_op *op, struct inbox *in, int32_t *ret_pidfd)
{
	int32_t pid = (int32_t)op->args[1], pidfd = -1;
	struct clone_args_ ca;
	long r;

	if (in->n != 1)
		return E_PROTO;
	clone_args_fill(&ca, op->args[0], &pid, &pidfd);
	if (!(op->args[0] & 0x8000)) /* CLONE_PARENT: the parent's own exit signal is used */
		ca.exit_signal = 17;
	if (pid == 0) {
		ca.set_tid = 0;
		ca.set_tid_size = 0;
	}
	r = SYS3(NR_clone3, &ca, sizeof(ca), 0);
	if (r == 0) {
		if (SYS3(NR_dup3, in->fds[0], s->channel, O_CLOEXEC_) < 0)
			SYS1(NR_exit_group, 1);
		SYS1(NR_close, in->fds[0]);
		return 1;
	}
	if (r > 0) {
		*ret_pidfd = pidfd;
		op->result = r;
		r = 0;
	}
	SYS1(NR_close, in->fds[0]);
	in->n = 0;
	return r;
}

static long op_thread(struct agent_op *op, struct inbox *in, int32_t *ret_pidfd)
{
	struct agent_slot *slot = (struct agent_slot *)op->args[1];
	int32_t tid = (int32_t)op->args[0], pidfd = -1;
	/* VM FS FILES SIGHAND THREAD SYSVSEM */
	uint64_t flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000;
	struct clone_args_ ca;
	long r;

	if (in->n != 1)
		return E_PROTO;
	clone_args_fill(&ca, flags, &tid, &pidfd);
	ca.stack = (uint64_t)slot;
	ca.stack_size = op->args[2] - (uint64_t)slot;
	slot->channel = in->fds[0];
	in->n = 0;
	r = agent_clone_thread(&ca, sizeof(ca), slot);
	if (r == E_INVAL) { /* CLONE_PIDFD of a thread: since 6.9 */
		ca.flags &= ~(uint64_t)CLONE_PIDFD_;
		ca.pidfd = 0;
		r = agent_clone_thread(&ca, sizeof(ca), slot);
	}
	if (r < 0) {
		SYS1(NR_close, slot->channel);
		return r;
	}
	op->result = r;
	*ret_pidfd = pidfd;
	return 0;
}

/* What came sits at temporary numbers; a temporary that occupies a wanted number moves away first.
 */
static long op_place(const struct agent_op *op, struct inbox *in)
{
	const struct agent_place *want = (const struct agent_place *)op->args[0];
	long r;

	if (in->n != op->args[1])
		return E_PROTO;
	for (uint32_t i = 0; i < in->n; i++) {
		uint64_t flag = want[i].cloexec ? O_CLOEXEC_ : 0;

		if (in->fds[i] == want[i].number) {
			r = SYS3(NR_fcntl, in->fds[i], F_SETFD_, want[i].cloexec ? 1 : 0);
			in->fds[i] = -1;
			if (r < 0)
				return r;
			continue;
		}
		for (uint32_t j = i + 1; j < in->n; j++) {
			if (in->fds[j] != want[i].number)
				continue;
			r = SYS3(NR_fcntl, in->fds[j], F_DUPFD_CLOEXEC_, 0);
			if (r < 0)
				return r;
			in->fds[j] = (int32_t)r;
		}
		r = SYS3(NR_dup3, in->fds[i], want[i].number, flag);
		if (r < 0)
			return r;
		SYS1(NR_close, in->fds[i]);
		in->fds[i] = -1;
	}
	in->n = 0;
	return 0;
}

static long op_channel(struct agent_slot *s, struct agent_op *op)
{
	long r = SYS3(NR_fcntl, s->channel, F_DUPFD_CLOEXEC_, op->args[0]);

	if (r < 0)
		return r;
	if (r != (long)op->args[0]) {
		SYS1(NR_close, r);
		return E_EXIST;
	}
	SYS1(NR_close, s->channel);
	s->channel = (int32_t)r;
	return 0;
}

/* What the call waits for is not ours any more: it is the task's own, made again. */
static __attribute__((noreturn)) void op_park(struct agent_slot *s, const struct agent_op *op)
{
	const uint64_t *a = op->args;

	SYS1(NR_close, s->channel);
	if (op->nr >= 0)
		s->result = sys6(op->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	for (;;)
		SYS1(NR_pause, 0);
}

/* 1: a child that answers nothing. */
static long op_run(struct agent_slot *s, struct agent_op *op, struct inbox *in, int32_t *ret_fd)
{
	const uint64_t *a = op->args;

	op->result = 0;
	switch (op->kind) {
	case AGENT_OP_CALL:
		op->result = sys6(op->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		return op->result < 0 && op->result >= -4095 ? op->result : 0;
	case AGENT_OP_READ:
		return op_read(a);
	case AGENT_OP_POKE:
		return op_poke(a);
	case AGENT_OP_FORK:
		return op_fork(s, op, in, ret_fd);
	case AGENT_OP_THREAD:
		return op_thread(op, in, ret_fd);
	case AGENT_OP_PLACE:
		return op_place(op, in);
	case AGENT_OP_PUT:
		if (in->n != 1)
			return E_PROTO;
		op->result = in->fds[0];
		in->n = 0;
		return 0;
	case AGENT_OP_CHANNEL:
		return op_channel(s, op);
	case AGENT_OP_PARK:
		op_park(s, op);
	}
	return E_PROTO;
}

static int args_resolve(struct agent_msg *m, struct agent_op *ops, struct agent_op *op, uint32_t at)
{
	for (unsigned i = 0; i < 6; i++) {
		uint64_t v = op->args[i];

		if (op->arg_kind[i] == AGENT_ARG_DATA) {
			if (v > m->len)
				return E_PROTO;
			op->args[i] = (uint64_t)m + v;
		} else if (op->arg_kind[i] == AGENT_ARG_RESULT) {
			if ((uint32_t)v >= at)
				return E_PROTO;
			op->args[i] = (uint64_t)ops[(uint32_t)v].result + (v >> 32);
		}
	}
	return 0;
}

/* ---- the channel ---- */

static long receive(struct agent_slot *s, struct inbox *in, struct cmsg *c)
{
	struct iov iov = { (void *)s->data, s->data_len };
	struct msghdr_ h;
	long n;

	do {
		h.name = 0;
		h.name_len = 0;
		h.iov = &iov;
		h.n_iov = 1;
		h.control = c;
		h.control_len = sizeof(*c);
		h.flags = 0;
		n = SYS3(NR_recvmsg, s->channel, &h, MSG_CMSG_CLOEXEC_);
	} while (n == E_INTR);
	in->n = 0;
	if (n <= 0)
		return n;
	if (h.control_len >= 16 && c->level == 1 && c->type == 1) {
		in->n = (uint32_t)((c->len - 16) / 4);
		if (in->n > AGENT_FDS_MAX)
			return E_PROTO;
		for (uint32_t i = 0; i < in->n; i++)
			in->fds[i] = c->fds[i];
	}
	if (h.flags & (MSG_TRUNC_ | MSG_CTRUNC_))
		return E_PROTO;
	return n;
}

static long answer(struct agent_slot *s, uint64_t len, int32_t fd)
{
	struct iov iov = { (void *)s->data, len };
	struct msghdr_ h;
	struct {
		uint64_t len;
		int32_t level, type, fd, pad;
	} c;
	long n;

	h.name = 0;
	h.name_len = 0;
	h.iov = &iov;
	h.n_iov = 1;
	h.control = 0;
	h.control_len = 0;
	h.flags = 0;
	if (fd >= 0) {
		c.len = 20;
		c.level = 1;
		c.type = 1;
		c.fd = fd;
		c.pad = 0;
		h.control = &c;
		h.control_len = sizeof(c);
	}
	do
		n = SYS3(NR_sendmsg, s->channel, &h, MSG_NOSIGNAL_);
	while (n == E_INTR);
	if (fd >= 0)
		SYS1(NR_close, fd);
	return n;
}

/* 1: no answer (a child).  Never returns for a jump that succeeds. */
static int program_run(struct agent_slot *s, long n, struct inbox *in, int32_t *ret_fd)
{
	struct agent_msg *m = (struct agent_msg *)s->data;
	struct agent_op *ops = (struct agent_op *)(m + 1);

	if (n < (long)sizeof(*m) || m->len != (uint64_t)n ||
	    m->n_ops > (m->len - sizeof(*m)) / sizeof(*ops)) {
		m->status = E_PROTO;
		m->failed = ~0u;
		return 0;
	}
	m->status = 0;
	for (uint32_t i = 0; i < m->n_ops; i++) {
		long r = args_resolve(m, ops, &ops[i], i);

		if (r == 0 && ops[i].kind == AGENT_OP_JUMP) {
			/* The old mapping is unmapped by the agent in the new one. */
			answer(s, m->len, -1);
			__asm__ volatile("movq %1, %%rsp\n\tjmp *%0"
					 :
					 : "r"(ops[i].args[0] + AGENT_ENTRY_RUN),
					   "r"(ops[i].args[2]), "D"(ops[i].args[1])
					 : "memory");
			__builtin_unreachable();
		}
		if (r == 0)
			r = op_run(s, &ops[i], in, ret_fd);
		if (r == 1)
			return 1;
		if (r < 0)
			ops[i].result = r;
		if (r < 0 && !(ops[i].flags & AGENT_F_MAY_FAIL)) {
			m->status = (int32_t)r;
			m->failed = i;
			break;
		}
	}
	return 0;
}

static void channel_make(struct agent_slot *s)
{
	s->pair[0] = s->pair[1] = -1;
	s->error = (int32_t)sys6(NR_socketpair, 1, 5 | O_CLOEXEC_, 0, (uint64_t)s->pair, 0, 0);
	if (s->error < 0)
		agent_leave(s);
	/* The master, stopped at the end of socketpair, has fetched its end by now, or is dead. */
	SYS1(NR_close, s->pair[1]);
	s->channel = s->pair[0];
}

__attribute__((noreturn)) void agent_run(struct agent_slot *s)
{
	struct inbox in;
	struct cmsg c;

	if (s->channel < 0)
		channel_make(s);
	for (;;) {
		int32_t fd = -1;
		long n = receive(s, &in, &c);

		if (n == E_PROTO) {
			struct agent_msg *m = (struct agent_msg *)s->data;

			m->status = E_PROTO;
			m->failed = ~0u;
			n = sizeof(*m);
		} else if (n <= 0) {
			agent_leave(s);
		} else if (program_run(s, n, &in, &fd) == 1) {
			in.n = 0;
			continue;
		}
		for (uint32_t i = 0; i < in.n; i++)
			if (in.fds[i] >= 0)
				SYS1(NR_close, in.fds[i]);
		if (answer(s, (uint64_t)n, fd) < 0)
			agent_leave(s);
	}
}

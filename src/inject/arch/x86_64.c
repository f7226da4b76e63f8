#include "inject/arch/x86_64.h"

#include <string.h>
#include <sys/syscall.h>

#define FLAGS_KEPT                                                                                 \
	(~0x10100ull) /* without TF and RF: popf cannot set RF, and TF is the debugger's */

struct code {
	uint8_t *at;
	size_t n;
};

static void put(struct code *c, const void *bytes, size_t n)
{
	if (c->n + n <= ARCH_STUB_MAX)
		memcpy(c->at + c->n, bytes, n);
	c->n += n;
}

#define PUT(c, ...) put((c), (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static void put32(struct code *c, uint32_t v)
{
	put(c, &v, 4);
}

/* mov reg, imm64; reg in the order of the encoding: rax rcx rdx rbx rsp rbp rsi rdi r8 .. r15 */
static void put_mov(struct code *c, unsigned reg, uint64_t v)
{
	PUT(c, reg < 8 ? 0x48 : 0x49, 0xb8 + (reg & 7));
	put(c, &v, 8);
}

static void put_syscall(struct code *c, uint32_t nr)
{
	PUT(c, 0xb8);
	put32(c, nr);
	PUT(c, 0x0f, 0x05);
}

static void patch8(struct code *c, size_t at)
{
	if (at < ARCH_STUB_MAX)
		c->at[at] = (uint8_t)(c->n - at - 1);
}

bool arch_in_restart(const struct user_regs_struct *r)
{
	if ((int64_t)r->orig_rax < 0)
		return false;
	switch ((int64_t)r->rax) {
	case -512: /* ERESTARTSYS */
	case -513: /* ERESTARTNOINTR */
	case -514: /* ERESTARTNOHAND */
	case -516: /* ERESTART_RESTARTBLOCK */
		return true;
	}
	return false;
}

/* The order in here: what changes the flags comes before popf; from popf on only mov, jumps and
 * syscall (which keeps them).  The stack pointer is the thread's own before signals can arrive. */
size_t arch_stub_build(const struct arch_stub *s, uint8_t buf[ARCH_STUB_MAX], size_t *ret_leave)
{
	struct code c = { buf, 0 };
	const struct user_regs_struct *g = &s->gp;
	uint64_t rip = g->rip, rax = g->rax,
		 data = s->at + ARCH_STUB_MAX - sizeof(struct arch_stub_tail);
	struct arch_stub_tail tail = { .magic = ARCH_STUB_MAGIC,
				       .base = s->base,
				       .flags = g->eflags & FLAGS_KEPT,
				       .sigmask = s->sigmask };
	size_t to_mask = 0, skip;

	/* Without the kernel's help the call starts anew: it executes its syscall instruction (two
	 * bytes) again with the number in rax.  A sleep with a restart block sleeps its full time.
	 */
	if (arch_in_restart(g)) {
		rip -= 2;
		rax = g->orig_rax;
	}
	tail.rip = rip;
	memset(buf, 0, ARCH_STUB_MAX);

	if (s->first) {
		PUT(&c, 0x0f, 0x05);	   /* syscall: mmap; we take over behind it */
		PUT(&c, 0x48, 0x89, 0xc7); /* mov rdi, rax: without us, it is undone */
		PUT(&c, 0xbe);
		put32(&c, (uint32_t)s->span);
		put_syscall(&c, SYS_munmap);
		PUT(&c, 0xeb, 0);
		to_mask = c.n - 1;
	}
	*ret_leave = c.n;
	put_mov(&c, 0, s->users);
	PUT(&c, 0x48, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff); /* mov rcx, -1 */
	PUT(&c, 0xf0, 0x48, 0x0f, 0xc1, 0x08);		   /* lock xadd [rax], rcx */
	PUT(&c, 0x48, 0x8d, 0x49, 0xff);		   /* lea rcx, [rcx-1] */
	put_mov(&c, 4, data + offsetof(struct arch_stub_tail, flags));
	PUT(&c, 0x9d); /* popf */
	put_mov(&c, 4, g->rsp);
	PUT(&c, 0xe3, 2); /* jrcxz over the jump: the last one unmaps */
	PUT(&c, 0xeb, 0);
	skip = c.n - 1;
	put_mov(&c, 7, s->base);
	PUT(&c, 0xbe);
	put32(&c, (uint32_t)s->span);
	put_syscall(&c, SYS_munmap);
	patch8(&c, skip);
	if (s->first)
		patch8(&c, to_mask);
	PUT(&c, 0xbf);
	put32(&c, 2); /* mov edi, SIG_SETMASK */
	put_mov(&c, 6, data + offsetof(struct arch_stub_tail, sigmask));
	PUT(&c, 0xba);
	put32(&c, 0);
	PUT(&c, 0x41, 0xba);
	put32(&c, 8);
	put_syscall(&c, SYS_rt_sigprocmask);

	put_mov(&c, 1, g->rcx);
	put_mov(&c, 2, g->rdx);
	put_mov(&c, 3, g->rbx);
	put_mov(&c, 5, g->rbp);
	put_mov(&c, 6, g->rsi);
	put_mov(&c, 7, g->rdi);
	put_mov(&c, 8, g->r8);
	put_mov(&c, 9, g->r9);
	put_mov(&c, 10, g->r10);
	put_mov(&c, 11, g->r11);
	put_mov(&c, 12, g->r12);
	put_mov(&c, 13, g->r13);
	put_mov(&c, 14, g->r14);
	put_mov(&c, 15, g->r15);
	put_mov(&c, 0, rax);
	PUT(&c, 0xff, 0x25); /* jmp [rip + n] */
	put32(&c, (uint32_t)(ARCH_STUB_MAX - 8 - (c.n + 4)));
	memcpy(buf + ARCH_STUB_MAX - sizeof(tail), &tail, sizeof(tail));
	return ARCH_STUB_MAX;
}

void arch_regs_call(struct user_regs_struct *r, uint64_t rip, long nr, const uint64_t args[6])
{
	r->rip = rip;
	r->rax = (uint64_t)nr;
	r->orig_rax = (uint64_t)-1;
	r->rdi = args[0];
	r->rsi = args[1];
	r->rdx = args[2];
	r->r10 = args[3];
	r->r8 = args[4];
	r->r9 = args[5];
}

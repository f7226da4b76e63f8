/* The blob's first bytes: the entry points at the offsets that proto.h promises. */
	.section .head, "ax", @progbits
	.globl agent_first, agent_loop_entry
agent_first:
	/* rdi, rsi, rdx: mprotect's.  rbx: the slot.  r15: the return stub.  The stack is not
	 * writable before this call. */
	movl	$10, %eax
	syscall
	testq	%rax, %rax
	jnz	1f
	movq	%rbx, %rdi
	jmp	agent_loop_entry
1:	jmp	*%r15

	.org 0x40
agent_loop_entry:
	xorl	%ebp, %ebp
	cld
	call	agent_run
	ud2

	.org 0x80
	syscall
1:	jmp	1b

	.org 0xc0
	cld
	call	agent_leave
	ud2

	.text
	/* long agent_clone_thread(struct clone_args *ca, size_t len, struct agent_slot *slot) */
	.globl agent_clone_thread
agent_clone_thread:
	movq	%rdx, %r8
	movl	$435, %eax
	syscall
	testq	%rax, %rax
	jnz	1f
	movq	%r8, %rdi
	jmp	agent_loop_entry
1:	ret
	.section .note.GNU-stack, "", @progbits

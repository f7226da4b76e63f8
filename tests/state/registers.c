/* General, SSE, AVX registers, the control words of both floating-point units, and flags, of a thread
 * that computes all the time and of one that sleeps in a system call. */
#include "lib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_int stop;
static atomic_long rounds;

/* Loads all vector registers, spins on `stop`, and stores them again. */
__attribute__((target("avx"), noinline)) static void spin(const void *in, void *out)
{
	__asm__ volatile(
		"vmovdqu 0(%[in]), %%ymm0\n vmovdqu 32(%[in]), %%ymm1\n vmovdqu 64(%[in]), %%ymm2\n"
		"vmovdqu 96(%[in]), %%ymm3\n vmovdqu 128(%[in]), %%ymm4\n vmovdqu 160(%[in]), %%ymm5\n"
		"vmovdqu 192(%[in]), %%ymm6\n vmovdqu 224(%[in]), %%ymm7\n vmovdqu 256(%[in]), %%ymm8\n"
		"vmovdqu 288(%[in]), %%ymm9\n vmovdqu 320(%[in]), %%ymm10\n vmovdqu 352(%[in]), %%ymm11\n"
		"vmovdqu 384(%[in]), %%ymm12\n vmovdqu 416(%[in]), %%ymm13\n vmovdqu 448(%[in]), %%ymm14\n"
		"vmovdqu 480(%[in]), %%ymm15\n"
		"mov $0x1122334455667788, %%r8\n mov $0x99aabbccddeeff00, %%r9\n"
		"mov $0x0123456789abcdef, %%r10\n mov $0x0fedcba987654321, %%r11\n"
		"mov $0x5a5a5a5a5a5a5a5a, %%rdx\n"
		"1: incq %[rounds]\n pause\n cmpl $0, %[stop]\n je 1b\n"
		"mov %%r8, 512(%[out])\n mov %%r9, 520(%[out])\n mov %%r10, 528(%[out])\n"
		"mov %%r11, 536(%[out])\n mov %%rdx, 544(%[out])\n"
		"vmovdqu %%ymm0, 0(%[out])\n vmovdqu %%ymm1, 32(%[out])\n vmovdqu %%ymm2, 64(%[out])\n"
		"vmovdqu %%ymm3, 96(%[out])\n vmovdqu %%ymm4, 128(%[out])\n vmovdqu %%ymm5, 160(%[out])\n"
		"vmovdqu %%ymm6, 192(%[out])\n vmovdqu %%ymm7, 224(%[out])\n vmovdqu %%ymm8, 256(%[out])\n"
		"vmovdqu %%ymm9, 288(%[out])\n vmovdqu %%ymm10, 320(%[out])\n vmovdqu %%ymm11, 352(%[out])\n"
		"vmovdqu %%ymm12, 384(%[out])\n vmovdqu %%ymm13, 416(%[out])\n vmovdqu %%ymm14, 448(%[out])\n"
		"vmovdqu %%ymm15, 480(%[out])\n vzeroupper\n"
		: [rounds] "+m"(rounds)
		: [in] "r"(in), [out] "r"(out), [stop] "m"(stop)
		: "memory", "cc", "rdx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
		  "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static unsigned char in[512], out[552];

static void *busy(void *arg)
{
	spin(in, out);
	return NULL;
}

int main(void)
{
	static const unsigned long want[] = { 0x1122334455667788, 0x99aabbccddeeff00, 0x0123456789abcdef,
					      0x0fedcba987654321, 0x5a5a5a5a5a5a5a5a };
	unsigned mxcsr = 0x5f80, mxcsr_now; /* round up, all masked */
	unsigned short cw = 0x0b7f, cw_now;	/* round up */
	pthread_t t;
	long before;

	if (!__builtin_cpu_supports("avx"))
		state_skip("this processor has no AVX");
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)(i * 37 + 11);
	CHECK(pthread_create(&t, NULL, busy, NULL) == 0, "a thread");
	__asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(mxcsr), "m"(cw));
	state_wait();
	__asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(mxcsr_now), "=m"(cw_now));
	CHECK((mxcsr_now & ~0x3fu) == (mxcsr & ~0x3fu), "MXCSR became %#x", mxcsr_now);
	CHECK(cw_now == cw, "the x87 control word became %#x", cw_now);
	before = rounds;
	usleep(50000);
	CHECK(rounds > before, "the thread does not run on");
	stop = 1;
	pthread_join(t, NULL);
	CHECK(memcmp(in, out, sizeof(in)) == 0, "vector registers changed");
	CHECK(memcmp(want, out + 512, sizeof(want)) == 0, "general registers changed");
	state_pass();
}

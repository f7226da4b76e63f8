/* lib - what a state program needs: it prepares one kind of state, calls state_wait(), is moved to
 * another container meanwhile (once or several times), and then checks itself.
 *
 *	int main(void)
 *	{
 *		... prepare ...
 *		state_wait();
 *		CHECK(x == 5, "x became %d", x);
 *		state_pass();
 *	}
 *
 * It runs as child of a small init in a container of its own: /work is a writable folder on disk,
 * stdout and stderr are /work/log, stdin is /dev/null.  SIGUSR1 is blocked and belongs to state_wait. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Tells the runner that all is prepared, and waits for its signal.  Only the first process may call
 * it; others wait for that one by means of their own. */
void state_wait(void);

_Noreturn void state_pass(void);
_Noreturn void state_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The kernel or the machine lacks something: neither passed nor failed.  Before state_wait only. */
_Noreturn void state_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(cond, ...)                         \
	do {                                     \
		if (!(cond))                     \
			state_fail(__VA_ARGS__); \
	} while (0)
/* For calls that must not fail; says which and why. */
#define MUST(call)                                                                          \
	({                                                                                  \
		__typeof__(call) must_ = (call);                                            \
		if (must_ == (__typeof__(call))-1)                                          \
			state_fail("%s:%d: %s: %m", __FILE__, __LINE__, #call);             \
		must_;                                                                      \
	})

/* Waits (at most 10 s) until the file exists in /work; and makes one: for programs of several
 * processes that have to wait for each other. */
void state_mark(const char *name);
void state_await(const char *name);

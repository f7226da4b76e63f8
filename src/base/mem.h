/* mem - locals that own memory, and arrays that grow.
 *
 * Ownership is visible: a local that owns is `auto_free`, giving it away is `ptr_take(p)`. */
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static inline void auto_free_cleanup(void *p)
{
	free(*(void **)p);
}

#define auto_free __attribute__((cleanup(auto_free_cleanup)))

/* For a type with `T *T_free(T *)`: AUTO_OF_DEFINE(pageset) once, then `auto_of(pageset) *ps`. */
#define AUTO_OF_DEFINE(T)                                  \
	static inline void T##_auto_cleanup(struct T **p)  \
	{                                                  \
		if (*p)                                    \
			T##_free(*p);                      \
	}
#define auto_of(T) __attribute__((cleanup(T##_auto_cleanup))) struct T

/* The value, leaving NULL behind: the local gives up what it owned. */
#define ptr_take(p)                        \
	({                                 \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                \
		taken_;                    \
	})

/* Makes room for one more element behind the n that are used: `arr` is a pointer variable, `n` its
 * used length, `cap` its allocated length (size_t).  0 or -ENOMEM; new memory is not cleared. */
#define array_grow(arr, n, cap) array_grow_(&(arr), (n), &(cap), sizeof(*(arr)))

static inline int array_grow_(void *parr, size_t n, size_t *cap, size_t size)
{
	size_t want = *cap ? *cap * 2 : 8, bytes;
	void *p;

	if (n < *cap)
		return 0;
	if (want < n + 1)
		want = n + 1;
	if (__builtin_mul_overflow(want, size, &bytes))
		return -ENOMEM;
	p = realloc(*(void **)parr, bytes);
	if (!p)
		return -ENOMEM;
	*(void **)parr = p;
	*cap = want;
	return 0;
}

#define array_len(a) (sizeof(a) / sizeof((a)[0]))

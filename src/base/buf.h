/* buf - a growing run of bytes, always with a NUL behind it, so that text in it is a string. */
#pragma once
#include <stdarg.h>
#include <stddef.h>

struct buf {
	char *data; /* NULL while nothing was ever added */
	size_t len; /* without the NUL */
	size_t cap;
};

#define BUF_INIT { NULL, 0, 0 }

void buf_done(struct buf *b); /* frees; b can be used again */
#define auto_buf __attribute__((cleanup(buf_done))) struct buf

int buf_add(struct buf *b, const void *data, size_t len);
int buf_adds(struct buf *b, const char *s);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for len more bytes and returns where they start (b->len is unchanged); NULL: ENOMEM. */
void *buf_reserve(struct buf *b, size_t len);
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* The string (never NULL on success: "" for an empty one), leaving b empty; NULL: ENOMEM. */
char *buf_take(struct buf *b);

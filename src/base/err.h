/* err - an error as a negative errno and a sentence a person can act on.
 *
 * Functions return a negative errno; 0 or more is success.  A function at the boundary of a room
 * also takes `struct err *e` as its last parameter and fills it when it fails.  Each layer that
 * passes an error on may put one piece of context before the sentence.  NULL is accepted
 * everywhere: the caller does not want the sentence. */
#pragma once
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

#define ERR_TEXT_MAX 1024

struct err {
	int code; /* negative errno, 0 when nothing has failed */
	char text[ERR_TEXT_MAX];
};

/* Stores the sentence and returns `code`, which must be negative (anything else is our own mistake
 * and becomes -EIO, so that a failure can never be returned as success).  Overwrites what e held. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, with ": <strerror of code>" appended. */
int err_sys(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the sentence e holds; returns e->code (or `code` where e is NULL). */
int err_context(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The sentence, or strerror of the code where there is none.  Never NULL; valid as long as e. */
const char *err_text(const struct err *e);

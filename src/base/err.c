#include "base/err.h"

#include <stdio.h>
#include <string.h>

static int code_checked(int code)
{
	return code < 0 ? code : -EIO;
}

static void text_append(struct err *e, const char *s)
{
	size_t n = strlen(e->text);

	snprintf(e->text + n, sizeof(e->text) - n, "%s", s);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	code = code_checked(code);
	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	code = code_checked(code);
	if (!e)
		return code;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	text_append(e, ": ");
	text_append(e, strerror(-code));
	return code;
}

int err_context(struct err *e, int code, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;

	code = code_checked(code);
	if (!e)
		return code;
	memcpy(old, err_text(e), strlen(err_text(e)) + 1);
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	text_append(e, ": ");
	text_append(e, old);
	return code;
}

const char *err_text(const struct err *e)
{
	if (e->text[0])
		return e->text;
	return e->code ? strerror(-e->code) : "no error";
}

#include "cli/token.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"

#define TOKEN_MAX 65536
#define HOST_LABEL_MAX 63 /* what stands between two dots of a host's name */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

/* Mail programs and terminals break long words. */
static char *without_blanks(const char *text)
{
	char *out = malloc(strlen(text) + 1), *o = out;

	for (; out && *text; text++)
		if (!strchr(" \t\r\n", *text))
			*o++ = *text;
	if (out)
		*o = '\0';
	return out;
}

/* "eyJ" is how base64 of {" begins; one whose beginning got lost is still too long for a host without a dot. */
static bool meant(const char *text)
{
	size_t n = strlen(text);

	return strspn(text, digits) == n && (str_starts(text, "eyJ") || n > HOST_LABEL_MAX);
}

static int damaged(const char *how, struct err *e)
{
	return err_set(e, -EINVAL, "this looks like a token, but %s: copy it again, whole, or have another one made by "
		       "`godwit config trust add` on that host", how);
}

static int decode(const char *text, json_t **ret, struct err *e)
{
	size_t len = strlen(text);
	auto_free unsigned char *raw = malloc(len + 4);
	int n;

	if (!raw)
		return err_sys(e, -ENOMEM, "token");
	if (len > TOKEN_MAX)
		return damaged("is far too long", e);
	n = len % 4 ? -1 : EVP_DecodeBlock(raw, (const unsigned char *)text, (int)len);
	if (n < 0)
		return damaged("a part of it is missing", e);
	while (n > 0 && raw[n - 1] == 0) /* the padding */
		n--;
	*ret = json_loadb((char *)raw, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	return json_is_object(*ret) ? 0 : damaged("a part of it is missing or was changed", e);
}

static int fields_check(const json_t *o, struct err *e)
{
	const char *fingerprint = json_str(o, "fingerprint");
	const json_t *addresses = json_object_get(o, "addresses"), *a;
	size_t i;

	if (!*json_str(o, "secret"))
		return damaged("holds no secret", e);
	if (strlen(fingerprint) != 64 || strspn(fingerprint, "0123456789abcdefABCDEF") != 64)
		return damaged("holds no fingerprint of a server", e);
	if (!json_array_size(addresses))
		return damaged("holds no address of a server", e);
	json_array_foreach(addresses, i, a)
		if (!json_is_string(a))
			return damaged("its addresses are none", e);
	return 0;
}

int token_parse(const char *text, json_t **ret, char **ret_text, struct err *e)
{
	auto_free char *clean = without_blanks(text);
	json_t *o = NULL;
	int r;

	if (!clean)
		return err_sys(e, -ENOMEM, "token");
	if (!meant(clean))
		return 0;
	r = decode(clean, &o, e);
	if (r == 0)
		r = fields_check(o, e);
	if (r < 0) {
		json_decref(o);
		return r;
	}
	*ret = o;
	*ret_text = ptr_take(clean);
	return 1;
}

#include "http/wskey.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

int wskey_accept(const char *key, char ret[WSKEY_LEN + 1])
{
	unsigned char md[EVP_MAX_MD_SIZE], out[64];
	char text[128];
	unsigned n = 0;
	int len = snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

	if (len < 0 || (size_t)len >= sizeof(text))
		return -EINVAL;
	if (!EVP_Digest(text, (size_t)len, md, &n, EVP_sha1(), NULL))
		return -EIO;
	if (EVP_EncodeBlock(out, md, (int)n) != WSKEY_LEN)
		return -EIO;
	memcpy(ret, out, WSKEY_LEN + 1);
	return 0;
}

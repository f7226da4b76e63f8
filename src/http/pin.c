#include "http/pin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "http/cert.h"

struct pin {
	char *want; /* fingerprint; NULL: any */
	char **seen;
};

static void pin_ex_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	struct pin *p = ptr;

	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	if (p)
		free(p->want);
	free(p);
}

static int pin_index(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, pin_ex_free);
	return index;
}

static int on_verify(X509_STORE_CTX *store, void *arg)
{
	struct pin *p = arg;
	X509 *x = X509_STORE_CTX_get0_cert(store);
	unsigned char *der = NULL;
	char fp[FINGERPRINT_LEN + 1];
	int n = x ? i2d_X509(x, &der) : -1, ok = 0;

	free(*p->seen);
	*p->seen = NULL;
	if (n > 0 && cert_from_der(der, (size_t)n, p->seen, fp) == 0)
		ok = !p->want || CRYPTO_memcmp(fp, p->want, FINGERPRINT_LEN) == 0;
	OPENSSL_free(der);
	if (!ok)
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return ok;
}

int pin_install(SSL_CTX *ctx, const char *pin_pem, char **seen)
{
	auto_free char *want = NULL;
	struct pin *p;

	if (pin_pem) {
		want = malloc(FINGERPRINT_LEN + 1);
		if (!want || cert_fingerprint_pem(pin_pem, want, NULL) < 0)
			return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	if (!p || !SSL_CTX_set_ex_data(ctx, pin_index(), p)) {
		free(p);
		return -ENOMEM;
	}
	p->want = ptr_take(want);
	p->seen = seen;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, on_verify, p);
	return 0;
}

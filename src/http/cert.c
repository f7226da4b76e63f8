#include "http/cert.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define PEM_MAX 65536
#define TEN_YEARS_S (10L * 365 * 86400)

static int extension_add(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return 0;
	ok = X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

static int san_add(X509 *x)
{
	char host[65] = "localhost", value[200];

	/* A host name is put into a comma-separated list: only what cannot end an entry. */
	gethostname(host, sizeof(host) - 1);
	if (!*host || strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != strlen(host))
		snprintf(host, sizeof(host), "localhost");
	snprintf(value, sizeof(value), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", host);
	return extension_add(x, NID_subject_alt_name, value);
}

static X509 *cert_make(EVP_PKEY *key, const char *common_name, int server)
{
	X509 *x = X509_new();
	unsigned char serial[16];
	ASN1_INTEGER *no;
	X509_NAME *name;
	BIGNUM *bn;
	int ok;

	if (!x || RAND_bytes(serial, sizeof(serial)) != 1) {
		X509_free(x);
		return NULL;
	}
	serial[0] &= 0x7f;
	bn = BN_bin2bn(serial, sizeof(serial), NULL);
	no = bn ? BN_to_ASN1_INTEGER(bn, NULL) : NULL;
	name = X509_get_subject_name(x);
	ok = no && X509_set_version(x, 2) && X509_set_serialNumber(x, no) &&
	     /* An hour back: hosts' clocks differ. */
	     X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
	     X509_gmtime_adj(X509_getm_notAfter(x), TEN_YEARS_S) &&
	     X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Godwit", -1, -1, 0) &&
	     X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) &&
	     X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) &&
	     extension_add(x, NID_basic_constraints, "critical,CA:FALSE") &&
	     extension_add(x, NID_key_usage, "critical,digitalSignature") &&
	     extension_add(x, NID_ext_key_usage, server ? "serverAuth" : "clientAuth") &&
	     (!server || san_add(x)) && X509_sign(x, key, EVP_sha256()) > 0;
	ASN1_INTEGER_free(no);
	BN_free(bn);
	if (!ok) {
		X509_free(x);
		return NULL;
	}
	return x;
}

static int bio_write_file(BIO *b, const char *path, mode_t mode, struct err *e)
{
	char *data;
	long n = BIO_get_mem_data(b, &data);
	int r = fd_replace_file_at(AT_FDCWD, path, data, (size_t)n, mode);

	return r < 0 ? err_sys(e, r, "cannot write %s", path) : 0;
}

int cert_ensure(const char *crt_path, const char *key_path, const char *common_name, int server, struct err *e)
{
	EVP_PKEY *key = NULL;
	BIO *kb = NULL, *cb = NULL;
	X509 *x = NULL;
	int r;

	if (access(crt_path, F_OK) == 0 && access(key_path, F_OK) == 0)
		return 0;
	key = EVP_EC_gen("P-256");
	x = key ? cert_make(key, common_name, server) : NULL;
	kb = BIO_new(BIO_s_mem());
	cb = BIO_new(BIO_s_mem());
	if (!x || !kb || !cb || !PEM_write_bio_PrivateKey(kb, key, NULL, NULL, 0, NULL, NULL) ||
	    !PEM_write_bio_X509(cb, x)) {
		r = err_set(e, -EIO, "cannot make a certificate");
	} else {
		/* The key first: a certificate without its key would be taken for complete. */
		unlink(crt_path);
		r = bio_write_file(kb, key_path, 0600, e);
		if (r >= 0)
			r = bio_write_file(cb, crt_path, 0644, e);
	}
	BIO_free(kb);
	BIO_free(cb);
	X509_free(x);
	EVP_PKEY_free(key);
	return r;
}

int cert_from_der(const unsigned char *der, size_t len, char **ret_pem, char *ret_fp)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	const unsigned char *p = der;
	unsigned n = 0;
	X509 *x = len <= PEM_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;
	BIO *b;
	int r = 0;

	if (!x || p != der + len) {
		X509_free(x);
		return -EINVAL;
	}
	if (ret_fp) {
		if (!EVP_Digest(der, len, md, &n, EVP_sha256(), NULL))
			r = -EIO;
		for (unsigned i = 0; r == 0 && i < n; i++)
			snprintf(ret_fp + 2 * i, 3, "%02x", md[i]);
	}
	if (r == 0 && ret_pem) {
		char *data;
		long size;

		b = BIO_new(BIO_s_mem());
		if (b && PEM_write_bio_X509(b, x) && (size = BIO_get_mem_data(b, &data)) > 0)
			*ret_pem = strndup(data, (size_t)size);
		else
			*ret_pem = NULL;
		BIO_free(b);
		if (!*ret_pem)
			r = -ENOMEM;
	}
	X509_free(x);
	return r;
}

/* DER of the first certificate in the text; 0 or -EINVAL. */
static int der_of(const char *text, unsigned char **ret, size_t *ret_len)
{
	size_t len = strlen(text);
	unsigned char *der = NULL;
	int n;

	if (len > PEM_MAX)
		return -EINVAL;
	if (strstr(text, "-----BEGIN CERTIFICATE-----")) {
		BIO *b = BIO_new_mem_buf(text, (int)len);
		X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;

		n = x ? i2d_X509(x, &der) : -1;
		X509_free(x);
		BIO_free(b);
		if (n <= 0)
			return -EINVAL;
		*ret = malloc((size_t)n);
		if (*ret)
			memcpy(*ret, der, (size_t)n);
		OPENSSL_free(der);
		if (!*ret)
			return -ENOMEM;
		*ret_len = (size_t)n;
		return 0;
	}
	/* LXD's REST API takes the bare base64 of the DER form. */
	if (len < 64 || len % 4)
		return -EINVAL;
	der = malloc(len);
	if (!der)
		return -ENOMEM;
	n = EVP_DecodeBlock(der, (const unsigned char *)text, (int)len);
	if (n <= 0) {
		free(der);
		return -EINVAL;
	}
	n -= (text[len - 1] == '=') + (text[len - 2] == '=');
	*ret = der;
	*ret_len = (size_t)n;
	return 0;
}

int cert_normalize(const char *text, char **ret_pem, struct err *e)
{
	auto_free unsigned char *der = NULL;
	size_t len = 0;

	if (der_of(text, &der, &len) < 0 || cert_from_der(der, len, ret_pem, NULL) < 0)
		return err_set(e, -EINVAL, "this is not a certificate in PEM form");
	return 0;
}

int cert_fingerprint_pem(const char *pem, char ret[FINGERPRINT_LEN + 1], struct err *e)
{
	auto_free unsigned char *der = NULL;
	size_t len = 0;

	if (der_of(pem, &der, &len) < 0 || cert_from_der(der, len, NULL, ret) < 0)
		return err_set(e, -EINVAL, "this is not a certificate in PEM form");
	return 0;
}

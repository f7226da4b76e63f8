/* cert - self-signed certificates and their fingerprints, for both ends of a connection. */
#pragma once
#include <stddef.h>

#include "base/err.h"

#define FINGERPRINT_LEN 64 /* hex digits of a SHA-256, lower case */

/* Makes an EC P-256 key and a self-signed certificate of ten years where the files are not there yet.
 * server: with server authentication and a subjectAltName (host name, localhost, 127.0.0.1, ::1), which
 * Go's clients demand; else for client authentication. The key's file has mode 0600. */
int cert_ensure(const char *crt_path, const char *key_path, const char *common_name, int server, struct err *e);

/* SHA-256 of the DER form of the first certificate in the PEM text. */
int cert_fingerprint_pem(const char *pem, char ret[FINGERPRINT_LEN + 1], struct err *e);
/* The first certificate of any PEM or base64-of-DER text, as clean PEM (malloc'd). */
int cert_normalize(const char *text, char **ret_pem, struct err *e);
/* DER to PEM and fingerprint; either output may be NULL. */
int cert_from_der(const unsigned char *der, size_t len, char **ret_pem, char *ret_fp);

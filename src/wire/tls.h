/* tls - the two ends of a bulk connection: TLS 1.3 only, ALPN "godwit-bulk/1".
 *
 * The dialler knows the other's certificate (it was given it with the migration) and accepts exactly
 * that one, byte for byte; the acceptor knows the dialler by the secret in its first line, not by a
 * certificate.  Functions return 0 or a negative errno with a sentence. */
#pragma once
#include <openssl/ssl.h>

#include "base/err.h"

#define WIRE_ALPN "godwit-bulk/1"

int tls_accept_ctx(const char *cert_file, const char *key_file, SSL_CTX **ret, struct err *e);
int tls_dial_ctx(SSL_CTX **ret, struct err *e);

/* Handshake on a blocking socket with a deadline in seconds (SO_RCVTIMEO and SO_SNDTIMEO, taken off
 * again).  pin: PEM file of the certificate to be found at the other end; NULL at the acceptor. */
int tls_handshake(SSL_CTX *ctx, int sock, const char *pin, int deadline_s, SSL **ret, struct err *e);

/* Reads up to and with '\n', at most max - 1 bytes, into line (without the '\n', NUL-terminated). */
int tls_read_line(SSL *ssl, char *line, size_t max, struct err *e);
int tls_write_all(SSL *ssl, const void *data, size_t len, struct err *e);

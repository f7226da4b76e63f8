/* pin - a TLS client that judges the server by its exact certificate. */
#pragma once
#include <openssl/ssl.h>

/* From now on connections of ctx succeed only with a server that shows exactly the certificate in
 * pin_pem (NULL: any). What was shown is stored as PEM in *seen (malloc'd, replaced). Both must outlive
 * the connections. */
int pin_install(SSL_CTX *ctx, const char *pin_pem, char **seen);

/* conf - the client's own files: remotes, their certificates, and the client's key.
 *
 * In $GODWIT_CONF (default ~/.config/godwit): remotes.json, client.crt, client.key,
 * servercerts/NAME.crt (what the server of that remote must present, exactly).  The remote `local` is
 * always there: the daemon's socket on this machine. */
#pragma once
#include <stdbool.h>

#include "base/err.h"

struct conf;

int conf_open(struct conf **ret, struct err *e);
struct conf *conf_free(struct conf *c);
int conf_save(struct conf *c, struct err *e);

const char *conf_default(const struct conf *c);
int conf_set_default(struct conf *c, const char *name, struct err *e);

/* The n-th remote's name, NULL behind the last. */
const char *conf_remote_name(const struct conf *c, size_t n);
/* "unix:PATH" or "https://HOST:PORT"; NULL: there is no such remote. */
const char *conf_remote_addr(const struct conf *c, const char *name);
/* Not yet saved. */
int conf_remote_put(struct conf *c, const char *name, const char *addr, const char *cert_pem, struct err *e);
int conf_remote_remove(struct conf *c, const char *name, struct err *e);
/* The pinned certificate, malloc'd PEM. */
int conf_remote_cert(const struct conf *c, const char *name, char **ret_pem, struct err *e);

/* The client's certificate and key; made at first use. */
int conf_client_cert(struct conf *c, char **ret_cert_path, char **ret_key_path, struct err *e);

/* "h1:c1" → "h1", "c1"; "c1" → the default remote, "c1"; "h1:" → "h1", "".  Both malloc'd.
 * -ENOENT: no such remote. */
int conf_split(const struct conf *c, const char *ref, char **ret_remote, char **ret_name, struct err *e);

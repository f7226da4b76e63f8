/* Trust: certificates and the tokens that bring new ones. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/operation.h"
#include "api/server_info.h"
#include "api/validate.h"
#include "base/log.h"

static void certificate_list(struct call *c)
{
	struct err e = { 0 };
	json_t *list;

	if (db_cert_list(c->a->db, &list, &e) < 0)
		reply_err(c, &e);
	else
		reply_list(c, list, "/1.0/certificates", "fingerprint");
}

static void certificate_get(struct call *c)
{
	struct err e = { 0 };
	json_t *row;

	if (db_cert_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, row);
}

static void certificate_delete(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_cert_get(c->a->db, c->arg[0], &row, &e) < 0 ||
	    db_cert_delete(c->a->db, body_str(row, "fingerprint", ""), &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

/* ---- tokens ---- */

static void token_freed(struct operation *op)
{
	free(op->data);
}

static void token_cancelled(struct operation *op)
{
	char *name = NULL;

	db_token_redeem(op->a->db, op->data, &name, NULL);
	free(name);
	op_finish(op, 401, "cancelled");
}

static const struct op_hooks token_hooks = { .cancel = token_cancelled, .free = token_freed };

static void token_make(struct call *c)
{
	const char *name = body_str(c->body, "name", "");
	char secret[SECRET_LEN + 1];
	struct operation *op = NULL;
	struct err e = { 0 };
	int r;

	if (!*name) {
		reply_error(c->q, 400, "a token needs a name for the client");
		return;
	}
	r = name_check_object("client", name, &e);
	if (r >= 0 && secret_make(secret) < 0)
		r = err_set(&e, -EIO, "no random numbers");
	if (r >= 0)
		r = op_new(c->a, OP_TOKEN, "Executing operation", &op, &e);
	if (r >= 0)
		r = db_token_put(c->a->db, secret, name, &e);
	if (r < 0) {
		if (op)
			op_drop(op);
		reply_err(c, &e);
		return;
	}
	op->hooks = &token_hooks;
	op->data = strdup(secret);
	op->may_cancel = true;
	op->metadata = json_pack("{s:o, s:s, s:s, s:s, s:{s:s, s:s, s:b}}", "addresses", server_addresses(c->a),
				 "fingerprint", c->a->crt_fp, "secret", secret, "expires_at", "0001-01-01T00:00:00Z",
				 "request", "name", name, "type", "client", "token", 1);
	reply_operation(c, op);
}

/* The secret of the token, which is base64 of JSON; NULL: it is none. */
static char *token_secret(const char *token)
{
	size_t n = strlen(token);
	auto_free unsigned char *raw = NULL;
	auto_json *j = NULL;
	const char *secret;
	int len;

	if (n < 8 || n > 8192 || n % 4)
		return NULL;
	raw = malloc(n);
	if (!raw)
		return NULL;
	len = EVP_DecodeBlock(raw, (const unsigned char *)token, (int)n);
	if (len <= 0)
		return NULL;
	len -= (token[n - 1] == '=') + (token[n - 2] == '=');
	j = json_loadb((const char *)raw, (size_t)len, JSON_REJECT_DUPLICATES, NULL);
	secret = json_string_value(json_object_get(j, "secret"));
	return secret ? strdup(secret) : NULL;
}

static void token_operation_end(struct api *a, const char *secret)
{
	for (struct operation *op = a->ops; op; op = op->next)
		if (op->hooks == &token_hooks && op->data && strcmp(op->data, secret) == 0) {
			op_finish(op, 0, NULL);
			return;
		}
}

static int cert_store(struct api *a, const char *name, const char *text, struct err *e)
{
	auto_free char *pem = NULL;
	auto_json *row = NULL;
	char fp[FINGERPRINT_LEN + 1];
	int r = cert_normalize(text, &pem, e);

	if (r >= 0)
		r = cert_fingerprint_pem(pem, fp, e);
	if (r < 0)
		return r;
	row = json_pack("{s:s, s:s, s:s, s:s}", "fingerprint", fp, "name", name, "type", "client", "certificate", pem);
	if (!row)
		return err_set(e, -EINVAL, "the name is not valid");
	r = db_cert_put(a->db, row, e);
	if (r >= 0) {
		log_info("the certificate %.12s (%s) is trusted from now on", fp, name);
		event_lifecycle(a, "certificate-created", "/1.0/certificates");
	}
	return r;
}

static void certificate_post(struct call *c)
{
	const struct http_peer *p = http_request_peer(c->q);
	const char *text = body_str(c->body, "certificate", ""), *name = body_str(c->body, "name", "");
	const char *type = body_str(c->body, "type", "");
	const char *token = body_str(c->body, "trust_token", body_str(c->body, "password", ""));
	auto_free char *secret = NULL, *client = NULL;
	auto_json *there = NULL;
	struct err e = { 0 };
	char fp[FINGERPRINT_LEN + 1];

	if (c->trusted && json_is_true(json_object_get(c->body, "token"))) {
		token_make(c);
		return;
	}
	/* LXD's client leaves the type empty when it brings a token. */
	if (*type && strcmp(type, "client") != 0) {
		reply_error(c->q, 400, "only certificates of type client are supported");
		return;
	}
	/* Without one in the body it is that of the connection, whose key the handshake has proven. */
	if (!*text)
		text = p && p->cert_pem ? p->cert_pem : "";
	if (!*text) {
		reply_error(c->q, 400, "no certificate was given");
		return;
	}
	secret = token_secret(token);
	if (!c->trusted && !secret) {
		reply_error(c->q, 403, "not authorized: a token is needed to become trusted (`godwit config trust add`)");
		return;
	}
	/* Looked at before the token is used up: a bad certificate must not cost it. */
	if (cert_fingerprint_pem(text, fp, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	if (db_cert_get(c->a->db, fp, &there, NULL) == 0) {
		/* A token that has come here has done its service, and would otherwise lie about for somebody else. */
		if (secret && db_token_redeem(c->a->db, secret, &client, NULL) == 0)
			token_operation_end(c->a, secret);
		reply_error(c->q, 409, "this certificate is trusted already");
		return;
	}
	if (!c->trusted) {
		if (db_token_redeem(c->a->db, secret, &client, &e) < 0) {
			reply_error(c->q, e.code == -ENOENT ? 403 : 500, "%s", err_text(&e));
			return;
		}
		token_operation_end(c->a, secret);
		name = client;
	}
	if (cert_store(c->a, name, text, &e) < 0) {
		/* The token was good and the certificate was not stored: the client may try again. */
		if (!c->trusted)
			db_token_put(c->a->db, secret, client, NULL);
		reply_err(c, &e);
		return;
	}
	reply_created(c, "/1.0/certificates/%s", fp);
}

const struct route routes_certificate[] = {
	{ "GET", "/1.0/certificates", ACCESS_TRUSTED, certificate_list },
	{ "POST", "/1.0/certificates", ACCESS_OPEN, certificate_post },
	{ "GET", "/1.0/certificates/*", ACCESS_TRUSTED, certificate_get },
	{ "DELETE", "/1.0/certificates/*", ACCESS_TRUSTED, certificate_delete },
	{ NULL, NULL, 0, NULL },
};

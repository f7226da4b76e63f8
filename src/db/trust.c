#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "db/query.h"

static json_t *cert_row(struct db *db, query *q)
{
	(void)db;
	return json_pack("{s:s, s:s, s:s, s:s}", "fingerprint", query_text(q, 0), "name", query_text(q, 1),
			 "type", query_text(q, 2), "certificate", query_text(q, 3));
}

int db_cert_put(struct db *db, const json_t *row, struct err *e)
{
	int r = query_run(db, e, "INSERT INTO certificates (fingerprint, name, type, certificate)"
			  " VALUES (?,?,?,?)", "ssss", row_str(row, "fingerprint", ""),
			  row_str(row, "name", ""), row_str(row, "type", "client"),
			  row_str(row, "certificate", ""));

	if (r == -EEXIST)
		return err_set(e, r, "this certificate is trusted already");
	return r < 0 ? r : 0;
}

int db_cert_get(struct db *db, const char *prefix, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	json_t *list = NULL;
	int r;

	if (!*prefix || strspn(prefix, "0123456789abcdef") != strlen(prefix))
		return err_set(e, -ENOENT, "there is no trusted certificate \"%s\"", prefix);
	r = query_open(db, "SELECT fingerprint, name, type, certificate FROM certificates"
		       " WHERE substr(fingerprint, 1, ?) = ? LIMIT 2", &q, e, "is",
		       (int64_t)strlen(prefix), prefix);
	if (r >= 0)
		r = query_list(db, q, cert_row, &list, e);
	if (r < 0)
		return r;
	if (json_array_size(list) == 1)
		*ret = json_incref(json_array_get(list, 0));
	else if (json_array_size(list) == 0)
		r = err_set(e, -ENOENT, "there is no trusted certificate \"%s\"", prefix);
	else
		r = err_set(e, -EINVAL, "more than one certificate begins with \"%s\": give more digits", prefix);
	json_decref(list);
	return r;
}

int db_cert_list(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "SELECT fingerprint, name, type, certificate FROM certificates"
			   " ORDER BY name, fingerprint", &q, e, "");

	return r < 0 ? r : query_list(db, q, cert_row, ret, e);
}

int db_cert_delete(struct db *db, const char *fingerprint, struct err *e)
{
	int r = query_run(db, e, "DELETE FROM certificates WHERE fingerprint = ?", "s", fingerprint);

	if (r == 0)
		return err_set(e, -ENOENT, "there is no trusted certificate \"%s\"", fingerprint);
	return r < 0 ? r : 0;
}

int db_token_put(struct db *db, const char *secret, const char *client_name, struct err *e)
{
	char now[32];
	int r = query_run(db, e, "INSERT INTO tokens (secret, client_name, created_at) VALUES (?,?,?)", "sss",
			  secret, client_name, db_time_now(now, sizeof(now)));

	return r < 0 ? r : 0;
}

int db_token_redeem(struct db *db, const char *secret, char **ret_client_name, struct err *e)
{
	auto_query *q = NULL;
	auto_free char *name = NULL;
	int r = query_open(db, "DELETE FROM tokens WHERE secret = ? RETURNING client_name", &q, e, "s", secret);

	if (r < 0)
		return r;
	r = query_step(db, q, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "this token is not valid: it was used already, or taken back; `godwit config trust add` on that "
			       "host gives a new one");
	name = strdup(query_text(q, 0));
	if (!name)
		return err_set(e, -ENOMEM, "out of memory");
	/* The row is gone only when the statement has run to its end. */
	r = query_step(db, q, e);
	if (r < 0)
		return r;
	*ret_client_name = ptr_take(name);
	return 0;
}

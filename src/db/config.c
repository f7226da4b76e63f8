#include "db/query.h"

int db_config_get(struct db *db, json_t **ret, struct err *e)
{
	auto_query *q = NULL;
	json_t *config = json_object();
	int r = query_open(db, "SELECT key, value FROM config ORDER BY key", &q, e, "");

	while (r >= 0 && (r = query_step(db, q, e)) > 0)
		if (json_object_set_new(config, query_text(q, 0), json_string(query_text(q, 1))) < 0)
			r = err_set(e, -ENOMEM, "out of memory");
	if (r < 0) {
		json_decref(config);
		return r;
	}
	*ret = config;
	return 0;
}

static int config_put_locked(struct db *db, const json_t *object, struct err *e)
{
	int r = query_run(db, e, "DELETE FROM config", "");
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value) {
		if (r < 0)
			return r;
		if (!json_is_string(value))
			return err_set(e, -EINVAL, "the value of %s is not a string", key);
		r = query_run(db, e, "INSERT INTO config (key, value) VALUES (?,?)", "ss", key,
			      json_string_value(value));
	}
	return r < 0 ? r : 0;
}

int db_config_put(struct db *db, const json_t *object, struct err *e)
{
	int r = tx_begin(db, e);

	return r < 0 ? r : tx_end(db, config_put_locked(db, object, e), e);
}

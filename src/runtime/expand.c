#include "runtime/expand.h"

#include <string.h>

static int layer_add(json_t *config, json_t *devices, const json_t *row)
{
	const json_t *c = json_object_get(row, "config"), *d = json_object_get(row, "devices");
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)c, key, value)
		if (json_object_set(config, key, value) < 0)
			return -ENOMEM;
	json_object_foreach((json_t *)d, key, value) {
		const char *type = json_string_value(json_object_get(value, "type"));

		if (type && strcmp(type, "none") == 0)
			json_object_del(devices, key);
		else if (json_object_set(devices, key, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int layers_add(struct db *db, const json_t *row, json_t *config, json_t *devices, struct err *e)
{
	const json_t *profiles = json_object_get(row, "profiles");
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)profiles, i, p) {
		json_t *profile;
		int r = db_profile_get(db, json_string_value(p), &profile, e);

		if (r < 0)
			return err_context(e, r, "profile %s", json_string_value(p));
		r = layer_add(config, devices, profile);
		json_decref(profile);
		if (r < 0)
			return err_sys(e, r, "profiles");
	}
	return layer_add(config, devices, row);
}

int instance_expand(struct db *db, const json_t *row, json_t **ret_config, json_t **ret_devices,
		    struct err *e)
{
	json_t *config = json_object(), *devices = json_object();
	int r = config && devices ? layers_add(db, row, config, devices, e) :
				    err_sys(e, -ENOMEM, "profiles");

	if (r < 0) {
		json_decref(config);
		json_decref(devices);
		return r;
	}
	*ret_config = config;
	*ret_devices = devices;
	return 0;
}

/* expand - an instance's own config and devices on top of its profiles', in their order. */
#pragma once
#include <jansson.h>

#include "base/err.h"
#include "db/db.h"

/* New objects {config}, {devices}; a device of the same name replaces the profile's as a whole; a device
 * of type "none" takes the profile's away. */
int instance_expand(struct db *db, const json_t *row, json_t **ret_config, json_t **ret_devices,
		    struct err *e);

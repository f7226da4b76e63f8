/* POST /1.0/instances: from an image, or as the target of a move. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "api/image.h"
#include "api/instance.h"
#include "api/validate.h"
#include "base/parse.h"
#include "image_store/unpack.h"
#include "runtime/expand.h"

/* The host's ids for unprivileged containers, as in migrate/target.c: each takes a range of its own. */
#define IDMAP_FIRST 1000000u
#define IDMAP_TOTAL 1000000000u
#define IDMAP_SIZE UNPACK_IDS

/* A name for those who gave none. */
static int name_invent(struct api *a, char *ret, size_t len)
{
	char hex[SECRET_LEN + 1];

	for (int i = 0; i < 16; i++) {
		auto_json *row = NULL;

		if (secret_make(hex) < 0)
			return -EIO;
		snprintf(ret, len, "gw-%.8s", hex);
		if (db_instance_get(a->db, ret, &row, NULL) == -ENOENT)
			return 0;
	}
	return -EEXIST;
}

static int image_of(struct api *a, const json_t *source, json_t **ret, struct err *e)
{
	const char *alias = body_str(source, "alias", ""), *fp = body_str(source, "fingerprint", "");
	const char *server = body_str(source, "server", "");

	if (*server)
		return err_set(e, -EINVAL, "images of other servers are not fetched yet: import the image here first");
	if (!*alias && !*fp)
		return err_set(e, -EINVAL, "the source names no image");
	if (*fp)
		return db_image_get(a->db, fp, ret, e);
	return image_resolve(a, alias, ret, e);
}

static int architecture_check(const json_t *image, struct err *e)
{
	const char *arch = body_str(image, "architecture", "");
	struct utsname u;

	uname(&u);
	if (!*arch || strcmp(arch, u.machine) == 0 || (strcmp(arch, "amd64") == 0 && strcmp(u.machine, "x86_64") == 0))
		return 0;
	return err_set(e, -EINVAL, "the image is for %s, this host is %s", arch, u.machine);
}

/* The new row; what the image says about itself becomes image.* keys. */
static json_t *row_make(const json_t *body, const char *name, const json_t *image)
{
	json_t *config = json_object(), *value, *profiles = json_object_get(body, "profiles");
	json_t *devices = json_object_get(body, "devices");
	char uuid[UUID_LEN + 1];
	struct utsname u;
	const char *key;

	uname(&u);
	json_object_foreach(json_object_get(body, "config"), key, value)
		if (*json_string_value(value))
			json_object_set(config, key, value);
	json_object_foreach(json_object_get(image, "properties"), key, value) {
		auto_free char *k = NULL;

		if (json_is_string(value) && asprintf(&k, "image.%s", key) >= 0)
			json_object_set(config, k, value);
	}
	json_object_set(config, "volatile.base_image", json_object_get(image, "fingerprint"));
	if (uuid_make(uuid) == 0)
		json_object_set_new(config, "volatile.uuid", json_string(uuid));
	return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:s, s:s}", "name", name, "architecture", u.machine,
			 "description", body_str(body, "description", ""), "ephemeral",
			 json_is_true(json_object_get(body, "ephemeral")), "config", config, "devices",
			 json_is_object(devices) ? json_incref(devices) : json_object(), "profiles",
			 json_is_array(profiles) ? json_incref(profiles) : json_pack("[s]", "default"), "pool",
			 "default", "power", "off");
}

static bool create_ended(struct operation *op, int code, const char *text, json_t *result)
{
	auto_json *row = NULL;

	/* The job removes what it made; if it died, nothing it left is ours to keep but files, which a later
	 * creation of that name clears away. */
	if (code && db_instance_get(op->a->db, op->instance, &row, NULL) == 0 &&
	    json_integer_value(json_object_get(row, "own")) == OWN_CREATING)
		db_instance_delete(op->a->db, op->instance, NULL);
	return true;
}

/* Profiles may make it privileged as well. */
static int idmap_take(struct api *a, const char *name, const json_t *row, struct err *e)
{
	auto_json *config = NULL, *devices = NULL;
	const char *privileged;
	uint32_t base;
	int r = instance_expand(a->db, row, &config, &devices, e);

	if (r < 0)
		return r;
	privileged = json_string_value(json_object_get(config, "security.privileged"));
	if (privileged && *privileged && (strchr("1tTyY", *privileged) || strcasecmp(privileged, "on") == 0))
		return 0;
	return db_instance_take_idmap(a->db, name, IDMAP_FIRST, IDMAP_TOTAL, IDMAP_SIZE, &base, e);
}

static int create_from_image(struct call *c, const char *name, const json_t *source, struct operation **ret,
			     struct err *e)
{
	static const struct op_hooks hooks = { .ended = create_ended };
	auto_json *image = NULL, *row = NULL;
	struct operation *op = NULL;
	int r = image_of(c->a, source, &image, e);

	if (r >= 0)
		r = architecture_check(image, e);
	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Creating instance", &op, e);
	if (r < 0)
		return r;
	r = op_on_instance(op, name, true, e);
	if (r >= 0) {
		row = row_make(c->body, name, image);
		r = row ? db_instance_create(c->a->db, row, OWN_CREATING, e) : err_set(e, -ENOMEM, "out of memory");
	}
	if (r >= 0) {
		op->hooks = &hooks;
		op->may_cancel = true;
		r = idmap_take(c->a, name, row, e);
		if (r >= 0)
			r = op_job(op, "instance-create", json_pack("{s:s}", "name", name), NULL, 0, e);
		if (r < 0)
			db_instance_delete(c->a->db, name, NULL);
	}
	if (r < 0) {
		op_drop(op);
		return r;
	}
	*ret = op;
	return 0;
}

void instance_post(struct call *c)
{
	const json_t *source = json_object_get(c->body, "source");
	const char *name = body_str(c->body, "name", ""), *type = body_str(source, "type", "");
	const char *itype = body_str(c->body, "type", "container");
	auto_json *there = NULL;
	char invented[64];
	struct operation *op = NULL;
	struct err e = { 0 };
	int r = 0;

	if (!json_is_object(source)) {
		reply_error(c->q, 400, "the body has no object \"source\"");
		return;
	}
	if (*itype && strcmp(itype, "container") != 0) {
		reply_error(c->q, 400, "instances of type \"%s\" are not supported: only containers are", itype);
		return;
	}
	if (!*name) {
		r = name_invent(c->a, invented, sizeof(invented));
		name = invented;
		if (r < 0)
			err_set(&e, r, "no name could be invented");
	}
	if (r >= 0)
		r = name_check_instance(name, &e);
	if (r >= 0 && strcmp(type, "migration") == 0) {
		instance_move_target(c, source);
		return;
	}
	if (r >= 0)
		r = instance_body_check(c->a, c->body, &e);
	if (r >= 0 && db_instance_get(c->a->db, name, &there, NULL) == 0)
		r = err_set(&e, -EEXIST, "an instance \"%s\" exists already", name);
	if (r >= 0 && strcmp(type, "image") == 0)
		r = create_from_image(c, name, source, &op, &e);
	else if (r >= 0)
		r = err_set(&e, -EINVAL, "a source of type \"%s\" is not supported yet (image and migration are)", type);
	if (r < 0)
		reply_err(c, &e);
	else
		reply_operation(c, op);
}

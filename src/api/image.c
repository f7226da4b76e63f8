/* Images: uploads, and what is there. */
#include "api/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/operation.h"
#include "api/validate.h"
#include "base/fd.h"
#include "base/parse.h"

#define RESERVE_BYTES (256ull << 20) /* an upload leaves the host this much */

void image_upload_begin(struct api *a, struct http_request *q)
{
	auto_free char *folder = NULL;
	struct statvfs v;
	uint64_t room;

	if (asprintf(&folder, "%s/tmp", a->state_dir) < 0) {
		folder = NULL;
		reply_error(q, 500, "out of memory");
		return;
	}
	if (statvfs(folder, &v) < 0) {
		reply_error(q, 500, "the folder for uploads is not usable: %s", strerror(errno));
		return;
	}
	room = (uint64_t)v.f_bavail * v.f_frsize;
	if (room <= RESERVE_BYTES) {
		reply_error(q, 507, "no space is left on this host for an image");
		return;
	}
	if (http_request_files_to(q, folder, room - RESERVE_BYTES) < 0)
		reply_error(q, 400, "the upload cannot be received");
}

int image_resolve(struct api *a, const char *ref, json_t **ret, struct err *e)
{
	auto_json *alias = NULL;

	if (db_alias_get(a->db, ref, &alias, NULL) == 0)
		return db_image_get(a->db, body_str(alias, "target", ""), ret, e);
	return db_image_get(a->db, ref, ret, e);
}

/* One name of an URL-encoded list "a=b&c=d", decoded in place. */
static void url_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		unsigned v;

		if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1 && v && s[1] && s[2]) {
			*out++ = (char)v;
			s += 2;
		} else {
			*out++ = *s == '+' ? ' ' : *s;
		}
	}
	*out = '\0';
}

/* X-LXD-properties. */
static json_t *properties_parse(const char *text)
{
	json_t *p = json_object();
	auto_free char *copy = strdup(text ? text : "");
	char *save = NULL;

	for (char *w = copy ? strtok_r(copy, "&", &save) : NULL; w; w = strtok_r(NULL, "&", &save)) {
		char *eq = strchr(w, '=');

		if (!eq)
			continue;
		*eq++ = '\0';
		url_decode(w);
		url_decode(eq);
		if (*w)
			json_object_set_new(p, w, json_string(eq));
	}
	return p;
}

/* X-LXD-aliases: "alias=NAME&alias=NAME". */
static json_t *aliases_parse(const char *text)
{
	json_t *list = json_array();
	auto_free char *copy = strdup(text ? text : "");
	char *save = NULL;

	for (char *w = copy ? strtok_r(copy, "&", &save) : NULL; w; w = strtok_r(NULL, "&", &save)) {
		if (!str_starts(w, "alias="))
			continue;
		url_decode(w + 6);
		if (w[6])
			json_array_append_new(list, json_pack("{s:s, s:s}", "name", w + 6, "description", ""));
	}
	return list;
}

static int aliases_free(struct api *a, const json_t *aliases, struct err *e)
{
	json_t *one;
	size_t i;

	json_array_foreach((json_t *)aliases, i, one) {
		auto_json *row = NULL;

		if (db_alias_get(a->db, body_str(one, "name", ""), &row, NULL) == 0)
			return err_set(e, -EEXIST, "an image alias \"%s\" exists already", body_str(one, "name", ""));
	}
	return 0;
}

struct upload {
	char *file, *rootfs;
};

static void upload_freed(struct operation *op)
{
	struct upload *u = op->data;

	/* What the job took over is no longer there. */
	if (u && u->file)
		unlink(u->file);
	if (u && u->rootfs)
		unlink(u->rootfs);
	if (u) {
		free(u->file);
		free(u->rootfs);
	}
	free(u);
}

static bool upload_ended(struct operation *op, int code, const char *text, json_t *result)
{
	struct upload *u = op->data;

	if (u && u->file)
		unlink(u->file);
	if (u && u->rootfs)
		unlink(u->rootfs);
	if (code == 0)
		event_lifecycle(op->a, "image-created", "/1.0/images");
	return true;
}

static const struct op_hooks upload_hooks = { .ended = upload_ended, .free = upload_freed };

/* The files of the request; -EINVAL: none. */
static int upload_files(struct call *c, struct upload *u, char **ret_name, struct err *e)
{
	u->file = http_request_take_file(c->q, "", NULL);
	if (!u->file) {
		u->file = http_request_take_file(c->q, "metadata", ret_name);
		u->rootfs = http_request_take_file(c->q, "rootfs", NULL);
		if (!u->rootfs)
			u->rootfs = http_request_take_file(c->q, "rootfs.img", NULL);
	}
	return u->file ? 0 : err_set(e, -EINVAL, "the upload has no part \"metadata\"");
}

static void image_post(struct call *c)
{
	const char *public = http_request_header(c->q, "X-LXD-public");
	const char *filename = http_request_header(c->q, "X-LXD-filename");
	auto_json *aliases = NULL;
	auto_free char *name = NULL;
	struct operation *op = NULL;
	struct upload *u;
	struct err e = { 0 };
	json_t *spec;
	int r;

	if (c->body) {
		reply_error(c->q, 400, "an image comes as an upload: copying from other servers and publishing are not supported yet");
		return;
	}
	aliases = aliases_parse(http_request_header(c->q, "X-LXD-aliases"));
	u = calloc(1, sizeof(*u));
	r = u ? op_new(c->a, OP_TASK, "Downloading image", &op, &e) : err_set(&e, -ENOMEM, "out of memory");
	if (r < 0) {
		free(u);
		reply_err(c, &e);
		return;
	}
	op->hooks = &upload_hooks;
	op->data = u;
	r = aliases_free(c->a, aliases, &e);
	if (r >= 0)
		r = upload_files(c, u, &name, &e);
	if (r >= 0) {
		spec = json_pack("{s:s, s:o, s:s, s:b, s:O}", "file", u->file, "properties",
				 properties_parse(http_request_header(c->q, "X-LXD-properties")), "filename",
				 filename ? filename : name ? name : "", "public",
				 public && (*public == '1' || *public == 't'), "aliases", aliases);
		if (spec && u->rootfs)
			json_object_set_new(spec, "rootfs_file", json_string(u->rootfs));
		r = op_job(op, "image-import", spec, NULL, 0, &e);
	}
	if (r < 0) {
		reply_err(c, &e);
		op_drop(op);
		return;
	}
	op->may_cancel = true;
	reply_operation(c, op);
}

/* An image as the API shows it: with what LXD's clients expect beside the row. */
static json_t *image_json(const json_t *row)
{
	json_t *o = json_copy((json_t *)row);

	json_object_set_new(o, "auto_update", json_false());
	json_object_set_new(o, "cached", json_false());
	json_object_set_new(o, "type", json_string("container"));
	json_object_set_new(o, "expires_at", json_string("0001-01-01T00:00:00Z"));
	json_object_set_new(o, "last_used_at", json_string("0001-01-01T00:00:00Z"));
	json_object_set_new(o, "profiles", json_pack("[s]", "default"));
	return o;
}

static void image_list(struct call *c)
{
	auto_json *rows = NULL;
	struct err e = { 0 };
	json_t *list, *row;
	size_t i;

	if (db_image_list(c->a->db, &rows, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	list = json_array();
	json_array_foreach(rows, i, row)
		json_array_append_new(list, image_json(row));
	reply_list(c, list, "/1.0/images", "fingerprint");
}

static void image_get(struct call *c)
{
	auto_json *row = NULL;
	struct err e = { 0 };

	if (db_image_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, image_json(row));
}

static bool delete_ended(struct operation *op, int code, const char *text, json_t *result)
{
	if (code == 0)
		event_lifecycle(op->a, "image-deleted", "/1.0/images");
	return true;
}

static void image_delete(struct call *c)
{
	static const struct op_hooks hooks = { .ended = delete_ended };
	auto_json *row = NULL;
	struct operation *op = NULL;
	struct err e = { 0 };
	int r = db_image_get(c->a->db, c->arg[0], &row, &e);

	if (r >= 0)
		r = op_new(c->a, OP_TASK, "Deleting image", &op, &e);
	if (r >= 0) {
		op->hooks = &hooks;
		op_resource(op, "images", "/1.0/images/%s", body_str(row, "fingerprint", ""));
		r = op_job(op, "image-delete", json_pack("{s:s}", "fingerprint", body_str(row, "fingerprint", "")),
			   NULL, 0, &e);
	}
	if (r < 0) {
		reply_err(c, &e);
		if (op)
			op_drop(op);
		return;
	}
	reply_operation(c, op);
}

static void image_export(struct call *c)
{
	auto_json *row = NULL;
	auto_free char *path = NULL, *rootfs = NULL, *disposition = NULL;
	const char *headers[] = { "Content-Disposition", NULL, NULL };
	struct err e = { 0 };
	int fd;

	if (db_image_get(c->a->db, c->arg[0], &row, &e) < 0) {
		reply_err(c, &e);
		return;
	}
	if (asprintf(&path, "%s/images/%s", c->a->state_dir, body_str(row, "fingerprint", "")) < 0 ||
	    asprintf(&rootfs, "%s.rootfs", path) < 0 ||
	    asprintf(&disposition, "inline;filename=%s.tar", body_str(row, "fingerprint", "")) < 0) {
		reply_error(c->q, 500, "out of memory");
		return;
	}
	if (access(rootfs, F_OK) == 0) {
		reply_error(c->q, 400, "this image has two files: exporting such is not supported yet");
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		reply_error(c->q, 500, "the image's file cannot be read: %s", strerror(errno));
		return;
	}
	headers[1] = disposition;
	http_respond_fd(c->q, 200, fd, headers);
}

/* ---- aliases ---- */

static int alias_name_check(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 1 || n > 255)
		return err_set(e, -EINVAL, "an alias has 1 to 255 characters");
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] <= 0x20 || name[i] == 0x7f || name[i] == ':')
			return err_set(e, -EINVAL, "an alias has no blanks and no \":\"");
	return 0;
}

static void alias_list(struct call *c)
{
	struct err e = { 0 };
	json_t *list;

	if (db_alias_list(c->a->db, &list, &e) < 0)
		reply_err(c, &e);
	else
		reply_list(c, list, "/1.0/images/aliases", "name");
}

static void alias_get(struct call *c)
{
	struct err e = { 0 };
	json_t *row;

	if (db_alias_get(c->a->db, c->arg[0], &row, &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, row);
}

static void alias_write(struct call *c, const char *name, bool create)
{
	const char *target = body_str(c->body, "target", "");
	auto_json *image = NULL;
	struct err e = { 0 };
	int r = alias_name_check(name, &e);

	if (r >= 0)
		r = db_image_get(c->a->db, target, &image, &e);
	if (r >= 0)
		r = db_alias_put(c->a->db, name, body_str(image, "fingerprint", ""),
				 body_str(c->body, "description", ""), create, &e);
	if (r < 0)
		reply_err(c, &e);
	else if (create)
		reply_created(c, "/1.0/images/aliases/%s", name);
	else
		reply_sync(c, NULL);
}

static void alias_post(struct call *c)
{
	alias_write(c, body_str(c->body, "name", ""), true);
}

static void alias_put(struct call *c)
{
	alias_write(c, c->arg[0], false);
}

static void alias_delete(struct call *c)
{
	struct err e = { 0 };

	if (db_alias_delete(c->a->db, c->arg[0], &e) < 0)
		reply_err(c, &e);
	else
		reply_sync(c, NULL);
}

const struct route routes_image[] = {
	{ "GET", "/1.0/images", ACCESS_TRUSTED, image_list },
	{ "POST", "/1.0/images", ACCESS_TRUSTED, image_post },
	{ "GET", "/1.0/images/aliases", ACCESS_TRUSTED, alias_list },
	{ "POST", "/1.0/images/aliases", ACCESS_TRUSTED, alias_post },
	{ "GET", "/1.0/images/aliases/**", ACCESS_TRUSTED, alias_get },
	{ "PUT", "/1.0/images/aliases/**", ACCESS_TRUSTED, alias_put },
	{ "DELETE", "/1.0/images/aliases/**", ACCESS_TRUSTED, alias_delete },
	{ "GET", "/1.0/images/*", ACCESS_TRUSTED, image_get },
	{ "DELETE", "/1.0/images/*", ACCESS_TRUSTED, image_delete },
	{ "GET", "/1.0/images/*/export", ACCESS_TRUSTED, image_export },
	{ NULL, NULL, 0, NULL },
};

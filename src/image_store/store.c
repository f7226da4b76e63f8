#include "image_store/store.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "image_store/metadata.h"
#include "image_store/unpack.h"
#include "storage/folder.h"

static int hash_file(const struct image_import *in, EVP_MD_CTX *ctx, const char *path, uint64_t *size, struct err *e)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	auto_free char *buf = malloc(1 << 18);
	ssize_t n;

	if (fd < 0)
		return err_sys(e, -errno, "cannot open %s", path);
	if (!buf)
		return err_sys(e, -ENOMEM, "%s", path);
	while ((n = read(fd, buf, 1 << 18)) > 0) {
		if (EVP_DigestUpdate(ctx, buf, (size_t)n) != 1)
			return err_set(e, -EIO, "sha256 fails");
		*size += (uint64_t)n;
		if (in->cancelled && in->cancelled(in->arg) < 0)
			return err_set(e, -ECANCELED, "cancelled");
	}
	return n < 0 ? err_sys(e, -errno, "cannot read %s", path) : 0;
}

/* As LXD does: sha256 over the one file, or over both one behind the other. */
static int fingerprint_of(const struct image_import *in, char ret[65], uint64_t *ret_size, struct err *e)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sum[EVP_MAX_MD_SIZE];
	uint64_t size = 0;
	unsigned len = 0;
	int r = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 ? 0 : err_sys(e, -ENOMEM, "sha256");

	if (r == 0)
		r = hash_file(in, ctx, in->file, &size, e);
	if (r == 0 && in->rootfs_file)
		r = hash_file(in, ctx, in->rootfs_file, &size, e);
	if (r == 0 && (EVP_DigestFinal_ex(ctx, sum, &len) != 1 || len != 32))
		r = err_set(e, -EIO, "sha256 fails");
	EVP_MD_CTX_free(ctx);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < len; i++)
		snprintf(ret + 2 * i, 3, "%02x", sum[i]);
	*ret_size = size;
	return 0;
}

static int fingerprint_check(const char *fingerprint, struct err *e)
{
	if (strlen(fingerprint) != 64 || fingerprint[strspn(fingerprint, "0123456789abcdef")])
		return err_set(e, -EINVAL, "\"%.80s\" is no fingerprint of an image", fingerprint);
	return 0;
}

static int image_path(const char *state_dir, const char *fingerprint, const char *suffix, char **ret,
		      struct err *e)
{
	if (asprintf(ret, "%s/images/%s%s", state_dir, fingerprint, suffix) < 0)
		return err_sys(e, -ENOMEM, "image %s", fingerprint);
	return 0;
}

static int rootfs_check(const struct image_import *in, struct unpack_look *ret, struct err *e)
{
	struct unpack_look l = { .file = in->rootfs_file, .below = "", .cancelled = in->cancelled, .arg = in->arg };
	int r = unpack_check(&l, e);

	if (r < 0)
		return err_context(e, r, "the image's root file system (only tar is supported)");
	free(ptr_take(l.metadata));
	*ret = l;
	return 0;
}

/* Both parts, if there are two, looked through; the metadata as {architecture, ...}, and what is in the root. */
static int archive_check(const struct image_import *in, json_t **ret_meta, struct unpack_look *ret, struct err *e)
{
	struct unpack_look l = { .file = in->file, .below = "rootfs", .cancelled = in->cancelled, .arg = in->arg };
	auto_free char *text = NULL;
	int r = unpack_check(&l, e);

	if (r < 0)
		return r;
	text = ptr_take(l.metadata);
	*ret = l;
	if (!text)
		return err_set(e, -EINVAL, "the image has no metadata.yaml");
	if (!in->rootfs_file && !l.has_root)
		return err_set(e, -EINVAL, "the image has no rootfs folder");
	if (in->rootfs_file)
		r = rootfs_check(in, ret, e);
	return r < 0 ? r : metadata_parse(text, strlen(text), ret_meta, e);
}

static json_t *image_row(const struct image_import *in, const char *fingerprint, uint64_t size,
			 const json_t *meta)
{
	json_t *row, *properties = json_deep_copy(json_object_get(meta, "properties"));
	time_t created = (time_t)json_integer_value(json_object_get(meta, "creation_date"));
	const char *arch = json_string_value(json_object_get(meta, "architecture"));
	char now[32], then[32] = "1970-01-01T00:00:00Z";
	struct tm tm;

	if (gmtime_r(&created, &tm))
		strftime(then, sizeof(then), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (properties && in->properties)
		json_object_update(properties, (json_t *)in->properties);
	row = json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:o}", "fingerprint", fingerprint, "size",
			(json_int_t)size, "architecture", arch && *arch ? arch : "x86_64", "created_at", then,
			"uploaded_at", db_time_now(now, sizeof(now)), "filename",
			in->filename ? in->filename : "", "public", (int)in->public, "properties", properties);
	return row;
}

static int aliases_put(struct db *db, const struct image_import *in, const char *fingerprint, struct err *e)
{
	json_t *alias;
	size_t i;

	json_array_foreach((json_t *)in->aliases, i, alias) {
		const char *name = json_string_value(json_object_get(alias, "name"));
		const char *about = json_string_value(json_object_get(alias, "description"));
		int r;

		if (json_is_string(alias))
			name = json_string_value(alias);
		if (!name)
			return err_set(e, -EINVAL, "an alias has no name");
		r = db_alias_put(db, name, fingerprint, about ? about : "", true, e);
		if (r < 0)
			return err_context(e, r, "alias %s", name);
	}
	return 0;
}

static int files_take(const char *state_dir, const struct image_import *in, const char *fingerprint,
		      struct err *e)
{
	auto_free char *dir = NULL, *to = NULL, *to_rootfs = NULL;
	auto_fd int dir_fd = -1;
	int r;

	if (asprintf(&dir, "%s/images", state_dir) < 0)
		return err_sys(e, -ENOMEM, "image");
	r = folder_make(dir, 0700, e);
	if (r == 0)
		r = image_path(state_dir, fingerprint, "", &to, e);
	if (r == 0)
		r = image_path(state_dir, fingerprint, ".rootfs", &to_rootfs, e);
	if (r < 0)
		return r;
	/* The row comes last: a file without a row is found and removed by the next import of it. */
	if (in->rootfs_file && rename(in->rootfs_file, to_rootfs) < 0)
		return err_sys(e, -errno, "cannot take %s into the store", in->rootfs_file);
	if (rename(in->file, to) < 0)
		return err_sys(e, -errno, "cannot take %s into the store", in->file);
	/* The row is durable: what it speaks of has to be. */
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0 || syncfs(dir_fd) < 0 ? err_sys(e, -errno, "writing the image to the disk") : 0;
}

/* What is no reason against the image, but against containers of it that its owner may have in mind. */
static json_t *warnings_of(struct unpack_look *root)
{
	json_t *list = json_array();

	if (!root->has_init)
		json_array_append_new(list, json_string("the image has no /sbin/init: its containers will not start, unless their "
							"raw.lxc names another first process (lxc.init.cmd)"));
	/* A name in an archive is any bytes. */
	for (char *p = root->foreign_name; *p; p++)
		*p = *p >= 0x20 && *p < 0x7f ? *p : '?';
	if (root->foreign)
		json_array_append_new(list, json_sprintf("%llu of its files belong to ids that an unprivileged container has not (0 to "
							 "%u): \"%s\" to %lld, for one. Only privileged containers can be made of it",
							 (unsigned long long)root->foreign, UNPACK_IDS - 1, root->foreign_name,
							 (long long)root->foreign_id));
	return list;
}

int image_import(struct db *db, const char *state_dir, const struct image_import *in, json_t **ret,
		 struct err *e)
{
	json_t *meta = NULL, *row = NULL, *there = NULL;
	char fingerprint[65];
	struct unpack_look root = { 0 };
	uint64_t size;
	int r = fingerprint_of(in, fingerprint, &size, e);

	if (r == 0)
		r = archive_check(in, &meta, &root, e);
	if (r < 0)
		return r;
	row = image_row(in, fingerprint, size, meta);
	json_decref(meta);
	if (!row)
		return err_sys(e, -ENOMEM, "image %s", fingerprint);
	if (db_image_get(db, fingerprint, &there, NULL) == 0) {
		/* The same bytes are there: only the file just brought is superfluous. */
		json_decref(there);
		unlink(in->file);
		if (in->rootfs_file)
			unlink(in->rootfs_file);
	} else {
		r = files_take(state_dir, in, fingerprint, e);
		if (r == 0)
			r = db_image_put(db, row, e);
	}
	json_decref(row);
	if (r == 0)
		r = aliases_put(db, in, fingerprint, e);
	if (r < 0)
		return r;
	*ret = json_pack("{s:s, s:I, s:o}", "fingerprint", fingerprint, "size", (json_int_t)size, "warnings", warnings_of(&root));
	return *ret ? 0 : err_sys(e, -ENOMEM, "image %s", fingerprint);
}

int image_delete(struct db *db, const char *state_dir, const char *fingerprint, struct err *e)
{
	auto_free char *file = NULL, *rootfs = NULL;
	int r = fingerprint_check(fingerprint, e);

	if (r == 0)
		r = image_path(state_dir, fingerprint, "", &file, e);
	if (r == 0)
		r = image_path(state_dir, fingerprint, ".rootfs", &rootfs, e);
	if (r == 0)
		r = db_image_delete(db, fingerprint, e);
	if (r < 0)
		return r;
	if ((unlink(file) < 0 && errno != ENOENT) || (unlink(rootfs) < 0 && errno != ENOENT))
		return err_sys(e, -errno, "cannot remove the file of image %s", fingerprint);
	return 0;
}

int image_unpack(const char *state_dir, const char *fingerprint, const char *to, uint32_t idmap_base,
		 uint32_t idmap_size, int (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct err *e)
{
	auto_free char *file = NULL, *rootfs = NULL;
	struct unpack u = { .to = to, .idmap_base = idmap_base, .idmap_size = idmap_size,
			    .progress = progress, .arg = arg };
	int r = fingerprint_check(fingerprint, e);

	if (r == 0)
		r = image_path(state_dir, fingerprint, "", &file, e);
	if (r == 0)
		r = image_path(state_dir, fingerprint, ".rootfs", &rootfs, e);
	if (r < 0)
		return r;
	if (access(rootfs, F_OK) == 0) {
		u.file = rootfs;
		u.below = "";
	} else {
		u.file = file;
		u.below = "rootfs";
	}
	r = unpack_run(&u, e);
	return r < 0 ? err_context(e, r, "image %.12s", fingerprint) : 0;
}

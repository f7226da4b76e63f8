#include "storage/storage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/driver.h"

#define POOL_RESERVE (64ull << 20)

static const struct storage_driver *const drivers[] = { &storage_dir };

static const struct storage_driver *driver_find(const char *name)
{
	for (size_t i = 0; i < array_len(drivers); i++)
		if (name && strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	return NULL;
}

/* Names come from the database; one that could leave the folder is still refused here. */
static bool name_is_plain(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/') && strlen(name) < 128;
}

struct pool *pool_free(struct pool *p)
{
	if (p) {
		free(p->name);
		free(p->path);
		free(p);
	}
	return NULL;
}

AUTO_OF_DEFINE(pool)

static int pool_fill(struct pool *p, const char *state_dir, const char *name, const json_t *row,
		     struct err *e)
{
	const char *driver = json_string_value(json_object_get(row, "driver"));
	const char *source =
		json_string_value(json_object_get(json_object_get(row, "config"), "source"));

	p->driver = driver_find(driver);
	if (!p->driver)
		return err_set(e, -EOPNOTSUPP, "storage pool %s: driver \"%s\" is not supported (only dir)",
			       name, driver ? driver : "");
	p->name = strdup(name);
	if (source && *source == '/')
		p->path = strdup(source);
	else if (asprintf(&p->path, "%s/pools/%s", state_dir, name) < 0)
		p->path = NULL;
	if (!p->name || !p->path)
		return err_sys(e, -ENOMEM, "pool %s", name);
	return p->driver->open(p, e);
}

int pool_open(struct db *db, const char *state_dir, const char *name, struct pool **ret, struct err *e)
{
	auto_of(pool) *p = NULL;
	json_t *row;
	int r;

	if (!name_is_plain(name))
		return err_set(e, -EINVAL, "\"%s\" is no name for a storage pool", name);
	r = db_pool_get(db, name, &row, e);
	if (r < 0)
		return err_context(e, r, "storage pool %s", name);
	p = calloc(1, sizeof(*p));
	r = p ? pool_fill(p, state_dir, name, row, e) : err_sys(e, -ENOMEM, "pool %s", name);
	json_decref(row);
	if (r < 0)
		return r;
	*ret = ptr_take(p);
	return 0;
}

const char *pool_path(const struct pool *p)
{
	return p->path;
}

int pool_space(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e)
{
	return p->driver->space(p, ret_bytes, ret_files, e);
}

int pool_check_space(struct pool *p, uint64_t bytes, uint64_t files, struct err *e)
{
	uint64_t have, have_files, want;
	int r = pool_space(p, &have, &have_files, e);

	if (r < 0)
		return r;
	if (__builtin_add_overflow(bytes, POOL_RESERVE, &want))
		want = UINT64_MAX;
	if (have < want)
		return err_set(e, -ENOSPC,
			       "storage pool %s has %llu MiB left, %llu MiB are needed: make room in %s",
			       p->name, (unsigned long long)(have >> 20), (unsigned long long)(want >> 20),
			       p->path);
	if (have_files < files)
		return err_set(e, -ENOSPC, "storage pool %s has %llu inodes left, %llu are needed", p->name,
			       (unsigned long long)have_files, (unsigned long long)files);
	return 0;
}

static int volume_path(const struct pool *p, const char *name, const char *sub, char **ret, struct err *e)
{
	if (!name_is_plain(name))
		return err_set(e, -EINVAL, "\"%s\" is no name for a volume", name);
	if (asprintf(ret, "%s/containers/%s%s", p->path, name, sub) < 0)
		return err_sys(e, -ENOMEM, "volume %s", name);
	return 0;
}

char *volume_rootfs(const struct pool *p, const char *name)
{
	char *path;

	return volume_path(p, name, "/rootfs", &path, NULL) < 0 ? NULL : path;
}

int volume_create(struct pool *p, const char *name, uid_t owner, struct err *e)
{
	auto_free char *path = NULL;
	int r = volume_path(p, name, "", &path, e);

	return r < 0 ? r : p->driver->volume_create(p, path, owner, e);
}

bool volume_exists(struct pool *p, const char *name)
{
	auto_free char *path = NULL;

	return volume_path(p, name, "", &path, NULL) == 0 && access(path, F_OK) == 0;
}

int volume_delete(struct pool *p, const char *name, struct err *e)
{
	auto_free char *path = NULL;
	int r = volume_path(p, name, "", &path, e);

	return r < 0 ? r : p->driver->volume_delete(p, path, e);
}

int volume_rename(struct pool *p, const char *name, const char *to, struct err *e)
{
	auto_free char *from_path = NULL, *to_path = NULL;
	int r = volume_path(p, name, "", &from_path, e);

	if (r == 0)
		r = volume_path(p, to, "", &to_path, e);
	if (r < 0)
		return r;
	if (renameat2(AT_FDCWD, from_path, AT_FDCWD, to_path, RENAME_NOREPLACE) < 0)
		return err_sys(e, -errno, "cannot rename the volume %s to %s", name, to);
	return 0;
}

int volume_sync_open(struct pool *p, const char *name, struct err *e)
{
	auto_free char *path = NULL;
	int r = volume_path(p, name, "", &path, e), fd;

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "cannot open the volume of %s", name) : fd;
}

int volume_sync(struct pool *p, int fd, struct err *e)
{
	int r = p->driver->volume_sync(fd);

	return r < 0 ? err_sys(e, r, "the storage pool %s did not write everything to its disk", p->name) : 0;
}

int volume_usage(struct pool *p, const char *name, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e)
{
	auto_free char *path = NULL;
	int r = volume_path(p, name, "", &path, e);

	return r < 0 ? r : p->driver->volume_usage(p, path, ret_bytes, ret_files, e);
}

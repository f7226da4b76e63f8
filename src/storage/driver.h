/* driver - what a kind of pool has to be able to do; one file per kind. */
#pragma once
#include "storage/storage.h"

struct pool {
	char *name;
	char *path;
	const struct storage_driver *driver;
};

struct storage_driver {
	const char *name;
	int (*open)(struct pool *p, struct err *e); /* makes what is missing */
	int (*space)(struct pool *p, uint64_t *ret_bytes, uint64_t *ret_files, struct err *e);
	int (*volume_create)(struct pool *p, const char *path, uid_t owner, struct err *e);
	int (*volume_delete)(struct pool *p, const char *path, struct err *e);
	int (*volume_usage)(struct pool *p, const char *path, uint64_t *ret_bytes, uint64_t *ret_files,
			    struct err *e);
	int (*volume_sync)(int fd); /* 0 or -errno */
};

extern const struct storage_driver storage_dir;

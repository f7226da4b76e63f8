/* store - the images a host has: files STATE/images/FINGERPRINT (and FINGERPRINT.rootfs where the image
 * came in two parts), rows and aliases in the database. */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "db/db.h"

struct image_import {
	const char *file;        /* taken over: renamed into the store, or left alone on failure */
	const char *rootfs_file; /* NULL: unified */
	const json_t *properties, *aliases; /* of the request; NULL: none */
	const char *filename;
	bool public;
	int (*cancelled)(void *arg); /* NULL: nobody is asked; < 0 ends it */
	void *arg;
};

/* Checks the archive and puts it into the store; *ret: {fingerprint, size, warnings [sentence]}.  One that is there
 * already is success (its properties and aliases are added). */
int image_import(struct db *db, const char *state_dir, const struct image_import *in, json_t **ret,
		 struct err *e);
int image_delete(struct db *db, const char *state_dir, const char *fingerprint, struct err *e);
/* Unpacks it into `to` (existing, empty), shifted. */
int image_unpack(const char *state_dir, const char *fingerprint, const char *to, uint32_t idmap_base,
		 uint32_t idmap_size, int (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct err *e);

/* db - the only place with SQL.  One SQLite file (WAL, synchronous=FULL, foreign keys on) in the state
 * folder; the daemon and its jobs open it side by side, each statement or transaction is atomic and
 * durable when the function returns.
 *
 * Objects are given back as jansson objects with the field names of the REST API, so that an API
 * handler has little to translate; numbers and strings only where said.  -ENOENT: no such row;
 * -EEXIST: the name is taken; -EBUSY: somebody else holds what is asked for. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct db;

/* Times are strings in UTC, RFC 3339 ("2026-11-23T07:31:19Z"); "own" is an integer (enum own), "public",
 * "ephemeral" are booleans; what a row given to a create function leaves out gets its empty value. */

/* Opens (and creates or upgrades, schema version in PRAGMA user_version) STATE/godwit.db. */
int db_open(const char *state_dir, struct db **ret, struct err *e);
struct db *db_free(struct db *db);
#define auto_db __attribute__((cleanup(db_cleanup))) struct db
static inline void db_cleanup(struct db **db)
{
	db_free(*db);
}

/* The time now as above; buf of at least 32 bytes; returns buf. */
char *db_time_now(char *buf, size_t len);

/* ---- instances ----
 * Row: name, architecture, description, ephemeral, config{}, devices{}, profiles[], created_at,
 * last_used_at, and ours: "own" (who owns the running container), "idmap_base" (host id of the
 * container's id 0; 0 when privileged), "idmap_size", "pool", "power" ("on"|"off": what the user wants),
 * "volatile" inside config as "volatile.*" keys (LXD's convention: volatile.eth0.hwaddr,
 * volatile.eth0.ipv4.address, volatile.base_image, volatile.uuid). */
enum own {
	OWN_MINE,       /* ours; it may run here */
	OWN_CREATING,   /* being made by a job; removed when the daemon starts and finds it so */
	OWN_INCOMING,   /* target of a migration before COMMIT: never started by anyone else */
	OWN_OUTGOING,   /* source before COMMIT: ours, frozen perhaps */
	OWN_HANDED,     /* source after COMMIT was written down: frozen until we know */
	OWN_DELETING,
};

int db_instance_create(struct db *db, const json_t *row, enum own own, struct err *e);
int db_instance_get(struct db *db, const char *name, json_t **ret, struct err *e);
int db_instance_list(struct db *db, json_t **ret_array, struct err *e);
/* Replaces config, devices, profiles, description, ephemeral. */
int db_instance_set_used(struct db *db, const char *name, struct err *e); /* last_used_at = now */
int db_instance_update(struct db *db, const char *name, const json_t *row, struct err *e);
int db_instance_set_config(struct db *db, const char *name, const char *key, const char *value_or_null,
			   struct err *e);
int db_instance_set_power(struct db *db, const char *name, bool on, struct err *e);
/* Changes ownership only if it is `from`; else -EBUSY. */
int db_instance_set_own(struct db *db, const char *name, enum own from, enum own to, struct err *e);
int db_instance_rename(struct db *db, const char *name, const char *to, struct err *e);
int db_instance_delete(struct db *db, const char *name, struct err *e);
/* Reserves a free id range of `size` for a new container: the lowest that no row uses, within
 * [first, first + total). -ENOSPC. Part of the row from then on. */
int db_instance_take_idmap(struct db *db, const char *name, uint32_t first, uint32_t total, uint32_t size,
			   uint32_t *ret_base, struct err *e);

/* ---- profiles, networks, pools: {name, description, config{}, devices{} | type | driver} ---- */
int db_profile_get(struct db *db, const char *name, json_t **ret, struct err *e);
int db_profile_list(struct db *db, json_t **ret, struct err *e);
int db_profile_put(struct db *db, const json_t *row, bool create, struct err *e); /* create: -EEXIST */
int db_profile_delete(struct db *db, const char *name, struct err *e);
int db_network_get(struct db *db, const char *name, json_t **ret, struct err *e);
int db_network_list(struct db *db, json_t **ret, struct err *e);
int db_network_put(struct db *db, const json_t *row, bool create, struct err *e);
int db_network_delete(struct db *db, const char *name, struct err *e);
int db_pool_get(struct db *db, const char *name, json_t **ret, struct err *e);
int db_pool_list(struct db *db, json_t **ret, struct err *e);
int db_pool_put(struct db *db, const json_t *row, bool create, struct err *e);
int db_pool_delete(struct db *db, const char *name, struct err *e);

/* ---- images: {fingerprint, size, architecture, created_at, uploaded_at, filename, public,
 *               properties{}, aliases[{name, description}]} ---- */
int db_image_put(struct db *db, const json_t *row, struct err *e);
int db_image_get(struct db *db, const char *fingerprint_prefix, json_t **ret, struct err *e);
int db_image_list(struct db *db, json_t **ret, struct err *e);
int db_image_delete(struct db *db, const char *fingerprint, struct err *e);
int db_alias_put(struct db *db, const char *name, const char *fingerprint, const char *description,
		 bool create, struct err *e);
int db_alias_get(struct db *db, const char *name, json_t **ret, struct err *e); /* {name,target,description,type} */
int db_alias_list(struct db *db, json_t **ret, struct err *e);
int db_alias_delete(struct db *db, const char *name, struct err *e);

/* ---- trust: certificates {fingerprint, name, type, certificate (PEM)}; join tokens ---- */
int db_cert_put(struct db *db, const json_t *row, struct err *e);
int db_cert_get(struct db *db, const char *fingerprint_prefix, json_t **ret, struct err *e);
int db_cert_list(struct db *db, json_t **ret, struct err *e);
int db_cert_delete(struct db *db, const char *fingerprint, struct err *e);
int db_token_put(struct db *db, const char *secret, const char *client_name, struct err *e);
/* Takes the token (removes it) and returns its client name: a token works once. -ENOENT. */
int db_token_redeem(struct db *db, const char *secret, char **ret_client_name, struct err *e);

/* ---- server configuration: key/value ---- */
int db_config_get(struct db *db, json_t **ret_object, struct err *e);
int db_config_put(struct db *db, const json_t *object, struct err *e); /* replaces all */

/* ---- migrations: the written-down state of each side ----
 * {id, role "source"|"target", instance, state, peer (URL), peer_certificate, secret, data{}} ; data is
 * the side's own JSON (what to undo: frozen cgroup, disabled port, volume, rows). */
int db_migration_create(struct db *db, const json_t *row, struct err *e);
/* Changes state only if it is `from` (NULL: any); else -EBUSY. data NULL: unchanged. */
int db_migration_set(struct db *db, const char *id, const char *role, const char *from, const char *to,
		     const json_t *data, struct err *e);
int db_migration_get(struct db *db, const char *id, const char *role, json_t **ret, struct err *e);
/* The one of this instance; of several (the peer has not heard the end of an earlier one) the last. */
int db_migration_of(struct db *db, const char *instance, json_t **ret, struct err *e);
int db_migration_list(struct db *db, json_t **ret, struct err *e);
int db_migration_delete(struct db *db, const char *id, const char *role, struct err *e);
/* state of the migration and ownership of the instance in ONE transaction (COMMIT on either side). */
int db_migration_commit(struct db *db, const char *id, const char *role, const char *from, const char *to,
			const char *instance, enum own own_from, enum own own_to, struct err *e);

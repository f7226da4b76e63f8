#include "db/query.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

/* Entry n brings a database of user_version n to n + 1.  Entries are never changed once released. */
static const char *const upgrades[] = {
	"CREATE TABLE instances (name TEXT PRIMARY KEY, architecture TEXT NOT NULL, description TEXT NOT NULL,"
	" ephemeral INTEGER NOT NULL, config TEXT NOT NULL, devices TEXT NOT NULL, profiles TEXT NOT NULL,"
	" created_at TEXT NOT NULL, last_used_at TEXT NOT NULL, own INTEGER NOT NULL,"
	" idmap_base INTEGER NOT NULL DEFAULT 0, idmap_size INTEGER NOT NULL DEFAULT 0,"
	" pool TEXT NOT NULL, power TEXT NOT NULL);"
	"CREATE TABLE profiles (name TEXT PRIMARY KEY, description TEXT NOT NULL, config TEXT NOT NULL,"
	" devices TEXT NOT NULL);"
	"CREATE TABLE networks (name TEXT PRIMARY KEY, description TEXT NOT NULL, type TEXT NOT NULL,"
	" config TEXT NOT NULL);"
	"CREATE TABLE pools (name TEXT PRIMARY KEY, description TEXT NOT NULL, driver TEXT NOT NULL,"
	" config TEXT NOT NULL);"
	"CREATE TABLE images (fingerprint TEXT PRIMARY KEY, size INTEGER NOT NULL, architecture TEXT NOT NULL,"
	" created_at TEXT NOT NULL, uploaded_at TEXT NOT NULL, filename TEXT NOT NULL, public INTEGER NOT NULL,"
	" properties TEXT NOT NULL);"
	"CREATE TABLE aliases (name TEXT PRIMARY KEY, description TEXT NOT NULL,"
	" fingerprint TEXT NOT NULL REFERENCES images ON DELETE CASCADE);"
	"CREATE TABLE certificates (fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
	" certificate TEXT NOT NULL);"
	"CREATE TABLE tokens (secret TEXT PRIMARY KEY, client_name TEXT NOT NULL, created_at TEXT NOT NULL);"
	"CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
	"CREATE TABLE migrations (id TEXT NOT NULL, role TEXT NOT NULL, instance TEXT NOT NULL,"
	" state TEXT NOT NULL, peer TEXT NOT NULL, peer_certificate TEXT NOT NULL, secret TEXT NOT NULL,"
	" data TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (id, role));"
	"INSERT INTO profiles VALUES ('default', 'Default profile', '{}', '{}');",
};

static int version_get(struct db *db, int *ret, struct err *e)
{
	auto_query *q = NULL;
	int r = query_open(db, "PRAGMA user_version", &q, e, "");

	if (r < 0)
		return r;
	r = query_step(db, q, e);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int(q, 0);
	return 0;
}

static int upgrade_locked(struct db *db, struct err *e)
{
	int have = 0, r = version_get(db, &have, e);
	char sql[64];

	if (r < 0)
		return r;
	if (have > (int)array_len(upgrades))
		return err_set(e, -EOVERFLOW,
			       "the database has version %d, this program knows up to %zu: it was used "
			       "by a newer godwitd", have, array_len(upgrades));
	for (; have < (int)array_len(upgrades); have++) {
		int rc = sqlite3_exec(db->h, upgrades[have], NULL, NULL, NULL);

		if (rc != SQLITE_OK)
			return query_error(db, rc, e);
	}
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", have);
	if (sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK)
		return query_error(db, sqlite3_errcode(db->h), e);
	return 0;
}

static int upgrade(struct db *db, struct err *e)
{
	int have = 0, r = version_get(db, &have, e);

	/* The usual case takes no write lock: jobs open the database all the time. */
	if (r < 0 || have == (int)array_len(upgrades))
		return r;
	r = tx_begin(db, e);
	if (r < 0)
		return r;
	return tx_end(db, upgrade_locked(db, e), e);
}

int db_open(const char *state_dir, struct db **ret, struct err *e)
{
	auto_free char *path = NULL;
	struct db *db = calloc(1, sizeof(*db));
	int rc, r, fd;

	if (!db || asprintf(&path, "%s/godwit.db", state_dir) < 0) {
		free(db);
		return err_set(e, -ENOMEM, "out of memory");
	}
	/* The file holds secrets: made here so that it never exists readable by others (SQLite gives
	 * its WAL and shared-memory files the mode of the database). */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = err_sys(e, -errno, "cannot open the database %s", path);
		db_free(db);
		return r;
	}
	close(fd);
	rc = sqlite3_open_v2(path, &db->h, SQLITE_OPEN_READWRITE, NULL);
	if (rc != SQLITE_OK) {
		r = query_error(db, rc, e);
		goto fail;
	}
	sqlite3_extended_result_codes(db->h, 1);
	sqlite3_busy_timeout(db->h, 10000);
	rc = sqlite3_exec(db->h, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON",
			  NULL, NULL, NULL);
	r = rc == SQLITE_OK ? upgrade(db, e) : query_error(db, rc, e);
	if (r < 0)
		goto fail;
	*ret = db;
	return 0;
fail:
	db_free(db);
	return err_context(e, r, "%s", path);
}

struct db *db_free(struct db *db)
{
	if (db)
		sqlite3_close_v2(db->h);
	free(db);
	return NULL;
}

char *db_time_now(char *buf, size_t len)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	if (!strftime(buf, len, "%Y-%m-%dT%H:%M:%SZ", &tm) && len)
		buf[0] = '\0';
	return buf;
}

/* The database: what each function promises in db/db.h, on a real file. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "db/db.h"

static char dir[] = "/tmp/godwit-test-db-XXXXXX";
static struct db *db;

static int setup(void **state)
{
	strcpy(strrchr(dir, '-'), "-XXXXXX");
	return mkdtemp(dir) ? db_open(dir, &db, NULL) : -1;
}

static int teardown(void **state)
{
	static const char *const files[] = { "godwit.db", "godwit.db-wal", "godwit.db-shm" };
	char path[128];

	db = db_free(db);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static void instance_add(const char *name, enum own own)
{
	json_t *row = json_pack("{s:s, s:{s:s}, s:{s:{s:s}}, s:[s]}", "name", name, "config", "user.a", "1", "devices",
				"root", "type", "disk", "profiles", "default");

	assert_int_equal(db_instance_create(db, row, own, NULL), 0);
	json_decref(row);
}

static json_t *instance(const char *name)
{
	json_t *row = NULL;

	assert_int_equal(db_instance_get(db, name, &row, NULL), 0);
	return row;
}

static const char *str(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void test_instance(void **state)
{
	struct err e = { 0 };
	json_t *row, *list;

	instance_add("c1", OWN_MINE);
	instance_add("a0", OWN_CREATING);
	row = instance("c1");
	assert_string_equal(str(row, "pool"), "default");
	assert_string_equal(str(row, "power"), "off");
	assert_int_equal(json_integer_value(json_object_get(row, "own")), OWN_MINE);
	assert_string_equal(str(json_object_get(row, "config"), "user.a"), "1");
	assert_int_equal(db_instance_create(db, row, OWN_MINE, &e), -EEXIST);
	assert_non_null(strstr(e.text, "c1"));
	json_object_set_new(row, "description", json_string("d"));
	json_object_set_new(row, "config", json_object());
	assert_int_equal(db_instance_update(db, "c1", row, NULL), 0);
	json_decref(row);
	assert_int_equal(db_instance_set_config(db, "c1", "volatile.x", "y", NULL), 0);
	assert_int_equal(db_instance_set_config(db, "c1", "volatile.z", "z", NULL), 0);
	assert_int_equal(db_instance_set_config(db, "c1", "volatile.z", NULL, NULL), 0);
	assert_int_equal(db_instance_set_config(db, "c1", "volatile.x", "\xff", NULL), -EINVAL);
	assert_int_equal(db_instance_set_power(db, "c1", true, NULL), 0);
	row = instance("c1");
	assert_string_equal(str(row, "description"), "d");
	assert_int_equal(json_object_size(json_object_get(row, "config")), 1);
	assert_string_equal(str(json_object_get(row, "config"), "volatile.x"), "y");
	assert_string_equal(str(row, "power"), "on");
	json_decref(row);
	assert_int_equal(db_instance_list(db, &list, NULL), 0);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(str(json_array_get(list, 0), "name"), "a0");
	json_decref(list);
	assert_int_equal(db_instance_rename(db, "c1", "a0", NULL), -EEXIST);
	assert_int_equal(db_instance_rename(db, "c1", "c2", NULL), 0);
	assert_int_equal(db_instance_delete(db, "c1", &e), -ENOENT);
	assert_int_equal(db_instance_delete(db, "c2", NULL), 0);
	assert_int_equal(db_instance_get(db, "c2", &row, NULL), -ENOENT);
}

static void test_own(void **state)
{
	struct err e = { 0 };
	json_t *row;

	instance_add("c1", OWN_MINE);
	assert_int_equal(db_instance_set_own(db, "c1", OWN_MINE, OWN_OUTGOING, NULL), 0);
	assert_int_equal(db_instance_set_own(db, "c1", OWN_MINE, OWN_DELETING, &e), -EBUSY);
	assert_non_null(strstr(e.text, "migrated"));
	assert_int_equal(db_instance_set_own(db, "nobody", OWN_MINE, OWN_DELETING, NULL), -ENOENT);
	row = instance("c1");
	assert_int_equal(json_integer_value(json_object_get(row, "own")), OWN_OUTGOING);
	json_decref(row);
}

static uint32_t idmap(const char *name, int expect)
{
	uint32_t base = 0;

	assert_int_equal(db_instance_take_idmap(db, name, 1000, 300, 100, &base, NULL), expect);
	return base;
}

static void test_idmap(void **state)
{
	instance_add("a", OWN_MINE);
	instance_add("b", OWN_MINE);
	instance_add("c", OWN_MINE);
	instance_add("d", OWN_MINE);
	assert_int_equal(idmap("a", 0), 1000);
	assert_int_equal(idmap("b", 0), 1100);
	assert_int_equal(idmap("c", 0), 1200);
	idmap("d", -ENOSPC);
	assert_int_equal(db_instance_delete(db, "b", NULL), 0);
	assert_int_equal(idmap("d", 0), 1100);
	/* Its own range does not stand in its way. */
	assert_int_equal(idmap("d", 0), 1100);
}

/* Two processes at once never get the same range. */
static void test_idmap_race(void **state)
{
	json_t *list, *row, *seen = json_object();
	pid_t pid[4];
	char name[8], key[16];
	size_t i;

	for (i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "c%zu", i);
		instance_add(name, OWN_MINE);
	}
	for (int p = 0; p < 4; p++) {
		pid[p] = fork();
		if (pid[p] == 0) {
			struct db *own = NULL;
			uint32_t base;
			int bad = db_open(dir, &own, NULL);

			for (int k = p; k < 40 && !bad; k += 4) {
				snprintf(name, sizeof(name), "c%d", k);
				bad = db_instance_take_idmap(own, name, 0, 1u << 30, 65536, &base, NULL);
			}
			db_free(own);
			_exit(bad ? 1 : 0);
		}
	}
	for (int p = 0; p < 4; p++) {
		int status;

		waitpid(pid[p], &status, 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(db_instance_list(db, &list, NULL), 0);
	json_array_foreach(list, i, row) {
		snprintf(key, sizeof(key), "%lld", json_integer_value(json_object_get(row, "idmap_base")));
		assert_null(json_object_get(seen, key));
		json_object_set_new(seen, key, json_true());
	}
	assert_int_equal(json_object_size(seen), 40);
	json_decref(seen);
	json_decref(list);
}

static void test_named(void **state)
{
	json_t *row = json_pack("{s:s, s:{s:s}}", "name", "br0", "config", "ipv4.address", "10.0.0.1/24"), *got;

	assert_int_equal(db_network_put(db, row, false, NULL), -ENOENT);
	assert_int_equal(db_network_put(db, row, true, NULL), 0);
	assert_int_equal(db_network_put(db, row, true, NULL), -EEXIST);
	assert_int_equal(db_network_get(db, "br0", &got, NULL), 0);
	assert_string_equal(str(got, "type"), "bridge");
	json_decref(got);
	assert_int_equal(db_network_delete(db, "br0", NULL), 0);
	assert_int_equal(db_network_delete(db, "br0", NULL), -ENOENT);
	assert_int_equal(db_pool_put(db, row, true, NULL), 0);
	json_decref(row);
	assert_int_equal(db_profile_get(db, "default", &got, NULL), 0);
	json_object_set_new(got, "devices", json_pack("{s:{s:s}}", "eth0", "type", "nic"));
	assert_int_equal(db_profile_put(db, got, false, NULL), 0);
	json_decref(got);
	assert_int_equal(db_profile_get(db, "default", &got, NULL), 0);
	assert_int_equal(json_object_size(json_object_get(got, "devices")), 1);
	json_decref(got);
}

static void test_image(void **state)
{
	json_t *row = json_pack("{s:s, s:I, s:{s:s}, s:[{s:s}]}", "fingerprint", "abc123", "size", (json_int_t)5000000000,
				"properties", "os", "x", "aliases", "name", "debian/12"), *got;
	struct err e = { 0 };

	assert_int_equal(db_image_put(db, row, NULL), 0);
	json_object_set_new(row, "fingerprint", json_string("abd999"));
	/* The alias is taken: nothing of the second image is stored. */
	assert_int_equal(db_image_put(db, row, &e), -EEXIST);
	assert_int_equal(db_image_get(db, "abd", &got, NULL), -ENOENT);
	json_object_del(row, "aliases");
	assert_int_equal(db_image_put(db, row, NULL), 0);
	assert_int_equal(db_image_get(db, "abc", &got, NULL), 0);
	assert_int_equal(json_integer_value(json_object_get(got, "size")), 5000000000);
	assert_int_equal(json_array_size(json_object_get(got, "aliases")), 1);
	json_decref(got);
	assert_int_equal(db_image_get(db, "ab", &got, NULL), -EINVAL);
	assert_int_equal(db_image_get(db, "", &got, NULL), -ENOENT);
	assert_int_equal(db_image_get(db, "a%", &got, NULL), -ENOENT);
	assert_int_equal(db_alias_put(db, "x", "nothing", NULL, true, NULL), -ENOENT);
	assert_int_equal(db_alias_put(db, "debian/12", "abd999", "d", false, NULL), 0);
	assert_int_equal(db_alias_get(db, "debian/12", &got, NULL), 0);
	assert_string_equal(str(got, "target"), "abd999");
	json_decref(got);
	/* An image takes its aliases along. */
	assert_int_equal(db_image_delete(db, "abd999", NULL), 0);
	assert_int_equal(db_alias_get(db, "debian/12", &got, NULL), -ENOENT);
	json_decref(row);
}

static void test_trust(void **state)
{
	json_t *row = json_pack("{s:s, s:s, s:s}", "fingerprint", "aa11", "name", "n", "certificate", "PEM"), *got;
	char *name = NULL;

	assert_int_equal(db_cert_put(db, row, NULL), 0);
	assert_int_equal(db_cert_put(db, row, NULL), -EEXIST);
	assert_int_equal(db_cert_get(db, "aa", &got, NULL), 0);
	json_decref(got);
	assert_int_equal(db_cert_get(db, "bb", &got, NULL), -ENOENT);
	assert_int_equal(db_cert_delete(db, "aa11", NULL), 0);
	json_decref(row);
	assert_int_equal(db_token_put(db, "s1", "client", NULL), 0);
	assert_int_equal(db_token_redeem(db, "s2", &name, NULL), -ENOENT);
	assert_int_equal(db_token_redeem(db, "s1", &name, NULL), 0);
	assert_string_equal(name, "client");
	free(name);
	assert_int_equal(db_token_redeem(db, "s1", &name, NULL), -ENOENT);
}

static void test_config(void **state)
{
	json_t *o = json_pack("{s:s}", "core.https_address", ":8443"), *got, *bad = json_pack("{s:s, s:i}", "a", "b", "c", 1);

	assert_int_equal(db_config_put(db, o, NULL), 0);
	assert_int_equal(db_config_put(db, bad, NULL), -EINVAL);
	assert_int_equal(db_config_get(db, &got, NULL), 0);
	assert_true(json_equal(o, got));
	json_decref(got);
	json_decref(o);
	json_decref(bad);
}

static void test_migration(void **state)
{
	json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", "m1", "role", "source", "instance", "c1", "state",
				"frozen", "secret", "s"), *got, *data = json_pack("{s:b}", "live", 1);

	instance_add("c1", OWN_OUTGOING);
	assert_int_equal(db_migration_create(db, row, NULL), 0);
	assert_int_equal(db_migration_create(db, row, NULL), -EEXIST);
	assert_int_equal(db_migration_set(db, "m1", "source", "offered", "frozen", NULL, NULL), -EBUSY);
	assert_int_equal(db_migration_set(db, "m1", "target", NULL, "x", NULL, NULL), -ENOENT);
	assert_int_equal(db_migration_set(db, "m1", "source", "frozen", "frozen", data, NULL), 0);
	/* Both or none: the instance is not in the state that the commit expects. */
	assert_int_equal(db_migration_commit(db, "m1", "source", "frozen", "handed", "c1", OWN_MINE, OWN_HANDED, NULL), -EBUSY);
	assert_int_equal(db_migration_get(db, "m1", "source", &got, NULL), 0);
	assert_string_equal(str(got, "state"), "frozen");
	assert_true(json_is_true(json_object_get(json_object_get(got, "data"), "live")));
	json_decref(got);
	assert_int_equal(db_migration_commit(db, "m1", "source", "frozen", "handed", "c1", OWN_OUTGOING, OWN_HANDED, NULL), 0);
	assert_int_equal(db_migration_get(db, "m1", "source", &got, NULL), 0);
	assert_string_equal(str(got, "state"), "handed");
	json_decref(got);
	got = instance("c1");
	assert_int_equal(json_integer_value(json_object_get(got, "own")), OWN_HANDED);
	json_decref(got);
	assert_int_equal(db_migration_delete(db, "m1", "source", NULL), 0);
	json_decref(row);
	json_decref(data);
}

/* Opened again, everything is there; a database of a newer program is left alone. */
static void test_reopen(void **state)
{
	struct err e = { 0 };
	struct db *again = NULL;
	sqlite3 *h;
	char path[128];

	instance_add("c1", OWN_MINE);
	db = db_free(db);
	assert_int_equal(db_open(dir, &db, NULL), 0);
	json_decref(instance("c1"));
	snprintf(path, sizeof(path), "%s/godwit.db", dir);
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
	assert_int_equal(db_open(dir, &again, &e), -EOVERFLOW);
	assert_non_null(strstr(e.text, "newer"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_instance), T(test_own), T(test_idmap), T(test_idmap_race), T(test_named), T(test_image),
		T(test_trust), T(test_config), T(test_migration), T(test_reopen),
	};

	return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}

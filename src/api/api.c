/* The API as an object: making it, listening, and taking up what a former daemon has left. */
#include "api/api.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/instance.h"
#include "api/move.h"
#include "api/network.h"
#include "api/running.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "runtime/lock.h"
#include "runtime/runpid.h"

#define RESOLVE_EVERY_US (3 * 1000000ull)

/* Uploads that nobody took: their operations died with the former daemon. */
static void tmp_clear(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.')
			unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
}

static int folders_make(struct api *a, struct err *e)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = { { "tmp", 0700 }, { "logs", 0700 }, { "migrations", 0700 }, { "images", 0700 }, { "pools", 0711 } };

	for (size_t i = 0; i < array_len(folders); i++) {
		auto_free char *path = NULL;

		if (asprintf(&path, "%s/%s", a->state_dir, folders[i].name) < 0) {
			path = NULL;
			return err_set(e, -ENOMEM, "out of memory");
		}
		if (mkdir(path, folders[i].mode) < 0 && errno != EEXIST)
			return err_sys(e, -errno, "cannot make %s", path);
		if (i == 0)
			tmp_clear(path);
	}
	if (mkdir(a->run_dir, 0711) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make %s", a->run_dir);
	return 0;
}

static int api_setup(struct api *a, const struct api_options *o, struct err *e)
{
	int r = folders_make(a, e);

	if (r >= 0)
		r = cert_ensure(o->crt_path, o->key_path, "godwitd", 1, e);
	if (r >= 0) {
		r = fd_read_file_at(AT_FDCWD, o->crt_path, 65536, &a->crt_pem, NULL);
		if (r < 0)
			r = err_sys(e, r, "cannot read %s", o->crt_path);
	}
	return r < 0 ? r : cert_fingerprint_pem(a->crt_pem, a->crt_fp, e);
}

int api_new(struct sd_event *ev, struct db *db, const struct api_options *o, const struct http_handler *of,
	    struct api **ret, struct err *e)
{
	struct api *a = calloc(1, sizeof(*a));
	struct http_handler handler = api_http_handler;
	int r;

	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->ev = sd_event_ref(ev);
	a->db = db;
	a->state_dir = strdup(o->state_dir);
	a->run_dir = strdup(o->run_dir);
	a->self = strdup(o->self);
	a->listen_override = o->listen ? strdup(o->listen) : NULL;
	r = a->state_dir && a->run_dir && a->self ? api_setup(a, o, e) : err_set(e, -ENOMEM, "out of memory");
	handler.bulk = of ? of->bulk : NULL;
	if (r >= 0)
		r = http_server_new(ev, o->crt_path, o->key_path, &handler, a, &a->http, e);
	if (r < 0) {
		api_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct api *api_free(struct api *a)
{
	if (!a)
		return NULL;
	sd_event_source_disable_unref(a->recover_timer);
	op_free_all(a);
	a->http = http_server_free(a->http);
	running_free_all(a);
	free(a->state_dir);
	free(a->run_dir);
	free(a->self);
	free(a->listen_override);
	free(a->crt_pem);
	sd_event_unref(a->ev);
	free(a);
	return NULL;
}

int api_listen(struct api *a, const char *socket, struct err *e)
{
	auto_json *config = NULL;
	const char *address = a->listen_override;
	struct err why = { 0 };
	int r = http_server_listen_unix(a->http, socket, "godwit", e);

	if (r >= 0)
		r = db_config_get(a->db, &config, e);
	if (r < 0)
		return r;
	if (!address)
		address = body_str(config, "core.https_address", "");
	/* A host without its address yet must still be reachable by its socket. */
	if (*address && http_server_listen_tls(a->http, address, true, &why) < 0)
		log_error("%s: only the unix socket is served", err_text(&why));
	return 0;
}

struct http_server *api_http(struct api *a)
{
	return a->http;
}

struct db *api_db(struct api *a)
{
	return a->db;
}

struct sd_event *api_event(struct api *a)
{
	return a->ev;
}

/* ---- taking up ---- */

/* This boot of this host.  The boot id alone is not it: hosts that are namespaces share the machine's, but
 * not the start of their PID 1. */
static void boot_text(char *ret, size_t len)
{
	auto_free char *id = NULL;
	struct runpid init = { 0 };

	if (fd_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, NULL) == 0)
		id[strcspn(id, "\n")] = '\0';
	runpid_of(1, &init);
	snprintf(ret, len, "%s %llu", id ? id : "?", (unsigned long long)init.start);
}

/* Has the host been booted since the former daemon wrote its mark?  Leaves the new mark. */
static bool booted_anew(struct api *a)
{
	auto_free char *path = NULL, *old = NULL;
	char now[128];
	bool anew;

	boot_text(now, sizeof(now));
	if (asprintf(&path, "%s/boot", a->run_dir) < 0) {
		path = NULL;
		return false;
	}
	anew = fd_read_file_at(AT_FDCWD, path, 256, &old, NULL) < 0 || strcmp(old, now) != 0;
	if (anew && fd_replace_file_at(AT_FDCWD, path, now, strlen(now), 0600) < 0)
		log_warn("cannot write %s", path);
	return anew;
}

static bool wants_start(const json_t *row)
{
	const char *v = json_string_value(json_object_get(json_object_get(row, "config"), "boot.autostart"));

	if (v && *v)
		return strchr("1tTyY", *v) || strcasecmp(v, "on") == 0;
	return strcmp(body_str(row, "power", ""), "on") == 0;
}

static void instance_recover(struct api *a, const json_t *row, bool anew)
{
	const char *name = body_str(row, "name", "");
	int own = (int)json_integer_value(json_object_get(row, "own"));
	bool runs = running_scan(a, name);

	if (own == OWN_CREATING) {
		log_warn("removing the instance %s: its creation was interrupted", name);
		db_instance_set_own(a->db, name, OWN_CREATING, OWN_DELETING, NULL);
	} else if (own == OWN_MINE && !runs && !anew && strcmp(body_str(row, "power", ""), "on") == 0) {
		log_info("the instance %s has stopped while no daemon was there", name);
		db_instance_set_power(a->db, name, false, NULL);
	} else if (own == OWN_MINE && !runs && anew && wants_start(row)) {
		log_info("starting %s as before the host's reboot", name);
		instance_start_quietly(a, name);
	} else if (runs) {
		log_info("the instance %s is running", name);
	}
}

/* Deletions that were interrupted; again and again, since a job of the former daemon may still hold the lock. */
static void deletions_resume(struct api *a)
{
	auto_json *rows = NULL;
	json_t *row;
	size_t i;

	if (db_instance_list(a->db, &rows, NULL) < 0)
		return;
	json_array_foreach(rows, i, row) {
		const char *name = body_str(row, "name", "");
		struct operation *op = NULL;
		struct err e = { 0 };

		if (json_integer_value(json_object_get(row, "own")) != OWN_DELETING || op_busy(a, name))
			continue;
		if (op_new(a, OP_TASK, "Deleting instance", &op, &e) < 0 || op_on_instance(op, name, true, &e) < 0 ||
		    op_job(op, "instance-delete", json_pack("{s:s}", "name", name), NULL, 0, &e) < 0) {
			log_error("cannot go on deleting %s: %s", name, err_text(&e));
			if (op)
				op_drop(op);
		}
	}
}

static int on_resolve(sd_event_source *s, uint64_t usec, void *arg)
{
	struct api *a = arg;
	uint64_t now;
	int pending;

	move_resolve_all(a, &pending);
	deletions_resume(a);
	sd_event_now(a->ev, CLOCK_MONOTONIC, &now);
	sd_event_source_set_time(s, now + RESOLVE_EVERY_US);
	sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

/* Networks stand: containers may start. */
static void recover_instances(struct api *a)
{
	auto_json *rows = NULL;
	bool anew = booted_anew(a);
	struct err e = { 0 };
	json_t *row;
	size_t i;

	if (db_instance_list(a->db, &rows, &e) < 0) {
		log_error("cannot read the instances: %s", err_text(&e));
		return;
	}
	json_array_foreach(rows, i, row)
		instance_recover(a, row, anew);
	if (sd_event_add_time(a->ev, &a->recover_timer, CLOCK_MONOTONIC, 0, 100000, on_resolve, a) < 0)
		log_error("unfinished migrations will not be resolved");
}

static void recover_network_done(struct api *a)
{
	if (--a->networks_pending == 0)
		recover_instances(a);
}

int api_recover(struct api *a, struct err *e)
{
	auto_json *rows = NULL, *instances = NULL;
	json_t *row;
	size_t i;
	int r = db_network_list(a->db, &rows, e);

	if (r >= 0)
		r = db_instance_list(a->db, &instances, e);
	if (r < 0)
		return r;
	instance_locks_tidy(a->db, a->state_dir);
	/* What runs is known before the first request, whatever the networks do. */
	json_array_foreach(instances, i, row)
		running_scan(a, body_str(row, "name", ""));
	a->networks_pending = 1;
	json_array_foreach(rows, i, row) {
		struct err why = { 0 };

		a->networks_pending++;
		if (network_boot(a, body_str(row, "name", ""), recover_network_done, &why) < 0) {
			log_error("network %s: %s", body_str(row, "name", ""), err_text(&why));
			a->networks_pending--;
		}
	}
	recover_network_done(a);
	return 0;
}

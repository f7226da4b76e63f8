/* The API as clients see it: a daemon's loop in a child, with jobs that are this program. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "api/api.h"
#include "api/filter.h"
#include "api/validate.h"
#include "base/fd.h"
#include "base/log.h"
#include "http/client.h"
#include "job/job.h"

/* ---- the jobs ---- */

static const char *spec_str(struct job *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j->spec, key));

	return s ? s : "";
}

static int run_create(struct job *j, struct err *e)
{
	struct db *db = NULL;
	int r = db_open(j->state_dir, &db, e);

	if (r == 0)
		r = strcmp(spec_str(j, "name"), "bad") == 0 ?
			    err_set(e, -ENOSPC, "no space for \xff%s", spec_str(j, "name")) :
			    db_instance_set_own(db, spec_str(j, "name"), OWN_CREATING, OWN_MINE, e);
	job_progress(j, "unpack", "%d%%", 100);
	db_free(db);
	return r;
}

static int run_delete(struct job *j, struct err *e)
{
	struct db *db = NULL;
	int r = db_open(j->state_dir, &db, e);

	if (r == 0)
		r = db_instance_delete(db, spec_str(j, "name"), e);
	db_free(db);
	return r;
}

/* Takes its time until it is cancelled. */
static int run_start(struct job *j, struct err *e)
{
	struct msg m;
	int r;

	while ((r = job_recv(j, &m, 30000)) > 0)
		msg_done(&m);
	return err_set(e, r < 0 ? r : -ETIMEDOUT, "not started");
}

/* Says what came through the channels. */
static int run_source(struct job *j, struct err *e)
{
	char text[8] = "";
	struct msg m;
	int fd, r = job_recv(j, &m, 30000);

	if (r <= 0)
		return err_set(e, -EIO, "no channel came");
	fd = msg_take_fd(&m, 0);
	if (fd < 0 || read(fd, text, 5) < 0)
		return err_set(e, -EIO, "no descriptor came");
	close(fd);
	r = job_done_json(j, json_pack("{s:s, s:s}", "channel", msg_get(&m, "name"), "text", text));
	msg_done(&m);
	return r;
}

/* A cancel comes just when it is too late for one. */
static int run_late(struct job *j, struct err *e)
{
	struct msg m;

	while (job_recv(j, &m, 30000) > 0)
		msg_done(&m);
	job_committed(j);
	usleep(500000);
	return run_create(j, e);
}

static int run_create_or_late(struct job *j, struct err *e)
{
	return strcmp(spec_str(j, "name"), "late") == 0 ? run_late(j, e) : run_create(j, e);
}

static const struct job_verb v_create = { "instance-create", run_create_or_late }, v_delete = { "instance-delete", run_delete },
			     v_start = { "instance-start", run_start }, v_source = { "move-source", run_source };
static const struct job_verb *const verbs[] = { &v_create, &v_delete, &v_start, &v_source };

/* ---- the daemon ---- */

static char dir[] = "/tmp/godwit-test-api-XXXXXX";
static char sock[128], crt[128], key[128], ccrt[128], ckey[128];
static uint16_t port;
static pid_t server;
static struct http_client *local, *remote;

/* In place of godwit-wire: "ID CHANNEL SECRET" by a fifo-like socket is not needed, one call does: the child
 * is told by SIGUSR1 to offer a descriptor to the operation whose id and secret stand in a file. */
static int on_usr1(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	char path[160], *text = NULL, id[64], secret[80];
	struct err e = { 0 };
	int p[2];

	snprintf(path, sizeof(path), "%s/hello", dir);
	if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0 || pipe(p) < 0 ||
	    sscanf(text, "%63s %79s", id, secret) != 2)
		_exit(3);
	free(text);
	if (write(p[1], "bytes", 5) != 5)
		_exit(3);
	api_channel(arg, id, "disk", secret, p[0], &e);
	close(p[0]);
	close(p[1]);
	snprintf(path, sizeof(path), "%s/answer", dir);
	fd_replace_file_at(AT_FDCWD, path, e.code ? err_text(&e) : "OK", strlen(e.code ? err_text(&e) : "OK"), 0600);
	return 0;
}

static void serve(int ready)
{
	char *self = realpath("/proc/self/exe", NULL), address[32];
	char run[160];
	struct api_options o = { .state_dir = dir, .run_dir = run, .self = self, .crt_path = crt, .key_path = key };
	struct db *db = NULL;
	struct api *a = NULL;
	struct err e = { 0 };
	sigset_t set;
	sd_event *ev;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_set_level(LOG_LV_ERROR);
	snprintf(run, sizeof(run), "%s/run", dir);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	o.listen = address;
	sd_event_new(&ev);
	r = db_open(dir, &db, &e);
	if (r >= 0)
		r = api_new(ev, db, &o, NULL, &a, &e);
	if (r >= 0)
		r = api_recover(a, &e);
	if (r >= 0)
		r = api_listen(a, sock, &e);
	if (r >= 0)
		r = sd_event_add_signal(ev, NULL, SIGUSR1, on_usr1, a);
	if (r < 0) {
		fprintf(stderr, "%s\n", err_text(&e));
		_exit(1);
	}
	if (write(ready, "r", 1) != 1)
		_exit(1);
	sd_event_loop(ev);
	_exit(0);
}

static int server_start(void)
{
	int p[2];
	char byte;

	if (pipe(p) < 0)
		return -1;
	server = fork();
	if (server == 0)
		serve(p[1]);
	close(p[1]);
	if (read(p[0], &byte, 1) != 1)
		return -1;
	close(p[0]);
	return 0;
}

static void image_add(struct db *db)
{
	json_t *row = json_pack("{s:s, s:s, s:{s:s}, s:[{s:s}]}", "fingerprint", "aa11", "architecture", "", "properties",
				"os", "busybox", "aliases", "name", "bb/1");

	db_image_put(db, row, NULL);
	json_decref(row);
}

static int group_setup(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct db *db = NULL;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (!mkdtemp(dir) || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -1;
	close(fd);
	port = ntohs(sa.sin_port);
	snprintf(sock, sizeof(sock), "%s/s", dir);
	snprintf(crt, sizeof(crt), "%s/server.crt", dir);
	snprintf(key, sizeof(key), "%s/server.key", dir);
	snprintf(ccrt, sizeof(ccrt), "%s/ccrt", dir);
	snprintf(ckey, sizeof(ckey), "%s/ckey", dir);
	if (cert_ensure(ccrt, ckey, "c", 0, NULL) < 0 || db_open(dir, &db, NULL) < 0)
		return -1;
	image_add(db);
	db_free(db);
	if (server_start() < 0)
		return -1;
	const struct http_endpoint l = { .unix_path = sock };
	const struct http_endpoint r = { .host = "127.0.0.1", .port = port, .cert_file = ccrt, .key_file = ckey };

	return http_client_new(&l, &local, NULL) < 0 || http_client_new(&r, &remote, NULL) < 0 ? -1 : 0;
}

static int unlink_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int group_teardown(void **state)
{
	http_client_free(local);
	http_client_free(remote);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return nftw(dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- helpers ---- */

static json_t *call(struct http_client *c, const char *method, const char *path, json_t *body)
{
	struct err e = { 0 };
	json_t *m = NULL;

	if (http_metadata(c, method, path, body, &m, &e) < 0)
		fail_msg("%s %s: %s", method, path, err_text(&e));
	json_decref(body);
	return m;
}

static void refused(struct http_client *c, int code, const char *words, const char *method, const char *path, json_t *body)
{
	struct err e = { 0 };
	json_t *m = NULL;
	int r = http_metadata(c, method, path, body, &m, &e);

	if (r != code || !strstr(e.text, words))
		fail_msg("%s %s gave %d: %s", method, path, r, err_text(&e));
	json_decref(body);
}

static const char *str(const json_t *o, const char *k)
{
	const char *s = json_string_value(json_object_get(o, k));

	return s ? s : "";
}

/* Starts an operation and waits for it; its failure's sentence must hold `words` (NULL: it succeeds). */
static json_t *operate(const char *method, const char *path, json_t *body, const char *words)
{
	json_t *op = call(local, method, path, body), *end = NULL;
	struct err e = { 0 };
	char url[128];
	int r;

	snprintf(url, sizeof(url), "/1.0/operations/%s", str(op, "id"));
	json_decref(op);
	r = http_operation_wait(local, url, 20, &end, &e);
	if (words ? r >= 0 || !strstr(e.text, words) : r < 0)
		fail_msg("%s %s gave %d: %s", method, path, r, err_text(&e));
	return end;
}

static json_t *instance_body(const char *name)
{
	return json_pack("{s:s, s:{s:s, s:s}, s:{s:s}}", "name", name, "source", "type", "image", "alias", "bb/1", "config",
			 "user.x", "y");
}

/* ---- tests ---- */

static void test_server(void **state)
{
	json_t *m = call(local, "GET", "/1.0", NULL), *env = json_object_get(m, "environment");

	assert_string_equal(str(m, "auth"), "trusted");
	assert_int_equal(strlen(str(env, "certificate_fingerprint")), 64);
	assert_int_equal(json_array_size(json_object_get(env, "addresses")), 1);
	json_decref(m);
	m = call(remote, "GET", "/1.0", NULL);
	assert_string_equal(str(m, "auth"), "untrusted");
	assert_null(json_object_get(m, "environment"));
	assert_null(json_object_get(m, "config"));
	json_decref(m);
	json_decref(call(local, "PUT", "/1.0", json_pack("{s:{s:s}}", "config", "user.a", "b")));
	json_decref(call(local, "PATCH", "/1.0", json_pack("{s:{s:s}}", "config", "user.c", "d")));
	m = call(local, "GET", "/1.0", NULL);
	assert_int_equal(json_object_size(json_object_get(m, "config")), 2);
	json_decref(m);
	refused(local, -EINVAL, "core.nothing", "PUT", "/1.0", json_pack("{s:{s:s}}", "config", "core.nothing", "1"));
	refused(local, -ENOENT, "nothing", "GET", "/1.0/nothing", NULL);
	refused(local, -EIO, "not possible", "DELETE", "/1.0", NULL);
}

static void test_untrusted(void **state)
{
	static const char *const paths[] = { "/1.0/instances", "/1.0/events", "/1.0/operations", "/1.0/certificates",
					     "/1.0/operations/x/wait?secret=y", "/1.0/operations/x/websocket?secret=",
					     "/1.0/containers/x/state", "/nothing" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		refused(remote, -EACCES, "not authorized", "GET", paths[i], NULL);
	refused(remote, -EACCES, "token", "POST", "/1.0/certificates", json_pack("{s:s}", "type", "client"));
	refused(remote, -EACCES, "token", "POST", "/1.0/certificates", json_pack("{s:s, s:b}", "name", "x", "token", 1));
	refused(remote, -EACCES, "token", "POST", "/1.0/certificates", json_pack("{s:s}", "password", "AAAA====AAAA"));
}

static char *token_of(const json_t *op)
{
	char *text = json_dumps(json_object_get(op, "metadata"), JSON_COMPACT), *out = malloc(2 * strlen(text) + 8);

	EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)strlen(text));
	free(text);
	return out;
}

static void test_token(void **state)
{
	json_t *op = call(local, "POST", "/1.0/certificates", json_pack("{s:s, s:s, s:b}", "name", "tok", "type", "client",
									 "token", 1)), *m;
	char *token = token_of(op), *path = NULL;

	assert_string_equal(str(op, "class"), "token");
	/* A certificate that is none costs the token nothing. */
	refused(remote, -EINVAL, "not a certificate", "POST", "/1.0/certificates",
		json_pack("{s:s, s:s}", "password", token, "certificate", "nonsense"));
	json_decref(call(remote, "POST", "/1.0/certificates", json_pack("{s:s}", "password", token)));
	m = call(remote, "GET", "/1.0", NULL);
	assert_string_equal(str(m, "auth"), "trusted");
	json_decref(m);
	m = call(remote, "GET", "/1.0/certificates?recursion=1", NULL);
	assert_int_equal(json_array_size(m), 1);
	assert_string_equal(str(json_array_get(m, 0), "name"), "tok");
	assert_true(asprintf(&path, "/1.0/certificates/%s", str(json_array_get(m, 0), "fingerprint")) > 0);
	json_decref(m);
	/* Trust taken away counts for the connection that stands. */
	json_decref(call(local, "DELETE", path, NULL));
	refused(remote, -EACCES, "not authorized", "GET", "/1.0/instances", NULL);
	refused(remote, -EACCES, "used already", "POST", "/1.0/certificates", json_pack("{s:s}", "password", token));
	free(path);
	free(token);
	json_decref(op);
}

static void test_instance(void **state)
{
	json_t *m;

	refused(local, -EINVAL, "letter", "POST", "/1.0/instances", instance_body("1x"));
	refused(local, -EINVAL, "source", "POST", "/1.0/instances", json_pack("{s:s}", "name", "c1"));
	json_decref(operate("POST", "/1.0/instances", instance_body("c1"), NULL));
	refused(local, -EEXIST, "c1", "POST", "/1.0/instances", instance_body("c1"));
	m = call(local, "GET", "/1.0/instances/c1?recursion=1", NULL);
	assert_string_equal(str(m, "status"), "Stopped");
	assert_string_equal(str(json_object_get(m, "config"), "volatile.base_image"), "aa11");
	assert_string_equal(str(json_object_get(m, "expanded_config"), "image.os"), "busybox");
	assert_non_null(json_object_get(m, "state"));
	json_decref(m);
	/* What a client does not repeat is gone, but the daemon's own keys. */
	json_decref(operate("PUT", "/1.0/instances/c1", json_pack("{s:{s:s}, s:s}", "config", "limits.memory", "64MiB",
								  "description", "d"), NULL));
	m = call(local, "GET", "/1.0/containers/c1", NULL);
	assert_string_equal(str(m, "description"), "d");
	assert_string_equal(str(json_object_get(m, "config"), "user.x"), "");
	assert_string_equal(str(json_object_get(m, "config"), "limits.memory"), "64MiB");
	assert_string_equal(str(json_object_get(m, "config"), "volatile.base_image"), "aa11");
	json_decref(m);
	json_decref(call(local, "PATCH", "/1.0/instances/c1", json_pack("{s:{s:s, s:s}}", "config", "limits.memory", "", "user.z", "1")));
	m = call(local, "GET", "/1.0/instances/c1", NULL);
	assert_null(json_object_get(json_object_get(m, "config"), "limits.memory"));
	assert_string_equal(str(json_object_get(m, "config"), "user.z"), "1");
	json_decref(m);
	refused(local, -EINVAL, "limits.memory", "PUT", "/1.0/instances/c1", json_pack("{s:{s:s}}", "config", "limits.memory", "much"));
	refused(local, -EINVAL, "security.nesting", "PUT", "/1.0/instances/c1", json_pack("{s:{s:s}}", "config", "security.nesting", "true"));
	refused(local, -EINVAL, "privileged", "PATCH", "/1.0/instances/c1", json_pack("{s:{s:s}}", "config", "security.privileged", "true"));
	refused(local, -EINVAL, "nobody", "PUT", "/1.0/instances/c1", json_pack("{s:[s]}", "profiles", "nobody"));
	refused(local, -EINVAL, "not running", "PUT", "/1.0/instances/c1/state", json_pack("{s:s}", "action", "stop"));
	refused(local, -EINVAL, "action", "PUT", "/1.0/instances/c1/state", json_pack("{s:s}", "action", "fly"));
	refused(local, -EINVAL, "not running", "POST", "/1.0/instances/c1/exec", json_pack("{s:[s]}", "command", "ls"));
	refused(local, -EINVAL, "command", "POST", "/1.0/instances/c1/exec", json_pack("{s:[i]}", "command", 1));
	json_decref(operate("DELETE", "/1.0/instances/c1", NULL, NULL));
	refused(local, -ENOENT, "c1", "GET", "/1.0/instances/c1", NULL);
}

/* A creation that fails leaves no row; a sentence with foreign bytes in it gets through. */
static void test_creation_fails(void **state)
{
	operate("POST", "/1.0/instances", instance_body("bad"), "no space for ?bad");
	refused(local, -ENOENT, "bad", "GET", "/1.0/instances/bad", NULL);
	refused(local, -ENOENT, "no image", "POST", "/1.0/instances",
		json_pack("{s:s, s:{s:s, s:s}}", "name", "c2", "source", "type", "image", "alias", "nothing"));
}

static void test_busy_cancel_events(void **state)
{
	const struct http_endpoint ep = { .unix_path = sock };
	struct ws_client *ws = NULL;
	json_t *op, *m, *end;
	struct err e = { 0 };
	bool created = false, cancelled = false;
	char url[128];
	enum ws_kind kind;
	char *text;
	size_t len;

	json_decref(operate("POST", "/1.0/instances", instance_body("c3"), NULL));
	assert_int_equal(ws_client_open(&ep, "/1.0/events?type=operation", &ws, NULL), 0);
	op = call(local, "PUT", "/1.0/instances/c3/state", json_pack("{s:s}", "action", "start"));
	refused(local, -EEXIST, "busy", "DELETE", "/1.0/instances/c3", NULL);
	snprintf(url, sizeof(url), "/1.0/operations/%s/wait?timeout=1", str(op, "id"));
	m = call(local, "GET", url, NULL);
	assert_string_equal(str(m, "status"), "Running");
	json_decref(m);
	snprintf(url, sizeof(url), "/1.0/operations/%s", str(op, "id"));
	json_decref(call(local, "DELETE", url, NULL));
	assert_int_equal(http_operation_wait(local, url, 20, &end, &e), -ECANCELED);
	while (!cancelled && ws_client_recv(ws, 5000, &kind, &text, &len, NULL) == 1) {
		json_t *ev = json_loads(text, 0, NULL), *meta = json_object_get(ev, "metadata");

		if (strcmp(str(meta, "id"), str(op, "id")) == 0) {
			created |= strcmp(str(meta, "status"), "Running") == 0;
			cancelled |= strcmp(str(meta, "status"), "Cancelled") == 0;
		}
		json_decref(ev);
		free(text);
	}
	assert_true(created);
	assert_true(cancelled);
	ws_client_free(ws);
	json_decref(op);
	refused(local, -EINVAL, "type of event", "GET", "/1.0/events?type=weather", NULL);
	json_decref(operate("DELETE", "/1.0/instances/c3", NULL, NULL));
}

static void test_cancel_too_late(void **state)
{
	json_t *op = call(local, "POST", "/1.0/instances", instance_body("late")), *m, *end;
	char url[128], look[160];
	bool back = false;

	assert_true(json_is_true(json_object_get(op, "may_cancel")));
	snprintf(url, sizeof(url), "/1.0/operations/%s", str(op, "id"));
	snprintf(look, sizeof(look), "%s/wait?timeout=0", url);
	json_decref(call(local, "DELETE", url, NULL));
	for (int i = 0; i < 200 && !back; i++) {
		m = call(local, "GET", look, NULL);
		back = strcmp(str(m, "status"), "Running") == 0;
		assert_true(!back || json_is_false(json_object_get(m, "may_cancel")));
		json_decref(m);
		usleep(2000);
	}
	assert_true(back);
	refused(local, -EINVAL, "cannot be cancelled", "DELETE", url, NULL);
	assert_int_equal(http_operation_wait(local, url, 20, &end, NULL), 0);
	json_decref(end);
	json_decref(op);
	json_decref(operate("DELETE", "/1.0/instances/late", NULL, NULL));
}

static void hello(const char *id, const char *secret, const char *want)
{
	char path[160], text[256], *answer = NULL;

	snprintf(path, sizeof(path), "%s/answer", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/hello", dir);
	snprintf(text, sizeof(text), "%s %s", id, secret);
	assert_int_equal(fd_replace_file_at(AT_FDCWD, path, text, strlen(text), 0600), 0);
	kill(server, SIGUSR1);
	snprintf(path, sizeof(path), "%s/answer", dir);
	for (int i = 0; i < 200 && access(path, F_OK) < 0; i++)
		usleep(20000);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &answer, NULL), 0);
	if (!strstr(answer, want))
		fail_msg("%s", answer);
	free(answer);
}

static void test_channel(void **state)
{
	json_t *op, *end = NULL;
	struct err e = { 0 };
	char url[256], secret[80];

	json_decref(operate("POST", "/1.0/instances", instance_body("c4"), NULL));
	refused(local, -EINVAL, "only moving", "POST", "/1.0/instances/c4", json_pack("{s:b}", "migration", 1));
	op = call(local, "POST", "/1.0/instances/c4", json_pack("{s:b, s:b, s:b}", "migration", 1, "live", 1, "move", 1));
	snprintf(secret, sizeof(secret), "%s", str(json_object_get(op, "metadata"), "disk"));
	assert_int_equal(strlen(secret), 64);
	hello("nothing", secret, "unknown");
	hello(str(op, "id"), "wrong", "secret");
	hello(str(op, "id"), str(json_object_get(op, "metadata"), "mem"), "secret");
	/* Who knows a secret may wait without being trusted. */
	snprintf(url, sizeof(url), "/1.0/operations/%s/wait?timeout=0&secret=%s", str(op, "id"), secret);
	json_decref(call(remote, "GET", url, NULL));
	hello(str(op, "id"), secret, "OK");
	snprintf(url, sizeof(url), "/1.0/operations/%s", str(op, "id"));
	assert_int_equal(http_operation_wait(local, url, 20, &end, &e), 0);
	assert_string_equal(str(json_object_get(end, "metadata"), "channel"), "disk");
	assert_string_equal(str(json_object_get(end, "metadata"), "text"), "bytes");
	json_decref(end);
	json_decref(op);
	json_decref(operate("DELETE", "/1.0/instances/c4", NULL, NULL));
}

static void test_profile_alias(void **state)
{
	json_t *m;

	json_decref(call(local, "POST", "/1.0/profiles", json_pack("{s:s, s:{s:s}}", "name", "p", "config", "limits.cpu", "2")));
	refused(local, -EEXIST, "p", "POST", "/1.0/profiles", json_pack("{s:s}", "name", "p"));
	refused(local, -EINVAL, "letters", "POST", "/1.0/profiles", json_pack("{s:s}", "name", "../x"));
	refused(local, -EINVAL, "usb", "PUT", "/1.0/profiles/p", json_pack("{s:{s:{s:s}}}", "devices", "x", "type", "usb"));
	json_decref(call(local, "PATCH", "/1.0/profiles/p", json_pack("{s:{s:{s:s, s:s}}}", "devices", "eth0", "type", "nic",
								      "network", "br0")));
	m = call(local, "GET", "/1.0/profiles/p", NULL);
	assert_string_equal(str(json_object_get(m, "config"), "limits.cpu"), "2");
	assert_int_equal(json_object_size(json_object_get(m, "devices")), 1);
	json_decref(m);
	json_decref(call(local, "DELETE", "/1.0/profiles/p", NULL));
	refused(local, -EACCES, "default", "DELETE", "/1.0/profiles/default", NULL);
	m = call(local, "GET", "/1.0/images/aliases/bb%2F1", NULL);
	assert_string_equal(str(m, "target"), "aa11");
	json_decref(m);
	json_decref(call(local, "POST", "/1.0/images/aliases", json_pack("{s:s, s:s}", "name", "x/y/z", "target", "aa11")));
	m = call(local, "GET", "/1.0/images/aliases", NULL);
	assert_int_equal(json_array_size(m), 2);
	json_decref(m);
	json_decref(call(local, "DELETE", "/1.0/images/aliases/x/y/z", NULL));
}

/* Killed and started again: rows stay, what was half made goes. */
static void test_restart(void **state)
{
	json_t *row = json_pack("{s:s}", "name", "half"), *m;
	struct err e = { 0 };
	struct db *db = NULL;
	int i;

	json_decref(operate("POST", "/1.0/instances", instance_body("stays"), NULL));
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	assert_int_equal(db_open(dir, &db, NULL), 0);
	assert_int_equal(db_instance_create(db, row, OWN_CREATING, NULL), 0);
	db_free(db);
	json_decref(row);
	assert_int_equal(server_start(), 0);
	json_decref(call(local, "GET", "/1.0/instances/stays", NULL));
	for (i = 0; i < 100; i++) {
		m = NULL;
		if (http_metadata(local, "GET", "/1.0/instances/half", NULL, &m, &e) == -ENOENT)
			break;
		json_decref(m);
		usleep(50000);
	}
	assert_true(i < 100);
}

static void test_filter(void **state)
{
	json_t *o = json_pack("{s:s, s:s, s:{s:s}, s:b}", "name", "c1", "status", "Running", "config", "user.a", "b",
			      "ephemeral", 0);

	assert_int_equal(filter_match("", o, NULL), 1);
	assert_int_equal(filter_match("status eq running", o, NULL), 1);
	assert_int_equal(filter_match("status eq running and name eq c2", o, NULL), 0);
	assert_int_equal(filter_match("config.user.a eq b and name ne c2", o, NULL), 1);
	assert_int_equal(filter_match("ephemeral eq false and nothing ne x", o, NULL), 1);
	assert_int_equal(filter_match("status", o, NULL), -EINVAL);
	assert_int_equal(filter_match("status is running", o, NULL), -EINVAL);
	assert_int_equal(filter_match("a eq b or c eq d", o, NULL), -EINVAL);
	assert_int_equal(filter_match("a eq b and", o, NULL), -EINVAL);
	json_decref(o);
}

static void test_validate(void **state)
{
	static const struct {
		const char *key, *value;
		bool good;
	} values[] = {
		{ "limits.cpu", "2", true }, { "limits.cpu", "0-1,3", true }, { "limits.cpu", "many", false },
		{ "limits.memory", "50%", true }, { "limits.memory", "x%", false }, { "limits.processes", "-1", false },
		{ "environment.A", "b", true }, { "environment.A", "b\nc", false }, { "environment.", "b", false },
		{ "security.privileged", "maybe", false }, { "raw.lxc", "lxc.x = 1\nlxc.y = 2", true },
		{ "migration.nonsense", "1", false }, { "user.", "1", false },
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		json_t *o = json_pack("{s:s}", values[i].key, values[i].value);

		if ((config_check_instance(o, NULL) == 0) != values[i].good)
			fail_msg("%s=%s", values[i].key, values[i].value);
		json_decref(o);
	}
	assert_int_equal(name_check_instance("a-1", NULL), 0);
	assert_int_equal(name_check_instance("", NULL), -EINVAL);
	assert_int_equal(name_check_instance("a.b", NULL), -EINVAL);
	assert_int_equal(name_check_instance("a-", NULL), -EINVAL);
	assert_int_equal(name_check_instance("a123456789012345678901234567890123456789012345678901234567890123", NULL), -EINVAL);
	assert_int_equal(name_check_interface("gwbr0", NULL), 0);
	assert_int_equal(name_check_interface("a-name-too-long0", NULL), -EINVAL);
	assert_int_equal(name_check_interface("../x", NULL), -EINVAL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_validate), cmocka_unit_test(test_filter), cmocka_unit_test(test_server), cmocka_unit_test(test_untrusted),
		cmocka_unit_test(test_token), cmocka_unit_test(test_instance), cmocka_unit_test(test_creation_fails),
		cmocka_unit_test(test_busy_cancel_events), cmocka_unit_test(test_cancel_too_late), cmocka_unit_test(test_channel),
		cmocka_unit_test(test_profile_alias), cmocka_unit_test(test_restart),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "job") == 0)
		return job_main(verbs, sizeof(verbs) / sizeof(verbs[0]), argv[2]);
	return cmocka_run_group_tests_name("api", tests, group_setup, group_teardown);
}

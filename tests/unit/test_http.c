/* HTTP: the look at a ClientHello, certificates, and the server with our own client over both transports. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "base/fd.h"
#include "base/log.h"
#include "http/client.h"
#include "http/hello.h"
#include "http/server.h"

/* ---- hello ---- */

static size_t hello_make(const unsigned char *alpn, unsigned alpn_len, uint8_t *out, size_t room)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *bio = BIO_new(BIO_s_mem());
	int n;

	SSL_set_bio(ssl, in, bio);
	if (alpn)
		SSL_set_alpn_protos(ssl, alpn, alpn_len);
	SSL_connect(ssl);
	n = BIO_read(bio, out, (int)room);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	assert_true(n > 0);
	return (size_t)n;
}

/* Byte by byte: it asks for more until it knows, never reads behind, and then says `bulk`. */
static void hello_expect(const uint8_t *data, size_t len, bool bulk)
{
	bool got = !bulk;
	size_t need = 0;

	for (size_t n = 0; n < len; n++) {
		uint8_t *copy = malloc(n ? n : 1);

		memcpy(copy, data, n);
		assert_int_equal(hello_look(copy, n, &got, &need), 0);
		assert_true(need > n && need <= len);
		free(copy);
	}
	assert_int_equal(hello_look(data, len, &got, &need), 1);
	assert_int_equal(got, bulk);
}

static void test_hello(void **state)
{
	static const unsigned char bulk[] = "\x0dgodwit-bulk/1", both[] = "\x08http/1.1\x0dgodwit-bulk/1",
				   http[] = "\x02h2\x08http/1.1";
	uint8_t data[4096];
	bool got;
	size_t need, n;

	hello_expect(data, hello_make(bulk, sizeof(bulk) - 1, data, sizeof(data)), true);
	hello_expect(data, hello_make(both, sizeof(both) - 1, data, sizeof(data)), true);
	hello_expect(data, hello_make(http, sizeof(http) - 1, data, sizeof(data)), false);
	n = hello_make(NULL, 0, data, sizeof(data));
	hello_expect(data, n, false);
	/* Lengths that lie. */
	for (size_t i = 5; i < n; i++) {
		data[i] ^= 0xff;
		assert_int_equal(hello_look(data, n, &got, &need), 1);
		assert_false(got);
		data[i] ^= 0xff;
	}
	assert_int_equal(hello_look((const uint8_t *)"GET / HTTP/1.1", 14, &got, &need), 1);
	assert_false(got);
	assert_int_equal(hello_look((const uint8_t *)"\x16\x03\x01\xff\xff", 5, &got, &need), 1);
	assert_false(got);
}

static void test_url(void **state)
{
	const char *path;
	uint16_t port;
	char *host;

	assert_int_equal(http_url_parse("https://h1:99/1.0/operations/x", &host, &port, &path, NULL), 0);
	assert_string_equal(host, "h1");
	assert_int_equal(port, 99);
	assert_string_equal(path, "/1.0/operations/x");
	free(host);
	assert_int_equal(http_url_parse("[fe80::1]:1", &host, &port, &path, NULL), 0);
	assert_string_equal(host, "fe80::1");
	assert_int_equal(port, 1);
	free(host);
	assert_int_equal(http_url_parse("h", &host, &port, &path, NULL), 0);
	assert_int_equal(port, 8443);
	free(host);
	assert_int_equal(http_url_parse("http://h", &host, &port, &path, NULL), -EINVAL);
	assert_int_equal(http_url_parse("h:0", &host, &port, &path, NULL), -EINVAL);
	assert_int_equal(http_url_parse("h:65536", &host, &port, &path, NULL), -EINVAL);
	assert_int_equal(http_url_parse("[::1", &host, &port, &path, NULL), -EINVAL);
	assert_int_equal(http_url_parse("", &host, &port, &path, NULL), -EINVAL);
}

/* ---- a server in a child ---- */

static char dir[] = "/tmp/godwit-test-http-XXXXXX";
static char sock[128], crt[128], key[128], ccrt[128], ckey[128], files[128];
static pid_t server;
static uint16_t port;

static void echo_message(struct ws *w, enum ws_frame kind, const void *data, size_t len, void *arg)
{
	if (kind == WS_FRAME_TEXT && len == 3 && memcmp(data, "end", 3) == 0)
		ws_end(w);
	else
		ws_send(w, kind, data, len);
}

static void respond(struct http_request *q, unsigned status, json_t *metadata)
{
	json_t *env = json_pack("{s:s, s:s, s:o}", "type", status < 400 ? "sync" : "error", "error",
				status < 400 ? "" : "it was refused", "metadata", metadata);

	http_respond_json(q, status, env, NULL);
}

static enum http_body on_begin(struct http_request *q, void *arg)
{
	if (strcmp(http_request_path(q), "/refuse") == 0)
		respond(q, 403, json_null());
	if (strcmp(http_request_path(q), "/upload") != 0)
		return HTTP_BODY_JSON;
	http_request_files_to(q, files, 3 << 20);
	return HTTP_BODY_FILES;
}

static int on_later(sd_event_source *s, uint64_t usec, void *arg)
{
	respond(arg, 200, json_string("later"));
	sd_event_source_unref(s);
	return 0;
}

static void on_handle(struct http_request *q, void *arg)
{
	static const struct ws_events echo = { .message = echo_message };
	const struct http_peer *p = http_request_peer(q);
	const char *path = http_request_path(q);
	sd_event_source *s;
	uint64_t now;

	if (strcmp(path, "/ws") == 0) {
		if (http_respond_websocket(q, &echo, NULL) < 0)
			respond(q, 400, json_null());
	} else if (strcmp(path, "/later") == 0) {
		sd_event_now(arg, CLOCK_MONOTONIC, &now);
		sd_event_add_time(arg, &s, CLOCK_MONOTONIC, now + 50000, 1, on_later, q);
	} else if (strcmp(path, "/upload") == 0) {
		char *file = http_request_take_file(q, "", NULL), *part = http_request_take_file(q, "metadata", NULL);
		struct stat st = { 0 };

		stat(file ? file : part ? part : "", &st);
		respond(q, 200, json_pack("{s:I, s:b}", "size", (json_int_t)st.st_size, "part", part != NULL));
		if (file)
			unlink(file);
		if (part)
			unlink(part);
		free(file);
		free(part);
	} else {
		respond(q, 200, json_pack("{s:s, s:s, s:b, s:s, s:O?, s:s?}", "method", http_request_method(q), "path", path,
					  "local", p->local, "fingerprint", p->fingerprint, "body", http_request_body(q),
					  "a", http_request_query(q, "a")));
	}
}

static void on_bulk(int fd, const char *address, void *arg)
{
	char byte = 0;

	/* Nothing was consumed: the first byte is still that of the record. */
	if (recv(fd, &byte, 1, 0) == 1 && byte == 22)
		send(fd, "bulk", 4, MSG_NOSIGNAL);
	close(fd);
}

static uint16_t port_free(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return 0;
	close(fd);
	return ntohs(sa.sin_port);
}

static void serve(int ready)
{
	static const struct http_handler h = { on_begin, on_handle, on_bulk };
	struct http_server *s = NULL;
	struct err e = { 0 };
	char address[32];
	sd_event *ev;
	int r;

	log_set_level(LOG_LV_ERROR);
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	sd_event_new(&ev);
	r = http_server_new(ev, crt, key, &h, ev, &s, &e);
	if (r >= 0)
		r = http_server_listen_unix(s, sock, NULL, &e);
	if (r >= 0)
		r = http_server_listen_tls(s, address, false, &e);
	if (r < 0) {
		fprintf(stderr, "%s\n", err_text(&e));
		_exit(1);
	}
	if (write(ready, "r", 1) != 1)
		_exit(1);
	sd_event_loop(ev);
	_exit(0);
}

static int group_setup(void **state)
{
	int p[2];
	char byte;

	if (!mkdtemp(dir) || pipe(p) < 0)
		return -1;
	snprintf(sock, sizeof(sock), "%s/s", dir);
	snprintf(crt, sizeof(crt), "%s/crt", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	snprintf(ccrt, sizeof(ccrt), "%s/ccrt", dir);
	snprintf(ckey, sizeof(ckey), "%s/ckey", dir);
	snprintf(files, sizeof(files), "%s/files", dir);
	if (mkdir(files, 0700) < 0 || cert_ensure(crt, key, "s", 1, NULL) < 0 || cert_ensure(ccrt, ckey, "c", 0, NULL) < 0)
		return -1;
	port = port_free();
	server = fork();
	if (server == 0)
		serve(p[1]);
	close(p[1]);
	if (read(p[0], &byte, 1) != 1)
		return -1;
	close(p[0]);
	return 0;
}

static int group_teardown(void **state)
{
	const char *all[] = { sock, crt, key, ccrt, ckey };

	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	for (size_t i = 0; i < 5; i++)
		unlink(all[i]);
	return rmdir(files) < 0 || rmdir(dir) < 0 ? -1 : 0;
}

static struct http_endpoint local_end(void)
{
	return (struct http_endpoint){ .unix_path = sock };
}

static struct http_endpoint tls_end(void)
{
	return (struct http_endpoint){ .host = "127.0.0.1", .port = port, .cert_file = ccrt, .key_file = ckey };
}

static struct http_client *client(struct http_endpoint ep)
{
	struct http_client *c = NULL;

	assert_int_equal(http_client_new(&ep, &c, NULL), 0);
	return c;
}

static char *file_text(const char *path)
{
	char *text = NULL;

	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL), 0);
	return text;
}

static const char *str(const json_t *o, const char *k)
{
	const char *s = json_string_value(json_object_get(o, k));

	return s ? s : "";
}

static void requests(struct http_endpoint ep, const char *fingerprint)
{
	struct http_client *c = client(ep);
	json_t *body = json_pack("{s:s}", "k", "v"), *m = NULL, *env = NULL;
	struct err e = { 0 };

	assert_int_equal(http_metadata(c, "PUT", "/x/y%20z?a=b%26c", body, &m, &e), 0);
	assert_string_equal(str(m, "method"), "PUT");
	assert_string_equal(str(m, "path"), "/x/y z");
	assert_string_equal(str(m, "a"), "b&c");
	assert_string_equal(str(json_object_get(m, "body"), "k"), "v");
	assert_string_equal(str(m, "fingerprint"), fingerprint);
	assert_int_equal(json_is_true(json_object_get(m, "local")), ep.unix_path != NULL);
	json_decref(m);
	assert_int_equal(http_metadata(c, "GET", "/later", NULL, &m, &e), 0);
	assert_string_equal(json_string_value(m), "later");
	json_decref(m);
	assert_int_equal(http_request_json(c, "POST", "/refuse", body, &env, &e), -EACCES);
	assert_string_equal(e.text, "it was refused");
	json_decref(body);
	http_client_free(c);
}

static void test_unix(void **state)
{
	requests(local_end(), "");
}

static void test_tls(void **state)
{
	char fp[FINGERPRINT_LEN + 1], *mine = file_text(ccrt), *theirs = file_text(crt);
	struct http_endpoint ep = tls_end();
	struct http_client *c;
	json_t *m = NULL;
	struct err e = { 0 };

	assert_int_equal(cert_fingerprint_pem(mine, fp, NULL), 0);
	requests(ep, fp);
	ep.pin_pem = theirs;
	requests(ep, fp);
	c = client(ep);
	assert_int_equal(http_metadata(c, "GET", "/", NULL, &m, NULL), 0);
	assert_string_equal(http_client_server_cert(c), theirs);
	json_decref(m);
	http_client_free(c);
	/* Another certificate than the pinned one. */
	ep.pin_pem = mine;
	c = client(ep);
	assert_true(http_metadata(c, "GET", "/", NULL, &m, &e) < 0);
	http_client_free(c);
	/* Without a certificate of our own. */
	ep = tls_end();
	ep.cert_file = ep.key_file = NULL;
	requests(ep, "");
	free(mine);
	free(theirs);
}

/* A body as it stands, by a raw connection; the answer's status line and body. */
static void raw(const char *request, char *answer, size_t room)
{
	struct http_endpoint ep = local_end();
	size_t n = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, ep.unix_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t k = poll(&p, 1, 2000) > 0 ? recv(fd, answer + n, room - 1 - n, 0) : 0;

		if (k <= 0)
			break;
		n += (size_t)k;
		answer[n] = '\0';
		if (strstr(answer, "\r\n\r\n{") && answer[n - 1] == '}')
			break;
	}
	answer[n] = '\0';
	close(fd);
}

static void test_bad_bodies(void **state)
{
	char a[8192];

	raw("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{bad", a, sizeof(a));
	assert_non_null(strstr(a, " 400 "));
	assert_non_null(strstr(a, "not JSON"));
	raw("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}", a, sizeof(a));
	assert_non_null(strstr(a, " 400 "));
	raw("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[1]", a, sizeof(a));
	assert_non_null(strstr(a, " 400 "));
	raw("nonsense\r\n\r\n", a, sizeof(a));
	assert_null(strstr(a, " 200 "));
	raw("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", a, sizeof(a));
	assert_non_null(strstr(a, " 400 "));
	raw("GET /x HTTP/1.1\r\nHost: x\r\n\r\n", a, sizeof(a));
	assert_non_null(strstr(a, " 200 "));
}

static void upload(struct http_endpoint ep, size_t size, int expect)
{
	struct http_client *c = client(ep);
	json_t *env = NULL;
	struct err e = { 0 };
	int fd = open(files, O_RDWR | O_TMPFILE, 0600), r;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	r = http_upload(c, "POST", "/upload", fd, NULL, NULL, NULL, &env, &e);
	assert_int_equal(r, expect);
	if (r == 0)
		assert_int_equal(json_integer_value(json_object_get(json_object_get(env, "metadata"), "size")), size);
	json_decref(env);
	close(fd);
	http_client_free(c);
}

static void test_upload(void **state)
{
	char a[8192], q[1024];
	const char *body = "--Bound\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\n12345\r\n--Bound--\r\n";

	upload(local_end(), 1000000, 0);
	upload(tls_end(), 2000000, 0);
	upload(tls_end(), 0, 0);
	upload(local_end(), 4 << 20, -EINVAL);
	snprintf(q, sizeof(q), "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=Bound\r\n"
		 "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
	raw(q, a, sizeof(a));
	if (!strstr(a, "\"size\":5"))
		fail_msg("%s", a);
	assert_non_null(strstr(a, "\"part\":true"));
}

static void websockets(struct http_endpoint ep)
{
	struct ws_client *w = NULL;
	struct err e = { 0 };
	enum ws_kind kind;
	char *data, *big = malloc(600000);
	size_t len;

	if (ws_client_open(&ep, "/ws", &w, &e) < 0)
		fail_msg("%s", err_text(&e));
	assert_int_equal(ws_client_recv(w, 0, &kind, &data, &len, NULL), -EAGAIN);
	for (size_t i = 0; i < 600000; i++)
		big[i] = (char)(i * 7);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ws_client_send(w, WS_BINARY, big, 600000, NULL), 0);
	assert_int_equal(ws_client_send(w, WS_TEXT, "", 0, NULL), 0);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(ws_client_recv(w, 10000, &kind, &data, &len, NULL), 1);
		assert_int_equal(kind, WS_BINARY);
		assert_int_equal(len, 600000);
		assert_memory_equal(data, big, len);
		free(data);
	}
	assert_int_equal(ws_client_recv(w, 10000, &kind, &data, &len, NULL), 1);
	assert_int_equal(kind, WS_TEXT);
	assert_int_equal(len, 0);
	free(data);
	assert_int_equal(ws_client_send(w, WS_TEXT, "end", 3, NULL), 0);
	assert_int_equal(ws_client_recv(w, 10000, &kind, &data, &len, NULL), 0);
	ws_client_free(w);
	free(big);
	assert_int_equal(ws_client_open(&ep, "/refuse", &w, &e), -EACCES);
	assert_string_equal(e.text, "it was refused");
}

static void test_websocket(void **state)
{
	websockets(local_end());
	websockets(tls_end());
}

static int tcp(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void test_bulk(void **state)
{
	static const unsigned char alpn[] = "\x0dgodwit-bulk/1";
	uint8_t hello[4096];
	size_t n = hello_make(alpn, sizeof(alpn) - 1, hello, sizeof(hello));
	char answer[8] = "";
	int fd = tcp();

	/* In two pieces: the server waits for the rest without spinning or consuming. */
	assert_int_equal(send(fd, hello, 20, 0), 20);
	usleep(50000);
	assert_int_equal(send(fd, hello + 20, n - 20, 0), (ssize_t)(n - 20));
	assert_int_equal(recv(fd, answer, 4, MSG_WAITALL), 4);
	assert_string_equal(answer, "bulk");
	close(fd);
	/* Half a hello and an end. */
	fd = tcp();
	assert_int_equal(send(fd, hello, 20, 0), 20);
	shutdown(fd, SHUT_WR);
	/* A reset, since what it had sent was never read. */
	assert_true(recv(fd, answer, 4, 0) <= 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello), cmocka_unit_test(test_url), cmocka_unit_test(test_unix),
		cmocka_unit_test(test_tls), cmocka_unit_test(test_bad_bodies), cmocka_unit_test(test_upload),
		cmocka_unit_test(test_websocket), cmocka_unit_test(test_bulk),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("http", tests, group_setup, group_teardown);
}

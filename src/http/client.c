#include "http/client.h"

#include <curl/curl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/parse.h"
#include "http/pin.h"

#define ANSWER_MAX (64u << 20)

struct http_client {
	CURL *curl;
	char *base; /* "https://host:port" or "http://unix.socket" */
	char *unix_path, *cert_file, *key_file, *pin;
	int timeout_s;
	char *server_cert;
	bool (*stop)(void *arg);
	void *stop_arg;
};

int http_url_parse(const char *url, char **ret_host, uint16_t *ret_port, const char **ret_path, struct err *e)
{
	const char *p = url, *end, *host_end;
	auto_free char *host = NULL;
	uint64_t port = 8443;

	if (str_starts(p, "https://"))
		p += 8;
	else if (strstr(p, "://"))
		return err_set(e, -EINVAL, "\"%s\" is not an https address", url);
	end = p + strcspn(p, "/?");
	if (*p == '[') {
		host_end = memchr(p, ']', (size_t)(end - p));
		if (!host_end)
			return err_set(e, -EINVAL, "\"%s\": a \"]\" is missing", url);
		host = strndup(p + 1, (size_t)(host_end - p - 1));
		host_end++;
	} else {
		host_end = p + strcspn(p, ":/?");
		host = strndup(p, (size_t)(host_end - p));
	}
	if (!host)
		return err_set(e, -ENOMEM, "out of memory");
	if (!*host)
		return err_set(e, -EINVAL, "\"%s\" names no host", url);
	if (*host_end == ':') {
		p = host_end + 1;
		if (parse_u64_at(&p, 10, &port) < 0 || p != end || !port || port > 65535)
			return err_set(e, -EINVAL, "\"%s\" has no valid port", url);
	} else if (host_end != end) {
		return err_set(e, -EINVAL, "\"%s\" is not an address", url);
	}
	*ret_host = ptr_take(host);
	*ret_port = (uint16_t)port;
	*ret_path = end;
	return 0;
}

static int dup_to(char **to, const char *s)
{
	*to = s ? strdup(s) : NULL;
	return s && !*to ? -ENOMEM : 0;
}

int http_client_new(const struct http_endpoint *ep, struct http_client **ret, struct err *e)
{
	struct http_client *c = calloc(1, sizeof(*c));
	bool v6 = ep->host && strchr(ep->host, ':');
	int n;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	n = ep->unix_path ? asprintf(&c->base, "http://unix.socket") :
			    asprintf(&c->base, "https://%s%s%s:%u", v6 ? "[" : "", ep->host, v6 ? "]" : "",
				     ep->port);
	if (n < 0)
		c->base = NULL;
	c->curl = curl_easy_init();
	c->timeout_s = ep->timeout_s > 0 ? ep->timeout_s : 10;
	if (!c->base || !c->curl || dup_to(&c->unix_path, ep->unix_path) < 0 ||
	    dup_to(&c->cert_file, ep->cert_file) < 0 || dup_to(&c->key_file, ep->key_file) < 0 ||
	    dup_to(&c->pin, ep->pin_pem) < 0) {
		http_client_free(c);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = c;
	return 0;
}

struct http_client *http_client_free(struct http_client *c)
{
	if (!c)
		return NULL;
	curl_easy_cleanup(c->curl);
	free(c->base);
	free(c->unix_path);
	free(c->cert_file);
	free(c->key_file);
	free(c->pin);
	free(c->server_cert);
	free(c);
	return NULL;
}

void http_client_stop_when(struct http_client *c, bool (*stop)(void *arg), void *arg)
{
	c->stop = stop;
	c->stop_arg = arg;
}

const char *http_client_server_cert(const struct http_client *c)
{
	return c->server_cert;
}

static CURLcode on_ssl_ctx(CURL *curl, void *ctx, void *arg)
{
	struct http_client *c = arg;

	(void)curl;
	return pin_install(ctx, c->pin, &c->server_cert) < 0 ? CURLE_SSL_CERTPROBLEM : CURLE_OK;
}

struct answer {
	struct buf text;
	int fd; /* -1: into text; else a good answer's bytes go there */
	CURL *curl;
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;
	long status = 0;

	n *= size;
	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (a->fd >= 0 && status == 200) {
		size_t done = 0;

		while (done < n) {
			ssize_t w = write(a->fd, data + done, n - done);

			if (w <= 0)
				return 0;
			done += (size_t)w;
		}
		return n;
	}
	if (a->text.len + n > ANSWER_MAX || buf_add(&a->text, data, n) < 0)
		return 0;
	return n;
}

static int errno_of_curl(CURLcode rc)
{
	switch (rc) {
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
		return -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
		return -EACCES;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	default:
		return -EIO;
	}
}

static int errno_of_http(long status)
{
	switch (status) {
	case 400:
	case 413:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	case 412:
		return -ESTALE;
	default:
		return -EIO;
	}
}

static int on_tick(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	struct http_client *c = arg;

	return c->stop(c->stop_arg);
}

static void common_options(struct http_client *c, const char *method, const char *url, struct answer *a,
			   char *errbuf)
{
	CURL *h = c->curl;

	curl_easy_reset(h);
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, (long)c->timeout_s);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, errbuf);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "godwit");
	if (c->stop) {
		curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_tick);
		curl_easy_setopt(h, CURLOPT_XFERINFODATA, c);
	}
	/* A peer that vanished is noticed in half a minute, also while it computes an answer. */
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPIDLE, 10L);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPINTVL, 5L);
	if (c->unix_path) {
		curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->unix_path);
		return;
	}
	/* Who the server is, is decided by pin_install alone: names and authorities say nothing here. */
	curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 0L);
	curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
	curl_easy_setopt(h, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
	curl_easy_setopt(h, CURLOPT_SSL_CTX_DATA, c);
	if (c->cert_file) {
		curl_easy_setopt(h, CURLOPT_SSLCERT, c->cert_file);
		curl_easy_setopt(h, CURLOPT_SSLKEY, c->key_file);
	}
}

/* Judges what came back: the envelope, or the sentence of its error. */
static int envelope_of(struct http_client *c, struct answer *a, long status, json_t **ret, struct err *e)
{
	json_t *env = json_loads(a->text.data ? a->text.data : "", 0, NULL);
	const char *type = json_string_value(json_object_get(env, "type")), *text;
	int r;

	if (!json_is_object(env) || !type) {
		json_decref(env);
		return err_set(e, status >= 400 ? errno_of_http(status) : -EPROTO,
			       "%s answered with HTTP %ld and something that is not of this API",
			       c->unix_path ? c->unix_path : c->base, status);
	}
	if (strcmp(type, "error") == 0 || status >= 400) {
		text = json_string_value(json_object_get(env, "error"));
		r = err_set(e, errno_of_http(status), "%s", text && *text ? text : "the server gave no reason");
		json_decref(env);
		return r;
	}
	*ret = env;
	return 0;
}

static int perform(struct http_client *c, struct answer *a, const char *errbuf, long *ret_status, struct err *e)
{
	CURLcode rc = curl_easy_perform(c->curl);

	if (rc == CURLE_ABORTED_BY_CALLBACK)
		return err_set(e, -ECANCELED, "interrupted");
	if (rc != CURLE_OK)
		return err_set(e, errno_of_curl(rc), "cannot talk to %s: %s", c->unix_path ? c->unix_path : c->base,
			       *errbuf ? errbuf : curl_easy_strerror(rc));
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, ret_status);
	return 0;
}

int http_request_json(struct http_client *c, const char *method, const char *path, const json_t *body,
		      json_t **ret, struct err *e)
{
	auto_free char *url = NULL, *text = NULL;
	struct curl_slist *headers = NULL;
	struct answer a = { .fd = -1, .curl = c->curl };
	char errbuf[CURL_ERROR_SIZE] = "";
	long status = 0;
	int r;

	if (asprintf(&url, "%s%s", c->base, path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	common_options(c, method, url, &a, errbuf);
	if (body) {
		text = json_dumps(body, JSON_COMPACT);
		if (!text)
			return err_set(e, -ENOMEM, "out of memory");
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
		headers = curl_slist_append(headers, "Content-Type: application/json");
	} else if (strcmp(method, "GET") != 0) {
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, "");
		headers = curl_slist_append(headers, "Content-Type:");
	}
	headers = curl_slist_append(headers, "Expect:");
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	r = perform(c, &a, errbuf, &status, e);
	if (r >= 0)
		r = envelope_of(c, &a, status, ret, e);
	curl_slist_free_all(headers);
	buf_done(&a.text);
	return r;
}

int http_metadata(struct http_client *c, const char *method, const char *path, const json_t *body,
		  json_t **ret, struct err *e)
{
	json_t *env;
	int r = http_request_json(c, method, path, body, &env, e);

	if (r < 0)
		return r;
	*ret = json_incref(json_object_get(env, "metadata"));
	json_decref(env);
	if (!*ret)
		return err_set(e, -EPROTO, "the server's answer has no \"metadata\"");
	return 0;
}

struct transfer {
	http_progress fn;
	void *arg;
	bool up;
	int fd;
};

static int on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	struct transfer *t = arg;

	if (!t->fn)
		return 0;
	return t->fn((uint64_t)(t->up ? ulnow : dlnow), (uint64_t)(t->up ? ultotal : dltotal), t->arg);
}

static size_t on_read(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	ssize_t got = read(t->fd, data, size * n);

	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static void progress_options(struct http_client *c, struct transfer *t)
{
	curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, t);
}

int http_upload(struct http_client *c, const char *method, const char *path, int fd, const char *const *headers,
		http_progress progress, void *arg, json_t **ret, struct err *e)
{
	struct transfer t = { progress, arg, true, fd };
	struct curl_slist *list = NULL;
	struct answer a = { .fd = -1, .curl = c->curl };
	auto_free char *url = NULL;
	char errbuf[CURL_ERROR_SIZE] = "";
	struct stat st;
	long status = 0;
	int r;

	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, -errno, "cannot read what is to be sent");
	if (asprintf(&url, "%s%s", c->base, path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	common_options(c, method, url, &a, errbuf);
	curl_easy_setopt(c->curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c->curl, CURLOPT_READDATA, &t);
	curl_easy_setopt(c->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
	progress_options(c, &t);
	list = curl_slist_append(list, "Content-Type: application/octet-stream");
	list = curl_slist_append(list, "Expect:");
	for (; headers && *headers; headers++)
		list = curl_slist_append(list, *headers);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
	r = perform(c, &a, errbuf, &status, e);
	if (r >= 0)
		r = envelope_of(c, &a, status, ret, e);
	curl_slist_free_all(list);
	buf_done(&a.text);
	return r;
}

int http_download(struct http_client *c, const char *path, int fd, http_progress progress, void *arg,
		  struct err *e)
{
	struct transfer t = { progress, arg, false, fd };
	struct answer a = { .fd = fd, .curl = c->curl };
	auto_free char *url = NULL;
	char errbuf[CURL_ERROR_SIZE] = "";
	json_t *env = NULL;
	long status = 0;
	int r;

	if (asprintf(&url, "%s%s", c->base, path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	common_options(c, "GET", url, &a, errbuf);
	progress_options(c, &t);
	r = perform(c, &a, errbuf, &status, e);
	if (r >= 0 && status != 200) {
		r = envelope_of(c, &a, status, &env, e);
		json_decref(env);
		if (r >= 0)
			r = err_set(e, -EPROTO, "the server answered with HTTP %ld", status);
	}
	buf_done(&a.text);
	return r;
}

int http_operation_wait(struct http_client *c, const char *path, int timeout_s, json_t **ret, struct err *e)
{
	size_t plain = strcspn(path, "?");
	auto_free char *url = NULL;
	const char *text;
	json_t *op;
	int r, code;

	if (asprintf(&url, "%.*s/wait?timeout=%d%s%s", (int)plain, path, timeout_s, path[plain] ? "&" : "",
		     path[plain] ? path + plain + 1 : "") < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = http_metadata(c, "GET", url, NULL, &op, e);
	if (r < 0)
		return r;
	code = (int)json_integer_value(json_object_get(op, "status_code"));
	text = json_string_value(json_object_get(op, "err"));
	if (code == 200)
		*ret = json_incref(op);
	else if (code < 200)
		r = err_set(e, -ETIMEDOUT, "the operation has not ended after %d s", timeout_s);
	else
		r = err_set(e, code == 401 ? -ECANCELED : -EIO, "%s",
			    text && *text ? text : "the operation failed without a reason");
	json_decref(op);
	return r;
}

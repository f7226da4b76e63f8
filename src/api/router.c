/* From a request to its handler: who asks, what for, and with which body. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/core.h"
#include "api/image.h"
#include "base/log.h"
#include "base/parse.h"

static const struct route *const tables[] = {
	routes_server, routes_certificate, routes_image, routes_instance, routes_profile, routes_network, routes_pool,
	routes_operation,
};

static void call_free(void *arg)
{
	struct call *c = arg;

	for (size_t i = 0; i < PATH_ARGS; i++)
		free(c->arg[i]);
	free(c);
}

/* Compares segment by segment, storing what "*" and "**" stand for. */
static bool pattern_match(const char *pattern, const char *path, char *args[PATH_ARGS])
{
	size_t n = 0;

	for (;;) {
		size_t a = strcspn(pattern, "/"), b = strcspn(path, "/");

		if (a == 2 && pattern[0] == '*' && pattern[1] == '*') {
			if (!*path || n == PATH_ARGS)
				return false;
			args[n] = strdup(path);
			return args[n] != NULL;
		}
		if (a == 1 && *pattern == '*') {
			if (!b || n == PATH_ARGS)
				return false;
			args[n] = strndup(path, b);
			if (!args[n++])
				return false;
		} else if (a != b || memcmp(pattern, path, a) != 0) {
			return false;
		}
		pattern += a;
		path += b;
		if (!*pattern || !*path)
			return *pattern == *path;
		pattern++;
		path++;
	}
}

static void args_clear(struct call *c)
{
	for (size_t i = 0; i < PATH_ARGS; i++) {
		free(c->arg[i]);
		c->arg[i] = NULL;
	}
}

/* NULL: none; *ret_other: the path exists, with another method. */
static const struct route *route_find(struct call *c, const char *method, const char *path, bool *ret_other)
{
	*ret_other = false;
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t t = 0; t < array_len(tables); t++) {
		for (const struct route *r = tables[t]; r->method; r++) {
			if (!pattern_match(r->pattern, path, c->arg)) {
				args_clear(c);
				continue;
			}
			if (strcmp(r->method, method) == 0)
				return r;
			*ret_other = true;
			args_clear(c);
		}
	}
	return NULL;
}

static bool peer_trusted(struct api *a, const struct http_peer *p)
{
	auto_json *row = NULL;

	if (!p)
		return false;
	if (p->local)
		return true;
	return *p->fingerprint && db_cert_get(a->db, p->fingerprint, &row, NULL) == 0;
}

/* Old clients speak of containers; a final "/" means nothing. */
static char *path_clean(const char *path)
{
	char *clean = NULL;
	size_t n = strlen(path);
	int r;

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (str_starts(path, "/1.0/containers") && (path[15] == '/' || path[15] == '\0'))
		r = asprintf(&clean, "/1.0/instances%.*s", (int)(n - 15), path + 15);
	else
		r = asprintf(&clean, "%.*s", (int)n, path);
	return r < 0 ? NULL : clean;
}

#define UNTRUSTED_MAX 65536u

/* Judged at the head: what the untrusted may not do is refused before their body costs anything. */
static bool refuse_untrusted(struct api *a, struct http_request *q, const char *path)
{
	struct call c = { .a = a, .q = q };
	const struct route *r;
	bool other, refuse;

	if (peer_trusted(a, http_request_peer(q)))
		return false;
	r = route_find(&c, http_request_method(q), path, &other);
	refuse = !r || r->access == ACCESS_TRUSTED;
	args_clear(&c);
	if (refuse)
		reply_error(q, 403, "not authorized");
	else
		http_request_limit(q, UNTRUSTED_MAX);
	return refuse;
}

static enum http_body on_begin(struct http_request *q, void *arg)
{
	struct api *a = arg;
	auto_free char *path = path_clean(http_request_path(q));
	const char *method = http_request_method(q), *type = http_request_header(q, "Content-Type");

	if (!path || refuse_untrusted(a, q, path))
		return HTTP_BODY_JSON;
	if (strcmp(method, "POST") == 0 && strcmp(path, "/1.0/images") == 0 &&
	    !(type && strncasecmp(type, "application/json", 16) == 0)) {
		image_upload_begin(a, q);
		return HTTP_BODY_FILES;
	}
	return HTTP_BODY_JSON;
}

static void on_handle(struct http_request *q, void *arg)
{
	struct api *a = arg;
	struct call *c = calloc(1, sizeof(*c));
	auto_free char *path = path_clean(http_request_path(q));
	const struct http_peer *p = http_request_peer(q);
	const struct route *r;
	bool other;

	if (!c || !path) {
		free(c);
		reply_error(q, 500, "out of memory");
		return;
	}
	http_request_set_data(q, c, call_free);
	c->a = a;
	c->q = q;
	c->body = http_request_body(q);
	c->trusted = peer_trusted(a, p);
	r = route_find(c, http_request_method(q), path, &other);
	log_debug("%s %s %s", p ? p->address : "?", http_request_method(q), path);
	if (!c->trusted && (!r || r->access == ACCESS_TRUSTED))
		reply_error(q, 403, "not authorized");
	else if (!r && other)
		reply_error(q, 405, "%s is not possible for %s", http_request_method(q), path);
	else if (!r)
		reply_error(q, 404, "there is no \"%s\" in this API", path);
	else
		r->fn(c);
}

/* daemon/bulk.c sets it; the API only carries it to the server. */
const struct http_handler api_http_handler = { .begin = on_begin, .handle = on_handle };

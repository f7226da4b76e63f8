#include "cli/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/interrupt.h"

struct remote {
	char *name, *addr, *host, *pem, *cert, *key;
	struct http_endpoint ep;
	struct http_client *http;
	int interrupts; /* as many had come when the request began */
	bool first_counts;
};

/* What only looks is ended by any ^C.  What changes something is not: whether it was begun would not be known.
 * But the second ^C ends everything. */
static bool stop(void *arg)
{
	const struct remote *r = arg;
	int n = interrupt_count();

	return n > r->interrupts && (r->first_counts || n > 1);
}

static int fill_endpoint(struct remote *r, struct conf *c, struct err *e)
{
	const char *path;
	int n;

	if (str_starts(r->addr, "unix:")) {
		r->ep.unix_path = r->addr + 5;
		return 0;
	}
	n = http_url_parse(r->addr, &r->host, &r->ep.port, &path, e);
	if (n >= 0)
		n = conf_client_cert(c, &r->cert, &r->key, e);
	if (n >= 0)
		n = conf_remote_cert(c, r->name, &r->pem, e);
	r->ep.host = r->host;
	r->ep.cert_file = r->cert;
	r->ep.key_file = r->key;
	r->ep.pin_pem = r->pem;
	return n;
}

int remote_open(struct conf *c, const char *name, struct remote **ret, struct err *e)
{
	const char *addr = conf_remote_addr(c, name);
	struct remote *r;
	int n;

	if (!addr)
		return err_set(e, -ENOENT, "there is no remote '%s'; `godwit remote list` shows them", name);
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_sys(e, -ENOMEM, "cannot connect to %s", name);
	r->name = strdup(name);
	r->addr = strdup(addr);
	n = r->name && r->addr ? fill_endpoint(r, c, e) : err_sys(e, -ENOMEM, "cannot connect to %s", name);
	if (n >= 0)
		n = http_client_new(&r->ep, &r->http, e);
	if (n < 0) {
		remote_free(r);
		return n;
	}
	http_client_stop_when(r->http, stop, r);
	*ret = r;
	return 0;
}

struct remote *remote_free(struct remote *r)
{
	if (!r)
		return NULL;
	http_client_free(r->http);
	free(r->name);
	free(r->addr);
	free(r->host);
	free(r->pem);
	free(r->cert);
	free(r->key);
	free(r);
	return NULL;
}

const char *remote_name(const struct remote *r)
{
	return r->name;
}

const char *remote_addr(const struct remote *r)
{
	return r->addr;
}

struct http_client *remote_http(struct remote *r)
{
	return r->http;
}

const struct http_endpoint *remote_endpoint(const struct remote *r)
{
	return &r->ep;
}

/* Why nobody answers at the local socket; 0: somebody does. */
static int socket_errno(const char *path)
{
	auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (fd < 0 || strlen(path) >= sizeof(sa.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
}

/* The library knows only that it did not work. */
static int explain_local(const struct remote *r, int code, struct err *e)
{
	const char *path = r->ep.unix_path;

	switch (socket_errno(path)) {
	case -EACCES:
	case -EPERM:
		return err_set(e, -EACCES, "only root and the group `godwit` may talk to this machine's godwitd (%s): try it with "
			       "sudo, or say which other host is meant (`godwit remote list` shows those you know)", path);
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		return err_set(e, -ECONNREFUSED, "no godwitd runs on this machine (nobody answers at %s): start it with `systemctl "
			       "start godwitd`, or, without systemd, by /usr/libexec/godwit/godwitd as root; another host is named "
			       "by REMOTE: (`godwit remote list` shows those you know)", path);
	case -ENAMETOOLONG:
		return err_set(e, -ENAMETOOLONG, "the path %s is too long for a socket: shorten GODWIT_SOCKET or GODWIT_DIR", path);
	default:
		return code;
	}
}

int remote_unreached(int code, struct err *e)
{
	auto_free char *text = NULL;

	if (code != -ECONNREFUSED && code != -ETIMEDOUT)
		return code;
	text = strdup(err_text(e));
	return err_set(e, code, "%s. Is the host up, and does its godwitd listen there (`godwit config get core.https_address` on "
		       "it)?", text ? text : "nobody answers");
}

int remote_explain(const struct remote *r, int code, struct err *e)
{
	if (!r->ep.unix_path)
		return remote_unreached(code, e);
	return code == -ECONNREFUSED ? explain_local(r, code, e) : code;
}

/* The sentence of a server that is not this machine begins with its name. */
static int with_name(const struct remote *r, int code, struct err *e)
{
	return strcmp(r->name, "local") == 0 ? code : err_context(e, code, "%s", r->name);
}

static int call(struct remote *r, const char *method, json_t *body, const char *path, json_t **ret, struct err *e)
{
	auto_json *taken = body;
	int n;

	r->interrupts = interrupt_count();
	r->first_counts = strcmp(method, "GET") == 0;
	n = http_request_json(r->http, method, path, taken, ret, e);
	return n < 0 ? with_name(r, remote_explain(r, n, e), e) : n;
}

int remote_look(struct remote *r, const char *id, int timeout_s, json_t **ret_op, struct err *e)
{
	auto_free char *path = NULL;
	auto_json *reply = NULL;
	int n;

	if (asprintf(&path, "/1.0/operations/%s/wait?timeout=%d", id, timeout_s) < 0)
		return err_sys(e, -ENOMEM, "cannot wait");
	n = call(r, "GET", NULL, path, &reply, e);
	if (n < 0)
		return n;
	if (!json_is_object(json_object_get(reply, "metadata")))
		return err_set(e, -EPROTO, "%s does not say what became of the operation", r->addr);
	*ret_op = json_incref(json_object_get(reply, "metadata"));
	return 0;
}

int remote_cancel(struct remote *r, const char *id, struct err *e)
{
	auto_free char *path = NULL;
	auto_json *reply = NULL;

	if (asprintf(&path, "/1.0/operations/%s", id) < 0)
		return err_sys(e, -ENOMEM, "cannot cancel");
	return call(r, "DELETE", NULL, path, &reply, e);
}

/* ^C during a wait: -ECANCELED when it is no longer waited. */
static int on_interrupt(struct remote *r, const char *id, int *asked, struct err *e)
{
	struct err why = { 0 };

	if (interrupt_count() == *asked)
		return 0;
	progress_clear();
	if (*asked)
		return err_set(e, -ECANCELED, "no longer waited for; on %s it goes on without us (operation %s)", r->name, id);
	*asked = interrupt_count();
	fprintf(stderr, "Cancelling; ^C again leaves it alone.\n");
	if (remote_cancel(r, id, &why) < 0 && interrupt_count() == *asked)
		fprintf(stderr, "%s; waiting for its end.\n", why.text);
	return 0;
}

int remote_wait(struct remote *r, const char *id, json_t **ret_op, struct err *e)
{
	int asked = 0;

	interrupt_watch();
	for (;;) {
		auto_json *op = NULL;
		const char *note;
		int64_t status;
		int n = on_interrupt(r, id, &asked, e);

		if (n < 0)
			return n;
		n = remote_look(r, id, 1, &op, e);
		if (n == -ECANCELED && interrupt_count() > asked)
			continue;
		if (n < 0) {
			progress_clear();
			return n;
		}
		status = json_int(op, "status_code", 0);
		if (status < 200) {
			progress_show(json_object_get(op, "metadata"));
			continue;
		}
		progress_clear();
		if (status != 200) {
			const char *text = json_str(op, "err");

			return with_name(r, err_set(e, status == 401 ? -ECANCELED : -EIO, "%s",
						    *text ? text : "the operation failed"), e);
		}
		note = json_str(json_object_get(op, "metadata"), "note");
		if (*note)
			fprintf(stderr, "Note: %s\n", note);
		if (ret_op)
			*ret_op = json_incref(op);
		return 0;
	}
}

static int vstart(struct remote *r, const char *method, json_t *body, const char *fmt, va_list ap,
		  json_t **ret_reply, struct err *e)
{
	auto_free char *path = NULL;

	if (vasprintf(&path, fmt, ap) < 0) {
		json_decref(body);
		return err_sys(e, -ENOMEM, "cannot talk to %s", r->name);
	}
	if (interrupt_count() && (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0)) {
		json_decref(body);
		return err_set(e, -ECANCELED, "interrupted");
	}
	return call(r, method, body, path, ret_reply, e);
}

int remote_call(struct remote *r, const char *method, json_t *body_taken, json_t **ret, struct err *e,
		const char *path, ...)
{
	auto_json *reply = NULL, *op = NULL;
	json_t *metadata;
	va_list ap;
	int n;

	va_start(ap, path);
	n = vstart(r, method, body_taken, path, ap, &reply, e);
	va_end(ap);
	if (n < 0)
		return n;
	metadata = json_object_get(reply, "metadata");
	if (str_eq(json_str(reply, "type"), "async")) {
		n = remote_wait(r, json_str(metadata, "id"), &op, e);
		if (n < 0)
			return n;
		metadata = json_object_get(op, "metadata");
	}
	if (ret)
		*ret = metadata ? json_incref(metadata) : json_null();
	return 0;
}

int remote_start(struct remote *r, const char *method, json_t *body_taken, json_t **ret_op, struct err *e,
		 const char *path, ...)
{
	auto_json *reply = NULL;
	va_list ap;
	int n;

	va_start(ap, path);
	n = vstart(r, method, body_taken, path, ap, &reply, e);
	va_end(ap);
	if (n < 0)
		return n;
	if (!*json_str(json_object_get(reply, "metadata"), "id"))
		return err_set(e, -EPROTO, "%s: the server has started no operation", r->name);
	*ret_op = json_incref(json_object_get(reply, "metadata"));
	return 0;
}

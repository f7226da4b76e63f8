/* One request: head, body (in memory or to files), and its one answer, now or later. */
#include "http/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define FILES_MAX 2

struct body_file {
	char *part, *filename, *path;
	int fd;
};

struct http_request {
	struct http_server *s;
	struct MHD_Connection *c;
	struct http_request *next, **prev;
	char *method, *path;
	enum http_body kind;
	bool in_callback, body_done, suspended, queued;
	struct MHD_Response *pending; /* the answer, not yet given to MHD */
	unsigned pending_status;
	struct buf text;
	size_t text_max;
	json_t *json;
	/* HTTP_BODY_FILES */
	char *folder;
	uint64_t max_bytes, bytes;
	struct MHD_PostProcessor *pp;
	struct body_file files[FILES_MAX];
	size_t n_files;
	int body_error; /* an HTTP status that the body has earned */
	const char *body_text;
	struct ws_ticket *ticket;
	void *data;
	void (*data_free)(void *);
};

/* All requests of all servers: needed only to wake them at the end. */
static struct http_request *requests;

const char *http_request_method(const struct http_request *q)
{
	return q->method;
}

const char *http_request_path(const struct http_request *q)
{
	return q->path;
}

const char *http_request_query(struct http_request *q, const char *key)
{
	return MHD_lookup_connection_value(q->c, MHD_GET_ARGUMENT_KIND, key);
}

const char *http_request_header(struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->c, MHD_HEADER_KIND, name);
}

const struct http_peer *http_request_peer(const struct http_request *q)
{
	return server_peer_of(q->c);
}

const json_t *http_request_body(const struct http_request *q)
{
	return q->json;
}

void http_request_set_data(struct http_request *q, void *data, void (*fn)(void *))
{
	q->data = data;
	q->data_free = fn;
}

void *http_request_data(const struct http_request *q)
{
	return q->data;
}

bool http_request_answered(const struct http_request *q)
{
	return q->pending || q->queued;
}

/* ---- answers ---- */

static enum MHD_Result queue_pending(struct http_request *q)
{
	enum MHD_Result ok = MHD_queue_response(q->c, q->pending_status, q->pending);

	MHD_destroy_response(q->pending);
	q->pending = NULL;
	q->queued = true;
	return ok;
}

static void answer(struct http_request *q, unsigned status, struct MHD_Response *r)
{
	if (http_request_answered(q)) {
		log_error("a request (%s %s) was answered twice", q->method, q->path);
		MHD_destroy_response(r);
		return;
	}
	q->pending = r;
	q->pending_status = status;
	if (q->suspended) {
		q->suspended = false;
		MHD_resume_connection(q->c);
		server_kick(q->s);
	}
}

static void headers_add(struct MHD_Response *r, const char *const *headers)
{
	for (; headers && headers[0]; headers += 2)
		MHD_add_response_header(r, headers[0], headers[1]);
}

void http_respond_json(struct http_request *q, unsigned status, json_t *body, const char *const *headers)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct MHD_Response *r;

	json_decref(body);
	if (!text) {
		text = strdup("{\"type\":\"error\",\"error_code\":500,\"error\":\"out of memory\"}");
		status = 500;
	}
	r = text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
	if (!r) {
		free(text);
		r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	}
	if (!r)
		return;
	MHD_add_response_header(r, "Content-Type", "application/json");
	headers_add(r, headers);
	answer(q, status, r);
}

void http_respond_fd(struct http_request *q, unsigned status, int fd, const char *const *headers)
{
	struct MHD_Response *r;
	struct stat st;

	r = fstat(fd, &st) == 0 ? MHD_create_response_from_fd64((uint64_t)st.st_size, fd) : NULL;
	if (!r) {
		fd_close(&fd);
		http_respond_json(q, 500, NULL, NULL);
		return;
	}
	MHD_add_response_header(r, "Content-Type", "application/octet-stream");
	headers_add(r, headers);
	answer(q, status, r);
}

int http_respond_websocket(struct http_request *q, const struct ws_events *events, void *arg)
{
	struct MHD_Response *r = ws_response(q, events, arg, q->s, &q->ticket);

	if (!r)
		return -EINVAL;
	answer(q, MHD_HTTP_SWITCHING_PROTOCOLS, r);
	return 0;
}

static void answer_error(struct http_request *q, unsigned status, const char *text)
{
	http_respond_json(q, status,
			  json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:n}", "type", "error", "status", "",
				    "status_code", 0, "operation", "", "error_code", (int)status, "error", text,
				    "metadata"), NULL);
}

/* ---- bodies ---- */

static struct body_file *file_new(struct http_request *q, const char *part, const char *filename)
{
	struct body_file *f;

	if (q->n_files == FILES_MAX)
		return NULL;
	f = &q->files[q->n_files];
	*f = (struct body_file){ .fd = -1 };
	f->part = strdup(part);
	f->filename = strdup(filename ? filename : "");
	if (asprintf(&f->path, "%s/upload-XXXXXX", q->folder) < 0)
		f->path = NULL;
	if (f->part && f->filename && f->path)
		f->fd = mkostemp(f->path, O_CLOEXEC);
	q->n_files++;
	if (f->fd < 0 && f->path)
		f->path[0] = '\0';
	return f->fd < 0 ? NULL : f;
}

static void body_fail(struct http_request *q, int status, const char *text)
{
	if (!q->body_error) {
		q->body_error = status;
		q->body_text = text;
	}
}

static void file_write(struct http_request *q, struct body_file *f, const char *data, size_t len)
{
	int r;

	q->bytes += len;
	if (q->bytes > q->max_bytes) {
		body_fail(q, 413, "the body is larger than what is accepted");
		return;
	}
	if (!f) {
		body_fail(q, 400, "the body has more parts than are accepted, or they cannot be stored");
		return;
	}
	r = fd_write_full(f->fd, data, len);
	if (r < 0)
		body_fail(q, 507, r == -ENOSPC ? "no space is left on the storage of this host" :
						 "the body cannot be stored on this host");
}

static enum MHD_Result on_part(void *arg, enum MHD_ValueKind kind, const char *key, const char *filename,
			       const char *type, const char *encoding, const char *data, uint64_t off, size_t size)
{
	struct http_request *q = arg;
	struct body_file *f = q->n_files ? &q->files[q->n_files - 1] : NULL;

	if (off == 0 || !f)
		f = file_new(q, key ? key : "", filename);
	file_write(q, f, data, size);
	return q->body_error ? MHD_NO : MHD_YES;
}

int http_request_files_to(struct http_request *q, const char *folder, uint64_t max_bytes)
{
	const char *type = http_request_header(q, "Content-Type");

	q->folder = strdup(folder);
	q->max_bytes = max_bytes;
	if (!q->folder)
		return -ENOMEM;
	if (type && strncasecmp(type, "multipart/form-data", 19) == 0) {
		q->pp = MHD_create_post_processor(q->c, 65536, on_part, q);
		return q->pp ? 0 : -EINVAL;
	}
	return file_new(q, "", NULL) ? 0 : -EIO;
}

void http_request_limit(struct http_request *q, size_t max_bytes)
{
	q->text_max = max_bytes;
}

char *http_request_take_file(struct http_request *q, const char *part, char **ret_filename)
{
	for (size_t i = 0; i < q->n_files; i++) {
		struct body_file *f = &q->files[i];

		if (!f->part || strcmp(f->part, part) != 0 || !f->path || !*f->path)
			continue;
		if (ret_filename) {
			*ret_filename = ptr_take(f->filename);
		}
		return ptr_take(f->path);
	}
	return NULL;
}

static void body_part(struct http_request *q, const char *data, size_t len)
{
	if (http_request_answered(q) || q->body_error)
		return;
	if (q->kind == HTTP_BODY_FILES) {
		if (q->pp && MHD_post_process(q->pp, data, len) != MHD_YES)
			body_fail(q, 400, "the multipart body is malformed");
		else if (!q->pp)
			file_write(q, q->n_files ? &q->files[0] : NULL, data, len);
		return;
	}
	if (q->text.len + len > q->text_max)
		body_fail(q, 413, "the body is larger than what is accepted");
	else if (buf_add(&q->text, data, len) < 0)
		body_fail(q, 500, "out of memory");
}

static void body_end(struct http_request *q)
{
	json_error_t je;
	char text[256];

	q->body_done = true;
	if (q->pp) {
		MHD_destroy_post_processor(q->pp);
		q->pp = NULL;
	}
	for (size_t i = 0; i < q->n_files; i++)
		fd_close(&q->files[i].fd);
	if (http_request_answered(q))
		return;
	if (q->body_error) {
		answer_error(q, (unsigned)q->body_error, q->body_text);
		return;
	}
	if (q->kind == HTTP_BODY_JSON && q->text.len) {
		q->json = json_loadb(q->text.data, q->text.len, JSON_REJECT_DUPLICATES, &je);
		if (!json_is_object(q->json)) {
			if (q->json)
				snprintf(text, sizeof(text), "the body is not a JSON object");
			else
				snprintf(text, sizeof(text), "the body is not JSON: %s (line %d)", je.text, je.line);
			answer_error(q, 400, text);
			return;
		}
		buf_done(&q->text);
	}
	q->s->h.handle(q, q->s->arg);
}

/* ---- MHD's callbacks ---- */

static struct http_request *request_new(struct http_server *s, struct MHD_Connection *c, const char *url,
					const char *method)
{
	struct http_request *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->s = s;
	q->c = c;
	q->text_max = HTTP_JSON_MAX;
	q->method = strdup(method);
	q->path = strdup(url);
	q->next = requests;
	q->prev = &requests;
	if (requests)
		requests->prev = &q->next;
	requests = q;
	return q;
}

static void request_free(struct http_request *q)
{
	*q->prev = q->next;
	if (q->next)
		q->next->prev = q->prev;
	if (q->pp)
		MHD_destroy_post_processor(q->pp);
	for (size_t i = 0; i < q->n_files; i++) {
		struct body_file *f = &q->files[i];

		fd_close(&f->fd);
		if (f->path && *f->path)
			unlink(f->path);
		free(f->path);
		free(f->part);
		free(f->filename);
	}
	if (q->pending)
		MHD_destroy_response(q->pending);
	if (q->data_free)
		q->data_free(q->data);
	ws_ticket_done(q->ticket);
	json_decref(q->json);
	buf_done(&q->text);
	free(q->folder);
	free(q->method);
	free(q->path);
	free(q);
}

enum MHD_Result request_on_access(void *arg, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *data, size_t *len, void **con_cls)
{
	struct http_server *s = arg;
	struct http_request *q = *con_cls;

	if (!q) {
		q = request_new(s, c, url, method);
		*con_cls = q;
		if (!q || !q->method || !q->path)
			return MHD_NO;
		q->kind = s->h.begin(q, s->arg);
		/* Refused before the body: MHD sends the answer and closes. */
		return q->pending ? queue_pending(q) : MHD_YES;
	}
	if (q->queued) {
		*len = 0;
		return MHD_YES;
	}
	if (*len) {
		body_part(q, data, *len);
		*len = 0;
		return MHD_YES;
	}
	if (!q->body_done)
		body_end(q);
	if (q->pending)
		return queue_pending(q);
	if (!q->queued) {
		q->suspended = true;
		MHD_suspend_connection(c);
	}
	return MHD_YES;
}

void request_on_completed(void *arg, struct MHD_Connection *c, void **con_cls,
			  enum MHD_RequestTerminationCode toe)
{
	if (*con_cls)
		request_free(*con_cls);
	*con_cls = NULL;
}

void request_end_all(struct http_server *s)
{
	for (struct http_request *q = requests; q; q = q->next)
		if (q->s == s && q->suspended)
			answer_error(q, 503, "the daemon is stopping");
}

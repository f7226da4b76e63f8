/* server_int - what the files of the server share; private to this room. */
#pragma once
#include <microhttpd.h>
#include <openssl/ssl.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "http/server.h"

struct tls_conn;

struct http_server {
	sd_event *ev;
	struct http_handler h;
	void *arg;
	struct MHD_Daemon *mhd;
	sd_event_source *mhd_io, *mhd_timer, *unix_io, *tls_io;
	int unix_fd, tls_fd;
	char *unix_path;
	SSL_CTX *ssl_ctx;
	struct tls_conn *conns; /* list of those that live */
	struct ws *sockets;     /* list */
	bool running;           /* inside MHD_run */
	bool ending;
};

/* Gives MHD a connection: fd and peer (malloc'd) are taken. */
int server_adopt(struct http_server *s, int fd, struct http_peer *peer);
/* Something has changed behind MHD's back (a resume, a new connection): let it run soon. */
void server_kick(struct http_server *s);
struct http_peer *peer_free(struct http_peer *p);

/* tls.c: takes the accepted socket. */
void tls_conn_start(struct http_server *s, int fd, const char *address);
void tls_conn_end_all(struct http_server *s);
int tls_context_new(const char *crt_path, const char *key_path, SSL_CTX **ret, struct err *e);

/* ws.c */
struct ws_ticket;
struct MHD_Response *ws_response(struct http_request *q, const struct ws_events *events, void *arg,
				 struct http_server *s, struct ws_ticket **ret);
void ws_ticket_done(struct ws_ticket *t);
void ws_end_all(struct http_server *s);

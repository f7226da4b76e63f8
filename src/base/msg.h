/* msg - small framed messages between our own processes, with descriptors.
 *
 * One message is one packet of a SOCK_SEQPACKET socketpair: a verb and key=value words, separated by
 * blanks; bytes outside of [0x21..0x7e] and '%' and '=' are written as %XX, so that any value fits.
 * Example: "progress bytes=1048576 stage=pages".  Source of the format: this file.
 * Both ends are ours, but a reader still checks every bound: the other end may be a worker that a
 * hostile stream has taken over. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSG_MAX 131072 /* bytes of one packet */
#define MSG_KEYS_MAX 64

struct msg {
	char *verb;
	size_t n;
	struct {
		char *key, *value;
	} kv[MSG_KEYS_MAX];
	int fds[16]; /* received with it, CLOEXEC, owned by the msg; -1 when taken */
	size_t n_fds;
	char *mem_;
};

/* Building and sending: msg_send(sock, NULL, 0, "progress", "bytes", "42", "stage", "pages", NULL).
 * 0 or -errno (-EPIPE: the other end is gone). */
int msg_send(int sock, const int *fds, size_t n_fds, const char *verb, ...) __attribute__((sentinel));
/* As above with one more pair last whose value is a number. */
int msg_send_u64(int sock, const char *verb, const char *key, uint64_t value);

/* Receives one message into *m (to be given to msg_done).  1: one came, 0: the other end closed,
 * -EAGAIN on a non-blocking socket, -EPROTO: malformed. */
int msg_recv(int sock, struct msg *m);
int msg_parse(const char *data, size_t len, struct msg *m); /* the same without the socket */
void msg_done(struct msg *m);

bool msg_is(const struct msg *m, const char *verb);
const char *msg_get(const struct msg *m, const char *key);           /* NULL: not there */
int msg_get_u64(const struct msg *m, const char *key, uint64_t *ret); /* -ENOENT, -EINVAL */
int msg_take_fd(struct msg *m, size_t i);                            /* -1: none */

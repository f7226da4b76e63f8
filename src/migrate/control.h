/* control - the conversation of the two sides of a migration: one JSON object a line, both ways.
 *
 * Every object has "t".  "beat" says only that the other side lives; it is sent each second by a small
 * process of ours, so that a blocking step does not look like death, and its absence for
 * CONTROL_SILENCE_MS is a failure of the connection (TCP alone would need minutes).  "failed" with
 * "text" tells that the other side has given up. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define CONTROL_SILENCE_MS 3000
#define CONTROL_LINE_MAX (4u << 20)

struct control {
	int fd; /* -1: not there yet; owned */
	struct buf in;
	uint64_t heard_ms; /* CLOCK_MONOTONIC of the last bytes */
	pid_t beater;
	json_t *queue; /* array: lines that nobody has asked for yet */
};

void control_init(struct control *c);
/* Takes fd over and starts the beating. */
int control_open(struct control *c, int fd, struct err *e);
void control_close(struct control *c); /* idempotent */

/* Sends {"t": type} merged with obj (taken; NULL: nothing more). */
int control_send(struct control *c, const char *type, json_t *obj_taken, struct err *e);
/* Reads what is there into the queue.  -EPIPE: the connection ended; -EPROTO: not this protocol. */
int control_fill(struct control *c, struct err *e);
/* The first queued object of this type (caller's), or NULL. */
json_t *control_take(struct control *c, const char *type);
/* -ETIMEDOUT when nothing was heard for too long. */
int control_check_silence(struct control *c, struct err *e);

uint64_t now_ms(void); /* CLOCK_MONOTONIC */
uint64_t now_us(void);

/* offer - what the source says of a container, and what the target has against taking it.
 *
 * offer: {version, name, live, row{architecture, config, devices, profiles, description, ephemeral, power},
 *         idmap_size, privileged, bytes, files, kernel, xcr0, reasons[]}; reasons are the source's own
 *         (what its engine refuses). */
#pragma once
#include <jansson.h>

#include "base/err.h"
#include "migrate/session.h"
#include "runtime/container.h"

#define OFFER_VERSION 1

/* Source; runs `godwit-criu check` where the container runs. */
int offer_make(struct session *s, struct container *c, const json_t *row, json_t **ret, struct err *e);

/* Target: adds a sentence to `reasons` for everything that stands against it.  An error only where the
 * checks themselves could not be made. */
int offer_check(struct session *s, const json_t *offer, const char *name, const char *pool, json_t *reasons,
		struct err *e);

/* All reasons as one text, a line each (malloc'd). */
char *offer_reasons_text(const json_t *reasons);

/* The row the target will have, out of the offer (not the client's words): new. */
json_t *offer_row(const json_t *offer, const char *name, const char *pool);

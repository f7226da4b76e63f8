/* pump - copies both ways between a TLS connection and a local stream socket until both directions
 * have ended.  The end of one direction is passed on (close_notify, SHUT_WR) while the other goes on.
 * 0: both ended in order; negative errno: the connection broke (both sides are then closed by the
 * caller, which is how the local end learns of it). */
#pragma once
#include <openssl/ssl.h>
#include <stdint.h>

#include "base/err.h"

int pump_run(SSL *ssl, int local, struct err *e);

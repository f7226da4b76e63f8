/* wskey - the proof of understanding in a websocket's handshake (RFC 6455, 4.2.2). */
#pragma once

#define WSKEY_LEN 28

int wskey_accept(const char *key, char ret[WSKEY_LEN + 1]);

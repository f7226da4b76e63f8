/* check - whether a network can be brought up as it is configured; looked at before anything is touched. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* What the configuration says for itself: that addresses can be a host's, that ranges lie in the subnet and give
 * at least one address, that the bridge is not its own uplink.  -EINVAL. */
int network_config_check(const char *name, const json_t *config, struct err *e);

/* The same beside what this host has: no other link's subnet is overlapped, the uplinks can be had; a bridge that is
 * to be made (is_new) is not there yet. */
int network_host_check(const char *name, const json_t *config, bool is_new, struct err *e);

/* Could this card be put into the bridge `name`, or is it in it already?  Refused: the card that carries an address
 * of the host's own or a default route (the host would be cut off), one of another bridge, what is none. */
int network_uplink_check(const char *name, const char *card, struct err *e);

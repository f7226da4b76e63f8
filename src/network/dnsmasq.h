/* dnsmasq - names and DHCP for the host's own containers in a network.
 *
 * One process per network, made by network-up, found again by STATE/networks/NAME/dnsmasq.pid.  It answers
 * DHCP only for MACs of this host's rows (dhcp-ignore of unknown ones), so that several hosts can share a
 * layer 2; whether it is installed is optional and said. */
#pragma once
#include <jansson.h>

#include "base/err.h"
#include "network/bridge.h"

int dnsmasq_start(struct db *db, const char *state_dir, const char *name, const json_t *row,
		  const struct bridge_net *net, char **ret_note, struct err *e);
int dnsmasq_stop(const char *state_dir, const char *name, struct err *e);
int dnsmasq_hosts(struct db *db, const char *state_dir, const char *name, struct err *e);

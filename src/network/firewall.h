/* firewall - a table of nftables per network, "godwit_<bridge>", and nothing outside of it. */
#pragma once
#include "base/err.h"
#include "network/bridge.h"

/* What leaves the bridge's subnet gets the host's address.  Replaces what the table held. */
int firewall_nat_set(const char *bridge, const struct bridge_net *net, struct err *e);
/* Removes the table; one that is not there is success. */
int firewall_clear(const char *bridge, struct err *e);

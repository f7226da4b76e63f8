/* bridge - a network of ours: a bridge with a fixed MAC and no STP, its address, its uplinks, NAT by a
 * table of our own, dnsmasq for the host's own containers.
 *
 * Configuration (of the row): ipv4.address (CIDR or "none"), ipv4.nat, ipv4.dhcp.ranges ("A-B,C-D"),
 * bridge.external_interfaces ("eth1,eth2"), bridge.mtu, bridge.hwaddr, dns.mode ("none" | "managed"). */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "db/db.h"

struct bridge_net {
	uint32_t address; /* of the bridge, network order; 0: none */
	unsigned prefix;
};

enum bridge_why {
	BRIDGE_BOOT,    /* at a start of the daemon; again */
	BRIDGE_CHANGED, /* its row is another now */
	BRIDGE_NEW,     /* there must not be a link of its name yet; a failure takes back what was made */
};

/* Brings the network up as its row says; what is already right is left alone.  What cannot be right beside this host's
 * other links is refused before anything is touched (network/check.h).  *ret_note is a sentence about what could not
 * be offered (no dnsmasq; at a boot, an uplink that is in other use), NULL when nothing; malloc'd.  former: the row
 * before a change, whose address and uplinks go where the new one has them not; NULL: none. */
int bridge_up(struct db *db, const char *state_dir, const char *name, enum bridge_why why, const json_t *former,
	      char **ret_note, struct err *e);
/* Removes the bridge, its table and its dnsmasq.  -EBUSY: containers are still in it. */
int bridge_down(struct db *db, const char *state_dir, const char *name, struct err *e);

/* "10.0.0.1/24" or "none"/"" (address 0). */
int bridge_parse_cidr(const char *text, struct bridge_net *ret);
/* The addresses dnsmasq gives to the host's own containers and their names, written anew from the rows
 * and taken up by the running dnsmasq (SIGHUP); nothing to do without one.  Takes the network's lock. */
int bridge_hosts_refresh(struct db *db, const char *state_dir, const char *name, struct err *e);

/* An address for a container with this MAC: `wanted` (network order) if it is not 0 and no other row of ours
 * has it (-EADDRINUSE; the layer 2 is not asked), else the first of the ranges that no row has and that nobody
 * on the layer 2 answers for.  The caller holds the network's lock until the row has it. */
int bridge_address_pick(struct db *db, const char *network, const char *instance, const uint8_t mac[6],
			uint32_t wanted, uint32_t *ret, struct err *e);
/* Held while an address is picked and written down; the descriptor is the lock. */
int bridge_lock(const char *state_dir, const char *name, struct err *e);

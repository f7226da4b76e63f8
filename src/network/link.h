/* link - host ends of containers' network cards: bridge membership, port state, announcements.
 * By rtnetlink and ioctl, each a fraction of a millisecond (shared/kernel.md 6); no program is run. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Bridge port state: false = disabled (nothing passes, both directions), true = forwarding. -ENODEV. */
int link_port_set(const char *ifname, bool forwarding, struct err *e);
int link_join_bridge(const char *ifname, const char *bridge, struct err *e);
/* Says to the bridge that `mac` is behind its port `ifname`.  What it has learned may be older: a container
 * that comes by a move was heard of by way of the uplink, and until it sends something itself, frames for
 * it that come from there would be dropped (a bridge sends nothing back to where it came from). */
int link_teach(const char *ifname, const uint8_t mac[6], struct err *e);
int link_leave_bridge(const char *ifname, struct err *e);
int link_set_up(const char *ifname, bool up, struct err *e);
int link_delete(const char *ifname, struct err *e); /* -ENODEV is success */
bool link_exists(const char *ifname);

/* Announces that `ipv4` (network order; 0: none) and `ipv6` (NULL: none) with this MAC are now behind
 * this host: gratuitous ARP and unsolicited NA sent out of the bridge as if from the container. */
int link_announce(const char *bridge, const uint8_t mac[6], uint32_t ipv4, const uint8_t ipv6[16], struct err *e);
/* RFC 5227 probe for who is to have it (`mac`; what comes from there does not count): 1 somebody else has it or
 * is just taking it, who is in ret_mac; 0 it is free, which takes 120 ms. */
int link_probe_ipv4(const char *bridge, uint32_t ipv4, const uint8_t mac[6], uint8_t ret_mac[6], struct err *e);
/* "00:16:3e:aa:bb:cc".  -EINVAL: not that form. */
int link_mac_parse(const char *text, uint8_t ret[6]);

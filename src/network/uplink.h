/* uplink - the host's cards in a bridge: bridge.external_interfaces, "eth1, eth2". */
#pragma once
#include <net/if.h>
#include <stdbool.h>

#include "base/err.h"

/* Calls `each` for every card of the list (may be NULL) until one call fails. */
int network_uplinks_each(const char *list, int (*each)(const char *card, void *arg, struct err *e), void *arg,
			 struct err *e);

/* The bridge or bond the card is part of; "" for none. */
void uplink_master(const char *card, char ret[IFNAMSIZ]);

/* Puts the cards into the bridge and switches them on; those that were off are added to *switched_on (malloc'd, a blank
 * behind each).  lenient: a card that network_uplink_check refuses is left out, and *note says why. */
int uplinks_join(const char *bridge, const char *list, bool lenient, char **switched_on, char **note, struct err *e);
/* Waits some seconds until the cards hear anybody: one that was off needs its time. */
void uplinks_wait(const char *list);
/* Takes those of `former` that are in the bridge, and not in `stay`, out of it. */
int uplinks_leave(const char *bridge, const char *former, const char *stay, struct err *e);

/* Adds a sentence to *note (malloc'd, NULL: none yet); -ENOMEM. */
int network_note_add(char **note, const char *text);

#include "network/link.h"

#include <linux/neighbour.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "network/rtnl.h"

static int link_index(const char *ifname, int *ret, struct err *e)
{
	unsigned i = ifname && strlen(ifname) < IFNAMSIZ ? if_nametoindex(ifname) : 0;

	if (!i)
		return err_set(e, -ENODEV, "there is no network link %s", ifname ? ifname : "");
	*ret = (int)i;
	return 0;
}

static int link_begin(struct rtnl *q, uint16_t type, int family, const char *ifname, struct err *e)
{
	int index, r = link_index(ifname, &index, e);

	if (r < 0)
		return r;
	rtnl_init(q, type, 0, sizeof(q->link));
	q->link.ifi_family = (unsigned char)family;
	q->link.ifi_index = index;
	return 0;
}

int link_mac_parse(const char *text, uint8_t ret[6])
{
	unsigned v[6];
	char end;

	if (!text || strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &end) != 6)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)v[i];
	return 0;
}

int link_port_set(const char *ifname, bool forwarding, struct err *e)
{
	uint8_t state = forwarding ? BR_STATE_FORWARDING : BR_STATE_DISABLED;
	struct rtnl q;
	size_t nest;
	int r = link_begin(&q, RTM_SETLINK, AF_BRIDGE, ifname, e);

	if (r < 0)
		return r;
	nest = rtnl_nest(&q, IFLA_PROTINFO);
	rtnl_put(&q, IFLA_BRPORT_STATE, &state, sizeof(state));
	rtnl_nest_end(&q, nest);
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot %s the bridge port %s", forwarding ? "open" : "close", ifname) :
		       0;
}

static int link_set_master(const char *ifname, int master, struct err *e)
{
	struct rtnl q;
	int r = link_begin(&q, RTM_SETLINK, AF_UNSPEC, ifname, e);

	if (r < 0)
		return r;
	rtnl_put_u32(&q, IFLA_MASTER, (uint32_t)master);
	return rtnl_call(&q);
}

int link_join_bridge(const char *ifname, const char *bridge, struct err *e)
{
	int master, r = link_index(bridge, &master, e);

	if (r < 0)
		return err_context(e, r, "the bridge %s is not there (is its network up?)", bridge);
	r = link_set_master(ifname, master, e);
	return r < 0 ? err_sys(e, r, "cannot put %s into the bridge %s", ifname, bridge) : 0;
}

int link_teach(const char *ifname, const uint8_t mac[6], struct err *e)
{
	struct ndmsg nd = { .ndm_family = AF_BRIDGE, .ndm_state = NUD_REACHABLE, .ndm_flags = NTF_MASTER };
	struct rtnl q;
	int r = link_index(ifname, &nd.ndm_ifindex, e);

	if (r < 0)
		return r;
	rtnl_init(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(nd));
	memcpy(q.room, &nd, sizeof(nd));
	rtnl_put(&q, NDA_LLADDR, mac, 6);
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot tell the bridge what is behind %s", ifname) : 0;
}

int link_leave_bridge(const char *ifname, struct err *e)
{
	int r = link_set_master(ifname, 0, e);

	return r < 0 ? err_sys(e, r, "cannot take %s out of its bridge", ifname) : 0;
}

int link_set_up(const char *ifname, bool up, struct err *e)
{
	struct rtnl q;
	int r = link_begin(&q, RTM_NEWLINK, AF_UNSPEC, ifname, e);

	if (r < 0)
		return r;
	q.link.ifi_change = IFF_UP;
	q.link.ifi_flags = up ? IFF_UP : 0;
	r = rtnl_call(&q);
	return r < 0 ? err_sys(e, r, "cannot switch %s %s", ifname, up ? "on" : "off") : 0;
}

int link_delete(const char *ifname, struct err *e)
{
	struct rtnl q;
	int r;

	if (!link_exists(ifname))
		return 0;
	r = link_begin(&q, RTM_DELLINK, AF_UNSPEC, ifname, e);
	if (r == 0)
		r = rtnl_call(&q);
	if (r == -ENODEV)
		return 0;
	return r < 0 ? err_sys(e, r, "cannot delete the link %s", ifname) : 0;
}

bool link_exists(const char *ifname)
{
	return ifname && strlen(ifname) < IFNAMSIZ && if_nametoindex(ifname) != 0;
}

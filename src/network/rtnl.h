/* rtnl - one rtnetlink request at a time, with its acknowledgement.  A socket per request: these are rare
 * and short, and no state has to be kept. */
#pragma once
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

struct rtnl {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
		char room[1024];
	};
};

/* Prepares a message of this type; the family header of `size` bytes (zeroed) lies behind h. */
void rtnl_init(struct rtnl *q, uint16_t type, uint16_t flags, size_t size);
/* Attributes; -EMSGSIZE is remembered and returned by rtnl_call. */
void rtnl_put(struct rtnl *q, uint16_t type, const void *data, size_t len);
void rtnl_put_str(struct rtnl *q, uint16_t type, const char *s);
void rtnl_put_u32(struct rtnl *q, uint16_t type, uint32_t v);
size_t rtnl_nest(struct rtnl *q, uint16_t type); /* returns where it began */
void rtnl_nest_end(struct rtnl *q, size_t at);
/* Sends and waits for the kernel's answer: 0 or -errno. */
int rtnl_call(struct rtnl *q);
